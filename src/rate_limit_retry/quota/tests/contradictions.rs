//! When an announcement that nothing remains is not believed.

use super::*;

/// A number of concurrent requests are accepted, and their responses announce that nothing remains.
fn contradict(world: &mut TestQuota, count: usize, info: &RateLimitInfo) {
    let numbers: Vec<_> = (0..count).map(|_| world.enter()).collect();
    for number in numbers {
        world.succeed(number, info);
    }
}

#[test]
fn an_announced_zero_holds_until_three_contradictions() {
    let zero = announcing(100, 0, secs(60));
    for (accepted, held) in [(1, true), (2, true), (3, true), (4, false), (50, false)] {
        let mut world = TestQuota::new();

        contradict(&mut world, accepted, &zero);

        assert_eq!(world.send().is_none(), held, "{accepted} accepted");
    }
}

#[test]
fn an_exhausted_later_window_is_not_a_contradiction() {
    let mut world = TestQuota::new();
    for reset in [60, 120, 180, 240, 300, 360] {
        contradict(&mut world, 1, &announcing(100, 0, secs(reset)));
    }

    assert_eq!(world.send(), None);
}

#[test]
fn an_error_does_not_confirm_acceptance() {
    let mut world = TestQuota::new();
    let zero = announcing(100, 0, secs(60));
    for _ in 0..10 {
        let number = world.enter();
        world.record(number, Outcome::FailedResponse { info: &zero });
    }

    assert_eq!(world.send(), None);
}

#[test]
fn a_wrong_doubt_doubles_the_required_contradictions() {
    let mut world = TestQuota::new();
    let zero = announcing(100, 0, secs(60));
    contradict(&mut world, 4, &zero);
    let number = world.send().unwrap();
    world.throttle(number, &zero);
    world.wait();

    contradict(&mut world, 6, &zero);
    assert_eq!(world.send(), None);
    contradict(&mut world, 1, &zero);
    assert!(world.send().is_some());
}

#[test]
fn a_locally_exhausted_window_sends_one_request_at_a_time() {
    let mut world = TestQuota::new();
    let number = world.enter();
    world.succeed(number, &announcing(100, 3, secs(3000)));
    for _ in 0..3 {
        let number = world.send().unwrap();
        world.record(number, Outcome::Unknown);
    }
    assert_eq!(world.quota.announced_quota().1, Some(0));

    let alone = world.send().unwrap();
    assert!(matches!(world.admit(), SendTime::AfterResponse(Some(_))));
    world.record(alone, Outcome::Unknown);
    assert_eq!(world.admit(), SendTime::Now);
}

#[test]
fn responses_beyond_remaining_show_that_they_are_not_counted() {
    let mut world = TestQuota::new();
    let number = world.enter();
    world.succeed(number, &announcing(100, 3, secs(3000)));
    for _ in 0..4 {
        let number = world.send().unwrap();
        world.succeed(number, &RateLimitInfo::default());
    }

    assert_eq!(world.quota.announced_quota().1, Some(3));
    for _ in 0..10 {
        let number = world.send().unwrap();
        world.succeed(number, &RateLimitInfo::default());
    }
    assert_eq!(world.quota.announced_quota().1, Some(3));
}

#[test]
fn cached_responses_are_ignored() {
    let mut world = TestQuota::new();
    let number = world.enter();
    world.succeed(number, &announcing(100, 3, secs(3000)));
    for _ in 0..100 {
        let number = world.enter();
        world.record(number, Outcome::Cached);
    }

    assert_eq!(world.quota.announced_quota().1, Some(3));
    assert_eq!(world.quota.in_flight(), 0);
}

#[test]
fn a_cached_probe_response_does_not_end_a_hold() {
    let mut world = TestQuota::new();
    let number = world.enter();
    world.throttle(number, &with_retry_after(secs(60)));
    world.wait();
    let probe = world.send().unwrap();

    world.record(probe, Outcome::Cached);

    assert!(world.quota.estimator.throttled.is_some());
}
