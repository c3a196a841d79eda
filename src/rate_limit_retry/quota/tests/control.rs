//! The state of a quota, and the methods of its owner.

use super::*;
use crate::rate_limit_retry::store::{ProcessId, QuotaSnapshot};

/// A change that leaves a partition in use, or keeps requests from it.
type Change = fn(&mut TestQuota);

fn pause(world: &mut TestQuota) {
    world.quota.pause(world.now + secs(5));
}

fn hold(world: &mut TestQuota) {
    world.quota.hold(world.now + secs(5));
}

/// At most 10 in 5 s, one of which has gone.
fn local_limit(world: &mut TestQuota) {
    world.quota = Quota::new(&world.config, Some(LocalLimit::per(10, secs(5))));
    let number = world.enter();
    world.succeed(number, &RateLimitInfo::default());
}

fn enter(world: &mut TestQuota) {
    world.enter();
}

/// Settles a number of accepted requests whose responses announce nothing.
fn succeed_silently(world: &mut TestQuota, count: usize) {
    for _ in 0..count {
        let number = world.enter();
        world.succeed(number, &RateLimitInfo::default());
    }
}

#[test]
fn a_partition_is_held_until_its_hold_and_pause_end() {
    let mut world = TestQuota::new();
    let now = world.now;
    assert_eq!(world.quota.held_until(now), None);
    pause(&mut world);
    assert_eq!(world.quota.held_until(now), Some(now + secs(5)));
    assert_eq!(world.quota.throttled_until(), None);
    for (hold, until) in [(2, 5), (9, 9), (8, 9), (10, 10)] {
        world.quota.hold(now + secs(hold));
        assert_eq!(world.quota.held_until(now), Some(now + secs(until)));
    }
    assert_eq!(world.quota.throttled_until(), Some(now + secs(10)));
    assert!(world.quota.held_until(now + ms(9_999)).is_some());
    assert_eq!(world.quota.held_until(now + secs(10)), None);
}

#[test]
fn a_shorter_hold_does_not_replace_a_longer_one() {
    let mut world = TestQuota::new();
    let end = world.now + secs(10);
    for (seconds, until) in [(10, 10), (9, 10), (10, 10), (11, 11)] {
        world.quota.hold(world.now + secs(seconds));
        assert_eq!(world.quota.throttled_until(), Some(world.now + secs(until)));
    }
    assert_eq!(world.admit(), SendTime::NotBefore(end + secs(1)));
}

#[test]
fn a_pause_ends_at_its_deadline_or_on_resume() {
    for resumed in [false, true] {
        let mut world = TestQuota::new();
        pause(&mut world);
        let end = world.now + secs(5);
        assert_eq!(world.admit(), SendTime::NotBefore(end));
        if resumed {
            world.quota.resume();
        } else {
            world.now = end - ms(1);
            assert_eq!(world.admit(), SendTime::NotBefore(end));
            world.now = end;
        }

        // One is sent as a probe.
        let first = world.send().unwrap();
        assert_eq!(world.send(), None);
        world.succeed(first, &RateLimitInfo::default());
        assert!(world.send().is_some() && world.send().is_some());
        assert_eq!(world.send(), None);
    }
}

#[test]
fn resuming_an_active_partition_has_no_effect() {
    let mut world = TestQuota::new();

    world.quota.resume();

    assert_eq!((0..9).filter_map(|_| world.send()).count(), 8);
}

#[test]
fn the_snapshot_shows_the_last_announcement() {
    let mut world = TestQuota::new();
    assert_eq!(world.quota.announced_quota(), (None, None, None));
    assert_eq!(world.quota.last_used(), None);
    let number = world.enter();
    assert_eq!(world.quota.in_flight(), 1);

    world.succeed(number, &announcing(100, 50, secs(60)));

    let reset = Some(world.now + secs(60));
    assert_eq!(world.quota.announced_quota(), (Some(100), Some(50), reset));
    assert_eq!(world.quota.last_used(), Some(world.now));
    assert_eq!(world.quota.in_flight(), 0);
}

