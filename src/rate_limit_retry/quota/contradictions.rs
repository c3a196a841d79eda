//! Doubt about servers that always announce that nothing remains.

use super::tuning::{MAX_PROBE_INTERVAL, MIN_EVIDENCE};
/// Counts accepted requests that contradict an announcement of "nothing remains".
///
/// Gateways without a quota announce so with each response. After a few contradictions the announcement is no longer
/// a reason to wait, until a request is throttled.
///
/// The first doubt needs [`MIN_EVIDENCE`] contradictions, and each one after a wrong doubt twice as many, up to
/// [`MAX_PROBE_INTERVAL`] times as many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contradictions {
    /// Number of contradictions since the last throttle.
    count: u32,
    /// Number of contradictions that make a doubt. Doubles each time the doubt was wrong.
    needed: u32,
}

impl Default for Contradictions {
    fn default() -> Self {
        Self {
            count: 0,
            needed: MIN_EVIDENCE,
        }
    }
}

impl Contradictions {
    /// Returns whether a window is announced as exhausted and the announcement is not believed.
    pub(super) fn disregards(self, is_used_up: bool) -> bool {
        is_used_up && self.is_discredited()
    }

    /// Records that a request was accepted although nothing remained.
    pub(super) fn on_contradicted(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    /// Records that a request was throttled when nothing remained. If the announcement was doubted, the next doubt
    /// needs twice as many contradictions.
    pub(super) fn on_confirmed(&mut self) {
        if self.is_discredited() {
            self.needed = (self.needed * 2).min(MIN_EVIDENCE * MAX_PROBE_INTERVAL);
        }
        self.count = 0;
    }

    /// Returns whether there are enough contradictions.
    fn is_discredited(self) -> bool {
        self.count >= self.needed
    }
}
