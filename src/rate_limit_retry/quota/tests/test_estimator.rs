//! A habit that is taught step by step.

use super::*;
use crate::rate_limit_retry::quota::{
    estimate::Model, throttle::ThrottleSample, throttled::Throttled,
};

/// The first request is sent at 0; times are in milliseconds.
pub(super) struct TestEstimator {
    pub(super) estimator: LimitEstimator,
    pub(super) began: Instant,
}

/// A throttled request, with no other in flight.
pub(super) const SAMPLE: ThrottleSample = ThrottleSample {
    sent: None,
    limit: None,
    hint: None,
    silent: false,
    all_counted: true,
    sent_since: 1,
    in_flight: 0,
};

impl TestEstimator {
    pub(super) fn new() -> Self {
        Self {
            estimator: LimitEstimator::UNKNOWN,
            began: origin(),
        }
    }

    /// Two windows of a minute with ten requests, and the first request of the third, at 120 s.
    pub(super) fn minute_windows() -> Self {
        let mut estimator = Self::new();
        for window in [0, 60_000] {
            estimator.succeed(if window == 0 { 10 } else { 9 }, window);
            estimator.throttle(window + 1000, SAMPLE);
            estimator.recover(window + 60_000);
        }
        estimator
    }

    pub(super) fn at(&self, millis: u64) -> Instant {
        self.began + ms(millis)
    }

    /// Sends a number of requests at that time, which are accepted.
    pub(super) fn succeed(&mut self, count: u64, at: u64) {
        let at = self.at(at);
        for _ in 0..count {
            self.estimator.on_sent(at);
            self.estimator.on_success(Probe::default(), at);
        }
    }

    pub(super) fn throttle(&mut self, at: u64, sample: ThrottleSample) {
        let at = self.at(at);
        self.estimator.on_sent(at);
        self.estimator.on_throttle(&sample, at);
    }

    /// The first one is accepted, at the time that the server had named.
    pub(super) fn recover(&mut self, at: u64) {
        let now = self.at(at);
        let probe = Probe {
            since: Some(now),
            sent: Some(now),
        };
        self.estimator.on_sent(now);
        self.estimator.on_success(probe, now);
    }

    pub(super) fn throttled(&self) -> Throttled {
        self.estimator.throttled.unwrap()
    }

    pub(super) fn admit(&self, in_flight: u32, at: u64) -> EstimatorDecision {
        // `admit` reports once that the limit is reached.
        self.estimator.clone().admit(in_flight, self.at(at))
    }

    pub(super) fn is_allowed(&self, in_flight: u32, at: u64) -> bool {
        matches!(self.admit(in_flight, at), EstimatorDecision::Allow)
    }

    pub(super) fn is_token_bucket(&self) -> bool {
        matches!(self.estimator.model, Model::TokenBucket(_))
    }
}
