//! Merges quotas that one family of fields describes under longer and shorter names.
//!
//! | fields | result |
//! |---|---|
//! | `requests-left`, `time-reset` | the remaining requests have this reset |
//! | two quotas and one reset | the exhausted quotas have this reset |
//! | `Limit`, `Requests-Remaining` | one quota with limit and remaining count |
//! | `DailyLimit`, `Remaining` | one quota with limit and remaining count |
//!
//! Merging is conservative: if several quotas come into question, nothing is merged, except that a reset goes to the
//! exhausted ones. A missing value is better than a wrong one, because a wrong reset holds requests for too long.
//!
//! Both passes cost O(n²) for n quotas, of which there are at most 64.

use super::{collect::Collected, quota_fields::QuotaFields};
use crate::steps::count_steps;

impl Collected<'_> {
    /// Merges times into the quotas that they belong to: `requests-left` with `time-reset`.
    pub(super) fn merge_times(&mut self) {
        let mut at = 0;
        while at < self.quotas.len() {
            // A merged time is removed, so the next quota moves to this position.
            if !self.quotas[at].is_time_only() || !self.merge_times_at(at) {
                at += 1;
            }
        }
    }

    /// Merges a time into the quotas that it may describe: the only candidate, or all exhausted ones. Returns whether
    /// the time has been merged and removed.
    fn merge_times_at(&mut self, at: usize) -> bool {
        let time = &self.quotas[at];
        let may_be = |quota: &QuotaFields<'_>| quota.has_counts() && time.is_part_of(quota);
        count_steps(self.quotas.len());
        let all = self.quotas.iter().filter(|quota| may_be(quota)).count();
        let wanted: Vec<usize> = (0..self.quotas.len())
            .filter(|of| may_be(&self.quotas[*of]))
            // A reset that could belong to several quotas is most probably that of the exhausted ones.
            .filter(|of| all == 1 || time.has_reset() && self.quotas[*of].is_exhausted())
            .collect();
        if wanted.is_empty() {
            return false;
        }
        let time = self.quotas.remove(at);
        for of in wanted {
            // Quotas after the removed one have moved by one position.
            self.quotas[of - usize::from(of > at)].merge_times_from(&time);
        }
        true
    }

    /// Merges a limit with the remaining count that its family reports under another name: `Limit` with
    /// `Requests-Remaining`, `DailyLimit` with `Remaining`.
    pub(super) fn merge_counts(&mut self) {
        let mut at = 0;
        while at < self.quotas.len() {
            let short = &self.quotas[at];
            count_steps(self.quotas.len());
            // Only an unambiguous partner is merged: exactly one other quota of the family.
            let mut others = self.quotas.iter().enumerate().filter(|(of, quota)| {
                *of != at && quota.has_counts() && quota.family == short.family
            });
            let longer = match (others.next(), others.next()) {
                (Some((of, longer)), None) if short.complements(longer) => Some(of),
                _ => None,
            };
            let Some(of) = longer else {
                at += 1;
                continue;
            };
            // `at` stays: the next quota has moved to this position.
            let short = self.quotas.remove(at);
            self.quotas[of - usize::from(of > at)].merge_counts_from(&short);
        }
    }
}
