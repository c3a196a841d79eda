//! The estimate of an unannounced quota from throttling responses.

use super::{
    test_estimator::{SAMPLE, TestEstimator},
    *,
};
use crate::rate_limit_retry::quota::{bounds::TimeRange, throttle::ThrottleSample};

#[test]
fn without_throttling_all_requests_are_admitted() {
    let mut estimator = TestEstimator::new();
    estimator.succeed(1000, 0);
    assert!(!estimator.estimator.is_known());
    assert!(!estimator.estimator.is_pacing_known());
    assert!(estimator.is_allowed(1000, 0));
    assert_eq!(estimator.estimator.estimate(), Estimate::default());
    assert_eq!(estimator.estimator.headroom(0), None);
}

#[test]
fn short_throttling_indicates_a_rate_and_long_throttling_a_window() {
    for (lasted, rate) in [(2150, true), (2151, false)] {
        let mut estimator = TestEstimator::new();
        estimator.succeed(10, 0);
        estimator.throttle(1000, SAMPLE);
        assert!(estimator.estimator.is_known());

        estimator.recover(1000 + lasted);

        assert_eq!(estimator.is_token_bucket(), rate, "{lasted}");
        let allowance = (!rate).then_some(10);
        assert_eq!(estimator.estimator.estimate().limit, allowance);
    }
}

#[test]
fn a_rate_is_measured_between_short_throttlings() {
    let mut estimator = TestEstimator::new();
    estimator.succeed(10, 0);
    estimator.throttle(1000, SAMPLE);
    for second in 2..12 {
        estimator.succeed(1, second * 1000);
    }
    assert!(estimator.is_token_bucket());
    assert!(!estimator.estimator.is_pacing_known());
    estimator.throttle(11_000, SAMPLE);
    estimator.succeed(1, 12_000);
    // Ten in ten seconds.
    assert_eq!(estimator.estimator.estimate().rate, Some(1.0));
    assert!(estimator.estimator.is_pacing_known());
    assert_eq!(estimator.estimator.headroom(0), None);
    assert!(estimator.estimator.sliding_window.is_none());
    assert!(matches!(
        estimator.admit(0, 12_000),
        EstimatorDecision::Wait(_)
    ));
    // It was sent before the last throttle.
    estimator.estimator.on_late_success();
    assert_eq!(estimator.estimator.estimate().rate, Some(1.1));

    estimator.throttle(13_000, SAMPLE);
    estimator.succeed(1, 15_201);

    assert!(!estimator.is_token_bucket());
    assert!(!estimator.estimator.is_pacing_known());
}

/// Other clients use the rest: at the limit, more requests are sent one by one until one is throttled.
#[test]
fn a_greater_limit_in_a_429_shows_that_others_use_the_quota() {
    for (named, probes) in [(None, false), (Some(10), false), (Some(11), true)] {
        let mut estimator = TestEstimator::minute_windows();
        estimator.succeed(9, 120_000);
        let limit = named;
        estimator.throttle(121_000, ThrottleSample { limit, ..SAMPLE });
        estimator.recover(180_000);
        assert_eq!(estimator.estimator.estimate().limit, Some(10));

        estimator.succeed(9, 180_000);

        let probe = matches!(estimator.admit(0, 181_000), EstimatorDecision::Probe);
        assert_eq!(probe, probes, "{named:?}");
        assert!(!estimator.is_allowed(1, 181_000));
    }
}

#[test]
fn a_window_exhausted_by_others_is_not_an_estimate() {
    let mut estimator = TestEstimator::new();
    estimator.throttle(0, SAMPLE);

    estimator.recover(60_000);

    assert!(!estimator.estimator.is_known());
}

#[test]
fn requests_in_flight_at_a_429_count_if_accepted() {
    let mut estimator = TestEstimator::new();
    estimator.succeed(10, 0);
    estimator.throttle(1000, SAMPLE);
    estimator.estimator.on_late_success();
    estimator.estimator.on_late_success();

    estimator.recover(60_000);

    assert_eq!(estimator.estimator.estimate().limit, Some(12));
}

