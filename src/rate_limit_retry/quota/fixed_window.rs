//! The estimated limit of a fixed window that the server does not announce.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    bounds::{Bounds, snap_down},
    throttled::Throttled,
};
use crate::clock::add_capped;

/// An estimated limit: `limit` requests in each period.
///
/// After a number of windows that stopped at the limit, a window exceeds it by a step, to find out whether the quota
/// has grown. The step doubles until throttling confirms a limit. Probes become rarer with each confirmation, so that a
/// constant quota costs few throttled requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct FixedWindow {
    /// The limit that requests obey now. During a probe it is greater than `confirmed`.
    pub(super) limit: u64,
    /// The limit as last measured by a throttled window.
    pub(super) confirmed: u64,
    /// The bounds of the window's length.
    pub(super) length: Bounds,
    /// Number of windows that stopped at the limit since throttling last confirmed it.
    windows_since_probe: u32,
    /// Number of such windows after which a probe is due. Doubles with each confirmation, up to [`MAX_PROBE_INTERVAL`].
    probe_interval: u32,
    /// Number of requests by which the next probe exceeds the limit. Doubles with each probe that finds no end.
    probe_step: u64,
    /// Whether the server has named a greater limit: other clients use the rest, not the same number in each window.
    shared: bool,
    /// The time for which the server blocks a client that exceeds the limit, if that is longer than the window.
    block: Option<Duration>,
    /// The length of the window that is assumed while there is a block.
    guess: Duration,
}

impl FixedWindow {
    /// Returns the time of the next request once the limit is reached `now`, with a server that blocks.
    pub(super) fn after_block(&self, now: Instant) -> Option<Instant> {
        self.block.map(|_| add_capped(now, self.guess))
    }

    /// Creates an estimate. The first full window is a probe.
    pub(super) fn new(allowance: u64, period: Bounds) -> Self {
        Self {
            limit: allowance,
            confirmed: allowance,
            length: period,
            windows_since_probe: 0,
            probe_interval: 0,
            probe_step: 1,
            shared: false,
            block: None,
            guess: Duration::ZERO,
        }
    }

    /// Learns from the throttling response after a window with `used` accepted requests who else uses the quota, and
    /// whether the server punishes.
    ///
    /// The wait until the end of a window is any part of its length. A wait of a whole common length is probably a block,
    /// which is several windows long. The next request after the limit is sent after a part of it:
    ///
    /// - It is accepted: that is the window's length, as far as matters.
    /// - It is blocked for the same time: the window is longer.
    /// - It has to wait for less: the wait was that of a window.
    pub(super) fn on_throttled_window(&mut self, throttled: &Throttled, used: u64) {
        if let Some(limit) = throttled.limit {
            self.shared = limit > used;
        }
        let Some(hint) = throttled.hint else { return };
        let same = |block: Duration| block.abs_diff(hint) <= HINT_RESOLUTION;
        let guessed = match self.block {
            Some(block) if same(block) && throttled.probes > 0 => self.guess.saturating_mul(2),
            Some(block) if same(block) => self.guess,
            None if self.length.max().is_none() && is_common(hint) => hint / WINDOWS_PER_BLOCK,
            _ => {
                self.block = None;
                return;
            }
        };
        (self.block, self.guess) = (Some(hint), guessed);
        self.length = Bounds::exactly(guessed);
    }

    /// Records a window that ended with throttling after `allowance` accepted requests.
    pub(super) fn update(&mut self, allowance: u64, period: Bounds) {
        if allowance < self.confirmed - self.confirmed / 10 {
            // At least 10 % less than before, perhaps only this time: the next window is a probe.
            self.probe_interval = 0;
        }
        self.limit = allowance;
        self.confirmed = allowance;
        self.length = self.length.intersect(period);
    }

    /// Confirms the limit: throttling began where it was expected. Probes become rarer.
    pub(super) fn confirm(&mut self) {
        self.windows_since_probe = 0;
        self.probe_step = 1;
        self.probe_interval = (self.probe_interval * 2).clamp(2, MAX_PROBE_INTERVAL);
    }

    /// Decides, once the limit is reached, whether to stop there (`true`) or to raise the limit for a probe.
    ///
    /// A window of which only a part was observed (`opened_by_chance`) is always probed, and so is one that others use.
    /// With a server that blocks for longer than a window, none is.
    pub(super) fn hold_at_limit(&mut self, accepted: u64, opened_by_chance: bool) -> bool {
        let enough = self.block.is_some()
            || !self.shared && !opened_by_chance && self.windows_since_probe < self.probe_interval;
        if enough {
            self.windows_since_probe += 1;
        } else {
            self.limit = accepted.saturating_add(self.probe_step);
            self.probe_step = self.probe_step.saturating_mul(2);
        }
        enough
    }
}

/// Maximum number of windows between two probes for a quota that has grown.
const MAX_PROBE_INTERVAL: u32 = 32;
/// Number of windows that a block is assumed to last at first.
const WINDOWS_PER_BLOCK: u32 = 5;
/// Resolution of the waits that servers name.
const HINT_RESOLUTION: Duration = Duration::from_secs(1);

/// Length of the most common window. A longer wait can be a block.
const MIN_BLOCK: Duration = Duration::from_secs(60);

/// Returns whether a wait in whole seconds is as long as a block: a common length, longer than most windows.
fn is_common(hint: Duration) -> bool {
    hint > MIN_BLOCK && snap_down(hint).is_some_and(|round| round + HINT_RESOLUTION > hint)
}
