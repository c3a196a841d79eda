//! What happens between two reports, and when it is told.

use super::{
    shared::{fleet, inform, report, view},
    *,
};
use crate::rate_limit_retry::store::QuotaView;

/// When the next report is due after the last one, which was just now.
fn due(world: &World) -> Option<Duration> {
    let due = world.quota.report_due(world.now);
    due.map(|at| at - world.now)
}

#[test]
fn a_completion_is_published_if_others_wait() {
    let mut world = fleet();
    let number = world.enter();
    report(&mut world, 0);
    inform(&mut world, &view(0, 10, 10, 2));
    assert_eq!(due(&world), Some(ms(300)));

    world.learn(number, Learnt::Unknown);

    assert_eq!(due(&world), Some(ms(5)));
}

#[test]
fn an_exhausted_window_requests_no_grants() {
    for (remaining, wait) in [(1, Some(ms(10))), (0, None)] {
        let mut world = fleet();
        world.enter();
        report(&mut world, 5);
        inform(&mut world, &view(0, remaining, 10, 2));
        let fleet = world.quota.fleet.as_mut().unwrap();
        assert!(!fleet.allows());

        assert_eq!(due(&world), wait, "{remaining}");
    }
}

#[test]
fn a_response_about_an_unshared_window_is_published_immediately() {
    let mut world = fleet();
    assert_eq!(due(&world), Some(Duration::ZERO));
    let number = world.enter();
    report(&mut world, 0);
    inform(&mut world, &QuotaView::default());

    world.accept(number, &telling(100, 80, secs(60)));

    assert_eq!(due(&world), Some(ms(1)));
}

#[test]
fn a_later_window_with_equal_remaining_is_a_new_window() {
    let mut world = fleet();
    let number = world.enter();
    world.accept(number, &telling(100, 0, secs(60)));
    report(&mut world, 1);
    world.pass(secs(61));

    // Others have used up the next one, too.
    inform(&mut world, &view(0, 0, 0, 2));

    let over = world.now + secs(60);
    assert_eq!(world.admit(), Admit::NotBefore(over));
}
