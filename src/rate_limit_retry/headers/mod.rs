//! Reads the rate-limit fields of a response: when to retry, and how much of each quota remains.
//!
//! [`read`] is a pure function that can be used alone: it has no clock and no state, and does not panic for any input.
//! It allocates nothing if no field is about limits.
//!
//! | to | use |
//! |---|---|
//! | read a response | [`read`] |
//! | give ambiguous fields a meaning | [`HeaderProfile`], with [`read_with`] |
//! | read dates in responses without a `Date` | [`ClockSkew`] |
//! | decide whether a response means "not now" | [`RateLimitInfo::is_throttle`] |
//!
//! # Supported fields
//!
//! | fields | values |
//! |---|---|
//! | `Retry-After` (RFC 9110 §10.2.3) | seconds, an HTTP-date in all three forms; also a fraction, a date as a number |
//! | `retry-after-ms`, `Retry-After-Milliseconds`, `x-amz-retry-after`, `grpc-retry-pushback-ms` | milliseconds; take precedence over `Retry-After` |
//! | `Retry-After-<name>` | as `Retry-After`; the longest of several applies |
//! | `X-Retry-After`, `X-RateLimit-Retry-After`, any `*-retry-after` or `*-RetryAfter` | as `Retry-After`, which takes precedence |
//! | `RateLimit-{Limit,Remaining,Reset}`, `RateLimit-Policy` | IETF drafts 01 to 06 |
//! | `RateLimit: limit=100, remaining=0, reset=5` | IETF draft 07 |
//! | `RateLimit: "burst";r=0;t=12`, `RateLimit-Policy: "burst";q=100;w=60` | IETF drafts 08 to 10, with `qu` and `pk` |
//! | `X-RateLimit-*`, `X-Rate-Limit-*`, `Vendor-RateLimit-*` | limit, remaining, used, reset, window, fill rate; one quota for each dimension: `-requests`, `-tokens`, `-daily` |
//! | `X-Acme-{Limit,Remaining,Reset}`, `x-app-limit-24hour-*` | as above, if several fields together describe a quota |
//! | `Limit: 600,30000` and `Usage: 314,27536` | one quota for each position |
//! | `X-RateLimit-Limit: name=burst,10;name=daily,1000`, `minute=60, day=1000` | one quota for each name |
//! | `X-RateLimit: {"limit":50,…}`, `total=100; remaining=99; resets=41`, `hour-lim:3500;hour-rem:500` | JSON, pairs |
//! | `X-App-Rate-Limit: 20:1,100:120` | limit and seconds |
//! | `X-Shopify-Shop-Api-Call-Limit: 32/40`, `Sforce-Limit-Info: api-usage=10018/100000` | used and limit |
//! | `X-Sentry-Rate-Limits: 60:error:key` | one wait for each category |
//! | `x-should-retry`, `stripe-should-retry` | [`RetryAdvice`] |
//!
//! A name is split into words, in any order: `left`, `available` and `remaining` mean what remains; `quota`, `allowed`
//! and `max` mean a limit; `expiry` and `until` mean a reset; `interval` and `period` mean a window (`60`, `600s`,
//! `24-hour`). A unit in the name of a wait, a reset or a window applies to its value: `reset-ms`,
//! `retry-after-millis`, `window-minutes`. The remaining words name the quota and determine its unit and window:
//! `input-tokens`, `api-token` (a credential, which is not a unit), `daily`, `15min`.
//!
//! A limit of zero, below zero or `unlimited` means that there is no quota. Exception: with a 429 or a similar status,
//! a limit of zero of which zero remains is an exhausted quota.
//!
//! # Resets
//!
//! The form of the value determines the meaning, because names are ambiguous: GitLab sends a date where the IETF drafts
//! specify seconds.
//!
//! | value | meaning |
//! |---|---|
//! | below 10⁹ | seconds from now |
//! | 10⁹, 10¹¹, 10¹⁴, 10¹⁷ and more | a date in seconds, milliseconds, microseconds, nanoseconds since 1970; malformed if more than 400 days off |
//! | `6m0s`, `12ms`, `17 seconds`, `PT1M` | a duration |
//! | HTTP-date (also with `UTC`), RFC 3339, `2026-09-21 14:14:20 UTC`, `Mon Sep 21 2026 15:14:20 GMT+0100 (…)` | a date |
//!
//! Dates are relative to the response's own `Date`, so that an incorrect clock has no effect; see [`ClockSkew`] for
//! responses without a `Date`. Values that remain ambiguous, such as a delta in milliseconds, need a [`HeaderProfile`].
//! Malformed values are ignored, as the drafts require.
//!
//! A response from a cache (`Age`) does not describe the current state: its quotas are ignored. The wait of a rejection
//! is its `Retry-After` minus the age (RFC 9111 §4.2.3).
//!
//! Input is bounded: a value longer than 4 KiB is ignored, and so are all fields after 256 fields about limits and all
//! quotas after 64. The time is proportional to the length of the fields, times the
//! number of quotas.
//!
//! # How it works
//!
//! 1. The names of the fields are scanned for a few letters (`is_limit_field`). Most responses end here.
//! 2. `resolve` determines the meaning of each field: from the profile, from a table of vendors, or from its words
//!    (`name`, `words`).
//! 3. `value`, `date` and `structured` parse the value, in the forms that the meaning allows.
//! 4. `collect` puts the values that describe the same quota together (`quota_fields`, `merge`, `columns`).
//! 5. Quotas that do not look like rate limits are removed, and the rest become [`Limit`]s.
//! 6. `info` derives the wait from the status, the explicit waits and the quotas.
//!
//! The layer itself reads most responses with a `template`: they differ from earlier ones in one number.
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
//! let value = r#""burst";r=0;t=12, "daily";r=400;t=36000"#;
//! headers.insert("ratelimit", HeaderValue::from_static(value));
//!
//! let status = StatusCode::TOO_MANY_REQUESTS;
//! let info = read(status, &headers, SystemTime::UNIX_EPOCH);
//!
//! assert_eq!(info.retry_after, Some(Duration::from_secs(12)));
//! assert_eq!(info.limits[1].remaining, Some(400));
//! ```

