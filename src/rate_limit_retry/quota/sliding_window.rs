//! The model of a sliding window that counts throttled requests like others.
//!
//! Fixed windows are the first guess. If a window seems to hold fewer requests than the one before, and the requests
//! throttled in the meantime make up the difference, then the server counts them. From then on requests obey the log
//! of all sends, and no probe is sent early, because the server would count it, too.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    admit::SendTime,
    bounds::snap_down,
    send_log::SendLog,
    tuning::{ARRIVAL_TOLERANCE, MAX_PROBE_INTERVAL},
};
use crate::clock::add_capped;

/// A sliding window: the log of sends and the bounds of the window's length.
///
/// Let S be the send that was followed by as many sends as the limit allows, up to and including a probe. If the
/// probe is accepted, the window no longer covers S, which bounds its length from above. If it is throttled, the
/// window still covers S, which bounds its length from below.
#[derive(Clone, Debug)]
pub(super) struct SlidingWindow {
    /// Recent sends, throttled or not.
    log: SendLog,
    /// The time at which requests were last accepted again after throttling.
    window_start: Instant,
    /// Number of requests accepted since `window_start`.
    accepted: u64,
    /// Number of requests throttled since `window_start`.
    throttled: u64,
    /// Number of requests throttled before `window_start`, since the opening before.
    throttled_before: u64,
    /// Lower bound of the window's length.
    min: Duration,
    /// Upper bound of the window's length, if throttled requests count.
    max: Option<Duration>,
    /// Upper bound of the window's length, if throttled requests do not count.
    max_if_uncounted: Option<Duration>,
    /// Whether requests obey this model.
    active: bool,
    /// Time added to the window's length, so that the server counts a request after those before it, whatever their
    /// latencies.
    margin: Duration,
    /// The time of the next probe for a greater limit.
    next_probe: Option<Instant>,
    /// The limit before the last such probe, until its result is known.
    limit_before_probe: Option<u64>,
}

impl SlidingWindow {
    /// Creates a model after `count` sends from `first` to `last`, the last of which was throttled.
    pub(super) fn new(first: Instant, last: Instant, count: u64) -> Self {
        Self {
            log: SendLog::new(first, last, count),
            window_start: first,
            accepted: count,
            throttled: 0,
            throttled_before: 0,
            min: Duration::ZERO,
            max: None,
            max_if_uncounted: None,
            active: false,
            margin: Duration::ZERO,
            next_probe: None,
            limit_before_probe: None,
        }
    }

    /// Returns whether requests obey this model.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Records a send. The log keeps more than two windows' sends.
    pub(super) fn on_sent(&mut self, allowance: u64, now: Instant) {
        self.log
            .push(allowance.saturating_mul(2).saturating_add(64), now);
    }

    /// Takes back the last send, which did not happen.
    pub(super) fn on_cancelled(&mut self) {
        self.log.pop();
    }

    /// Counts an accepted request.
    pub(super) fn on_success(&mut self) {
        self.accepted += 1;
    }

    /// Counts a throttled request.
    pub(super) fn on_throttle(&mut self) {
        self.throttled += 1;
    }

    /// Records that the probe sent at `sent` was accepted, and narrows the bounds. Returns the number of requests
    /// accepted since the opening before.
    ///
    /// `throttled_at` is the time at which the probe before it, which was throttled, was sent, if that is known.
    pub(super) fn on_recovered(
        &mut self,
        allowance: u64,
        sent: Instant,
        throttled_at: Option<Instant>,
    ) -> u64 {
        self.window_start = sent;
        self.throttled_before = std::mem::take(&mut self.throttled);
        let since = |later, known: Option<Duration>| {
            let oldest = self.log.nth_last(later)?;
            let max = sent.saturating_duration_since(oldest);
            Some(known.map_or(max, |known| known.min(max)))
        };
        // The window no longer covers the send that is `allowance` sends back: it is at most as long as that is ago.
        self.max_if_uncounted = since(
            allowance.saturating_add(self.throttled_before),
            self.max_if_uncounted,
        )
        .or(self.max_if_uncounted);
        self.max = since(allowance, self.max).or(self.max);
        // The throttled probe was still covered by the window.
        if let Some((oldest, throttled_at)) = self.log.nth_last(allowance + 1).zip(throttled_at) {
            self.min = self.min.max(throttled_at.saturating_duration_since(oldest));
        }
        if let Some(max) = self.max {
            self.min = self.min.min(max);
        }
        std::mem::take(&mut self.accepted)
    }

    /// Records that a probe was throttled that should have been accepted: the window is longer than was assumed.
    pub(super) fn on_probe_throttled(&mut self, allowance: u64, sent: Instant) {
        if let Some(oldest) = self.log.nth_last(allowance) {
            self.min = self.min.max(sent.saturating_duration_since(oldest));
            if self.max.is_some_and(|max| max <= self.min) {
                self.max = Some(self.min + self.min / 20);
            }
        }
    }

