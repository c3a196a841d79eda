//! What one response says about limits: when to come back, and how much of each quota is left.
//!
//! [`read`] is pure and usable alone: no clock, no state, no panic for any bytes. It allocates nothing when no field is
//! about limits.
//!
//! # What is read
//!
//! | fields | values |
//! |---|---|
//! | `Retry-After` (RFC 9110 §10.2.3) | seconds, an HTTP-date in all three forms; also a fraction, a date as a number |
//! | `retry-after-ms`, `x-ms-retry-after-ms`, `x-amz-retry-after`, `grpc-retry-pushback-ms` | milliseconds; they go before `Retry-After` |
//! | `X-Retry-After`, `X-RateLimit-Retry-After`, any `*-retry-after` | as `Retry-After`; they go after it |
//! | `RateLimit-{Limit,Remaining,Reset}`, `RateLimit-Policy` | IETF drafts 01 to 06 |
//! | `RateLimit: limit=100, remaining=0, reset=5` | IETF draft 07 |
//! | `RateLimit: "burst";r=0;t=12`, `RateLimit-Policy: "burst";q=100;w=60` | IETF drafts 08 to 10, with `qu` and `pk` |
//! | `X-RateLimit-*`, `X-Rate-Limit-*`, `Vendor-RateLimit-*` | limit, remaining, used, reset, window, fill rate; one quota for each dimension: `-requests`, `-tokens`, `-daily` |
//! | `X-RateLimit: {"limit":50,…}`, `total=100; remaining=99; resets=41` | JSON, pairs |
//! | `X-App-Rate-Limit: 20:1,100:120` | limit and seconds |
//! | `X-Shopify-Shop-Api-Call-Limit: 32/40`, `Sforce-Limit-Info: api-usage=10018/100000` | used and limit |
//! | `X-Sentry-Rate-Limits: 60:error:key` | a wait for each category |
//! | `x-should-retry`, `stripe-should-retry`, `x-envoy-ratelimited` | [`Advice`] |
//!
//! # How a reset is understood
//!
//! By its form, because names do not tell: GitLab sends a date where the IETF drafts want seconds.
//!
//! | value | meaning |
//! |---|---|
//! | below 10⁹ | seconds from now |
//! | 10⁹, 10¹¹, 10¹⁴, 10¹⁷ and more | a date in seconds, milliseconds, microseconds, nanoseconds since 1970; malformed if more than 400 days off |
//! | `6m0s`, `12ms` | a length of time |
//! | HTTP-date, RFC 3339, `2026-09-21T14:14Z`, `Mon Sep 21 2026 15:14:20 GMT+0100 (…)` | a date |
//!
//! Dates count from the response's own `Date`, so that a wrong clock cancels out; see [`Skew`] for responses without
//! one. What is still ambiguous, such as a delta in milliseconds, needs a [`Profile`]. What is malformed is ignored, as
//! the drafts demand. A response out of a cache (`Age`) says nothing about the present: its quotas are ignored. What is
//! left of a refusal's `Retry-After` is the wait minus the age (RFC 9111 §4.2.3).
//!
//! Input is bounded: a value beyond 4 KiB is ignored, and so is what comes after 256 fields about limits or 64 quotas.
//!
//! # Examples
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use http::{HeaderMap, HeaderValue, StatusCode};
//! use tower_m2m::rate_limit_retry::headers::read;
//!
//! let mut headers = HeaderMap::new();
//! headers.insert("ratelimit", HeaderValue::from_static(r#""burst";r=0;t=12, "daily";r=400;t=36000"#));
//!
//! let signals = read(StatusCode::TOO_MANY_REQUESTS, &headers, SystemTime::UNIX_EPOCH);
//!
//! assert_eq!(signals.retry_after, Some(Duration::from_secs(12)));
//! assert_eq!(signals.limits[1].remaining, Some(400));
//! ```

