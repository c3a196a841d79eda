//! Whether a server means it when it announces that nothing remains.

/// Counts accepted requests that contradict an announcement of "nothing remains". Gateways that keep no quota announce so
/// with each answer; after a few contradictions their announcement is no longer a reason to wait, until a request is
/// refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    contradictions: u8,
    /// How many times the doubt has proved wrong.
    wrong: u8,
}

impl Doubt {
    /// Whether a window is announced as used up, and this is not believed.
    pub(super) fn covers(self, is_used_up: bool) -> bool {
        is_used_up && self.is_settled()
    }

    /// A request was accepted although nothing remained.
    pub(super) fn contradicted(&mut self) {
        self.contradictions = self.contradictions.saturating_add(1);
    }

    /// A request was refused because nothing remained.
    pub(super) fn refuted(&mut self) {
        if self.is_settled() {
            self.wrong = (self.wrong + 1).min(MOST_WRONG);
        }
        self.contradictions = 0;
    }

    fn is_settled(self) -> bool {
        self.contradictions >= CONTRADICTIONS << self.wrong
    }
}

/// Number of contradictions after which an announcement is no longer believed. It doubles with each time that this was
/// wrong.
const CONTRADICTIONS: u8 = 3;
/// Maximum number of doublings.
const MOST_WRONG: u8 = 5;
