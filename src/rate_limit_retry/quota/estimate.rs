//! The estimated limit of a server that does not announce its quota, learned from throttling responses.
//!
//! A throttle that ends soon is the mark of a quota that is replenished continuously: a [`TokenBucket`]. One that lasts
//! is the end of a window: a number of requests in a period. A quota that counts requests in a sliding window is
//! modeled by a [`SlidingWindow`] beside it.
//!
//! # Choice of the model
//!
//! The model is chosen when requests are accepted again after a throttle:
//!
//! - The throttle lasted at most [`MAX_TOKEN_BUCKET_WAIT`]: a [`TokenBucket`], unless at least 90 % of a known window
//!   were used, whose end happened to be near.
//! - It lasted longer: a [`FixedWindow`] with the requests accepted since the last opening, and with the time between
//!   the two openings as bounds of its length. A wait that may be a block of several windows shortens the assumed
//!   length: see [`FixedWindow::on_throttled_window`].
//! - Fewer requests were accepted than before, and throttled requests explain the difference: the [`SlidingWindow`] is
//!   activated.
//!
//! The models are not exact: probes and throttles correct them.

use tokio::time::Instant;

use super::{
    admit::SendTime,
    bounds::{Bounds, TimeRange},
    fixed_window::FixedWindow,
    hold::Probe,
    refill::as_f64,
    sliding_window::SlidingWindow,
    snapshot::Estimate,
    throttled::Throttled,
    token_bucket::TokenBucket,
    tuning::{MAX_TOKEN_BUCKET_WAIT, NEARLY_ALL, RESET_TOLERANCE},
};
use crate::clock::add_capped;

/// The estimator.
#[derive(Clone, Debug)]
pub(super) struct LimitEstimator {
    /// When requests were last accepted again after throttling, or the first was sent.
    pub(super) window_start: Option<WindowStart>,
    /// Number of requests accepted since `window_start`.
    pub(super) accepted: u64,
    /// The current throttling, until a request is accepted again.
    pub(super) throttled: Option<Throttled>,
    /// The model that requests obey.
    pub(super) model: Model,
    /// The model before the last throttle that followed accepted requests. Restored if concurrency explains the
    /// throttle.
    pub(super) model_before: Model,
    /// The model of a sliding window, from the first throttle on. Requests obey it while it is active.
    pub(super) sliding_window: Option<Box<SlidingWindow>>,
}

/// The start of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowStart {
    /// The time at which it started, between two bounds.
    pub(super) at: TimeRange,
    /// Whether this is the first request or the first after a window's end, which may lie in the middle of a window.
    mid_window: bool,
}

/// The model of a quota.
#[derive(Clone, Copy, Debug)]
pub(super) enum Model {
    /// Nothing is known: requests are not limited.
    Unknown,
    /// Continuously replenished, as by a token bucket.
    TokenBucket(TokenBucket),
    /// A number of requests in each period.
    FixedWindow(FixedWindow),
}

/// Whether one more request may be sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum EstimatorDecision {
    /// It may.
    Allow,
    /// It must wait.
    Wait(SendTime),
    /// One request may be sent alone, to probe for a greater limit.
    Probe,
    /// No request may be sent before this time: the limit is reached.
    Hold(Instant),
}

impl LimitEstimator {
    /// An estimator that has learned nothing.
    pub(super) const UNKNOWN: Self = Self {
        window_start: None,
        accepted: 0,
        throttled: None,
        model: Model::Unknown,
        model_before: Model::Unknown,
        sliding_window: None,
    };

    /// Records a send.
    pub(super) fn on_sent(&mut self, now: Instant) {
        let allowance = self.limit();
        if let Some(slide) = &mut self.sliding_window {
            slide.on_sent(allowance, now);
        }
        let over = match (&self.model, self.window_start) {
            (Model::FixedWindow(window), Some(window_start)) if self.throttled.is_none() => {
                now >= window.length.latest_end(window_start.at)
            }
            (_, window_start) => window_start.is_none(),
        };
        // The window is over, or this is the first request: a new window begins now, as far as is known.
        if over {
            self.window_start = Some(WindowStart {
                at: TimeRange::at(now),
                mid_window: true,
            });
            self.accepted = 0;
        }
    }

    /// Takes back the last send, which did not happen.
    pub(super) fn on_cancelled(&mut self) {
        if let Some(slide) = &mut self.sliding_window {
            slide.on_cancelled();
        }
    }

    /// Records that a request of an earlier epoch was accepted.
    pub(super) fn on_late_success(&mut self) {
        self.accepted += 1;
        if let Some(slide) = &mut self.sliding_window {
            slide.on_success();
        }
        if let Model::TokenBucket(rate) = &mut self.model {
            rate.on_late_success();
        }
    }

