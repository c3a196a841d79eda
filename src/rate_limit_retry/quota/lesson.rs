//! What refusals have taught, for those who watch.

use std::time::Duration;

/// What refusals have taught, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Lesson {
    pub(crate) allowance: Option<u64>,
    pub(crate) period: Option<Duration>,
    pub(crate) rate: Option<f64>,
}

impl Lesson {
    /// Whether it says something else than before; rates are measured a little differently each time.
    pub(crate) fn is_news(&self, before: &Self) -> bool {
        let same_rate = match (self.rate, before.rate) {
            (Some(now), Some(before)) => (now - before).abs() <= before / 10.0,
            (now, _) => now.is_none(),
        };
        let window = (self.allowance, self.period);
        let new_window = window != (before.allowance, before.period) && window != (None, None);
        new_window || !same_rate
    }
}
