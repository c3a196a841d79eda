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
//! | `retry-after-ms`, `Retry-After-Milliseconds`, `x-amz-retry-after`, `grpc-retry-pushback-ms` | milliseconds; they go before `Retry-After` |
//! | `Retry-After-<name>` | as `Retry-After`; of several, the longest |
//! | `X-Retry-After`, `X-RateLimit-Retry-After`, any `*-retry-after` or `*-RetryAfter` | as `Retry-After`; they go after it |
//! | `RateLimit-{Limit,Remaining,Reset}`, `RateLimit-Policy` | IETF drafts 01 to 06 |
//! | `RateLimit: limit=100, remaining=0, reset=5` | IETF draft 07 |
//! | `RateLimit: "burst";r=0;t=12`, `RateLimit-Policy: "burst";q=100;w=60` | IETF drafts 08 to 10, with `qu` and `pk` |
//! | `X-RateLimit-*`, `X-Rate-Limit-*`, `Vendor-RateLimit-*` | limit, remaining, used, reset, window, fill rate; one quota for each dimension: `-requests`, `-tokens`, `-daily` |
//! | `X-Acme-{Limit,Remaining,Reset}`, `x-app-limit-24hour-*` | the same, if several fields together describe a quota |
//! | `Limit: 600,30000` and `Usage: 314,27536` | one quota for each position |
//! | `X-RateLimit-Limit: name=burst,10;name=daily,1000`, `minute=60, day=1000` | one quota for each name |
//! | `X-RateLimit: {"limit":50,…}`, `total=100; remaining=99; resets=41`, `hour-lim:3500;hour-rem:500` | JSON, pairs |
//! | `X-App-Rate-Limit: 20:1,100:120` | limit and seconds |
//! | `X-Shopify-Shop-Api-Call-Limit: 32/40`, `Sforce-Limit-Info: api-usage=10018/100000` | used and limit |
//! | `X-Sentry-Rate-Limits: 60:error:key` | a wait for each category |
//! | `x-should-retry`, `stripe-should-retry` | [`Advice`] |
//!
//! A name is read word by word, in any order: `left`, `available` and `remaining` are what is left, `quota`, `allowed`
//! and `max` a limit, `expiry` and `until` a reset, `interval` and `period` a window (`60`, `600s`, `24-hour`). A unit in
//! the name of a wait, a reset or a window is obeyed: `reset-ms`, `retry-after-millis`, `window-minutes`. The remaining
//! words name the quota, and say its unit and window: `input-tokens`, `api-token` (a credential, which is no unit),
//! `daily`, `15min`.
//!
//! A limit of zero, below zero or `unlimited` is no quota, except where a 429 says that nothing of zero is left.
//!
//! # How a reset is understood
//!
//! By its form, because names do not tell: GitLab sends a date where the IETF drafts want seconds.
//!
//! | value | meaning |
//! |---|---|
//! | below 10⁹ | seconds from now |
//! | 10⁹, 10¹¹, 10¹⁴, 10¹⁷ and more | a date in seconds, milliseconds, microseconds, nanoseconds since 1970; malformed if more than 400 days off |
//! | `6m0s`, `12ms`, `17 seconds`, `PT1M` | a length of time |
//! | HTTP-date (also with `UTC`), RFC 3339, `2026-09-21 14:14:20 UTC`, `Mon Sep 21 2026 15:14:20 GMT+0100 (…)` | a date |
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
mod columns;
mod date;
mod field;
mod flags;
mod join;
mod known;
mod limit;
mod name;
mod profile;
mod quota;
mod signals;
mod skew;
mod structured;
mod value;
mod words;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header::AGE};

pub use self::{
    field::Field,
    flags::Advice,
    limit::{Limit, Unit},
    profile::{Profile, Vendor},
    signals::Signals,
    skew::Skew,
};
use crate::{
    retry_after::{LONGEST, Number, date},
    steps::examined,
};

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
    let age = age(headers);
    signals(status, headers, age, present(headers, age, now), None)
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
    let age = age(headers);
    signals(
        status,
        headers,
        age,
        present(headers, age, now),
        Some(profile),
    )
}

/// The same, with dates counted from `server_time`, whatever the response's own `Date` says.
pub(super) fn read_at(
    profile: Option<&dyn Profile>,
    status: StatusCode,
    headers: &HeaderMap,
    server_time: SystemTime,
) -> Signals {
    signals(status, headers, age(headers), server_time, profile)
}

/// Whether a response may say something about limits to somebody who has no profile.
pub(super) fn may_speak(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| is_about_limits(name.as_str()))
}

fn signals(
    status: StatusCode,
    headers: &HeaderMap,
    age: Duration,
    reference: SystemTime,
    profile: Option<&dyn Profile>,
) -> Signals {
    if !age.is_zero() && status.is_success() {
        return Signals::default();
    }
    let collected = collect::Collected::read(headers, reference, profile);
    let (asked, advice, global) = (collected.asked(age), collected.advice, collected.global);
    let limits = if age.is_zero() {
        collected.into_limits(status)
    } else {
        Vec::new()
    };
    let mut signals = Signals {
        retry_after: None,
        limits,
        advice,
        global: global || status == StatusCode::IM_A_TEAPOT,
    };
    signals.retry_after = signals.wait(status, asked);
    signals
}

/// One pass over the names is cheaper than a look-up of every name there could be.
fn is_about_limits(name: &str) -> bool {
    let name = name.as_bytes();
    examined(name.len());
    name.windows(5).any(|part| match part[0] {
        b'l' => part == b"limit" || part == b"lowed",
        b'r' => part == b"retry" || part == b"remai" || part == b"reset",
        b'q' => part == b"quota",
        b'a' => part == b"avail",
        b'-' => part == b"-left",
        _ => false,
    })
}

/// Whether a field may belong to a quota of which another field [says so](is_about_limits): `x-acme-expiry` beside
/// `x-acme-remaining`.
fn may_belong(name: &str) -> bool {
    let bytes = name.as_bytes();
    let known = bytes.windows(5).any(|part| match part[0] {
        b'e' => part == b"expir",
        b'u' => part == b"until" || part == b"usage",
        b'w' => part == b"windo",
        b'i' => part == b"inter",
        b'p' => part == b"perio",
        b'-' => part == b"-used" || part == b"-max-",
        _ => false,
    });
    known || name.ends_with("-max")
}

/// The server's time when the response came here: its `Date`, and how long it was in a cache since.
fn present(headers: &HeaderMap, age: Duration, now: SystemTime) -> SystemTime {
    let made = date(headers).and_then(|made| made.checked_add(age));
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

#[cfg(test)]
mod tests;