#[test]
fn forgetting_clears_estimates_but_not_in_flight_requests() {
    let config = QuotaConfig {
        shared: true,
        ..CONFIG
    };
    let mut world = TestQuota::with(config);
    world.quota = Quota::new(&config, Some(LocalLimit::in_flight(3)));
    let went = world.now;
    world.quota.report(ProcessId::random(), 0, &config, went);
    world.quota.apply(&QuotaSnapshot::default(), secs(60), went);
    let (late, refused) = (world.enter(), world.enter());
    world.throttle(refused, &announcing(100, 0, secs(60)));
    pause(&mut world);
    world.advance(secs(1));

    world.quota.forget(&config);

    assert_eq!(world.quota.announced_quota(), (None, None, None));
    assert_eq!(world.quota.throttled_until(), None);
    assert_eq!(world.quota.last_used(), Some(went));
    assert_eq!(world.quota.in_flight(), 1);
    assert_eq!(world.admit(), SendTime::NotBefore(went + secs(5)));
    world.quota.resume();
    // The report contains the requests in flight, and nothing else.
    assert_eq!(world.quota.report_due(world.now), Some(went + ms(300)));
    // An answer to a request from before teaches nothing.
    world.succeed(late, &announcing(100, 50, secs(60)));
    assert_eq!(world.quota.announced_quota(), (None, None, None));
    // The numbers and the own limit go on.
    assert_eq!(world.enter(), 2);
    world.enter();
    world.enter();
    assert_eq!(world.admit(), SendTime::AfterResponse(None));
}

#[test]
fn a_partition_is_unused_without_requests_and_holds() {
    let world = TestQuota::new();
    assert!(world.quota.is_unused(world.now));
    for change in [pause, hold, local_limit, enter] as [Change; 4] {
        let mut world = TestQuota::new();
        change(&mut world);
        assert!(!world.quota.is_unused(world.now));
        assert!(!world.quota.is_idle(world.now));

        world.advance(secs(5));

        assert_eq!(
            world.quota.is_unused(world.now),
            world.quota.in_flight() == 0
        );
    }
}

#[test]
fn a_partition_is_idle_after_its_window_resets() {
    let mut world = TestQuota::new();
    let number = world.enter();
    world.succeed(number, &announcing(100, 50, secs(60)));
    assert!(world.quota.is_unused(world.now));
    assert!(!world.quota.is_idle(world.now + ms(59_999)));
    assert!(world.quota.is_idle(world.now + secs(60)));
}

#[test]
fn the_fast_path_is_closed_while_requests_are_blocked() {
    for (change, quiet) in [
        (pause as Change, false),
        (hold, false),
        (local_limit, false),
        (enter, true),
    ] {
        let mut world = TestQuota::new();
        change(&mut world);
        succeed_silently(&mut world, 1000);
        assert_eq!(world.quota.allows_fast_path(), quiet);
    }
}

#[test]
fn the_fast_path_is_closed_while_a_window_is_known() {
    let mut world = TestQuota::new();
    let number = world.enter();
    world.succeed(number, &announcing(100_000, 50_000, secs(60)));
    succeed_silently(&mut world, 1000);
    assert!(!world.quota.allows_fast_path());

    world.advance(secs(60));
    world.admit();

    assert!(world.quota.allows_fast_path());
}

#[test]
fn the_fast_path_is_closed_when_a_limit_is_estimated() {
    let mut world = TestQuota::new();
    succeed_silently(&mut world, 1);
    let number = world.enter();
    world.throttle(number, &with_retry_after(secs(60)));
    world.wait();

    succeed_silently(&mut world, 1000);

    assert!(!world.quota.allows_fast_path());
}

#[test]
fn estimates_are_reported_to_observers() {
    let mut world = TestQuota::new();
    succeed_silently(&mut world, 10);
    let number = world.enter();
    world.throttle(number, &with_retry_after(secs(60)));
    world.wait();
    succeed_silently(&mut world, 1);

    assert_eq!(world.quota.estimate().limit, Some(10));
}

#[test]
fn request_numbers_follow_send_order() {
    let mut world = TestQuota::new();

    assert_eq!([world.enter(), world.enter(), world.enter()], [0, 1, 2]);

    assert_eq!(world.quota.in_flight(), 3);
}

#[test]
fn a_late_outcome_counts_as_sent_before_the_known_state() {
    let mut world = TestQuota::new();
    let numbers = [world.enter(), world.enter(), world.enter()];
    world.throttle(numbers[0], &with_retry_after(secs(5)));

    assert_eq!(world.quota.enter_late(), 2);

    assert_eq!(world.quota.in_flight(), 3);
    assert_eq!(world.enter(), 4);
}

#[test]
fn outcomes_on_the_fast_path_are_new_information() {
    let mut world = TestQuota::new();
    let number = world.enter();
    // It is not held for such a hint, but all that went before is old.
    world.throttle(number, &with_retry_after(secs(90_000)));
    succeed_silently(&mut world, 999);
    assert_eq!(world.quota.enter_late(), 0);

    succeed_silently(&mut world, 1);

    assert_eq!(world.quota.enter_late(), 1);
}
