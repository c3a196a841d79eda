//! The estimate of an unannounced quota from throttling responses.

use super::{
    test_estimator::{SAMPLE, TestEstimator},
    *,
};
use crate::rate_limit_retry::quota::{bounds::TimeRange, throttle::ThrottleSample};

#[test]
fn without_throttling_all_requests_are_admitted() {
    let mut lessons = TestEstimator::new();
    lessons.succeed(1000, 0);
    assert!(!lessons.estimator.is_known());
    assert!(!lessons.estimator.is_pacing_known());
    assert!(lessons.is_allowed(1000, 0));
    assert_eq!(lessons.estimator.estimate(), Estimate::default());
    assert_eq!(lessons.estimator.headroom(0), None);
}

#[test]
fn short_throttling_indicates_a_rate_and_long_throttling_a_window() {
    for (lasted, rate) in [(2200, true), (2201, false)] {
        let mut lessons = TestEstimator::new();
        lessons.succeed(10, 0);
        lessons.throttle(1000, SAMPLE);
        assert!(lessons.estimator.is_known());

        lessons.recover(1000 + lasted);

        assert_eq!(lessons.is_token_bucket(), rate, "{lasted}");
        let allowance = (!rate).then_some(10);
        assert_eq!(lessons.estimator.estimate().limit, allowance);
    }
}

#[test]
fn a_rate_is_measured_between_short_throttlings() {
    let mut lessons = TestEstimator::new();
    lessons.succeed(10, 0);
    lessons.throttle(1000, SAMPLE);
    for second in 2..12 {
        lessons.succeed(1, second * 1000);
    }
    assert!(lessons.is_token_bucket());
    assert!(!lessons.estimator.is_pacing_known());
    lessons.throttle(11_000, SAMPLE);
    lessons.succeed(1, 12_000);
    // Ten in ten seconds.
    assert_eq!(lessons.estimator.estimate().rate, Some(1.0));
    assert!(lessons.estimator.is_pacing_known());
    assert_eq!(lessons.estimator.headroom(0), None);
    assert!(lessons.estimator.sliding_window.is_none());
    assert!(matches!(
        lessons.admit(0, 12_000),
        EstimatorDecision::Wait(_)
    ));
    // It was sent before the last throttle.
    lessons.estimator.on_late_success();
    assert_eq!(lessons.estimator.estimate().rate, Some(1.1));

    lessons.throttle(13_000, SAMPLE);
    lessons.succeed(1, 15_201);

    assert!(!lessons.is_token_bucket());
    assert!(!lessons.estimator.is_pacing_known());
}

#[test]
fn the_limit_in_the_first_429_is_used_unless_more_were_sent() {
    for (first, second, allowance) in [
        (Some(100), None, 100),
        (Some(39), None, 40),
        (None, None, 40),
        // A probe is throttled by a response that names one.
        (None, Some(100), 100),
        (Some(100), Some(50), 50),
    ] {
        let mut lessons = TestEstimator::new();
        lessons.succeed(40, 0);
        for (at, limit) in [(1000, first), (2000, second)] {
            lessons.throttle(at, ThrottleSample { limit, ..SAMPLE });
        }
        lessons.recover(60_000);
        assert_eq!(lessons.estimator.estimate().limit, Some(allowance));

        // From then on what has gone is known better.
        lessons.succeed(39, 60_000);
        let limit = Some(100);
        lessons.throttle(61_000, ThrottleSample { limit, ..SAMPLE });
        lessons.recover(120_000);
        assert_eq!(lessons.estimator.estimate().limit, Some(40));
    }
}

#[test]
fn a_window_exhausted_by_others_is_not_an_estimate() {
    let mut lessons = TestEstimator::new();
    lessons.throttle(0, SAMPLE);

    lessons.recover(60_000);

    assert!(!lessons.estimator.is_known());
}

#[test]
fn requests_in_flight_at_a_429_count_if_accepted() {
    let mut lessons = TestEstimator::new();
    lessons.succeed(10, 0);
    lessons.throttle(1000, SAMPLE);
    lessons.estimator.on_late_success();
    lessons.estimator.on_late_success();

    lessons.recover(60_000);

    assert_eq!(lessons.estimator.estimate().limit, Some(12));
}

