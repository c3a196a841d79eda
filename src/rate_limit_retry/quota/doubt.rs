//! Doubt about servers that always announce that nothing remains.

/// Counts accepted requests that contradict an announcement of "nothing remains".
///
/// Gateways without a quota announce so with each response. After a few contradictions the announcement is no longer
/// a reason to wait, until a request is throttled.
///
/// The first doubt needs 3 contradictions, and each one after a wrong doubt twice as many, up to 96.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    /// Number of contradictions since the last throttle.
    contradictions: u8,
    /// Number of times that the doubt was wrong.
    wrong: u8,
}

impl Doubt {
    /// Returns whether a window is announced as exhausted and the announcement is not believed.
    pub(super) fn covers(self, is_used_up: bool) -> bool {
        is_used_up && self.is_settled()
    }

    /// Records that a request was accepted although nothing remained.
    pub(super) fn contradicted(&mut self) {
        self.contradictions = self.contradictions.saturating_add(1);
    }

    /// Records that a request was throttled when nothing remained. If the announcement was doubted, the next doubt
    /// needs twice as many contradictions.
    pub(super) fn refuted(&mut self) {
        if self.is_settled() {
            self.wrong = (self.wrong + 1).min(MOST_WRONG);
        }
        self.contradictions = 0;
    }

    /// Returns whether there are enough contradictions.
    fn is_settled(self) -> bool {
        self.contradictions >= CONTRADICTIONS << self.wrong
    }
}

/// Number of contradictions after which an announcement is no longer believed. Doubles each time the doubt was wrong.
const CONTRADICTIONS: u8 = 3;
/// Maximum number of doublings. `3 << 5` still fits in a `u8`.
const MOST_WRONG: u8 = 5;
