//! The estimated limit of a fixed window that the server does not announce.

use super::bounds::Bounds;

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
        }
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
    /// A window of which only a part was observed (`opened_by_chance`) is always probed.
    pub(super) fn hold_at_limit(&mut self, accepted: u64, opened_by_chance: bool) -> bool {
        let enough = !opened_by_chance && self.windows_since_probe < self.probe_interval;
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
