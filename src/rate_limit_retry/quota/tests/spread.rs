//! How requests are spread over what is left of a window, and how one goes alone to see.

use super::*;
use crate::rate_limit_retry::store::{ProcessId, QuotaView, SharedWindow};

fn smooth(shared: bool) -> World {
    World::with(Pace {
        release: Release::Smooth,
        shared,
        ..PACE
    })
}

/// A request goes and is accepted at once.
fn accept(world: &mut World, signals: &Signals) {
    let number = world.enter();
    world.accept(number, signals);
}

#[test]
fn requests_are_paced_over_the_rest_of_an_announced_window() {
    let mut world = smooth(false);
    let began = world.now;
    accept(&mut world, &telling(100, 9, secs(10)));
    // A second apart, so that the last one goes a second before the end.
    for second in 1..10 {
        let at = began + secs(second);
        assert_eq!(world.admit(), Admit::NotBefore(at));
        world.now = at - Duration::from_nanos(1);
        assert_eq!(world.admit(), Admit::NotBefore(at));
        world.now = at;
        assert_eq!(world.admit(), Admit::Now);
        let left = telling(100, 9 - second, secs(10 - second));
        accept(&mut world, &left);
    }
    assert_eq!(world.admit(), Admit::NotBefore(began + secs(10)));
}

#[test]
fn unpaced_requests_are_admitted_immediately() {
    let mut world = World::new();
    accept(&mut world, &telling(100, 9, secs(10)));

    assert_eq!((0..20).filter_map(|_| world.send()).count(), 9);
}

#[test]
fn a_local_limit_paces_requests_if_pacing_is_enabled() {
    let own = Some(OwnLimit::per(10, secs(10)));
    for (mut world, wait) in [(smooth(false), secs(1)), (World::new(), Duration::ZERO)] {
        world.quota = Quota::new(&world.pace, own);
        accept(&mut world, &Signals::default());
        assert_eq!(world.wait(), wait);
    }
}

#[test]
fn in_flight_requests_count_towards_pacing() {
    let mut world = smooth(false);
    accept(&mut world, &telling(100, 10, secs(12)));
    world.enter();

    // For nine others there is room in 12 s.
    let at = world.now + ms(1200);
    assert_eq!(world.admit(), Admit::NotBefore(at));
}

#[test]
fn pacing_delays_are_capped_at_max_hold() {
    let mut world = smooth(false);
    world.pace.max_hold = secs(5);
    accept(&mut world, &telling(100, 1, secs(3600)));

    let at = world.now + secs(5);
    assert_eq!(world.admit(), Admit::NotBefore(at));
}

#[test]
fn grants_are_unpaced_if_others_used_our_share() {
    let mut world = smooth(true);
    accept(&mut world, &telling(100, 100, secs(60)));
    accept(&mut world, &telling(100, 8, secs(60)));
    world.quota.report(ProcessId::random(), 5, world.now);
    let view = QuotaView {
        granted: 5,
        window: Some(SharedWindow::new(Some(100), 8, 5, 2, secs(60))),
        hold: None,
    };
    world.quota.inform(&view, secs(60), world.now);
    world.enter();

    assert_eq!(world.admit(), Admit::Now);
}

#[test]
fn requests_are_paced_over_an_estimated_window() {
    let mut world = smooth(false);
    let mut opened = world.now;
    for _ in 0..2 {
        for _ in 0..10 {
            accept(&mut world, &Signals::default());
        }
        let number = world.enter();
        world.refuse(number, &hinting(secs(60)));
        world.wait();
        opened = world.now;
    }
    accept(&mut world, &Signals::default());

    // Nine more in as long as the last window lasted, with its jitter.
    let at = opened + ms(6012) + Duration::from_micros(500);
    assert_eq!(world.admit(), Admit::NotBefore(at));
}

#[test]
fn only_a_single_test_request_is_a_probe() {
    let mut world = World::new();
    let number = world.enter();
    assert_eq!(world.quota.look.sent, None);
    world.refuse(number, &hinting(secs(5)));
    world.wait();
    let looked = world.now;
    assert!(world.send().is_some());
    assert_eq!(world.quota.look.sent, Some(looked));

    // Nobody had asked whether that may go.
    world.pass(ms(10));
    world.enter();

    assert_eq!(world.quota.look.sent, Some(looked));
}

#[test]
fn a_probe_counts_from_the_announced_reset() {
    // The server has said so three times, and was wrong.
    for (refusals, said) in [(1, true), (3, true), (4, false)] {
        let mut world = World::new();
        let mut until = None;
        for _ in 0..refusals {
            let number = world.enter();
            until = world.refuse(number, &hinting(secs(5)));
            world.wait();
        }
        assert_eq!(world.quota.look.since, until.filter(|_| said));
    }
}
