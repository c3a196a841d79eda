//! What answers teach about the window, and about who counts a request.

use super::*;
use crate::rate_limit_retry::headers::Unit;

fn response(throttled: bool, info: &RateLimitInfo) -> Outcome<'_> {
    Outcome::Response { throttled, info }
}

/// Settles a number of requests with this response.
fn succeed(world: &mut TestQuota, count: usize, info: &RateLimitInfo) {
    for _ in 0..count {
        let number = world.enter();
        world.succeed(number, info);
    }
}

/// What remains, as far as is known.
fn remaining(world: &TestQuota) -> Option<u64> {
    world.quota.announced_quota().1
}

/// How long until the reset, as far as is known.
fn reset(world: &TestQuota) -> Option<Duration> {
    world.quota.announced_quota().2.map(|at| at - world.now)
}

/// A throttle because nothing remains until the reset, with a wait.
fn exhausted(hint: Duration, reset: Option<Duration>) -> RateLimitInfo {
    let mut info = announcing(100, 0, Duration::ZERO);
    info.limits[0].reset = reset;
    info.retry_after = Some(hint);
    info
}

#[test]
fn the_fast_path_opens_after_a_thousand_responses_without_limits() {
    let mut world = TestQuota::new();
    let silence = RateLimitInfo::default();
    succeed(&mut world, 999, &silence);
    assert!(!world.quota.allows_fast_path());
    succeed(&mut world, 1, &silence);
    assert!(world.quota.allows_fast_path());

    let tokens = Limit {
        unit: Unit::Other,
        remaining: Some(5),
        ..Limit::default()
    };
    let tokens = RateLimitInfo {
        limits: vec![tokens],
        ..RateLimitInfo::default()
    };
    succeed(&mut world, 1, &tokens);
    assert!(!world.quota.allows_fast_path());
    succeed(&mut world, 999, &silence);
    assert!(!world.quota.allows_fast_path());
    succeed(&mut world, 1, &silence);
    assert!(world.quota.allows_fast_path());
}

#[test]
fn a_possibly_counted_request_is_debited() {
    let mut world = TestQuota::new();
    succeed(&mut world, 1, &announcing(100, 50, secs(60)));
    let silence = RateLimitInfo::default();
    for (outcome, left) in [
        (response(false, &silence), 49),
        (Outcome::Unknown, 48),
        (Outcome::NotSent, 48),
        (response(true, &silence), 48),
    ] {
        let number = world.enter();
        world.record(number, outcome);
        assert_eq!(remaining(&world), Some(left), "{outcome:?}");
    }
    assert_eq!(world.quota.in_flight(), 0);
}

#[test]
fn limits_of_another_partition_are_ignored() {
    let mut world = TestQuota::new();
    succeed(&mut world, 1, &announcing(100, 50, secs(60)));
    for (throttled, info, left) in [
        (false, announcing(5000, 3, secs(60)), 49),
        (true, announcing(5000, 0, secs(60)), 49),
        (false, announcing(100, 40, secs(60)), 40),
    ] {
        let number = world.enter();
        let outcome = response(throttled, &info);
        let held = world.record_for(number, outcome, Scope::Ambiguous);
        assert_eq!((remaining(&world), held), (Some(left), None));
    }
}

#[test]
fn an_origin_wide_429_does_not_update_remaining() {
    let mut world = TestQuota::new();
    succeed(&mut world, 1, &announcing(100, 50, secs(60)));
    let number = world.enter();
    let all = exhausted(secs(10), Some(secs(10)));

    let held = world.record_for(number, response(true, &all), Scope::Origin);

    assert_eq!(held, Some(world.now + ms(10_050)));
    assert_eq!(remaining(&world), Some(50));
    assert!(!world.quota.estimator.is_known());
}

#[test]
fn late_responses_about_an_ended_window_are_ignored() {
    for (later, known) in [
        (Duration::ZERO, None),
        (ms(1500), None),
        (ms(1501), Some(5)),
        (secs(60), Some(5)),
    ] {
        let mut world = TestQuota::new();
        let (first, late) = (world.enter(), world.enter());
        world.succeed(first, &announcing(100, 0, secs(10)));
        world.advance(secs(10));
        world.admit();
        assert_eq!(remaining(&world), None);

        world.succeed(late, &announcing(100, 5, later));

        assert_eq!(remaining(&world), known, "{later:?}");
    }
}

