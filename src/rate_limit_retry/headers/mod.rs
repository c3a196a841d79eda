//! What one response says about limits: when to come back, and how much of each quota is left.
//!
//! Reads `Retry-After` (RFC 9110 §10.2.3), the three fields of the IETF RateLimit drafts 01 to 06
//! (`RateLimit-{Limit,Remaining,Reset}`), and their older relatives `X-RateLimit-*` and `X-Rate-Limit-*`. Servers use
//! the same names for different things, so that the size of a number decides whether it is a number of seconds or a
//! date. What is malformed is ignored, as the drafts demand.

mod rate_limit;
mod vendor;

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, StatusCode,
    header::{AGE, RETRY_AFTER},
};

use crate::retry_after;

/// What a response says about limits; empty if it says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Signals {
    /// The least time until the next attempt, counted from the response, at most ten years.
    ///
    /// From `Retry-After` if there is a good one and the status gives it a meaning: 3xx, 408, 413, 425, 429, 5xx, or
    /// 403 with a quota used up. Otherwise, with 429, 503, or that kind of 403, the longest [`reset`](Limit::reset) of
    /// a quota that is used up.
    pub retry_after: Option<Duration>,
    /// The quotas that the response names; the same one may be there twice under different names.
    pub limits: Vec<Limit>,
}

/// One quota, as far as the response describes it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Limit {
    /// How many requests the quota allows in a window.
    pub limit: Option<u64>,
    /// How many of them are left; rounded down.
    pub remaining: Option<u64>,
    /// How long after the response the quota is replenished, at most ten years; zero if that is over.
    pub reset: Option<Duration>,
    /// The length of the window.
    pub window: Option<Duration>,
}

/// Reads what a response says about limits. `now` is the wall clock, for responses without a good `Date`.
///
/// Allocates nothing when no limit header is there. A response out of a cache (`Age` above zero) says nothing about the
/// present and is ignored.
#[must_use]
pub fn read(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Signals {
    if !headers.keys().any(|name| is_about_limits(name.as_str())) || is_from_a_cache(headers) {
        return Signals::default();
    }
    let reference = retry_after::reference(headers, now);

    let mut limits = Vec::new();
    let fields = [&rate_limit::FIELDS].into_iter().chain(&vendor::FIELDS);
    for limit in fields.filter_map(|fields| fields.read(headers, reference)) {
        if !limits.contains(&limit) {
            limits.push(limit);
        }
    }
    let mut signals = Signals {
        retry_after: None,
        limits,
    };
    signals.retry_after = signals.wait(status, retry_after::longest(headers, reference));
    signals
}

impl Signals {
    /// Whether the response says nothing about limits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.retry_after.is_none() && self.limits.is_empty()
    }

    /// Whether a quota is used up.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.limits.iter().any(Limit::is_exhausted)
    }

    /// When every quota that is used up and names a time is replenished, counted from the response.
    #[must_use]
    pub fn exhausted_reset(&self) -> Option<Duration> {
        let exhausted = self.limits.iter().filter(|limit| limit.is_exhausted());
        exhausted.filter_map(|limit| limit.reset).max()
    }

    fn wait(&self, status: StatusCode, asked: Option<Duration>) -> Option<Duration> {
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                asked.or_else(|| self.exhausted_reset())
            }
            // GitHub's way to say 429. Without an empty quota it is a lack of rights, and waiting does not help.
            StatusCode::FORBIDDEN if self.is_exhausted() => {
                asked.or_else(|| self.exhausted_reset())
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_EARLY => {
                asked
            }
            _ if status.is_redirection() || status.is_server_error() => asked,
            _ => None,
        }
    }
}

impl Limit {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.remaining == Some(0)
    }
}

/// One pass over the names is cheaper than a look-up of every name there could be.
fn is_about_limits(name: &str) -> bool {
    name.starts_with("x-rate") || name.starts_with("ratelimit-") || name == RETRY_AFTER.as_str()
}

fn is_from_a_cache(headers: &HeaderMap) -> bool {
    let mut ages = headers.get_all(AGE).iter();
    ages.any(|age| {
        retry_after::Number::parse(age.as_bytes().trim_ascii()).is_some_and(|age| age.whole > 0)
    })
}
