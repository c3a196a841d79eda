//! The estimated limit of a fixed window that the server does not announce.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    bounds::{Bounds, snap_down},
    refill::as_f64,
    throttled::Throttled,
    tuning::{HINT_RESOLUTION, MAX_PROBE_INTERVAL, NEARLY_ALL, USUAL_WINDOW, WINDOWS_PER_BLOCK},
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
    /// Whether the server has named a greater limit than was accepted. Then other clients use the rest, and not the
    /// same number in each window.
    used_by_others: bool,
    /// The time for which the server blocks a client that exceeds the limit, if that is longer than the window.
    block: Option<Duration>,
    /// The assumed length of the window, if `block` is known.
    assumed_length: Duration,
}

impl FixedWindow {
    /// Creates an estimate. The first full window is a probe.
    pub(super) fn new(allowance: u64, period: Bounds) -> Self {
        Self {
            limit: allowance,
            confirmed: allowance,
            length: period,
            windows_since_probe: 0,
            probe_interval: 0,
            probe_step: 1,
            used_by_others: false,
            block: None,
            assumed_length: Duration::ZERO,
        }
    }

    /// Learns from the throttling response after a window with `used` accepted requests whether other clients use the
    /// quota, and whether the server blocks clients that exceed it.
    ///
    /// The wait until the end of a window is an arbitrary part of its length. A wait of a whole common length is
    /// probably a block, which lasts several windows. The next request after the limit is sent after a part of it:
    ///
    /// - It is accepted: that part is used as the window's length.
    /// - It is blocked for the same time: the window is longer.
    /// - The wait is shorter: it is not a block but the rest of a window.
    pub(super) fn on_throttled_window(&mut self, throttled: &Throttled, used: u64) {
        if let Some(limit) = throttled.limit {
            self.used_by_others = limit > used;
        }
        let Some(hint) = throttled.hint else { return };
        let same = |block: Duration| block.abs_diff(hint) <= HINT_RESOLUTION;
        let assumed = match self.block {
            Some(block) if same(block) && throttled.probes > 0 => {
                self.assumed_length.saturating_mul(2)
            }
            Some(block) if same(block) => self.assumed_length,
            None if self.length.max().is_none() && is_common(hint) => hint / WINDOWS_PER_BLOCK,
            _ => {
                self.block = None;
                return;
            }
        };
        (self.block, self.assumed_length) = (Some(hint), assumed);
        self.length = Bounds::exactly(assumed);
    }

    /// Returns the time of the next request once the limit is reached `now`, if the server blocks clients that exceed
    /// it. `None` if it is not known to.
    pub(super) fn after_block(&self, now: Instant) -> Option<Instant> {
        self.block.map(|_| add_capped(now, self.assumed_length))
    }

    /// Records a window that ended with throttling after `allowance` accepted requests.
    pub(super) fn update(&mut self, allowance: u64, period: Bounds) {
        if as_f64(allowance) < as_f64(self.confirmed) * NEARLY_ALL {
            // Less than before, perhaps only this time: the next window is a probe.
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
    /// A window of which only a part was observed (`opened_by_chance`) is always probed, and so is one that other
    /// clients use. If the server blocks for longer than a window, none is probed.
    pub(super) fn hold_at_limit(&mut self, accepted: u64, opened_by_chance: bool) -> bool {
        let blocks = self.block.is_some() && self.windows_since_probe < MAX_PROBE_INTERVAL;
        let enough = blocks
            || self.block.is_none()
                && !self.used_by_others
                && !opened_by_chance
                && self.windows_since_probe < self.probe_interval;
        if enough {
            self.windows_since_probe += 1;
        } else {
            self.limit = accepted.saturating_add(self.probe_step);
            self.probe_step = self.probe_step.saturating_mul(2);
        }
        enough
    }
}

/// Returns whether a wait in whole seconds may be a block: a common length, longer than most windows.
fn is_common(hint: Duration) -> bool {
    hint > USUAL_WINDOW && snap_down(hint).is_some_and(|round| round + HINT_RESOLUTION > hint)
}