#[test]
fn a_far_reset_of_a_gradual_quota_is_not_a_new_window() {
    let mut world = TestQuota::new();
    let (first, late) = (world.enter(), world.enter());
    world.throttle(first, &exhausted(secs(5), Some(secs(60))));
    world.advance(secs(6));
    assert_eq!(
        world.admit(),
        SendTime::AfterResponse(Some(world.now + secs(2)))
    );

    world.succeed(late, &announcing(100, 5, secs(60)));

    assert_eq!(remaining(&world), None);
}

#[test]
fn a_retry_after_before_the_reset_means_gradual_refill() {
    for (hint, announced, believed) in [
        (ms(5000), secs(3600), ms(5000)),
        (ms(8499), secs(10), ms(8499)),
        (ms(8500), secs(10), secs(10)),
        (secs(10), secs(10), secs(10)),
        // A reset is never nearer than a second.
        (ms(300), secs(10), secs(1)),
    ] {
        let mut world = TestQuota::new();
        let number = world.enter();
        world.throttle(number, &exhausted(hint, Some(announced)));
        assert_eq!(reset(&world), Some(believed), "{hint:?} of {announced:?}");
    }
    // Something remains: that is about another quota.
    let mut world = TestQuota::new();
    let number = world.enter();
    let mut another = announcing(100, 1, secs(3600));
    another.retry_after = Some(secs(5));
    world.throttle(number, &another);
    assert_eq!(reset(&world), Some(secs(3600)));
}

#[test]
fn a_short_retry_after_without_a_reset_means_gradual_refill() {
    for (hint, believed) in [
        (ms(500), secs(1)),
        (ms(2150), ms(2150)),
        (ms(2151), secs(60)),
    ] {
        let mut world = TestQuota::new();
        let (first, second) = (world.enter(), world.enter());
        world.throttle(first, &exhausted(hint, None));

        world.succeed(second, &announcing(100, 30, secs(60)));

        assert_eq!(reset(&world), Some(believed), "{hint:?}");
    }
}

#[test]
fn a_short_wait_ending_with_its_window_is_ambiguous() {
    for (hint, believed) in [(ms(2150), secs(2)), (ms(2151), secs(60))] {
        let mut world = TestQuota::new();
        let number = world.enter();
        world.throttle(number, &exhausted(secs(2), Some(secs(60))));
        world.wait();
        let number = world.send().unwrap();
        world.throttle(number, &exhausted(hint, Some(hint)));
        world.wait();
        let number = world.send().unwrap();

        world.succeed(number, &announcing(100, 30, secs(60)));

        assert_eq!(reset(&world), Some(believed), "{hint:?}");
    }
}

/// Runs windows of a minute, in each of which a number of requests is accepted before one is throttled. Returns the
/// number sent in the next one, up to 50.
fn run_windows(
    world: &mut TestQuota,
    each: usize,
    accepted: &RateLimitInfo,
    refused: &RateLimitInfo,
) -> usize {
    for _ in 0..3 {
        succeed(world, each, accepted);
        let number = world.enter();
        world.throttle(number, refused);
        world.wait();
    }
    let go = |_: &usize| {
        let number = world.send();
        number
            .map(|number| world.succeed(number, accepted))
            .is_some()
    };
    (0..50).take_while(go).count()
}

#[test]
fn a_429_with_remaining_quota_updates_the_estimate() {
    let announced = announcing(1000, 900, secs(3600));
    let refused = RateLimitInfo {
        retry_after: Some(secs(60)),
        ..announced.clone()
    };

    assert_eq!(
        run_windows(&mut TestQuota::new(), 10, &announced, &refused),
        10
    );
}

#[test]
fn a_429_without_remaining_quota_belongs_to_the_announced_quota() {
    let announced = announcing(1000, 900, secs(60));

    let went = run_windows(
        &mut TestQuota::new(),
        10,
        &announced,
        &exhausted(secs(60), Some(secs(60))),
    );

    assert_eq!(went, 50);
}

#[test]
fn after_a_hold_requests_follow_headroom_or_slow_start() {
    let silence = RateLimitInfo::default();
    for (before, look, together) in [
        (&silence, &announcing(100, 20, secs(60)), 20),
        (&silence, &silence, 2),
        // What was announced before the hold does not apply now.
        (&announcing(100, 50, secs(3600)), &silence, 2),
    ] {
        let mut world = TestQuota::new();
        succeed(&mut world, 5, before);
        let number = world.enter();
        world.throttle(number, &with_retry_after(secs(5)));
        world.wait();
        let number = world.send().unwrap();
        assert_eq!(world.send(), None);

        world.succeed(number, look);

        assert_eq!((0..50).filter_map(|_| world.send()).count(), together);
    }
}
