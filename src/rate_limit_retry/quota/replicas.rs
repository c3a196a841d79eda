//! Replicas: servers behind a load balancer, each with a counter of its own.
//!
//! The remaining count rises and falls within one window, depending on the replica that responds. Each request is
//! counted by one replica, so that the mean falls by 1 ÷ their number. The quota is exhausted when nothing remains at
//! most of them.

use super::tuning::{MIN_EVIDENCE, MIN_SHARE, RECENT_RESPONSES, RECENT_WEIGHT};
/// What the reports of one quota show about replicas.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replicas {
    /// Number of reports in the window with more remaining requests than the report before, in the response to a
    /// request that was sent after that report had arrived.
    rises: u32,
    /// Number of reports with fewer remaining requests than this process's requests explain.
    falls: u32,
    /// Number of reports in the window after which the remaining count has fallen by a small part of this process's
    /// requests only.
    slow_falls: u32,
    /// Number of reports in the window.
    reports: u32,
    /// Whether several replicas count.
    detected: bool,
    /// Mean of the last reports' remaining requests.
    mean: f64,
    /// Share of the last reports with nothing remaining, from 0 to 1.
    exhausted: f64,
    /// Fall of the mean per request: 1 ÷ the number of replicas.
    cost: f64,
}

impl Replicas {
    /// Records a report. `change` is the difference to the report before and the number of requests sent in between, if
    /// the two are comparable. `slow`: the remaining count has fallen by a part of the requests only.
    pub(super) fn observe(&mut self, remaining: u64, change: Option<(i128, u64)>, slow: bool) {
        let remaining = remaining as f64;
        if self.reports == 0 {
            (self.mean, self.exhausted) = (remaining, 0.0);
        }
        self.reports += 1;
        self.mean += (remaining - self.mean) * RECENT_WEIGHT;
        let none = f64::from(u8::from(remaining == 0.0));
        self.exhausted += (none - self.exhausted) * RECENT_WEIGHT;
        if let Some((difference, sent)) = change {
            self.rises += u32::from(difference > 0);
            self.falls += u32::from(difference < -i128::from(sent));
        }
        // In a row: of reordered responses, a few may seem to be slow.
        self.slow_falls = if slow { self.slow_falls + 1 } else { 0 };
        let conflicts = self.rises.min(self.falls) >= MIN_EVIDENCE;
        self.detected |= conflicts || self.slow_falls >= RECENT_RESPONSES;
    }

    /// Returns what remains at a replica on average, 0 if nothing remains at most of them; `None` without replicas.
    /// Also measures by how much that falls with each request.
    ///
    /// `accepted` of the window's `limit` requests were this process's.
    pub(super) fn remaining(&mut self, limit: Option<u64>, accepted: u64) -> Option<u64> {
        // Without a report in the window, the mean is that of the window before.
        if !self.detected || self.reports == 0 {
            return None;
        }
        if let Some(limit) = limit.filter(|_| accepted >= u64::from(RECENT_RESPONSES)) {
            self.cost = ((limit as f64 - self.mean) / accepted as f64).clamp(MIN_SHARE, 1.0);
        } else if self.cost == 0.0 {
            self.cost = 1.0;
        }
        // Nothing remains at half of them or more.
        Some(if self.exhausted >= 0.5 {
            0
        } else {
            (self.mean.round() as u64).max(1)
        })
    }

    /// Returns by how much the mean falls with each request; `None` without replicas.
    pub(super) fn cost(&self) -> Option<f64> {
        self.detected.then_some(self.cost)
    }

    /// Returns whether several replicas count. Then others may accept a request that one has throttled.
    pub(super) fn are_detected(&self) -> bool {
        self.detected
    }

    /// Begins another window. If the last one had enough reports and no sign of replicas, they are no longer assumed.
    pub(super) fn end_window(&mut self) {
        let unconfirmed = self.reports >= RECENT_RESPONSES && self.rises + self.slow_falls == 0;
        self.detected &= !unconfirmed;
        (self.rises, self.falls) = (0, 0);
        (self.slow_falls, self.reports) = (0, 0);
    }
}
