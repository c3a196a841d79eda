//! How much a window takes that nobody announces.

use super::window::Period;

/// So many requests in each period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) allowance: u64,
    /// What has been accepted in one, before it was looked what is beyond.
    pub(super) proven: u64,
    pub(super) period: Period,
    /// How many windows have gone by without a look at what is beyond the allowance, and after how many one is due.
    unseen: u32,
    next_look: u32,
    /// By how much the next look goes beyond the allowance.
    step: u64,
}

impl Window {
    pub(super) fn new(allowance: u64, period: Period) -> Self {
        Self {
            allowance,
            proven: allowance,
            period,
            unseen: 0,
            next_look: 0,
            step: 1,
        }
    }

    /// So many were accepted in a window, then requests were refused until the next one.
    pub(super) fn learn(&mut self, allowance: u64, period: Period) {
        if allowance < self.proven - self.proven / 10 {
            // Perhaps for this time only.
            self.next_look = 0;
        }
        self.allowance = allowance;
        self.proven = allowance;
        self.period = self.period.and(period);
    }

    /// The allowance has been seen to end where it was thought to.
    pub(super) fn seen(&mut self) {
        self.unseen = 0;
        self.step = 1;
        self.next_look = (self.next_look * 2).clamp(2, RAREST_LOOK);
    }

    /// So many have been accepted, which is all that is allowed: whether to leave it at that.
    pub(super) fn is_enough(&mut self, accepted: u64, opened_by_chance: bool) -> bool {
        let enough = !opened_by_chance && self.unseen < self.next_look;
        if enough {
            self.unseen += 1;
        } else {
            self.allowance = accepted.saturating_add(self.step);
            self.step = self.step.saturating_mul(2);
        }
        enough
    }
}

/// Once in so many windows it is looked whether a quota has grown.
const RAREST_LOOK: u32 = 32;
