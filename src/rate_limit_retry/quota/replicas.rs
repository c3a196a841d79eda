//! Servers behind a load balancer that count each for themselves.
//!
//! The remaining requests rise and fall within one window, depending on the replica that answers. Their mean falls by
//! a part of each request, and the quota is exhausted when most replicas have nothing left.

/// What the reports of one quota show about replicas.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replicas {
    /// Number of reports in the window with more remaining requests than a report before, to a request that was sent
    /// after that report had arrived.
    rises: u32,
    /// Number of reports with fewer remaining requests than this process's requests explain.
    falls: u32,
    /// Number of reports in the window by which what remains falls by a small part of this process's requests only.
    slow_falls: u32,
    /// Number of reports in the window.
    reports: u32,
    /// Whether several replicas count.
    detected: bool,
    /// Mean of the last reports' remaining requests.
    mean: f64,
    /// Share of the last reports with nothing remaining, from 0 to 1.
    exhausted: f64,
    /// Part of a request by which the mean falls: 1 ÷ the number of replicas.
    cost: f64,
}

impl Replicas {
    /// Records a report. `change` is the difference to the report before and the number of requests sent in between,
    /// if the two are comparable; `slow`: what remains falls by a part of each request only.
    pub(super) fn observe(&mut self, remaining: u64, change: Option<(i128, u64)>, slow: bool) {
        let remaining = remaining as f64;
        if self.reports == 0 {
            (self.mean, self.exhausted) = (remaining, 0.0);
        }
        self.reports += 1;
        self.mean += (remaining - self.mean) * SMOOTHING;
        let none = f64::from(u8::from(remaining == 0.0));
        self.exhausted += (none - self.exhausted) * SMOOTHING;
        if let Some((difference, sent)) = change {
            self.rises += u32::from(difference > 0);
            self.falls += u32::from(difference < -i128::from(sent));
        }
        // In a window that slides, what remains also rises.
        self.slow_falls += u32::from(slow && self.rises == 0);
        let conflicts = self.rises.min(self.falls).max(self.slow_falls);
        self.detected |= conflicts >= MIN_CONFLICTS;
    }

    /// Returns what remains as seen from one replica on average; `None` for a server that counts by itself. Also measures
    /// the part of a request by which that falls.
    ///
    /// `accepted` of `limit` requests of the window were this process's.
    pub(super) fn view(&mut self, limit: Option<u64>, accepted: u64) -> Option<u64> {
        if !self.detected {
            return None;
        }
        if let Some(limit) = limit.filter(|_| accepted >= u64::from(MIN_REPORTS)) {
            self.cost = ((limit as f64 - self.mean) / accepted as f64).clamp(MIN_COST, 1.0);
        } else if self.cost == 0.0 {
            self.cost = 1.0;
        }
        Some(if self.exhausted >= MAX_EXHAUSTED {
            0
        } else {
            (self.mean.round() as u64).max(1)
        })
    }

    /// Returns the part of a request by which the mean falls, if replicas count.
    pub(super) fn cost(&self) -> Option<f64> {
        self.detected.then_some(self.cost)
    }

    /// Returns whether several replicas count, of which others may accept what one refuses.
    pub(super) fn are_detected(&self) -> bool {
        self.detected
    }

    /// Begins another window. A window without a conflict ends the assumption.
    pub(super) fn end_window(&mut self) {
        let unconfirmed = self.reports >= MIN_REPORTS && self.rises + self.slow_falls == 0;
        self.detected &= !unconfirmed;
        (self.rises, self.falls) = (0, 0);
        (self.slow_falls, self.reports) = (0, 0);
    }
}

/// Weight of one report in the means.
const SMOOTHING: f64 = 0.125;
/// Number of rises and of falls in one window after which replicas are assumed. A single counter has no rises, and a
/// quota that refills has no falls that this process's requests do not explain.
const MIN_CONFLICTS: u32 = 3;
/// Number of reports without a conflict that end the assumption.
const MIN_REPORTS: u32 = 16;
/// Share of replicas without remaining requests from which on the quota counts as exhausted.
const MAX_EXHAUSTED: f64 = 0.5;
/// Cost of a request with the greatest number of replicas.
const MIN_COST: f64 = 1.0 / 64.0;
