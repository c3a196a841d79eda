//! The result of reading a response.

use std::time::Duration;

use http::StatusCode;

use super::{Advice, Limit};

/// What a response says about limits; empty if it says nothing.
///
/// # Examples
///
/// ```
/// use std::time::SystemTime;
///
/// use http::{HeaderMap, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::{Signals, read};
///
/// let headers = HeaderMap::new();
///
/// let signals: Signals = read(StatusCode::FORBIDDEN, &headers, SystemTime::now());
///
/// // A lack of rights, not GitHub's way to say 429.
/// assert!(signals.is_empty() && !signals.is_throttle(StatusCode::FORBIDDEN));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Signals {
    /// The least time until the next attempt, counted from the response, at most ten years.
    ///
    /// From `Retry-After` or one of its relatives if there is a good one and the status gives it a meaning: 3xx, 400,
    /// 403, 408, 413, 418, 420, 425, 429, 430, 5xx. Otherwise, with 418, 420, 429, 430, 503 or 529, the longest
    /// [`reset`](Limit::reset) of a quota that is used up; with 403, of a quota of requests. A 429 or 400 that does not say what remains is taken to
    /// mean the quotas that name a reset. Of a response out of a cache, what is left of the wait.
    pub retry_after: Option<Duration>,
    /// The quotas that the response names; the same one may be there twice under different names.
    pub limits: Vec<Limit>,
    /// What the server says outright about sending the request again.
    pub advice: Option<Advice>,
    /// Whether a refusal reaches beyond the partition: it is about all that the client sends to this server.
    pub global: bool,
}

impl Signals {
    /// Whether the response says nothing about limits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a quota is used up.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.limits.iter().any(Limit::is_exhausted)
    }

    /// When every quota that is used up and names a time is replenished, counted from the response.
    #[must_use]
    pub fn exhausted_reset(&self) -> Option<Duration> {
        self.reset_of(Limit::is_exhausted)
    }

    fn reset_of(&self, which: fn(&Limit) -> bool) -> Option<Duration> {
        let limits = self.limits.iter().filter(|limit| which(limit));
        limits.filter_map(|limit| limit.reset).max()
    }

    /// Whether a response with this status says "not now" rather than "no": nothing was processed, and whoever asks too
    /// soon is refused, too.
    #[must_use]
    pub fn is_throttle(&self, status: StatusCode) -> bool {
        match status {
            StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::IM_A_TEAPOT
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY => self.retry_after.is_some(),
            // GitHub answers so when the quota is used up, and with a `Retry-After` when requests come too fast.
            StatusCode::FORBIDDEN => {
                self.retry_after.is_some() || self.limits.iter().any(Limit::is_out_of_requests)
            }
            _ => is_unregistered_refusal(status) && self.retry_after.is_some(),
        }
    }

    pub(super) fn without_fields(status: StatusCode) -> Self {
        Self {
            global: status == StatusCode::IM_A_TEAPOT,
            ..Self::default()
        }
    }

    pub(super) fn wait(&self, status: StatusCode, asked: Option<Duration>) -> Option<Duration> {
        match status {
            StatusCode::TOO_MANY_REQUESTS => asked
                .or_else(|| self.exhausted_reset())
                .or_else(|| self.likely_reset()),
            // 403 is GitHub's way to say 429. With neither it is a lack of rights, and waiting does not help; what is
            // used up of tokens or points is no reason for a 403.
            StatusCode::FORBIDDEN => asked.or_else(|| self.reset_of(Limit::is_out_of_requests)),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::IM_A_TEAPOT => {
                asked.or_else(|| self.exhausted_reset())
            }
            // Some servers refuse with a 400, and name the reset then only. The status is returned all the same.
            StatusCode::BAD_REQUEST => asked.or_else(|| {
                let counted = self.limits.iter().any(|limit| limit.remaining.is_some());
                self.likely_reset().filter(|_| !counted)
            }),
            _ if is_unregistered_refusal(status) => asked.or_else(|| self.exhausted_reset()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_EARLY => {
                asked
            }
            _ if status.is_redirection() || status.is_server_error() => asked,
            _ => None,
        }
    }

    /// A refusal with a reset and no word about what remains.
    fn likely_reset(&self) -> Option<Duration> {
        let silent = self.limits.iter().filter(|limit| limit.remaining.is_none());
        silent
            .filter_map(|limit| limit.reset)
            .filter(|reset| !reset.is_zero())
            .max()
    }
}

/// Statuses that are not registered, with which servers say 429: 420 (Twitter's "enhance your calm"), 430 (Shopify) and 529
/// ("site is overloaded").
fn is_unregistered_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 420 | 430 | 529)
}
