//! Estimated limits, as reported in events and in the state of a partition.

use std::time::Duration;

use super::tuning::NEARLY_ALL;
/// The limits learned from throttling, as far as they are known.
///
/// A model of windows sets `limit`, and `window` if it is known; a model of a token bucket sets `rate`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Estimate {
    /// Number of requests in each window.
    pub(crate) limit: Option<u64>,
    /// Length of the window.
    pub(crate) window: Option<Duration>,
    /// Requests per second.
    pub(crate) rate: Option<f64>,
}

impl Estimate {
    /// Returns whether the estimate differs from `before` and contains a value.
    ///
    /// Rates that are nearly equal count as equal, because each measurement differs a little.
    pub(crate) fn differs_from(&self, before: &Self) -> bool {
        let same_rate = match (self.rate, before.rate) {
            (Some(now), Some(before)) => now.min(before) >= now.max(before) * NEARLY_ALL,
            (now, _) => now.is_none(),
        };
        let window = (self.limit, self.window);
        let new_window = window != (before.limit, before.window) && window != (None, None);
        new_window || !same_rate
    }
}
