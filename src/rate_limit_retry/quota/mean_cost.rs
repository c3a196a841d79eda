//! The mean cost of a request, learned from how the announced remainder falls.

use tokio::time::Instant;

use super::{announced::as_f64, refill::Refill};

/// The mean cost of the last requests, in the unit of one quota.
///
/// The remainders of successive responses differ by what was used in between, less what was refilled. The differences
/// of all responses add up to the whole fall, in whatever order they arrive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MeanCost {
    /// What was used when the quota was announced first: an upper bound of the first requests' cost, until more is known.
    first: Option<u64>,
    /// The last announced remainder, and when it arrived.
    last: Option<(u64, Instant)>,
    /// The fall of the remainder, the last responses weighing most.
    fall: f64,
    /// The number of accepted requests, weighed likewise.
    accepted: f64,
    /// The sum of the differences between single falls and the mean, weighed likewise.
    deviation: f64,
}

impl MeanCost {
    /// Records the response to an accepted request. `same_window`: no reset lies between this response and the last.
    pub(super) fn observe(
        &mut self,
        limit: Option<u64>,
        remaining: u64,
        same_window: bool,
        refill: Refill,
        now: Instant,
    ) {
        let last = self.last.replace((remaining, now));
        let Some((before, at)) = last.filter(|_| same_window) else {
            return;
        };
        let passed = now.saturating_duration_since(at).as_secs_f64();
        let most = limit.map_or(f64::INFINITY, |limit| as_f64(limit.saturating_sub(before)));
        let refilled = refill.rate().map_or(0.0, |rate| (rate * passed).min(most));
        let fall = as_f64(before) + refilled - as_f64(remaining);
        if !fall.is_finite() {
            return;
        }
        let difference = self.get().map_or(0.0, |mean| (fall - mean).abs());
        self.deviation = self.deviation * KEPT + difference;
        self.fall = self.fall * KEPT + fall;
        self.accepted = self.accepted * KEPT + 1.0;
    }

    /// Notes that the server returns units because of a known cost. They are no fall of later requests.
    pub(super) fn on_returned(&mut self, units: u64) {
        if let Some((remaining, _)) = &mut self.last {
            *remaining = remaining.saturating_add(units);
        }
    }

    /// Records what is used at the first announcement.
    pub(super) fn begin(&mut self, limit: Option<u64>, remaining: u64) {
        if self.last.is_none() {
            self.first = limit.map(|limit| limit.saturating_sub(remaining));
        }
    }

    /// Returns the mean, if anything has been recorded.
    pub(super) fn get(&self) -> Option<f64> {
        if self.accepted > 0.0 {
            return Some((self.fall / self.accepted).max(0.0));
        }
        self.first.map(as_f64)
    }

    /// Returns how much more than the mean several requests cost together that are no more expensive than most: twice the
    /// mean deviation, which grows with the root of their number.
    pub(super) fn margin(&self, requests: u32) -> f64 {
        if self.accepted == 0.0 {
            return 0.0;
        }
        2.0 * self.deviation / self.accepted * f64::from(requests).sqrt()
    }
}

/// Weight of the responses before relative to the last one. About the last 32 count.
const KEPT: f64 = 1.0 - 1.0 / 32.0;