    /// Records that a request was accepted. `probe` is the last probe.
    pub(super) fn on_success(&mut self, probe: Probe, now: Instant) {
        if let Some(throttled) = self.throttled.take() {
            // The quota opened after it was last known exhausted, or when the server announced, and before the probe
            // was sent.
            let latest = probe.sent.unwrap_or(now);
            let earliest = probe.since.unwrap_or(throttled.last_confirmed).min(latest);
            self.on_recovered(throttled, TimeRange { earliest, latest });
        }
        self.accepted += 1;
        if let Some(slide) = &mut self.sliding_window {
            slide.on_success();
        }
        if let Model::TokenBucket(rate) = &mut self.model {
            rate.on_success(now);
        }
    }

    /// Returns whether one more request may be sent.
    ///
    /// - [`Model::Unknown`][]: always.
    /// - [`Model::TokenBucket`]: if enough requests have accrued.
    /// - [`Model::FixedWindow`] with an active [`SlidingWindow`]: if the log has room, or as a probe for a greater
    ///   limit.
    /// - [`Model::FixedWindow`]: while fewer requests than the limit were accepted or are in flight. At the limit,
    ///   either a probe is sent or the window counts as exhausted.
    pub(super) fn admit(&mut self, in_flight: u32, now: Instant) -> EstimatorDecision {
        match &mut self.model {
            Model::Unknown => EstimatorDecision::Allow,
            Model::TokenBucket(rate) => rate
                .admit(in_flight, now)
                .map_or(EstimatorDecision::Allow, EstimatorDecision::Wait),
            Model::FixedWindow(window) => {
                if let Some(slide) = self
                    .sliding_window
                    .as_mut()
                    .filter(|slide| slide.is_active())
                {
                    let Some(wait) = slide.admit(window.limit, in_flight, now) else {
                        return EstimatorDecision::Allow;
                    };
                    let idle = self.throttled.is_none() && in_flight == 0;
                    if idle && slide.try_probe(&mut window.limit, now) {
                        return EstimatorDecision::Probe;
                    }
                    return EstimatorDecision::Wait(wait);
                }
                let end = self
                    .window_start
                    .map(|window_start| window.length.latest_end(window_start.at));
                let over = end.is_none_or(|end| now >= end);
                // While throttled, holds and slow start limit requests.
                let left = self.accepted + u64::from(in_flight) < window.limit;
                if left || over || self.throttled.is_some() {
                    return EstimatorDecision::Allow;
                }
                if in_flight > 0 {
                    return EstimatorDecision::Wait(SendTime::AfterResponse(end));
                }
                let by_chance = self
                    .window_start
                    .is_none_or(|window_start| window_start.mid_window);
                if !window.hold_at_limit(self.accepted, by_chance) {
                    return EstimatorDecision::Probe;
                }
                // If the server blocks, a probe before the end of the window would cause another block.
                let probe = window.after_block(now);
                // The limit is reached without a throttle: as if the server had throttled, until the next probe.
                let earliest_end = self
                    .window_start
                    .map(|window_start| window.length.earliest_end(window_start.at));
                self.throttled = Some(Throttled {
                    since: now,
                    last_confirmed: earliest_end.unwrap_or(now),
                    limit: None,
                    hint: None,
                    probes: 0,
                    sliding: false,
                });
                EstimatorDecision::Hold(probe.unwrap_or_else(|| self.next_probe(now)))
            }
        }
    }

    /// Returns whether throttling has taught anything.
    pub(super) fn is_known(&self) -> bool {
        self.throttled.is_some() || !matches!(self.model, Model::Unknown)
    }

    /// Returns the estimate, as far as it is known.
    pub(super) fn estimate(&self) -> Estimate {
        match &self.model {
            Model::Unknown => Estimate::default(),
            Model::TokenBucket(rate) => Estimate {
                rate: rate.measured_rate(),
                ..Estimate::default()
            },
            Model::FixedWindow(window) => Estimate {
                limit: Some(window.limit),
                window: self.active_sliding_window().map_or_else(
                    || window.length.likely_length(),
                    |slide| Some(slide.length()),
                ),
                ..Estimate::default()
            },
        }
    }

    /// Returns how many more requests have room in an estimated window, and the window's end.
    pub(super) fn headroom(&self, in_flight: u32) -> Option<(f64, Instant)> {
        let Model::FixedWindow(window) = &self.model else {
            return None;
        };
        let steady = self.throttled.is_none() && self.active_sliding_window().is_none();
        let window_start = self.window_start.filter(|_| steady)?;
        let left = window.limit.saturating_sub(self.accepted);
        #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
        let available = left as f64 - f64::from(in_flight);
        Some((available, window.length.latest_end(window_start.at)))
    }

    /// Returns the present window that requests obey: its start, its end as far as is known, its limit, and the number
    /// of requests accepted in it.
    pub(super) fn present_window(&self, now: Instant) -> Option<(Instant, Instant, u64, u64)> {
        let Model::FixedWindow(window) = &self.model else {
            return None;
        };
        let steady = self.throttled.is_none() && self.active_sliding_window().is_none();
        let start = self.window_start.filter(|_| steady)?;
        let end = window.length.latest_end(start.at);
        (end > now).then_some((start.at.latest, end, window.limit, self.accepted))
    }

