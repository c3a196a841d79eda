//! Converts the collected fields of a quota to [`Limit`]s.
//!
//! The fields of one family and dimension can describe several quotas:
//!
//! - one for each `limit:seconds` pair;
//! - one for each position, if the values are lists;
//! - otherwise one for all unstructured fields together;
//! - one for each remaining item of a structured field.
//!
//! An unnamed policy with the same limit as an unstructured quota is not a quota of its own: it adds its window.
//!
//! | fields | result |
//! |---|---|
//! | `RateLimit-Limit: 100`, `-Remaining: 5`, `-Reset: 9` | 100, 5 remain, reset in 9 s |
//! | `RateLimit-Limit: 100, 100;w=60` | 100 per minute |
//! | `RateLimit-Limit: 100, 100;w=60, 5000;w=3600` | 100 per minute, and 5000 per hour |
//! | `"burst";r=5;t=9` with the policy `"burst";q=100;w=60` | `burst`: 100 per minute, 5 remain, reset in 9 s |

use std::time::{Duration, SystemTime};

use super::{
    super::{
        Limit, Unit,
        columns::{Line, Row, rows, window_from_seconds},
        structured::Item,
    },
    QuotaFields,
};
use crate::{retry_after::MAX_WAIT, steps::count_steps};

impl QuotaFields<'_> {
    /// Returns the quotas that the fields describe: one, one for each named policy, one for each pair, or one for
    /// each position of `lines`. Omits quotas reported as unlimited.
    ///
    /// The order of the result is fixed: pairs, then positions or the unstructured quota, then items with a remaining
    /// count, then the other policies. An item with a remaining count is joined with the policy of the same name, so
    /// that `RateLimit` and `RateLimit-Policy` give one quota.
    pub(in super::super) fn into_limits(
        mut self,
        lines: &[Line<'_>],
        reference: SystemTime,
    ) -> Vec<Limit> {
        let unit = self
            .unit
            .unwrap_or_else(|| Unit::of_dimension(&self.dimension));
        // Each `limit:seconds` pair is a quota of its own.
        let pairs: Vec<_> = self.limits_by_seconds.drain(..).collect();
        let mut limits: Vec<Limit> = pairs
            .into_iter()
            .map(|(limit, window)| Limit {
                limit: Some(limit),
                remaining: self.used_in(window).map(|used| limit.saturating_sub(used)),
                window: window_from_seconds(window),
                unit,
                ..Limit::default()
            })
            .collect();

        let mut policies = std::mem::take(&mut self.policies);
        // Lists by position, or else a single quota.
        if let Some(rows) = rows(lines, reference) {
            let rows = rows.iter().filter(|row| !row.unlimited);
            limits.extend(rows.map(|row| self.row_limit(row, unit, &mut policies)));
        } else if !(self.unlimited && self.limit.is_none() && self.remaining.unwrap_or(0) == 0) {
            let base = self.base_limit(unit, &mut policies);
            limits.extend(base.is_actionable().then_some(base));
        }
        // Items with a remaining count are merged with the policy of the same name.
        let (states, mut policies): (Vec<_>, Vec<_>) = policies
            .into_iter()
            .partition(|item| item.remaining.is_some());
        for state in states {
            let same = |policy: &Item| policy.name == state.name && policy.name.is_some();
            count_steps(policies.len());
            let policy = policies.iter().position(same).map(|at| policies.remove(at));
            limits.push(policy_limit(&state, policy.as_ref()));
        }
        limits.extend(
            policies
                .iter()
                .filter(|item| item.quota.is_some())
                .map(|policy| policy_limit(policy, None)),
        );
        limits
    }

    /// Returns a quota that is identified by its position in a list.
    ///
    /// A missing limit is the sum of the remaining and the used count. A missing remaining count is the limit minus
    /// the used count.
    fn row_limit(&self, row: &Row, unit: Unit, policies: &mut Vec<Item>) -> Limit {
        let limit = row
            .limit
            .or_else(|| Some(row.remaining?.saturating_add(row.used?)));
        let policy_window = take_policy(policies, limit);
        Limit {
            name: self.display_name(),
            unit,
            limit,
            remaining: row
                .remaining
                .or_else(|| Some(limit?.saturating_sub(row.used?))),
            reset: row.reset,
            window: row
                .window
                .or(policy_window)
                .or_else(|| self.dimension.window().and_then(window_from_seconds)),
            refill: None,
            partition_key: None,
        }
    }

    /// Returns the name that a field gives to the quota, or the words of its dimension.
    fn display_name(&self) -> Option<String> {
        let dimension = (!self.dimension.is_empty()).then(|| self.dimension.to_string());
        self.name.clone().or(dimension)
    }

    /// Returns the quota that the unstructured fields describe. Removes the policies with the same limit from
    /// `policies`.
    ///
    /// Missing counts are derived as for [`row_limit`](Self::row_limit). The window comes from its own field, else from
    /// the policy, else from the words of the dimension. The refill is divided by the window, to obtain a rate per
    /// second.
    fn base_limit(&mut self, unit: Unit, policies: &mut Vec<Item>) -> Limit {
        let used = self.used;
        let limit = self
            .limit
            .or_else(|| Some(self.remaining?.saturating_add(used?)));
        let policy_window = take_policy(policies, limit);
        let window = self
            .window
            .or(policy_window)
            .or_else(|| self.dimension.window().and_then(window_from_seconds));
        // Without a window, the refill is per second.
        let seconds = window.map_or(1.0, |window| window.as_secs_f64());
        Limit {
            name: self.display_name(),
            unit,
            limit,
            remaining: self
                .remaining
                .or_else(|| Some(limit?.saturating_sub(used?))),
            // A duration does not depend on any clock.
            reset: self.reset_in.or(self.reset_at),
            window,
            refill: self.rate.or_else(|| Some(self.refill? / seconds)),
            partition_key: None,
        }
    }

    /// Returns the used count of the pair with this window, in seconds.
    fn used_in(&self, window: u64) -> Option<u64> {
        count_steps(self.used_by_seconds.len());
        let mut used = self.used_by_seconds.iter();
        used.find(|(_, seconds)| *seconds == window)
            .map(|(used, _)| *used)
    }
}

