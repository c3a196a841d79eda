//! When the next report to the store is due.

use super::{
    report::{apply, fleet, report, snapshot},
    *,
};
use crate::rate_limit_retry::store::QuotaSnapshot;

/// When the next report is due after the last one, which was just now.
fn next_report(world: &TestQuota) -> Option<Duration> {
    let due = world.quota.report_due(world.now);
    due.map(|at| at - world.now)
}

#[test]
fn a_completion_is_published_if_others_wait() {
    let mut world = fleet();
    let number = world.enter();
    report(&mut world, 0);
    apply(&mut world, &snapshot(0, 10, 10, 2));
    assert_eq!(next_report(&world), Some(ms(300)));

    world.record(number, Outcome::Unknown);

    assert_eq!(next_report(&world), Some(ms(5)));
}

#[test]
fn an_exhausted_window_requests_no_grants() {
    for (remaining, wait) in [(1, Some(ms(10))), (0, None)] {
        let mut world = fleet();
        world.enter();
        report(&mut world, 5);
        apply(&mut world, &snapshot(0, remaining, 10, 2));
        world.quota.fleet_share.as_mut().unwrap().starved = true;

        assert_eq!(next_report(&world), wait, "{remaining}");
    }
}

#[test]
fn a_response_about_an_unshared_window_is_published_immediately() {
    let mut world = fleet();
    assert_eq!(next_report(&world), Some(Duration::ZERO));
    let number = world.enter();
    report(&mut world, 0);
    let known = QuotaSnapshot {
        processes: 1,
        ..QuotaSnapshot::default()
    };
    apply(&mut world, &known);

    world.succeed(number, &announcing(100, 80, secs(60)));

    assert_eq!(next_report(&world), Some(ms(1)));
}

#[test]
fn a_later_window_with_equal_remaining_is_a_new_window() {
    let mut world = fleet();
    let number = world.enter();
    world.succeed(number, &announcing(100, 0, secs(60)));
    report(&mut world, 1);
    world.advance(secs(61));

    // Others have used up the next one, too.
    apply(&mut world, &snapshot(0, 0, 0, 2));

    let over = world.now + secs(60);
    assert_eq!(world.admit(), SendTime::NotBefore(over));
}
