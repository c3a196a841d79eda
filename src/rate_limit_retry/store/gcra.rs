//! A limit that a fleet enforces exactly: the generic cell rate algorithm (GCRA), with the store's clock.

use std::time::Duration;

use crate::rate_limit_retry::local_limits::{at_least_one, clamp_rate};

/// The maximum number of requests that the whole fleet sends, whatever the server announces. Costs one round trip to
/// the store per request.
///
/// Use it for servers that announce nothing, or that punish every excess. For a server that announces its quota, the
/// default of [`StoredQuotas`](super::StoredQuotas) costs less and adapts to changes of the quota.
///
/// By default, a tenth of the requests may be sent at once ([`burst`](Self::burst)); the others are spaced evenly. No
/// window of the server then sees more requests than the quota, wherever it begins, as long as network delays of
/// requests differ by less than one [`emission_interval`](Self::emission_interval). What runs below the layer delays
/// requests too: with [`M2mLayer`](crate::M2mLayer), a request has its token before it takes a slot. In a
/// [`ClientCredentialsLayer`](crate::ClientCredentialsLayer) below, the slot waits for the token.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::FleetQuota;
///
/// // One request per second on average, and up to two at once.
/// let quota = FleetQuota::per_minute(63).burst(2);
///
/// assert_eq!(quota.emission_interval(), Duration::from_secs(1));
/// assert_eq!(quota.burst_tolerance(), Duration::from_secs(1));
/// ```
#[doc(alias("GCRA"))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FleetQuota {
    /// Number of requests per period.
    requests: u32,
    /// Length of the period.
    period: Duration,
    /// Number of requests that may be sent at once.
    burst: u32,
}

impl FleetQuota {
    /// Allows at most `requests` in any `period`. Minimum: 1 request, 1 ms.
    #[must_use]
    pub const fn per(requests: u32, period: Duration) -> Self {
        let (requests, period) = clamp_rate(requests, period);
        Self {
            requests,
            period,
            burst: at_least_one(requests / 10),
        }
    }

    /// Allows at most `requests` (at least 1) in any second.
    #[must_use]
    pub const fn per_second(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(1))
    }

    /// Allows at most `requests` (at least 1) in any minute.
    #[must_use]
    pub const fn per_minute(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(60))
    }

    /// Allows at most `requests` (at least 1) in any hour.
    #[must_use]
    pub const fn per_hour(requests: u32) -> Self {
        Self::per(requests, Duration::from_secs(3600))
    }

    /// Sets the number of requests that may be sent at once after a pause: at least 1, at most half of the quota.
    /// Default: a tenth of the quota.
    ///
    /// A larger burst widens the spacing of the other requests. With n requests per period P and a burst of b, the
    /// spacing is P / (n − b − 1). With a burst of 1, all requests are spaced evenly.
    #[must_use]
    pub const fn burst(mut self, requests: u32) -> Self {
        let max_burst = at_least_one(self.requests / 2);
        self.burst = if requests > max_burst {
            max_burst
        } else {
            at_least_one(requests)
        };
        self
    }

    /// Returns the time between two requests (GCRA: the emission interval T). For implementations of
    /// [`QuotaStore::reserve`](super::QuotaStore::reserve).
    ///
    /// The quota without the burst, and without one request in reserve for network delays, is spread over the period.
    #[must_use]
    pub fn emission_interval(self) -> Duration {
        // Does not overflow: a burst is at most half of the requests.
        let spread = self.requests.saturating_sub(self.burst + 1).max(1);
        self.period / spread
    }

    /// Returns how much earlier than its due time a request may be sent (GCRA: the tolerance τ). Zero with a burst of
    /// 1.
    #[must_use]
    pub fn burst_tolerance(self) -> Duration {
        self.emission_interval().saturating_mul(self.burst - 1)
    }
}

/// The result of [`QuotaStore::reserve`](super::QuotaStore::reserve).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::Reservation;
///
/// /// The result for a request whose slot is due after `wait`.
/// fn reserve(wait: Duration, max_wait: Duration) -> Reservation {
///     if wait <= max_wait {
///         Reservation::Granted(wait)
///     } else {
///         Reservation::Denied(wait)
///     }
/// }
/// # let zero = Duration::ZERO;
/// # assert_eq!(reserve(zero, zero), Reservation::Granted(zero));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reservation {
    /// The slot is reserved; the request may be sent after this wait, which may be zero.
    Granted(Duration),
    /// No slot is reserved: the wait would be this long, which exceeds the limit. The call fails with
    /// [`RateLimited`](crate::rate_limit_retry::RateLimited).
    Denied(Duration),
}
