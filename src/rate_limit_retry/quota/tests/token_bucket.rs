//! How fast requests go to a server whose refusals end within a second or two.

use super::{super::token_bucket::TokenBucket, *};

/// Accepts a number of requests, spread evenly over `time`.
fn succeed(bucket: &mut TokenBucket, from: Instant, time: Duration, count: u32) {
    for n in 1..=count {
        bucket.on_success(from + time * n / (count + 1));
    }
}

/// Accepts a number of requests between two throttles. Returns the time of the second.
fn measured(burst: u64, accepted: u32, time: Duration) -> (TokenBucket, Instant) {
    let start = origin();
    let mut bucket = TokenBucket::new(start, burst);
    succeed(&mut bucket, start, time, accepted);
    bucket.on_throttle(start + time);
    (bucket, start + time)
}

/// How long one more has to wait.
fn wait(bucket: &mut TokenBucket, in_flight: u32, now: Instant) -> Duration {
    match bucket.admit(in_flight, now) {
        None => Duration::ZERO,
        Some(SendTime::NotBefore(at)) => at - now,
        other => panic!("{other:?}"),
    }
}

/// How many may go together.
fn burst_size(bucket: &mut TokenBucket, now: Instant) -> u32 {
    let first = (0..1000).find(|in_flight| bucket.admit(*in_flight, now).is_some());
    first.unwrap_or(1000)
}

#[track_caller]
fn assert_measured(bucket: &TokenBucket, expected: f64) {
    let measured = bucket.measured_rate().unwrap();
    assert!((measured - expected).abs() < 1e-9, "{measured}");
}

#[test]
fn requests_are_not_delayed_before_a_second_429() {
    let start = origin();
    let mut bucket = TokenBucket::new(start, 8);
    assert!(!bucket.is_known());
    succeed(&mut bucket, start, secs(10), 20);
    assert_eq!(burst_size(&mut bucket, start + secs(9)), 1000);
    assert_eq!(bucket.measured_rate(), None);

    bucket.on_throttle(start + secs(10));

    assert!(bucket.is_known());
    assert_measured(&bucket, 2.0);
}

#[test]
fn requests_are_sent_at_the_measured_rate_plus_one() {
    // In flight, milliseconds since the throttle, and milliseconds to wait at two per second. The last one is for
    // rounding.
    for (in_flight, passed, expected) in [
        (0, 0, 501),
        (0, 250, 251),
        (0, 499, 2),
        (0, 500, 0),
        (1, 500, 501),
        (3, 1000, 1001),
        (3, 2000, 0),
    ] {
        let (mut bucket, refused) = measured(8, 19, secs(10));
        let now = refused + ms(passed);
        assert_eq!(wait(&mut bucket, in_flight, now), ms(expected), "{passed}");

        // What has been accepted counts as what is in flight.
        for _ in 0..in_flight {
            bucket.on_success(now);
        }
        assert_eq!(wait(&mut bucket, 0, now), ms(expected), "{passed}");
        assert_eq!(
            wait(&mut bucket, 1, now + ms(500)),
            ms(expected),
            "{passed}"
        );
    }
}

#[test]
fn a_request_is_admitted_at_its_announced_time() {
    for accepted in 0..200 {
        let (mut bucket, refused) = measured(8, accepted, ms(3210));
        let waits = wait(&mut bucket, 0, refused);
        assert_eq!(wait(&mut bucket, 0, refused + waits), Duration::ZERO);
    }
}

#[test]
fn the_rate_increases_without_throttling() {
    // Measured over ten seconds, and over half a second, which is too short to go by.
    for (accepted, time, passed, expected) in [
        (19, secs(10), 10, 20),
        (19, secs(10), 20, 50),
        (19, secs(10), 40, 170),
        (9, ms(500), 1, 20),
        (9, ms(500), 2, 50),
    ] {
        let (mut bucket, refused) = measured(1000, accepted, time);
        let went = burst_size(&mut bucket, refused + secs(passed));
        assert_eq!(went, expected, "{time:?}, {passed} s");
    }
}

#[test]
fn after_an_idle_period_the_initial_burst_is_admitted() {
    let (mut bucket, refused) = measured(4, 19, secs(10));
    // One more is not called a pause.
    assert_eq!(burst_size(&mut bucket, refused + ms(2000)), 4);
    assert_eq!(burst_size(&mut bucket, refused + ms(2500)), 5);
    assert_eq!(burst_size(&mut bucket, refused + ms(3000)), 4);
    // Asking again changes nothing.
    assert_eq!(burst_size(&mut bucket, refused + ms(3000)), 4);
    assert_eq!(wait(&mut bucket, 4, refused + ms(3000)), ms(501));
    assert_eq!(burst_size(&mut bucket, refused + ms(9000)), 4);
}

#[test]
fn at_least_one_request_is_admitted_after_an_idle_period() {
    let (mut bucket, refused) = measured(0, 19, secs(10));
    assert_eq!(burst_size(&mut bucket, refused + secs(9)), 1);
}

#[test]
fn a_429_after_an_idle_period_halves_the_burst_and_keeps_the_rate() {
    let (mut bucket, mut now) = measured(8, 19, secs(10));
    for expected in [8, 4, 2, 1, 1] {
        now += secs(9);
        assert_eq!(burst_size(&mut bucket, now), expected);
        bucket.on_throttle(now);
        assert!(bucket.is_known());
        assert_measured(&bucket, 1.9);
        let waits = wait(&mut bucket, 0, now).as_secs_f64();
        assert!((waits - 1.0 / 1.9 - 0.001).abs() < 1e-6, "{waits}");
    }
    // What is accepted from then on is measured anew.
    succeed(&mut bucket, now, secs(5), 10);
    bucket.on_throttle(now + secs(5));
    assert_measured(&bucket, 2.0);
}

