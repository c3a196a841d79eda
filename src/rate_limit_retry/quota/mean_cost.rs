//! The mean cost of a request, learned from how the announced remainder falls.

use tokio::time::Instant;

use super::{announced::as_f64, refill::Refill};

/// The mean cost of the last requests, in the unit of one quota.
///
/// The remainders of successive responses differ by what was used in between, less what was refilled. The differences
/// of all responses add up to the whole fall, in whatever order they arrive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MeanCost {
    /// The last announced remainder, and when it arrived.
    last: Option<(u64, Instant)>,
    /// The fall of the remainder, the last responses weighing most.
    fall: f64,
    /// The number of accepted requests, weighed likewise.
    accepted: f64,
}

impl MeanCost {
    /// Records the response to an accepted request. `same_window`: no reset lies between this response and the last.
    pub(super) fn observe(
        &mut self,
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
        let refilled = refill.rate().map_or(0.0, |rate| rate * passed);
        let fall = as_f64(before) + refilled - as_f64(remaining);
        self.fall = self.fall * KEPT + fall;
        self.accepted = self.accepted * KEPT + 1.0;
    }

    /// Returns the mean, if anything has been recorded.
    pub(super) fn get(&self) -> Option<f64> {
        (self.accepted > 0.0).then(|| (self.fall / self.accepted).max(0.0))
    }
}

/// Weight of the responses before relative to the last one. About the last 32 count.
const KEPT: f64 = 1.0 - 1.0 / 32.0;
