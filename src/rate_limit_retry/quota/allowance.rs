//! The estimated limit of a fixed window that the server does not announce.

use super::window::Period;

/// An estimated limit: `allowance` requests in each period.
///
/// After a number of windows that stopped at the limit, a window exceeds it by a step, to find out whether the quota has
/// grown. The step doubles until throttling confirms a limit. Probes become rarer with each confirmation, so that a
/// constant quota costs few throttled requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The limit that requests obey now. During a probe it is greater than `proven`.
    pub(super) allowance: u64,
    /// The limit as last measured by a throttled window.
    pub(super) proven: u64,
    /// The bounds of the window's length.
    pub(super) period: Period,
    /// Number of windows that stopped at the limit since throttling last confirmed it.
    unseen: u32,
    /// Number of such windows after which a probe is due. Doubles with each confirmation, up to [`RAREST_LOOK`].
    next_look: u32,
    /// Number of requests by which the next probe exceeds the limit. Doubles with each probe that finds no end.
    step: u64,
}

impl Window {
    /// Creates an estimate. The first full window is a probe.
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

    /// Records a window that ended with throttling after `allowance` accepted requests.
    pub(super) fn learn(&mut self, allowance: u64, period: Period) {
        if allowance < self.proven - self.proven / 10 {
            // At least 10 % less than before, perhaps only this time: the next window is a probe.
            self.next_look = 0;
        }
        self.allowance = allowance;
        self.proven = allowance;
        self.period = self.period.and(period);
    }

    /// Confirms the limit: throttling began where it was expected. Probes become rarer.
    pub(super) fn seen(&mut self) {
        self.unseen = 0;
        self.step = 1;
        self.next_look = (self.next_look * 2).clamp(2, RAREST_LOOK);
    }

    /// Decides, once the limit is reached, whether to stop there (`true`) or to raise the limit for a probe.
    ///
    /// A window of which only a part was observed (`opened_by_chance`) is always probed.
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

/// Maximum number of windows between two probes for a quota that has grown.
const RAREST_LOOK: u32 = 32;