mod clock_skew;
mod collect;
mod columns;
mod date;
mod field;
mod flags;
mod info;
mod limit;
mod merge;
mod name;
mod profile;
mod quota_fields;
mod resolve;
mod structured;
mod template;
mod value;
mod words;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header::AGE};

pub(super) use self::template::FieldHistory;
pub use self::{
    clock_skew::ClockSkew,
    field::Field,
    flags::RetryAdvice,
    info::RateLimitInfo,
    limit::{Limit, Unit},
    profile::{HeaderProfile, Vendor},
};
use crate::{
    retry_after::{MAX_WAIT, Number, date},
    steps::count_steps,
};

/// Reads the rate-limit fields of a response. `now` is the wall clock, which replaces a missing or malformed `Date`.
///
/// The status matters: `Retry-After` has a meaning for some statuses only, and an exhausted quota in a successful
/// response is no reason to retry it. Durations in the result count from the arrival of the response.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
/// use tower_m2m::rate_limit_retry::headers::read;
///
/// let field = (RETRY_AFTER, HeaderValue::from_static("120"));
/// let headers = HeaderMap::from_iter([field]);
///
/// let info = read(StatusCode::SERVICE_UNAVAILABLE, &headers, SystemTime::now());
///
/// assert_eq!(info.retry_after, Some(Duration::from_secs(120)));
/// ```
#[must_use]
pub fn read(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> RateLimitInfo {
    if !has_limit_fields(headers) {
        return RateLimitInfo::for_status(status);
    }
    let age = age(headers);
    parse(status, headers, age, server_time(headers, age, now), None).0
}

/// Reads the rate-limit fields of a response with a [`HeaderProfile`], which resolves ambiguous values. Otherwise like
/// [`read`].
///
/// Calls the profile for every field of the response, also for those whose names do not look like rate limits.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::{Vendor, read_with};
///
/// let name = "x-rate-limit-reset".parse()?;
/// let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("1500"))]);
///
/// let (profile, now) = (&Vendor::PRISJAKT, SystemTime::now());
/// let info = read_with(profile, StatusCode::OK, &headers, now);
///
/// assert_eq!(info.limits[0].reset, Some(Duration::from_millis(1500)));
/// # Ok::<(), http::header::InvalidHeaderName>(())
/// ```
#[must_use]
pub fn read_with(
    profile: &dyn HeaderProfile,
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> RateLimitInfo {
    let age = age(headers);
    parse(
        status,
        headers,
        age,
        server_time(headers, age, now),
        Some(profile),
    )
    .0
}

/// Reads the rate-limit fields of a response. Dates are relative to `server_time`, whatever the response's own
/// `Date` is. Returns also whether the response has one time both as a date and as a duration, so that
/// [`ClockSkew::observe`] learns from it.
pub(super) fn read_at(
    profile: Option<&dyn HeaderProfile>,
    status: StatusCode,
    headers: &HeaderMap,
    server_time: SystemTime,
) -> (RateLimitInfo, bool) {
    parse(status, headers, age(headers), server_time, profile)
}

/// Returns whether a response may contain fields about limits. A profile can give a meaning to further fields.
pub(super) fn has_limit_fields(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| is_limit_field(name.as_str()))
}

/// Reads all fields. Dates are relative to `reference`, waits are reduced by `age`. Returns also whether one time is both
/// a date and a duration.
///
/// Returns nothing for a successful response from a cache.
///
/// `age` and `reference` are arguments, because callers that know the clock skew of the server do not use its `Date`.
fn parse(
    status: StatusCode,
    headers: &HeaderMap,
    age: Duration,
    reference: SystemTime,
    profile: Option<&dyn HeaderProfile>,
) -> (RateLimitInfo, bool) {
    // A cached success describes an earlier window.
    if !age.is_zero() && status.is_success() {
        return (RateLimitInfo::default(), false);
    }
    let collected = collect::Collected::read(headers, reference, profile);
    let has_both_forms = collected.cross_check().is_some();
    let (delay, advice, global) = (
        collected.retry_after(age),
        collected.advice,
        collected.global,
    );
    // A cached rejection keeps its wait, but its counts are outdated.
    let limits = if age.is_zero() {
        collected.into_limits(status)
    } else {
        Vec::new()
    };
    let mut info = RateLimitInfo {
        retry_after: None,
        is_requested: false,
        limits,
        advice,
        global: global || status == StatusCode::IM_A_TEAPOT,
    };
    // The wait may depend on the quotas.
    info.retry_after = info.resolve_retry_after(status, delay);
    info.is_requested = delay.is_some() && info.retry_after.is_some();
    (info, has_both_forms)
}

/// Returns whether the name of a field suggests that it is about limits.
///
/// One pass over the names is cheaper than a lookup of every possible name. A false positive costs time only; a field
/// that is missed here is never read, so that each new word in `words` needs one of these parts.
fn is_limit_field(name: &str) -> bool {
    let name = name.as_bytes();
    count_steps(name.len());
    // Each word about limits contains one of these parts of five bytes, so one comparison per position is enough.
    name.windows(5).any(|part| match part[0] {
        b'l' => part == b"limit" || part == b"lowed",
        b'r' => part == b"retry" || part == b"remai" || part == b"reset",
        b'q' => part == b"quota",
        b'a' => part == b"avail",
        b'-' => part == b"-left",
        _ => false,
    })
}

/// Returns whether a field may describe a quota that [another field](is_limit_field) identifies: `x-acme-expiry`
/// next to `x-acme-remaining`.
fn is_companion_field(name: &str) -> bool {
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

/// Returns the server's time when the response arrived: its `Date` plus its age in a cache, or `now` without a valid
/// `Date`.
fn server_time(headers: &HeaderMap, age: Duration, now: SystemTime) -> SystemTime {
    // An invalid `Date` counts as missing.
    let made = date(headers).and_then(|made| made.checked_add(age));
    made.unwrap_or(now)
}

/// Returns whether the response comes from a cache instead of the server.
pub(super) fn is_from_cache(headers: &HeaderMap) -> bool {
    !age(headers).is_zero()
}

/// Returns the age of a response from a cache (RFC 9111 §5.1); zero if it comes from the server. The largest of
/// several values applies.
fn age(headers: &HeaderMap) -> Duration {
    let ages = headers.get_all(AGE).iter();
    let seconds = ages.filter_map(|age| Some(Number::parse(age.as_bytes().trim_ascii())?.whole));
    Duration::from_secs(seconds.max().unwrap_or(0)).min(MAX_WAIT)
}

#[cfg(test)]
mod tests;
