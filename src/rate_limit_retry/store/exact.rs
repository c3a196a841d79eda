//! A limit that the fleet keeps exactly: the generic cell rate algorithm, with the store's clock.

use std::time::Duration;

use crate::rate_limit_retry::limits::{at_least_one, some_per};

/// How many requests the whole fleet sends at most, whatever the server says: one round trip to the store for each
/// request.
///
/// A tenth of them may go at once ([`burst`](Self::burst)), and the others are spaced evenly, so that no window of the
/// server sees more than the quota, wherever it begins, as long as the ways of requests differ by less than the space
/// between two of them.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::ExactQuota;
///
/// let quota = ExactQuota::per_minute(300).burst(10);
/// # drop(quota);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExactQuota {
    requests: u32,
    period: Duration,
    burst: u32,
}

impl ExactQuota {
    /// At most `requests` in any `period`; both at least 1 (request, millisecond).
    #[must_use]
    pub const fn per(requests: u32, period: Duration) -> Self {
        let (requests, period) = some_per(requests, period);
        Self {
            requests,
            period,
            burst: at_least_one(requests / 10),
        }
    }

    /// At most so many in any second.
    #[must_use]
    pub const fn per_second(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(1))
    }

    /// At most so many in any minute.
    #[must_use]
    pub const fn per_minute(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(60))
    }

    /// At most so many in any hour.
    #[must_use]
    pub const fn per_hour(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(3600))
    }

    /// How many may go at once after a pause, at least 1 and at most half of the quota; the more they are, the wider the
    /// space between the others. Default: a tenth.
    #[must_use]
    pub const fn burst(mut self, requests: u32) -> Self {
        let most = at_least_one(self.requests / 2);
        self.burst = if requests > most {
            most
        } else {
            at_least_one(requests)
        };
        self
    }

    /// The space between two requests: what remains of the quota beside the burst, and one for those whose way takes
    /// longer, spread over the period.
    #[must_use]
    pub fn spacing(self) -> Duration {
        let spread = self.requests.saturating_sub(self.burst + 1).max(1);
        self.period / spread
    }

    /// By how much a request may come before it is due.
    #[must_use]
    pub fn tolerance(self) -> Duration {
        self.spacing().saturating_mul(self.burst - 1)
    }
}

/// What [`QuotaStore::slot`](super::QuotaStore::slot) answers.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::Slot;
///
/// /// What a store answers to a request that would have to wait for so long.
/// fn slot(wait: Duration, longest: Duration) -> Slot {
///     if wait <= longest { Slot::After(wait) } else { Slot::TooLate(wait) }
/// }
/// # assert_eq!(slot(Duration::ZERO, Duration::ZERO), Slot::After(Duration::ZERO));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Slot {
    /// The request may go after this wait; its slot is taken.
    After(Duration),
    /// It would have to wait for this long, which is too long. No slot is taken.
    TooLate(Duration),
}
