//! The estimate after a throttling response of a server that does not announce its quota.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    bounds::{Bounds, TimeRange},
    estimate::{LimitEstimator, Model},
    sliding_window::SlidingWindow,
    throttled::Throttled,
};

/// What is known of a throttled request.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThrottleSample {
    /// The time at which it was sent, if it was a probe.
    pub(super) sent: Option<Instant>,
    /// The limit that the response names.
    pub(super) limit: Option<u64>,
    /// The wait that the response names.
    pub(super) hint: Option<Duration>,
    /// Whether the response has no information about limits.
    pub(super) silent: bool,
    /// Whether all requests before it have been counted here, and none took the fast path.
    pub(super) all_counted: bool,
    /// Number of requests sent since it was sent, itself included.
    pub(super) sent_since: u64,
    /// Number of requests in flight when the response arrived.
    pub(super) in_flight: u32,
}

impl LimitEstimator {
    /// Records that a request of an earlier epoch was throttled.
    pub(super) fn on_late_throttle(&mut self) {
        if let Some(slide) = &mut self.sliding_window {
            slide.on_throttle();
        }
    }

    /// Records that a request was throttled, the first of its epoch.
    ///
    /// The first throttle after accepted requests starts a [`Throttled`] state. Later ones are throttled probes: they
    /// show that the quota is still exhausted, which raises the lower bound of the window's length.
    pub(super) fn on_throttle(&mut self, sample: &ThrottleSample, now: Instant) {
        let allowance = self.limit();
        // A server that names limits or waits is not modeled by a sliding window.
        if !sample.silent {
            self.sliding_window = None;
        }
        self.on_late_throttle();
        let Some(throttled) = &mut self.throttled else {
            self.model_before = self.model;
            let sliding = self.matches_sliding_window(sample, now);
            let still = match (&self.model, self.window_start) {
                // No probe is sent before the window can be over.
                (Model::FixedWindow(window), Some(window_start)) if sliding => {
                    window.length.earliest_end(window_start.at)
                }
                _ => now,
            };
            self.throttled = Some(Throttled {
                since: now,
                last_confirmed: still.max(now),
                limit: sample.limit,
                hint: sample.hint,
                probes: 0,
                sliding,
            });
            return;
        };
        throttled.probes += 1;
        let sent = sample.sent.unwrap_or(now);
        throttled.last_confirmed = sent.max(throttled.last_confirmed);
        throttled.limit = sample.limit.or(throttled.limit);
        throttled.hint = sample.hint.or(throttled.hint);
        if let Some(slide) = self
            .sliding_window
            .as_mut()
            .filter(|slide| slide.is_active())
        {
            slide.on_probe_throttled(allowance, sent);
        }
    }

    /// Discards the conclusions from the last throttle, because a concurrency limit explains it.
    pub(super) fn retract(&mut self) {
        self.throttled = None;
        self.model = self.model_before;
        if matches!(self.model, Model::Unknown) {
            self.sliding_window = None;
        }
    }

    /// Returns whether a sliding window explains a throttle after accepted requests, and updates the models.
    ///
    /// The first silent throttle starts the log, if all requests have been counted. Later throttles compare the log
    /// with the fixed window.
    fn matches_sliding_window(&mut self, sample: &ThrottleSample, now: Instant) -> bool {
        let from = self
            .window_start
            .map_or(now, |window_start| window_start.at.earliest);
        let (sent_since, in_flight) = (sample.sent_since, u64::from(sample.in_flight));
        let Some(slide) = &mut self.sliding_window else {
            match &mut self.model {
                Model::TokenBucket(rate) => {
                    rate.on_throttle(now);
                    return false;
                }
                Model::FixedWindow(window) => window.confirm(),
                Model::Unknown => {}
            }
            // From now on the log of sends is kept. It starts with what is known: the number sent since the opening.
            if sample.silent && sample.all_counted {
                let sent = self.accepted + in_flight + 1;
                self.sliding_window = Some(Box::new(SlidingWindow::new(from, now, sent)));
            }
            return false;
        };
        let Model::FixedWindow(window) = &mut self.model else {
            return false;
        };
        if slide.is_active() {
            // The sliding window has proved wrong: back to fixed windows, with the sends of the last period.
            if !slide.on_unexpected_throttle(&mut window.limit, sent_since, in_flight, now) {
                slide.deactivate();
                self.accepted = slide.sent_in_window(now).saturating_sub(sent_since);
                self.window_start = None;
                window.confirm();
            }
            return slide.is_active();
        }
        window.confirm();
        // The older model allows more than was accepted now, and the log shows why.
        let sliding = slide.explains(window.confirmed, sent_since, now);
        if sliding && slide.sent_since_start(sent_since) + in_flight.div_ceil(2) < window.confirmed
        {
            window.limit = window.confirmed;
            slide.activate(now);
        }
        sliding
    }

    /// Returns the time of the next probe, if the server does not name one.
    pub(super) fn next_probe(&self, now: Instant) -> Instant {
        let period = match &self.model {
            Model::FixedWindow(window) => window.length,
            _ => Bounds::UNKNOWN,
        };
        let refused = self.throttled.map_or(now, |throttled| throttled.since);
        let window_start = self
            .window_start
            .map_or(TimeRange::at(refused), |window_start| window_start.at);
        let probe = period.next_probe(window_start, refused, now);
        let available = |slide: &SlidingWindow| slide.available_at(self.limit()).unwrap_or(probe);
        let sliding = self.throttled.is_some_and(|throttled| throttled.sliding);
        match &self.sliding_window {
            Some(slide) if slide.is_active() => available(slide),
            Some(slide) if sliding => available(slide).max(probe),
            _ => probe,
        }
    }

    /// Returns the minimum wait before the next probe: half the time since the first throttle, once many probes were
    /// throttled and each may have been counted. Probes must become rarer than the quota.
    pub(super) fn min_wait(&self, now: Instant) -> Duration {
        let many =
            |throttled: &Throttled| throttled.probes.saturating_mul(4) > self.accepted.max(8);
        let throttled = self
            .throttled
            .filter(|throttled| self.sliding_window.is_some() && many(throttled));
        throttled.map_or(Duration::ZERO, |throttled| (now - throttled.since) / 2)
    }
}
