//! The rate-limit information of a response.

use std::time::Duration;

use http::StatusCode;

use super::{Limit, RetryAdvice};

/// The rate-limit information of a response. Empty if the response contains none.
///
/// Two questions are separate: [`is_throttle`](Self::is_throttle) is whether the request was rejected because of a
/// limit, and `retry_after` is how long to wait. A successful response may describe an exhausted quota, and a 503 may
/// have a wait without being about a quota.
///
/// # Examples
///
/// A client that pauses before it is rejected:
///
/// ```
/// use std::time::SystemTime;
///
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::read;
///
/// let headers = HeaderMap::from_iter([
///     ("ratelimit-remaining".parse()?, HeaderValue::from_static("0")),
///     ("ratelimit-reset".parse()?, HeaderValue::from_static("7")),
/// ]);
///
/// let info = read(StatusCode::OK, &headers, SystemTime::now());
///
/// assert!(!info.is_throttle(StatusCode::OK));
/// assert_eq!(info.exhausted_reset().map(|reset| reset.as_secs()), Some(7));
/// # Ok::<(), http::header::InvalidHeaderName>(())
/// ```
///
/// A 403 without fields about limits:
///
/// ```
/// use std::time::SystemTime;
///
/// use http::{HeaderMap, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::{RateLimitInfo, read};
///
/// let headers = HeaderMap::new();
///
/// let status = StatusCode::FORBIDDEN;
/// let info: RateLimitInfo = read(status, &headers, SystemTime::now());
///
/// // A missing permission, not a rate limit of GitHub, which also answers 403.
/// assert!(info.is_empty() && !info.is_throttle(status));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RateLimitInfo {
    /// Minimum time until the next attempt, counted from the response. At most ten years.
    ///
    /// Comes from `Retry-After` or a similar field, if it is valid and the status gives it a meaning: 3xx, 400, 403,
    /// 408, 413, 418, 420, 425, 429, 430, 5xx. Otherwise, for 418, 420, 429, 430, 503 and 529, it is the longest
    /// [`reset`](Limit::reset) of an exhausted quota; for 403, of an exhausted quota of requests. A 429 or 400 that
    /// does not report what remains is assumed to be about the quotas that have a reset. For a response from a cache,
    /// it is the rest of the wait.
    pub retry_after: Option<Duration>,
    /// Whether `retry_after` is from a field that requests a wait, and not from a reset.
    pub(crate) is_requested: bool,
    /// The quotas that the response describes. The same quota may appear twice under different names. In the order of
    /// the response's fields; at most 64.
    pub limits: Vec<Limit>,
    /// Explicit advice of the server about a retry, which takes precedence over the status; `None` for most servers.
    pub advice: Option<RetryAdvice>,
    /// Whether a rejection is about everything the client sends to this server, not only about the partition: as
    /// reported by Discord's fields, or for a 418, with which Binance bans an address.
    pub global: bool,
}

impl RateLimitInfo {
    /// Returns whether the response contains no rate-limit information.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether a quota is exhausted, in any unit.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.limits.iter().any(Limit::is_exhausted)
    }

    /// Returns the latest reset of all exhausted quotas, counted from the response; `None` if none of them has a
    /// reset.
    #[must_use]
    pub fn exhausted_reset(&self) -> Option<Duration> {
        self.max_reset(Limit::is_exhausted)
    }

    /// Returns the latest reset of the selected quotas.
    fn max_reset(&self, which: fn(&Limit) -> bool) -> Option<Duration> {
        let limits = self.limits.iter().filter(|limit| which(limit));
        limits.filter_map(|limit| limit.reset).max()
    }

    /// Returns whether a response with this status means "not now" rather than "no": the request was not processed,
    /// and a retry before the end of the wait would be rejected, too.
    ///
    /// | status | condition |
    /// |---|---|
    /// | 429 | always |
    /// | 403 | a wait is known, or a quota of requests is exhausted |
    /// | 408, 418, 420, 425, 430, 503, 529 | a wait is known |
    /// | any other | never |
    #[must_use]
    pub fn is_throttle(&self, status: StatusCode) -> bool {
        match status {
            StatusCode::TOO_MANY_REQUESTS => true,
            // These statuses have other meanings as well; only a wait makes them a rejection.
            StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::IM_A_TEAPOT
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY => self.retry_after.is_some(),
            // GitHub sends 403 when the quota is exhausted, and 403 with `Retry-After` when requests are too
            // frequent.
            StatusCode::FORBIDDEN => {
                self.retry_after.is_some() || self.limits.iter().any(Limit::is_out_of_requests)
            }
            _ => is_unregistered_throttle(status) && self.retry_after.is_some(),
        }
    }

    /// Returns the information of a response without fields about limits.
    pub(super) fn for_status(status: StatusCode) -> Self {
        Self {
            global: status == StatusCode::IM_A_TEAPOT,
            ..Self::default()
        }
    }

    /// Returns the wait for a response with this status. `delay` is the wait that the server requests in a
    /// field of its own.
    ///
    /// A wait that the server requests takes precedence over a reset: it is about this request, while a reset is about
    /// a quota that need not have caused the rejection.
    ///
    /// | status | without `delay` |
    /// |---|---|
    /// | 429 | reset of an exhausted quota, else of a quota without a count |
    /// | 403 | reset of an exhausted quota of requests |
    /// | 418, 420, 430, 503, 529 | reset of an exhausted quota |
    /// | 400 | reset of a quota, if no quota has a count |
    /// | 408, 413, 425, other 3xx and 5xx | none |
    /// | any other | none, and `delay` is ignored |
    pub(super) fn resolve_retry_after(
        &self,
        status: StatusCode,
        delay: Option<Duration>,
    ) -> Option<Duration> {
        match status {
            StatusCode::TOO_MANY_REQUESTS => delay
                .or_else(|| self.exhausted_reset())
                .or_else(|| self.likely_reset()),
            // GitHub sends 403 instead of 429. With neither field, the client lacks permission, and waiting does not
            // help. An exhausted quota of tokens or points does not cause a 403.
            StatusCode::FORBIDDEN => delay.or_else(|| self.max_reset(Limit::is_out_of_requests)),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::IM_A_TEAPOT => {
                delay.or_else(|| self.exhausted_reset())
            }
            // Some servers reject with 400, and send a reset only then. The layer still returns the status to the
            // caller.
            StatusCode::BAD_REQUEST => delay.or_else(|| {
                let counted = self.limits.iter().any(|limit| limit.remaining.is_some());
                self.likely_reset().filter(|_| !counted)
            }),
            _ if is_unregistered_throttle(status) => delay.or_else(|| self.exhausted_reset()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_EARLY => {
                delay
            }
            _ if status.is_redirection() || status.is_server_error() => delay,
            _ => None,
        }
    }

    /// Returns the latest reset of the quotas whose remaining count is unknown. A rejection is probably about those.
    fn likely_reset(&self) -> Option<Duration> {
        let silent = self.limits.iter().filter(|limit| limit.remaining.is_none());
        silent
            .filter_map(|limit| limit.reset)
            .filter(|reset| !reset.is_zero())
            .max()
    }
}

/// Returns whether the status is unregistered but used in place of 429: 420 (Twitter, "enhance your calm"), 430
/// (Shopify) and 529 ("site is overloaded").
fn is_unregistered_throttle(status: StatusCode) -> bool {
    matches!(status.as_u16(), 420 | 430 | 529)
}
