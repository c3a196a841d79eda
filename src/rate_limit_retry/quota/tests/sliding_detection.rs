//! When the model of a sliding window is activated.

use super::{
    test_estimator::{SAMPLE, TestEstimator},
    *,
};
use crate::rate_limit_retry::quota::{estimate::Model, throttle::ThrottleSample};

/// The response announces nothing.
const SILENT: ThrottleSample = ThrottleSample {
    silent: true,
    ..SAMPLE
};

/// The times of throttled probes after the first window.
const PROBES: [u64; 6] = [2000, 5000, 10_000, 20_000, 40_000, 60_000];

/// Ten were accepted at first and one throttled after a second; then these probes, and at 61.5 s an accepted one.
fn recovered(probes: &[u64]) -> TestEstimator {
    let mut estimator = TestEstimator::new();
    estimator.succeed(10, 0);
    estimator.throttle(1000, SILENT);
    for probe in probes {
        estimator.throttle(*probe, SILENT);
    }
    succeed_probe(&mut estimator, 61_500);
    estimator
}

/// The next window accepts this number, including the probe, before one is throttled at 62.1 s.
fn throttled(probes: &[u64], accepted: u64, in_flight: u32) -> TestEstimator {
    let mut estimator = recovered(probes);
    estimator.succeed(accepted - 1, 62_000);
    let sample = ThrottleSample {
        in_flight,
        ..SILENT
    };
    estimator.throttle(62_100, sample);
    estimator
}

/// A probe is accepted.
fn succeed_probe(estimator: &mut TestEstimator, at: u64) {
    let now = estimator.at(at);
    let probe = Probe {
        since: None,
        sent: Some(now),
    };
    estimator.estimator.on_sent(now);
    estimator.estimator.on_success(probe, now);
}

fn is_active(estimator: &TestEstimator) -> bool {
    estimator.estimator.active_sliding_window().is_some()
}

/// The estimated length of the window.
fn length(estimator: &TestEstimator) -> Duration {
    estimator
        .estimator
        .sliding_window
        .as_ref()
        .unwrap()
        .length()
}

#[test]
fn a_log_starts_only_if_throttled_requests_count() {
    for (silent, counted, log) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
        (false, false, false),
    ] {
        let mut estimator = TestEstimator::new();
        estimator.succeed(10, 0);
        let sample = ThrottleSample {
            silent,
            all_counted: counted,
            in_flight: 3,
            ..SAMPLE
        };

        estimator.throttle(1000, sample);

        let sent = estimator
            .estimator
            .sliding_window
            .as_ref()
            .map(|sliding_window| sliding_window.sent_since_start(1));
        // Number accepted, in flight, and throttled.
        assert_eq!(sent, log.then_some(14));
    }
}

#[test]
fn a_canceled_request_is_not_in_the_log() {
    let mut estimator = recovered(&PROBES);
    let sent = |estimator: &TestEstimator| {
        let sliding_window = estimator.estimator.sliding_window.as_ref().unwrap();
        sliding_window.sent_since_start(0)
    };
    estimator.succeed(1, 62_000);
    assert_eq!(sent(&estimator), 2);

    estimator.estimator.on_cancelled();

    assert_eq!(sent(&estimator), 1);
}

#[test]
fn a_429_with_limits_does_not_count_throttled_requests() {
    let mut estimator = recovered(&PROBES);
    assert!(estimator.estimator.sliding_window.is_some());

    estimator.throttle(62_000, SAMPLE);

    assert!(estimator.estimator.sliding_window.is_none());
}

#[test]
fn a_window_reduced_by_throttled_requests_is_sliding() {
    for (probes, accepted, in_flight, active) in [
        (&PROBES[..], 4, 0, true),
        (&PROBES[..], 4, 10, true),
        // Half of those under way may still be accepted, which makes ten.
        (&PROBES[..], 4, 11, false),
        (&PROBES[..], 4, 12, false),
        (&PROBES[..], 10, 0, false),
        // Fewer were throttled than are missing.
        (&PROBES[5..], 4, 0, false),
    ] {
        let estimator = throttled(probes, accepted, in_flight);

        assert_eq!(is_active(&estimator), active, "{probes:?} {in_flight}");
        assert_eq!(estimator.estimator.is_pacing_known(), active);
        assert_eq!(estimator.estimator.limit(), 10);
    }
}