#[test]
fn a_known_window_admits_its_limit_and_is_probed_at_its_end() {
    let mut lessons = TestEstimator::minute_windows();
    let estimate = lessons.estimator.estimate();
    assert_eq!(
        (estimate.limit, estimate.window),
        (Some(10), Some(secs(60)))
    );
    lessons.succeed(8, 120_000);
    assert!(lessons.is_allowed(0, 121_000));
    let over = lessons.at(180_000);
    let wait = SendTime::AfterResponse(Some(over));
    assert!(matches!(lessons.admit(1, 121_000), EstimatorDecision::Wait(is) if is == wait));
    assert!(lessons.is_allowed(1, 180_000));

    lessons.succeed(1, 120_000);

    assert!(matches!(lessons.admit(1, 121_000), EstimatorDecision::Wait(is) if is == wait));
    assert!(matches!(lessons.admit(0, 121_000), EstimatorDecision::Hold(until) if until == over));
    let late = lessons.at(181_200);
    assert!(lessons.is_allowed(0, 180_000));
    assert!(matches!(lessons.admit(0, 179_999), EstimatorDecision::Hold(until) if until == over));

    // The limit is reported once, and the probe is admitted.
    let now = lessons.at(121_000);
    lessons.estimator.admit(0, now);
    assert!(lessons.is_allowed(0, 121_000));
    assert_eq!(lessons.throttled().last_confirmed, over);
    assert_eq!(lessons.estimator.headroom(0), None);
    assert_eq!(lessons.estimator.next_probe(over), late);
}

#[test]
fn a_window_throttled_near_its_end_is_unchanged() {
    for (accepted, rate) in [(9, false), (8, true)] {
        let mut lessons = TestEstimator::minute_windows();
        lessons.succeed(accepted - 1, 120_000);
        lessons.throttle(178_500, SAMPLE);

        lessons.recover(180_000);

        assert_eq!(lessons.is_token_bucket(), rate, "{accepted}");
        let allowance = (!rate).then_some(10);
        assert_eq!(lessons.estimator.estimate().limit, allowance);
    }
}

#[test]
fn a_request_after_the_window_opens_the_next() {
    for (at, accepted, opened) in [(179_999, 1, 120_000), (180_000, 0, 180_000)] {
        let mut lessons = TestEstimator::minute_windows();
        let now = lessons.at(at);

        lessons.estimator.on_sent(now);

        assert_eq!(lessons.estimator.accepted, accepted);
        let when = lessons.estimator.window_start.unwrap().at;
        assert_eq!(when, TimeRange::at(lessons.at(opened)));
    }
    // Perhaps in the middle of a window: after the whole limit was used, a greater one is probed.
    let mut lessons = TestEstimator::minute_windows();
    lessons.succeed(10, 180_000);
    assert!(matches!(
        lessons.admit(0, 181_000),
        EstimatorDecision::Probe
    ));
    // While requests are throttled, no window has started.
    let mut lessons = TestEstimator::minute_windows();
    lessons.throttle(121_000, SAMPLE);
    lessons.throttle(190_000, SAMPLE);
    assert_eq!(lessons.estimator.accepted, 1);
}

#[test]
fn headroom_excludes_accepted_and_in_flight_requests() {
    let mut lessons = TestEstimator::minute_windows();
    assert_eq!(
        lessons.estimator.headroom(2),
        Some((7.0, lessons.at(180_000)))
    );
    lessons.succeed(9, 120_000);
    assert_eq!(
        lessons.estimator.headroom(2),
        Some((-2.0, lessons.at(180_000)))
    );
    lessons.throttle(121_000, SAMPLE);
    assert_eq!(lessons.estimator.headroom(0), None);
}

#[test]
fn throttled_probes_are_counted() {
    let mut lessons = TestEstimator::new();
    lessons.succeed(10, 0);
    for (looks, at) in [(0, 1000), (1, 2000), (2, 4000), (3, 8000)] {
        lessons.throttle(at, SAMPLE);
        assert_eq!(lessons.throttled().probes, looks);
        assert_eq!(lessons.throttled().last_confirmed, lessons.at(at));
        assert_eq!(lessons.throttled().since, lessons.at(1000));
    }
}

#[test]
fn probes_become_rarer_if_they_may_be_counted() {
    let silent = ThrottleSample {
        silent: true,
        ..SAMPLE
    };
    for (accepted, refusal, looks, patience) in [
        // Four times the number of probes is at most eight, or at most the number accepted.
        (0, silent, 2, 0),
        (0, silent, 3, 1500),
        (12, silent, 3, 0),
        (12, silent, 4, 2000),
        (0, SAMPLE, 3, 0),
    ] {
        let mut lessons = TestEstimator::new();
        lessons.succeed(accepted, 0);
        for probe in 0..=looks {
            lessons.throttle(1000 + probe * 1000, refusal);
        }
        let now = lessons.at(1000 + looks * 1000);
        let wait = lessons.estimator.min_wait(now);
        assert_eq!(wait, ms(patience), "{looks} for {accepted}");
    }
}