mod collect;
mod date;
mod flags;
mod limit;
mod name;
mod profile;
mod quota;
mod signals;
mod skew;
mod structured;
mod value;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header::AGE};

pub use self::{
    flags::Advice,
    limit::{Limit, Unit},
    profile::{Field, Profile, Vendor},
    signals::Signals,
    skew::Skew,
};
use crate::retry_after::{LONGEST, Number, date};

/// Reads what a response says about limits. `now` is the wall clock, for responses without a good `Date`.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
/// use tower_m2m::rate_limit_retry::headers::read;
///
/// let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("120"))]);
///
/// let signals = read(StatusCode::SERVICE_UNAVAILABLE, &headers, SystemTime::now());
///
/// assert_eq!(signals.retry_after, Some(Duration::from_secs(120)));
/// ```
#[must_use]
pub fn read(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Signals {
    if !may_speak(headers) {
        return Signals::without_fields(status);
    }
    signals(status, headers, present(headers, now), None)
}

/// The same, for a server of which a [`Profile`] says what its values cannot tell.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::{Vendor, read_with};
///
/// let headers = HeaderMap::from_iter([("x-rate-limit-reset".parse()?, HeaderValue::from_static("1500"))]);
///
/// let signals = read_with(&Vendor::PRISJAKT, StatusCode::OK, &headers, SystemTime::now());
///
/// assert_eq!(signals.limits[0].reset, Some(Duration::from_millis(1500)));
/// # Ok::<(), http::header::InvalidHeaderName>(())
/// ```
#[must_use]
pub fn read_with(
    profile: &dyn Profile,
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Signals {
    signals(status, headers, present(headers, now), Some(profile))
}

/// The same, with dates counted from `server_time`, whatever the response's own `Date` says.
pub(super) fn read_at(
    profile: Option<&dyn Profile>,
    status: StatusCode,
    headers: &HeaderMap,
    server_time: SystemTime,
) -> Signals {
    signals(status, headers, server_time, profile)
}

/// Whether a response may say something about limits to somebody who has no profile.
pub(super) fn may_speak(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| is_about_limits(name.as_str()))
}

fn signals(
    status: StatusCode,
    headers: &HeaderMap,
    reference: SystemTime,
    profile: Option<&dyn Profile>,
) -> Signals {
    let age = age(headers);
    if !age.is_zero() && status.is_success() {
        return Signals::default();
    }
    let collected = collect::Collected::read(headers, reference, profile);
    let (asked, advice) = (collected.asked(age), collected.advice);
    let limits = if age.is_zero() {
        collected.into_limits()
    } else {
        Vec::new()
    };
    let mut signals = Signals {
        retry_after: None,
        limits,
        advice,
        global: flags::is_global(status, headers),
    };
    signals.retry_after = signals.wait(status, asked);
    signals
}

/// One pass over the names is cheaper than a look-up of every name there could be.
fn is_about_limits(name: &str) -> bool {
    let name = name.as_bytes();
    name.windows(5)
        .any(|part| part == b"limit" || part == b"retry")
}

/// The server's time when the response came here: its `Date`, and how long it was in a cache since.
fn present(headers: &HeaderMap, now: SystemTime) -> SystemTime {
    let made = date(headers).and_then(|made| made.checked_add(age(headers)));
    made.unwrap_or(now)
}

/// Whether a cache answered, and not the server itself.
pub(super) fn is_from_a_cache(headers: &HeaderMap) -> bool {
    !age(headers).is_zero()
}

/// How long ago the server made the response that a cache keeps (RFC 9111 §5.1); zero if it comes from the server.
fn age(headers: &HeaderMap) -> Duration {
    let ages = headers.get_all(AGE).iter();
    let seconds = ages.filter_map(|age| Some(Number::parse(age.as_bytes().trim_ascii())?.whole));
    Duration::from_secs(seconds.max().unwrap_or(0)).min(LONGEST)
}
