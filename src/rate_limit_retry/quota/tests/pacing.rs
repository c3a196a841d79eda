//! Even pacing over the rest of a window, and probes.

use super::*;

fn evenly_paced(shared: bool) -> TestQuota {
    TestQuota::with(QuotaConfig {
        pacing: Pacing::Even,
        shared,
        ..CONFIG
    })
}

/// Sends a request that is accepted at once.
fn succeed(world: &mut TestQuota, info: &RateLimitInfo) {
    let number = world.enter();
    world.succeed(number, info);
}

#[test]
fn requests_are_paced_over_the_rest_of_an_announced_window() {
    let mut world = evenly_paced(false);
    let began = world.now;
    succeed(&mut world, &announcing(100, 9, secs(10)));
    // A second apart, so that the last one is sent a second before the end.
    for second in 1..10 {
        let at = began + secs(second);
        assert_eq!(world.admit(), SendTime::NotBefore(at));
        world.now = at - Duration::from_nanos(1);
        assert_eq!(world.admit(), SendTime::NotBefore(at));
        world.now = at;
        assert_eq!(world.admit(), SendTime::Now);
        let left = announcing(100, 9 - second, secs(10 - second));
        succeed(&mut world, &left);
    }
    assert_eq!(world.admit(), SendTime::NotBefore(began + secs(10)));
}

#[test]
fn unpaced_requests_are_admitted_immediately() {
    let mut world = TestQuota::new();
    succeed(&mut world, &announcing(100, 9, secs(10)));

    assert_eq!((0..20).filter_map(|_| world.send()).count(), 9);
}

#[test]
fn a_local_limit_paces_requests_if_pacing_is_enabled() {
    let own = Some(LocalLimit::per(10, secs(10)));
    for (mut world, wait) in [
        (evenly_paced(false), secs(1)),
        (TestQuota::new(), Duration::ZERO),
    ] {
        world.quota = Quota::new(&world.config, own);
        succeed(&mut world, &RateLimitInfo::default());
        assert_eq!(world.wait(), wait);
    }
}

#[test]
fn in_flight_requests_count_towards_pacing() {
    let mut world = evenly_paced(false);
    succeed(&mut world, &announcing(100, 10, secs(12)));
    world.enter();

    // For nine others there is room in 12 s.
    let at = world.now + ms(1200);
    assert_eq!(world.admit(), SendTime::NotBefore(at));
}

#[test]
fn pacing_delays_are_capped_at_max_hold() {
    let mut world = evenly_paced(false);
    world.config.max_hold = secs(5);
    succeed(&mut world, &announcing(100, 1, secs(3600)));

    let at = world.now + secs(5);
    assert_eq!(world.admit(), SendTime::NotBefore(at));
}

#[test]
fn grants_are_unpaced_if_others_used_our_share() {
    let mut world = evenly_paced(true);
    succeed(&mut world, &announcing(100, 100, secs(60)));
    succeed(&mut world, &announcing(100, 8, secs(60)));
    report::report(&mut world, 5);
    report::apply(&mut world, &report::snapshot(5, 8, 5, 2));
    world.enter();

    assert_eq!(world.admit(), SendTime::Now);
}

#[test]
fn requests_are_paced_over_an_estimated_window() {
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
    assert_eq!(world.admit(), SendTime::NotBefore(at));
}

#[test]
fn only_a_single_test_request_is_a_probe() {
    let mut world = TestQuota::new();
    let number = world.enter();
    assert_eq!(world.quota.probe.sent, None);
    world.throttle(number, &with_retry_after(secs(5)));
    world.wait();
    let looked = world.now;
    assert!(world.send().is_some());
    assert_eq!(world.quota.probe.sent, Some(looked));

    // No `admit` preceded this send.
    world.advance(ms(10));
    world.enter();

    assert_eq!(world.quota.probe.sent, Some(looked));
}

#[test]
fn a_probe_counts_from_the_announced_reset() {
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