/// Removes the unnamed policies with this limit, and returns the window of the first that has one.
fn take_policy(policies: &mut Vec<Item>, limit: Option<u64>) -> Option<Duration> {
    count_steps(2 * policies.len());
    let own = |item: &Item| item.name.is_none() && item.quota == limit;
    let policy_window = policies
        .iter()
        .filter(|item| own(item))
        .find_map(|item| item.window);
    policies.retain(|item| !own(item) || (limit.is_none() && item.quota.is_some()));
    policy_window.and_then(window_from_seconds)
}

/// Returns a quota of IETF drafts 08 to 10. The state takes precedence over the policy.
fn policy_limit(state: &Item, policy: Option<&Item>) -> Limit {
    // The policy fills in what the state does not contain.
    let either = |of: fn(&Item) -> Option<u64>| of(state).or_else(|| of(policy?));
    let unit = state
        .unit
        .as_deref()
        .or(policy.and_then(|policy| policy.unit.as_deref()));
    let key = state
        .partition_key
        .as_ref()
        .or(policy.and_then(|p| p.partition_key.as_ref()));
    Limit {
        name: state.name.clone(),
        unit: unit.map_or_else(Unit::default, Unit::of_policy),
        limit: either(|item| item.quota),
        remaining: state.remaining,
        reset: state
            .reset
            .map(|reset| Duration::from_secs(reset).min(MAX_WAIT)),
        window: either(|item| item.window).and_then(window_from_seconds),
        refill: None,
        partition_key: key.cloned(),
    }
}
