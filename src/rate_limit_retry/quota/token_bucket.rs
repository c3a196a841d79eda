//! The rate of a quota that is replenished continuously, as by a token bucket: the server throttles single requests
//! for a second or two.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    admit::SendTime,
    refill::as_f64,
    tuning::{ESTIMATE_TTL, MAX_RATE_RATIO, MAX_TOKEN_BUCKET_WAIT, TIMER_RESOLUTION},
};
use crate::clock::add_capped;

/// A measured rate.
///
/// Counts accepted requests from one throttle to the next. Their number divided by the time is the rate, within one
/// request: the longer the time, the more exact. Requests obey the upper bound, so that the next throttle comes when
/// the time has about doubled, and costs one request.
///
/// If n requests were accepted in t seconds between two throttles, the rate is between (n - 1) / t and (n + 1) / t.
/// After the time of the measurement has passed again without a throttle, the rate that requests obey grows linearly:
/// it has doubled after another such time.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    /// The throttle at which the measurement began.
    first_throttle: Instant,
    /// The last throttle.
    last_throttle: Instant,
    /// Number of requests accepted between them, with losses.
    total: f64,
    /// Number of requests accepted since the last throttle.
    accepted: f64,
    /// Number of requests that may be sent at once after a pause, at least 1.
    burst: f64,
    /// Accrued requests that were not used in pauses and exceed the burst.
    unused: f64,
    /// The rate measured before a pause.
    previous_rate: Option<f64>,
    /// Requests lost with each throttle, because the bucket overflows before the wait is over.
    overflow: f64,
    /// Time of the last accepted or throttled request that was noted.
    last_accepted: Instant,
    /// Whether there were pauses before anything was measured.
    was_idle: bool,
}

impl TokenBucket {
    /// Creates a rate after a throttle at `first_throttle`. Nothing is measured yet.
    pub(super) fn new(first_throttle: Instant, burst: u64) -> Self {
        Self {
            first_throttle,
            last_throttle: first_throttle,
            total: 0.0,
            accepted: 0.0,
            burst: as_f64(burst).max(1.0),
            unused: 0.0,
            previous_rate: None,
            overflow: 0.0,
            last_accepted: first_throttle,
            was_idle: false,
        }
    }

    /// Records an accepted request.
    pub(super) fn on_success(&mut self, now: Instant) {
        self.accepted += 1.0;
        self.detect_idle(now);
    }

    /// Records that a request of an earlier epoch was accepted.
    pub(super) fn on_late_success(&mut self) {
        if self.measured_span() > 0.0 {
            self.total += 1.0;
        }
    }

    /// Records that a request was throttled that should have been accepted, and updates the measurement.
    ///
    /// - After a pause, the throttle shows the size of the bucket: the burst is halved and the measurement starts
    ///   again.
    /// - If the rate differs greatly from the measured one, the measurement starts again at the last throttle.
    /// - Otherwise the accepted requests are added to the measurement. If the last throttle was less than
    ///   [`MAX_TOKEN_BUCKET_WAIT`] ago, the requests that are missing are added as losses.
    pub(super) fn on_throttle(&mut self, now: Instant) {
        let passed = (now - self.last_throttle).as_secs_f64().max(0.001);
        self.detect_idle(now);
        if self.unused > 0.0 || self.was_idle {
            // The bucket was full after a pause: the throttle shows its size and not its rate.
            self.previous_rate = self.measured_rate().filter(|rate| *rate > 0.0);
            self.burst = (self.burst / 2.0).max(1.0);
            self.first_throttle = now;
            self.total = 0.0;
        } else {
            let known = self.measured_rate();
            // Within one request.
            let changed = known.is_some_and(|rate| {
                (self.accepted + 1.0) / passed < rate / MAX_RATE_RATIO
                    || (self.accepted - 1.0) / passed > rate * MAX_RATE_RATIO
            });
            if changed {
                // The rate has changed: the measurement starts again.
                self.first_throttle = self.last_throttle;
                self.total = 0.0;
                self.overflow = 0.0;
            } else if let Some(rate) =
                known.filter(|_| passed < MAX_TOKEN_BUCKET_WAIT.as_secs_f64())
            {
                let missing = rate * passed - self.overflow - self.accepted - 1.0;
                self.overflow += missing.max(0.0);
            }
            self.total += self.accepted + self.overflow;
        }
        self.last_throttle = now;
        self.accepted = 0.0;
        self.unused = 0.0;
        self.was_idle = false;
    }

    /// Returns whether a rate has been measured, which requests obey.
    pub(super) fn is_known(&self) -> bool {
        self.measured_rate().is_some()
    }

    /// Returns why one more request must wait; `None` if it need not.
    pub(super) fn admit(&mut self, in_flight: u32, now: Instant) -> Option<SendTime> {
        let max_rate = self.max_rate()?;
        let earned = self.accrued(max_rate, now);
        let used = self.accepted + f64::from(in_flight);
        // Accrued requests beyond the burst are forgone, with a tolerance of one request.
        let idle = earned - self.unused - used - self.burst;
        if idle > 1.0 {
            self.unused += idle;
        }
        let missing = used + 1.0 - (earned - self.unused);
        (missing > 0.0).then(|| {
            let wait = (missing / max_rate).min(ESTIMATE_TTL.as_secs_f64());
            let wait = Duration::from_secs_f64(wait) + TIMER_RESOLUTION;
            SendTime::NotBefore(add_capped(now, wait))
        })
    }

    /// Notes a pause before anything was measured. A client that wants more than the server's rate is accepted at
    /// least as often as the server's hints say.
    fn detect_idle(&mut self, now: Instant) {
        self.was_idle |=
            self.measured_rate().is_none() && now - self.last_accepted > 2 * MAX_TOKEN_BUCKET_WAIT;
        self.last_accepted = now;
    }

    /// Returns the measured rate in requests per second.
    pub(super) fn measured_rate(&self) -> Option<f64> {
        if self.measured_span() > 0.0 {
            Some(self.total / self.measured_span())
        } else {
            self.previous_rate
        }
    }

    /// Returns the rate that requests obey, in requests per second: the upper bound of the measurement.
    fn max_rate(&self) -> Option<f64> {
        let measured = self.measured_span();
        let max_rate = if measured > 0.0 {
            Some((self.total + 1.0) / measured)
        } else {
            self.previous_rate
        };
        // At a lower rate, the server would throttle for longer.
        let min_rate = MAX_TOKEN_BUCKET_WAIT.as_secs_f64().recip();
        max_rate.map(|max_rate| max_rate.max(min_rate))
    }

    /// Returns the requests accrued since the last throttle, less losses. They accrue faster the longer none comes.
    fn accrued(&self, max_rate: f64, now: Instant) -> f64 {
        let passed = (now - self.last_throttle).as_secs_f64();
        let usual = self.measured_span().max(1.0);
        let excess = (passed - usual).max(0.0);
        max_rate * (passed + excess * excess / (2.0 * usual)) - self.overflow
    }

    /// Returns the duration of the measurement in seconds.
    fn measured_span(&self) -> f64 {
        (self.last_throttle - self.first_throttle).as_secs_f64()
    }
}