#[test]
fn an_explained_429_lasts_one_window() {
    // The window opened at 60 s at the earliest, and lasts as long at least.
    for in_flight in [0, 12] {
        let estimator = throttled(&PROBES, 4, in_flight);
        assert!(estimator.throttled().sliding);
        assert_eq!(estimator.throttled().last_confirmed, estimator.at(120_000));
    }
    let estimator = throttled(&PROBES[5..], 4, 0);
    assert!(!estimator.throttled().sliding);
    assert_eq!(estimator.throttled().last_confirmed, estimator.at(62_100));
}

#[test]
fn the_next_probe_waits_for_headroom_in_the_log() {
    for (probes, accepted, in_flight, at) in [
        // It slides: 61 s, and a 200th, after the last but nine, of 5 s.
        (&PROBES[..], 4, 0, 66_305),
        // Perhaps it does: the later one of that and of the round time after the last opening.
        (&PROBES[..], 4, 12, 121_651),
        (&PROBES[..], 9, 1, 122_500),
        // It does not.
        (&PROBES[..0], 9, 1, 62_651),
    ] {
        let estimator = throttled(probes, accepted, in_flight);

        let probe = estimator.estimator.next_probe(estimator.at(62_100));

        assert_eq!(probe, estimator.at(at), "{probes:?} {accepted}");
    }
}

#[test]
fn an_explained_smaller_window_slides_from_the_next_probe() {
    for (probes, accepted, late, active, allowance) in [
        (&PROBES[..], 9, 0, true, 10),
        (&PROBES[..], 10, 0, false, 10),
        (&PROBES[..], 9, 1, false, 10),
        (&PROBES[..0], 9, 0, false, 9),
    ] {
        let mut estimator = throttled(probes, accepted, 2);
        assert!(!is_active(&estimator));
        for _ in 0..late {
            estimator.estimator.on_late_success();
        }

        succeed_probe(&mut estimator, 124_000);

        assert_eq!(is_active(&estimator), active, "{probes:?} {accepted}");
        assert_eq!(estimator.estimator.estimate().limit, Some(allowance));
        assert_eq!(estimator.estimator.headroom(0).is_none(), active);
    }
}

#[test]
fn throttled_probes_bound_the_window_from_below() {
    // The estimate is a common length, at least the time until the last throttled probe.
    let mut estimator = TestEstimator::new();
    estimator.succeed(10, 0);
    estimator.throttle(1000, SILENT);
    estimator.throttle(58_000, SILENT);
    succeed_probe(&mut estimator, 59_500);
    assert!(length(&estimator) > secs(59), "{:?}", length(&estimator));

    let mut estimator = TestEstimator::new();
    estimator.succeed(10, 0);
    estimator.throttle(58_000, SILENT);
    succeed_probe(&mut estimator, 61_500);
    assert_eq!(length(&estimator), secs(50));
}

/// A sliding window of 61 s, and the first request accepted at 70 s.
fn sliding() -> TestEstimator {
    let mut estimator = throttled(&PROBES, 4, 0);
    succeed_probe(&mut estimator, 70_000);
    assert!(is_active(&estimator));
    estimator
}

#[test]
fn a_sliding_quota_is_probed_for_growth_every_32_windows() {
    for (at, blocked, in_flight, probes) in [
        (2_000_000, false, 0, false),
        (2_024_000, false, 0, true),
        (2_024_000, false, 1, false),
        (2_024_000, true, 0, false),
    ] {
        let mut estimator = sliding();
        estimator.succeed(10, at);
        if blocked {
            estimator.throttle(at, SILENT);
        }
        let now = estimator.at(at);

        let verdict = estimator.estimator.admit(in_flight, now);

        assert_eq!(
            matches!(verdict, EstimatorDecision::Probe),
            probes,
            "{verdict:?}"
        );
        assert_eq!(estimator.estimator.limit(), if probes { 11 } else { 10 });
        if !probes {
            let EstimatorDecision::Wait(wait) = verdict else {
                panic!("{verdict:?}")
            };
            assert_eq!(matches!(wait, SendTime::AfterResponse(_)), in_flight > 0);
        }
    }
}

#[test]
fn an_unexplained_429_discards_the_log() {
    let mut estimator = sliding();
    estimator.succeed(10, 200_000);
    estimator.throttle(200_100, SILENT);
    assert!(is_active(&estimator));

    let mut estimator = sliding();
    estimator.succeed(3, 200_000);
    estimator.throttle(200_100, SILENT);
    assert!(!is_active(&estimator));
    assert_eq!(estimator.estimator.accepted, 3);
    assert!(matches!(estimator.estimator.model, Model::FixedWindow(_)));
}