#[test]
fn a_known_window_admits_its_limit_and_is_probed_at_its_end() {
    let mut estimator = TestEstimator::minute_windows();
    let estimate = estimator.estimator.estimate();
    assert_eq!(
        (estimate.limit, estimate.window),
        (Some(10), Some(secs(60)))
    );
    estimator.succeed(8, 120_000);
    assert!(estimator.is_allowed(0, 121_000));
    let over = estimator.at(180_000);
    let wait = SendTime::AfterResponse(Some(over));
    assert!(matches!(estimator.admit(1, 121_000), EstimatorDecision::Wait(is) if is == wait));
    assert!(estimator.is_allowed(1, 180_000));

    estimator.succeed(1, 120_000);

    assert!(matches!(estimator.admit(1, 121_000), EstimatorDecision::Wait(is) if is == wait));
    assert!(matches!(estimator.admit(0, 121_000), EstimatorDecision::Hold(until) if until == over));
    let late = estimator.at(181_200);
    assert!(estimator.is_allowed(0, 180_000));
    assert!(matches!(estimator.admit(0, 179_999), EstimatorDecision::Hold(until) if until == over));

    // The limit is reported once, and the probe is admitted.
    let now = estimator.at(121_000);
    estimator.estimator.admit(0, now);
    assert!(estimator.is_allowed(0, 121_000));
    assert_eq!(estimator.throttled().last_confirmed, over);
    assert_eq!(estimator.estimator.headroom(0), None);
    assert_eq!(estimator.estimator.next_probe(over), late);
}

#[test]
fn a_window_throttled_near_its_end_is_unchanged() {
    for (accepted, rate) in [(9, false), (8, true)] {
        let mut estimator = TestEstimator::minute_windows();
        estimator.succeed(accepted - 1, 120_000);
        estimator.throttle(178_500, SAMPLE);

        estimator.recover(180_000);

        assert_eq!(estimator.is_token_bucket(), rate, "{accepted}");
        let allowance = (!rate).then_some(10);
        assert_eq!(estimator.estimator.estimate().limit, allowance);
    }
}

#[test]
fn a_request_after_the_window_opens_the_next() {
    for (at, accepted, opened) in [(179_999, 1, 120_000), (180_000, 0, 180_000)] {
        let mut estimator = TestEstimator::minute_windows();
        let now = estimator.at(at);

        estimator.estimator.on_sent(now);

        assert_eq!(estimator.estimator.accepted, accepted);
        let when = estimator.estimator.window_start.unwrap().at;
        assert_eq!(when, TimeRange::at(estimator.at(opened)));
    }
    // Perhaps in the middle of a window: after the whole limit was used, a greater one is probed.
    let mut estimator = TestEstimator::minute_windows();
    estimator.succeed(10, 180_000);
    assert!(matches!(
        estimator.admit(0, 181_000),
        EstimatorDecision::Probe
    ));
    // While requests are throttled, no window has started.
    let mut estimator = TestEstimator::minute_windows();
    estimator.throttle(121_000, SAMPLE);
    estimator.throttle(190_000, SAMPLE);
    assert_eq!(estimator.estimator.accepted, 1);
}

#[test]
fn headroom_excludes_accepted_and_in_flight_requests() {
    let mut estimator = TestEstimator::minute_windows();
    assert_eq!(
        estimator.estimator.headroom(2),
        Some((7.0, estimator.at(180_000)))
    );
    estimator.succeed(9, 120_000);
    assert_eq!(
        estimator.estimator.headroom(2),
        Some((-2.0, estimator.at(180_000)))
    );
    estimator.throttle(121_000, SAMPLE);
    assert_eq!(estimator.estimator.headroom(0), None);
}

#[test]
fn throttled_probes_are_counted() {
    let mut estimator = TestEstimator::new();
    estimator.succeed(10, 0);
    for (looks, at) in [(0, 1000), (1, 2000), (2, 4000), (3, 8000)] {
        estimator.throttle(at, SAMPLE);
        assert_eq!(estimator.throttled().probes, looks);
        assert_eq!(estimator.throttled().last_confirmed, estimator.at(at));
        assert_eq!(estimator.throttled().since, estimator.at(1000));
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
        let mut estimator = TestEstimator::new();
        estimator.succeed(accepted, 0);
        for probe in 0..=looks {
            estimator.throttle(1000 + probe * 1000, refusal);
        }
        let now = estimator.at(1000 + looks * 1000);
        let wait = estimator.estimator.min_wait(now);
        assert_eq!(wait, ms(patience), "{looks} for {accepted}");
    }
}