    /// Sets the number of requests that all processes of a fleet have had accepted, while no model is chosen.
    pub(super) fn set_accepted(&mut self, accepted: u64) {
        if matches!(self.model, Model::Unknown) {
            self.accepted = accepted;
        }
    }

    /// Adopts the window that another process of the fleet has learned, with the number of requests accepted in it.
    /// Returns whether it is another one than is known here.
    ///
    /// A window that was exhausted before is not adopted again, and neither is one while another model applies.
    pub(super) fn adopt(
        &mut self,
        limit: u64,
        accepted: u64,
        began: Instant,
        end: Instant,
    ) -> bool {
        let outdated = self
            .throttled
            .is_some_and(|throttled| began <= throttled.since);
        let other = matches!(self.model, Model::TokenBucket(_));
        if outdated || other || self.active_sliding_window().is_some() {
            return false;
        }
        let known = match (&mut self.model, self.window_start) {
            (Model::FixedWindow(window), start) => {
                window.limit = window.limit.max(limit);
                start.map(|start| window.length.latest_end(start.at))
            }
            (model, _) => {
                let length = Bounds::exactly(end - began);
                *model = Model::FixedWindow(FixedWindow::new(limit, length));
                None
            }
        };
        let is_other = self.throttled.is_some()
            || known.is_none_or(|known| end > add_capped(known, RESET_TOLERANCE));
        self.accepted = accepted;
        if is_other {
            self.throttled = None;
            self.window_start = Some(WindowStart {
                at: TimeRange::at(began),
                mid_window: false,
            });
            if let Model::FixedWindow(window) = &mut self.model {
                window.limit = limit;
            }
        }
        is_other
    }

    /// Returns whether the estimate limits requests after a hold, so that slow start is not needed.
    pub(super) fn is_pacing_known(&self) -> bool {
        self.active_sliding_window().is_some()
            || matches!(&self.model, Model::TokenBucket(rate) if rate.is_known())
    }

    /// Returns the sliding window, if requests obey it.
    pub(super) fn active_sliding_window(&self) -> Option<&SlidingWindow> {
        self.sliding_window
            .as_deref()
            .filter(|slide| slide.is_active())
    }

    /// Returns the number of requests that the server accepts in one window, as far as is known.
    pub(super) fn limit(&self) -> u64 {
        match &self.model {
            Model::FixedWindow(window) => window.limit,
            _ => self.accepted,
        }
    }

    /// Records that requests are accepted again, at a time within `when`, and chooses the model.
    ///
    /// See the module's documentation for the rules.
    fn on_recovered(&mut self, throttled: Throttled, when: TimeRange) {
        let used = std::mem::take(&mut self.accepted);
        let before = self.window_start.replace(WindowStart {
            at: when,
            mid_window: false,
        });
        let known = match &self.model {
            Model::FixedWindow(window) => window.confirmed,
            _ => used,
        };
        if let Some(slide) = &mut self.sliding_window {
            let last_confirmed = (throttled.probes > 0).then_some(throttled.last_confirmed);
            let accepted = slide.on_recovered(known, when.latest, last_confirmed);
            // Less was accepted than in earlier windows, and throttled requests explain the difference: the window
            // slides.
            if throttled.sliding && accepted < known && !slide.is_active() {
                slide.activate(when.latest);
                if let Model::FixedWindow(window) = &mut self.model {
                    window.limit = known;
                }
            }
            if slide.is_active() {
                return;
            }
        }
        // A short throttle is the mark of a rate, a long one of a window.
        let short = when.latest.saturating_duration_since(throttled.since) <= MAX_TOKEN_BUCKET_WAIT;
        match &mut self.model {
            // Nearly all was used: the end of a window that happened to be near.
            Model::FixedWindow(window)
                if short && as_f64(used) >= as_f64(window.limit) * NEARLY_ALL => {}
            Model::TokenBucket(_) if short => {}
            _ if short => {
                self.model = Model::TokenBucket(TokenBucket::new(throttled.since, used));
                self.sliding_window = None;
            }
            kind => {
                let period = before.map_or(Bounds::UNKNOWN, |before| {
                    if before.mid_window {
                        Bounds::at_least(before.at.latest, when)
                    } else {
                        Bounds::between(before.at, when)
                    }
                });
                match kind {
                    // Other clients have used the window up: the count has no information about the limit.
                    _ if used == 0 => {}
                    Model::FixedWindow(window) => window.update(used, period),
                    _ => *kind = Model::FixedWindow(FixedWindow::new(used, period)),
                }
                if let Model::FixedWindow(window) = kind {
                    window.on_throttled_window(&throttled, used);
                }
            }
        }
    }
}
