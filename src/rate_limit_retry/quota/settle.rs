//! The settlement of a request's cost, and costs that exceed a limit.
//!
//! | step | method | amounts |
//! |---|---|---|
//! | the request is admitted | [`Quota::enter`] | the estimate is reserved |
//! | its outcome is known | [`Quota::record`] | the reservation stays, but no longer delays other requests, because the response announces what remains; that of a quota in bodies does |
//! | its cost is known, or can no longer be reported | [`Quota::settle_cost`] | the charge replaces the reservation |
//!
//! The last two steps happen together, unless a layer below still measures what the response costs.

use tokio::time::Instant;

use super::{Load, Quota, window::Announcement};
use crate::rate_limit_retry::{cost::Cost, headers::Limit};

/// A limit that is lower than the cost of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ExceededLimit {
    /// The name of the quota.
    pub(crate) quota: Box<str>,
    /// The amount that the request costs.
    pub(crate) cost: u64,
    /// The limit.
    pub(crate) limit: u64,
}

impl Quota {
    /// Replaces what a request has reserved by what it is charged. Called exactly once for each cost that was passed to
    /// [`enter`](Self::enter) and has units.
    ///
    /// `used` is what the request has cost. Units that it does not name are charged as reserved, and all units if it is
    /// `None`. It may name units that were not reserved. For a request that the server has not counted, it is
    /// [`Cost::refunded`].
    pub(crate) fn settle_cost(&mut self, load: &Load, used: Option<&Cost>) {
        let reserved = &load.cost;
        self.reserved.release(reserved);
        if used != Some(&reserved.refunded()) {
            for window in self.windows.iter_mut() {
                window.settle(load, used);
            }
        }
        for (unit, amount) in reserved.amounts() {
            let used = used.and_then(|used| used.amount_of(unit));
            self.reserved.charge(unit, used.unwrap_or(amount));
        }
        let unreserved = used.into_iter().flat_map(Cost::amounts);
        for (unit, amount) in unreserved.filter(|(unit, _)| reserved.amount_of(unit).is_none()) {
            self.reserved.charge(unit, amount);
        }
    }

    /// Records a quota that the body of the response to request `number` announces, after the response was recorded.
    pub(crate) fn observe_body(&mut self, number: u64, limit: &Limit, now: Instant) {
        let by = Announcement {
            number,
            route: None,
            next: self.next_number,
            late: number < self.epoch,
            throttled: false,
            served: true,
            in_body: true,
            retry_after: None,
            since: self.probe.since,
            now,
        };
        self.windows.observe(std::slice::from_ref(limit), &by);
    }

    /// Returns a limit that is lower than this cost. A request with it can never be sent.
    ///
    /// Only amounts that the caller has set count. What the layer has learned itself is an estimate, and refuses
    /// nothing.
    pub(crate) fn exceeded_limit(&self, cost: &Cost, now: Instant) -> Option<ExceededLimit> {
        self.windows.iter().find_map(|window| {
            let (_, amount) = window.unit_of(cost)?;
            // A limit of zero is how some servers announce that there is none.
            // One that is over may have had another limit than the next: a request finds out.
            let current = window
                .current
                .as_ref()
                .filter(|current| current.is_valid(now))?;
            let limit = current.limit.filter(|limit| *limit > 0)?;
            (amount > limit).then(|| ExceededLimit {
                quota: window.name().into(),
                cost: amount,
                limit,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate_limit_retry::quota::{Pacing, QuotaConfig};
    use crate::{backoff::Backoff, rate_limit_retry::quota::Reserved};

    /// Returns what is still reserved, and what was charged, after one request.
    fn settled(reserved: &Cost, used: Option<&Cost>) -> Reserved {
        let config = QuotaConfig {
            initial_window: 8,
            initial_window_timeout: Duration::ZERO,
            max_hold: Duration::ZERO,
            pacing: Pacing::Burst,
            backoff: Backoff::new(Duration::ZERO, Duration::ZERO),
            shared: false,
        };
        let mut quota = Quota::new(&config, None);
        quota.reserved.add(reserved);
        quota.settle_cost(&Load::of(reserved.clone(), None), used);
        quota.reserved
    }

    #[test]
    fn what_was_used_replaces_what_was_reserved_by_unit() {
        let reserved = Cost::new().with("tokens", 100).with("points", 7);
        for (used, expected) in [
            (None, vec![("points", 7), ("tokens", 100)]),
            (
                Some(Cost::new().with("tokens", 130).with("bytes", 9)),
                vec![("bytes", 9), ("points", 7), ("tokens", 130)],
            ),
            (
                Some(Cost::new().with("tokens", 2)),
                vec![("points", 7), ("tokens", 2)],
            ),
            (
                Some(reserved.refunded()),
                vec![("points", 0), ("tokens", 0)],
            ),
        ] {
            let settled = settled(&reserved, used.as_ref());

            assert!(settled.is_empty());
            assert_eq!(settled.all_charged().collect::<Vec<_>>(), expected);
        }
    }
}
