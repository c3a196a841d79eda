//! How requests are spread over what is left of a window, and how one goes alone to see.

use super::*;
use crate::rate_limit_retry::store::{ProcessId, QuotaSnapshot, SharedWindow};

fn evenly_paced(shared: bool) -> TestQuota {
    TestQuota::with(Pace {
        release: Release::Smooth,
        shared,
        ..CONFIG
    })
}

/// A request goes and is accepted at once.
fn succeed(world: &mut TestQuota, signals: &RateLimitInfo) {
    let number = world.enter();
    world.succeed(number, signals);
}

#[test]
fn requests_are_spread_over_what_is_left_of_a_window_that_is_told() {
    let mut world = evenly_paced(false);
    let began = world.now;
    succeed(&mut world, &announcing(100, 9, secs(10)));
    // A second apart, so that the last one goes a second before the end.
    for second in 1..10 {
        let at = began + secs(second);
        assert_eq!(world.admit(), Admit::NotBefore(at));
        world.now = at - Duration::from_nanos(1);
        assert_eq!(world.admit(), Admit::NotBefore(at));
        world.now = at;
        assert_eq!(world.admit(), Admit::Now);
        let left = announcing(100, 9 - second, secs(10 - second));
        succeed(&mut world, &left);
    }
    assert_eq!(world.admit(), Admit::NotBefore(began + secs(10)));
}

#[test]
fn who_is_not_to_be_spread_goes_at_once() {
    let mut world = TestQuota::new();
    succeed(&mut world, &announcing(100, 9, secs(10)));

    assert_eq!((0..20).filter_map(|_| world.send()).count(), 9);
}

#[test]
fn an_own_limit_spreads_requests_if_they_are_to_be_spread() {
    let own = Some(LocalLimit::per(10, secs(10)));
    for (mut world, wait) in [(evenly_paced(false), secs(1)), (TestQuota::new(), Duration::ZERO)] {
        world.quota = Quota::new(&world.config, own);
        succeed(&mut world, &RateLimitInfo::default());
        assert_eq!(world.wait(), wait);
    }
}

#[test]
fn requests_under_way_count_when_the_others_are_spread() {
    let mut world = evenly_paced(false);
    succeed(&mut world, &announcing(100, 10, secs(12)));
    world.enter();

    // For nine others there is room in 12 s.
    let at = world.now + ms(1200);
    assert_eq!(world.admit(), Admit::NotBefore(at));
}

#[test]
fn nobody_is_spread_for_longer_than_the_longest_hold() {
    let mut world = evenly_paced(false);
    world.config.max_hold = secs(5);
    succeed(&mut world, &announcing(100, 1, secs(3600)));

    let at = world.now + secs(5);
    assert_eq!(world.admit(), Admit::NotBefore(at));
}

#[test]
fn what_the_fleet_has_granted_goes_at_once_where_others_have_used_up_our_part() {
    let mut world = evenly_paced(true);
    succeed(&mut world, &announcing(100, 100, secs(60)));
    succeed(&mut world, &announcing(100, 8, secs(60)));
    world.quota.report(ProcessId::random(), 5, world.now);
    let view = QuotaSnapshot {
        granted: 5,
        window: Some(SharedWindow::new(Some(100), 8, 5, 2, secs(60))),
        hold: None,
    };
    world.quota.apply(&view, secs(60), world.now);
    world.enter();

    assert_eq!(world.admit(), Admit::Now);
}

#[test]
fn requests_are_spread_over_a_window_that_has_been_learnt() {
    let mut world = evenly_paced(false);
    let mut opened = world.now;
    for _ in 0..2 {
        for _ in 0..10 {
            succeed(&mut world, &RateLimitInfo::default());
        }
        let number = world.enter();
        world.throttle(number, &with_retry_after(secs(60)));
        world.wait();
        opened = world.now;
    }
    succeed(&mut world, &RateLimitInfo::default());

    // Nine more in as long as the last window lasted, with its jitter.
    let at = opened + ms(6012) + Duration::from_micros(500);
    assert_eq!(world.admit(), Admit::NotBefore(at));
}

#[test]
fn only_a_request_that_goes_alone_to_see_is_a_look() {
    let mut world = TestQuota::new();
    let number = world.enter();
    assert_eq!(world.quota.probe.sent, None);
    world.throttle(number, &with_retry_after(secs(5)));
    world.wait();
    let looked = world.now;
    assert!(world.send().is_some());
    assert_eq!(world.quota.probe.sent, Some(looked));

    // Nobody had asked whether that may go.
    world.advance(ms(10));
    world.enter();

    assert_eq!(world.quota.probe.sent, Some(looked));
}

#[test]
fn a_look_counts_from_when_the_server_had_said_that_it_would_take_more() {
    // The server has said so three times, and was wrong.
    for (refusals, said) in [(1, true), (3, true), (4, false)] {
        let mut world = TestQuota::new();
        let mut until = None;
        for _ in 0..refusals {
            let number = world.enter();
            until = world.throttle(number, &with_retry_after(secs(5)));
            world.wait();
        }
        assert_eq!(world.quota.probe.since, until.filter(|_| said));
    }
}