    /// Returns whether enough was sent before the last `sent_since` requests to explain a throttle, although the window
    /// before had more room.
    ///
    /// The difference to the limit must be at most the number of requests throttled before the opening, or be greater
    /// than half of the limit.
    pub(super) fn explains(&self, allowance: u64, sent_since: u64, now: Instant) -> bool {
        let max = self.max_if_uncounted.or(self.max).unwrap_or(self.min);
        let counted = now
            .checked_sub(max)
            .map(|start| self.log.count_since(start));
        let ahead = self.sent_since_start(sent_since);
        // Responses are late and requests overtake each other: the greater the difference, the less exactly it is
        // known.
        let missing = allowance.saturating_sub(ahead);
        counted.is_some_and(|counted| counted.saturating_sub(sent_since) + missing / 8 >= allowance)
            && (missing <= self.throttled_before || ahead < allowance / 2)
    }

    /// Returns the number of sends since the last opening, without the last `sent_since`.
    pub(super) fn sent_since_start(&self, sent_since: u64) -> u64 {
        // The probe itself is the first of them.
        (self.log.count_since(self.window_start) + 1).saturating_sub(sent_since)
    }

    /// Returns the number of sends within the last window.
    pub(super) fn sent_in_window(&self, now: Instant) -> u64 {
        let start = now.checked_sub(self.length() + self.margin);
        start.map_or(0, |start| self.log.count_since(start))
    }

    /// Records that a request that obeyed the log was throttled. Returns whether the model still holds.
    ///
    /// It holds if the throttled request was a probe for a greater limit: then `allowance` is reset to its value before
    /// the probe. It also holds if requests can have overtaken each other: then the margin is doubled, up to 5 % of the
    /// window's length.
    pub(super) fn on_unexpected_throttle(
        &mut self,
        allowance: &mut u64,
        sent_since: u64,
        in_flight: u64,
        now: Instant,
    ) -> bool {
        if let Some(before) = self.limit_before_probe.take() {
            *allowance = before;
            return true;
        }
        let counted = self.sent_in_window(now).saturating_sub(sent_since);
        self.margin = (self.margin * 2).min((self.length() / 20).max(ARRIVAL_TOLERANCE));
        counted + in_flight + *allowance / 20 >= *allowance
    }

    /// Makes requests obey this model.
    pub(super) fn activate(&mut self, now: Instant) {
        self.active = true;
        self.margin = (self.length() / 200).max(ARRIVAL_TOLERANCE);
        self.next_probe = Some(add_capped(now, self.length() * MAX_PROBE_INTERVAL));
    }

    /// Ends that. The log is still kept.
    pub(super) fn deactivate(&mut self) {
        self.active = false;
    }

    /// Returns the time of the next request that the server should accept; `None` if the log is shorter than the
    /// limit.
    ///
    /// That is when the send that fills the window leaves it, plus the margin.
    pub(super) fn available_at(&self, allowance: u64) -> Option<Instant> {
        let oldest = self.log.nth_last(allowance.saturating_sub(1))?;
        Some(add_capped(oldest, self.length() + self.margin))
    }

    /// Returns why one more request must wait; `None` if it need not.
    pub(super) fn admit(&self, allowance: u64, in_flight: u32, now: Instant) -> Option<SendTime> {
        let at = self.available_at(allowance).filter(|at| *at > now)?;
        Some(if in_flight > 0 {
            SendTime::AfterResponse(Some(at))
        } else {
            SendTime::NotBefore(at)
        })
    }

    /// Returns whether a probe for a greater limit is due. If so, raises `allowance` by 2 %, at least 1.
    pub(super) fn try_probe(&mut self, allowance: &mut u64, now: Instant) -> bool {
        let due = self.next_probe.is_some_and(|at| now >= at);
        if due {
            self.next_probe = Some(add_capped(now, self.length() * MAX_PROBE_INTERVAL));
            self.limit_before_probe = Some(*allowance);
            *allowance = allowance.saturating_add((*allowance / 50).max(1));
        }
        due
    }

    /// Returns the window's length, as far as is known. Common lengths within the bounds are preferred.
    ///
    /// Without an upper bound, the length is 5 % above the lower one.
    pub(super) fn length(&self) -> Duration {
        let Some(max) = self.max else {
            return self.min + self.min / 20;
        };
        let between = |min, max| {
            snap_down(max + ARRIVAL_TOLERANCE).filter(|round| *round + ARRIVAL_TOLERANCE >= min)
        };
        between(
            max,
            self.max_if_uncounted
                .map_or(max, |max_uncounted| max_uncounted.max(max)),
        )
        .or_else(|| between(self.min, max))
        .unwrap_or(max)
    }
}