#[test]
fn before_measurement_an_idle_period_exceeds_twice_the_retry_after() {
    for (pause, known) in [(4300, true), (4301, false)] {
        let start = origin();
        let mut bucket = TokenBucket::new(start, 8);
        bucket.on_throttle(start + ms(pause));
        assert_eq!(bucket.is_known(), known, "{pause}");

        let mut bucket = TokenBucket::new(start, 8);
        for later in [0, 1000] {
            bucket.on_success(start + ms(pause + later));
        }
        let now = start + ms(pause + 2000);
        bucket.on_throttle(now);
        assert_eq!(bucket.is_known(), known, "{pause}");

        // The throttle has shown how many are accepted at once after such a pause.
        let now = if known {
            now
        } else {
            succeed(&mut bucket, now, secs(10), 19);
            bucket.on_throttle(now + secs(10));
            now + secs(10)
        };
        let expected = if known { 8 } else { 4 };
        assert_eq!(burst_size(&mut bucket, now + secs(30)), expected);
    }
}

#[test]
fn a_measured_rate_ignores_slow_periods() {
    let (mut bucket, refused) = measured(8, 20, secs(10));
    for _ in 0..8 {
        bucket.on_success(refused + secs(5));
    }
    bucket.on_throttle(refused + secs(5));
    assert_measured(&bucket, 28.0 / 15.0);
}

#[test]
fn an_outlier_replaces_the_measured_rate() {
    // A hundred in ten seconds, and then this number in the next ten.
    for (accepted, expected) in [
        (0, 0.0),
        (65, 6.5),
        (66, 16.6 / 2.0),
        (100, 10.0),
        (151, 25.1 / 2.0),
        (152, 15.2),
        (500, 50.0),
    ] {
        let (mut bucket, refused) = measured(8, 100, secs(10));
        succeed(&mut bucket, refused, secs(10), accepted);
        bucket.on_throttle(refused + secs(10));
        assert_measured(&bucket, expected);
    }
}

#[test]
fn an_early_429_reveals_the_cost_of_throttled_requests() {
    let (mut bucket, refused) = measured(1000, 100, secs(10));
    let soon = refused + secs(2);
    succeed(&mut bucket, refused, secs(2), 14);
    bucket.on_throttle(soon);
    // Twenty were expected, 14 and the throttled one arrived: five overflowed, and were part of the rate.
    assert_measured(&bucket, 119.0 / 12.0);
    assert_eq!(wait(&mut bucket, 0, soon), ms(601));

    let mut again = bucket;
    succeed(&mut again, soon, secs(2), 13);
    again.on_throttle(soon + secs(2));
    let lost = 5.0 + (119.0 / 6.0 - 5.0 - 13.0 - 1.0);
    assert_measured(&again, (119.0 + 13.0 + lost) / 14.0);

    // More than was expected: nothing else is lost.
    let mut more = bucket;
    succeed(&mut more, soon, secs(2), 19);
    more.on_throttle(soon + secs(2));
    assert_measured(&more, (119.0 + 19.0 + 5.0) / 14.0);

    // A change makes it forgotten.
    succeed(&mut bucket, soon, secs(2), 1);
    bucket.on_throttle(soon + secs(2));
    assert_measured(&bucket, 0.5);
    assert_eq!(wait(&mut bucket, 0, soon + secs(2)), ms(1001));
}

#[test]
fn a_429_after_three_seconds_costs_only_itself() {
    let (mut bucket, refused) = measured(8, 100, secs(10));
    succeed(&mut bucket, refused, secs(3), 24);
    bucket.on_throttle(refused + secs(3));
    assert_measured(&bucket, 124.0 / 13.0);
}

#[test]
fn simultaneous_429s_count_once() {
    let (mut bucket, refused) = measured(8, 100, secs(10));
    bucket.on_throttle(refused);
    assert_measured(&bucket, 10.0);
}

#[test]
fn requests_sent_before_a_429_count_towards_the_rate() {
    let start = origin();
    let mut bucket = TokenBucket::new(start, 8);
    // Nothing was counted before the first throttle.
    bucket.on_late_success();
    succeed(&mut bucket, start, secs(10), 19);
    bucket.on_throttle(start + secs(10));
    assert_measured(&bucket, 1.9);

    bucket.on_late_success();

    assert_measured(&bucket, 2.0);
}

#[test]
fn rates_and_waits_are_bounded() {
    let (mut bucket, refused) = measured(8, 0, secs(4));
    assert_measured(&bucket, 0.0);
    assert_eq!(wait(&mut bucket, 0, refused), ms(2151));
    assert_eq!(wait(&mut bucket, 1000, refused), ms(2_152_151));
    assert_eq!(wait(&mut bucket, 1_000_000, refused), ms(3_600_001));
}

#[test]
fn a_zero_rate_is_dropped_after_an_idle_period() {
    let (mut bucket, refused) = measured(1, 0, secs(4));
    let now = refused + secs(60);
    assert_eq!(burst_size(&mut bucket, now), 1);
    bucket.on_throttle(now);
    assert!(!bucket.is_known());
    assert_eq!(burst_size(&mut bucket, now), 1000);
}
