//! Doubt about servers that always announce that nothing remains.

/// Counts accepted requests that contradict an announcement of "nothing remains".
///
/// Gateways without a quota announce so with each response. After a few contradictions the announcement is no longer
/// a reason to wait, until a request is throttled.
///
/// The first doubt needs 3 contradictions, and each one after a wrong doubt twice as many, up to 96.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contradictions {
    /// Number of contradictions since the last throttle.
    count: u8,
    /// Number of times that the doubt was wrong.
    doublings: u8,
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
            self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
        }
        self.count = 0;
    }

    /// Returns whether there are enough contradictions.
    fn is_discredited(self) -> bool {
        self.count >= MIN_CONTRADICTIONS << self.doublings
    }
}

/// Number of contradictions after which an announcement is no longer believed. Doubles each time the doubt was wrong.
const MIN_CONTRADICTIONS: u8 = 3;
/// Maximum number of doublings. `3 << 5` still fits in a `u8`.
const MAX_DOUBLINGS: u8 = 5;
