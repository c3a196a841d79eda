//! Slow start: how many requests may be in flight while it is not known what the server accepts.

use std::time::Duration;

use tokio::time::Instant;

use super::admit::SendTime;
use super::tuning::PROBE_TIMEOUT_FACTOR;
use crate::clock::add_capped;

/// A limit on requests in flight that responses raise and finally remove. `None`: no limit.
///
/// | state | limit | rises | ends |
/// |---|---|---|---|
/// | `initial` | `initial_window` | | with the first response that is no throttle, or after `timeout` |
/// | `probe` | 1 | by 1 with each success; doubles after 8 × `timeout` without one | when a quota or an estimate limits requests |
/// | `finished` | none | | |
#[derive(Clone, Copy, Debug)]
pub(super) struct SlowStart(Option<Phase>);

/// The limit while slow start lasts.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// Maximum number of requests in flight. 1 is a probe.
    window: u32,
    /// The time at which the limit rises without a response, so that one slow response does not stall all requests.
    /// `None` until a request asks.
    deadline: Option<Instant>,
    /// Whether the limit rises by one with each success, so that waiters are not sent in a burst. Otherwise the first
    /// response removes it.
    additive: bool,
    /// Number of requests in flight with numbers below `stalled_before` that take too long and no longer count.
    stalled: u32,
    /// The first request number after those in `stalled`.
    stalled_before: u64,
}

impl SlowStart {
    /// Creates the slow start of a new partition: at most `burst` requests (at least 1), until the first response.
    pub(super) fn initial(burst: u32) -> Self {
        Self(Some(Phase {
            window: burst.max(1),
            deadline: None,
            additive: false,
            stalled: 0,
            stalled_before: 0,
        }))
    }

    /// Creates the slow start after a hold or a reset: one probe, then one more request for each success.
    pub(super) fn probe() -> Self {
        Self(Some(Phase {
            window: 1,
            deadline: None,
            additive: true,
            stalled: 0,
            stalled_before: 0,
        }))
    }

    /// Creates a slow start that has ended.
    pub(super) fn finished() -> Self {
        Self(None)
    }

    /// Returns whether slow start has ended.
    pub(super) fn is_finished(self) -> bool {
        self.0.is_none()
    }

    /// Returns whether the next request is a probe, sent alone.
    pub(super) fn is_probe(self) -> bool {
        self.0.is_some_and(|phase| phase.window == 1)
    }

    /// Returns why one more request, with the number `next`, must wait; `None` if it need not.
    ///
    /// If responses take longer than `timeout`, an additive limit doubles and any other is removed.
    pub(super) fn admit(
        &mut self,
        in_flight: u32,
        next: u64,
        timeout: Duration,
        now: Instant,
    ) -> Option<SendTime> {
        let phase = self.0.as_mut()?;
        if in_flight.saturating_sub(phase.stalled) < phase.window {
            return None;
        }
        let until = phase.deadline_at(timeout, now);
        if now < until {
            return Some(SendTime::AfterResponse(Some(until)));
        }
        // All requests in flight are too slow: they no longer count, and their ends are noticed by number.
        if phase.additive {
            phase.window = phase.window.saturating_mul(2);
            phase.deadline = None;
            phase.stalled = in_flight;
            phase.stalled_before = next;
        } else {
            self.0 = None;
        }
        None
    }

    /// Starts the timer with the first request.
    pub(super) fn on_sent(&mut self, timeout: Duration, now: Instant) {
        if let Some(phase) = &mut self.0 {
            phase.deadline_at(timeout, now);
        }
    }

    /// Records that a request is no longer in flight.
    ///
    /// A request that was counted as too slow is no longer.
    pub(super) fn on_completed(&mut self, number: u64) {
        if let Some(phase) = &mut self.0
            && number < phase.stalled_before
        {
            phase.stalled = phase.stalled.saturating_sub(1);
        }
    }

    /// Raises or removes the limit after a response that is no throttle.
    pub(super) fn on_success(&mut self) {
        match &mut self.0 {
            Some(phase) if phase.additive => {
                phase.window = phase.window.saturating_add(1);
                phase.deadline = None;
            }
            _ => self.0 = None,
        }
    }

    /// Removes the limit of a new partition after a request that ended without a response. A probe continues.
    pub(super) fn on_no_response(&mut self) {
        if self.0.is_some_and(|phase| !phase.additive) {
            self.0 = None;
        }
    }
}

impl Phase {
    /// Returns the time at which the limit rises by itself, counted from the first call.
    fn deadline_at(&mut self, timeout: Duration, now: Instant) -> Instant {
        let timeout = if self.additive {
            timeout.saturating_mul(PROBE_TIMEOUT_FACTOR)
        } else {
            timeout
        };
        *self
            .deadline
            .get_or_insert_with(|| add_capped(now, timeout))
    }
}
