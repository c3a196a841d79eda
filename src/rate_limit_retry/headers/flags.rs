//! Fields with explicit retry advice, or with the scope of a rejection.
//!
//! | field | meaning |
//! |---|---|
//! | `x-should-retry`, `stripe-should-retry`, any `*should-retry` | [`RetryAdvice`]: `true` or `false` |
//! | `x-ratelimit-global: true` (Discord) | the rejection applies to every quota of the client |
//! | `x-ratelimit-scope: global` (Discord) | likewise |
//!
//! Other values are ignored. None of these fields describes a quota.

/// The server's explicit advice about a retry.
///
/// Sent by servers that know whether a request was processed, such as Stripe and OpenAI. `Retry` allows a retry for
/// every method; the number of retries and their waits stay limited as usual.
///
/// # Examples
///
/// ```
/// use std::time::SystemTime;
///
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::{RetryAdvice, read};
///
/// let field = ("x-should-retry".parse()?, HeaderValue::from_static("false"));
/// let headers = HeaderMap::from_iter([field]);
///
/// let info = read(StatusCode::TOO_MANY_REQUESTS, &headers, SystemTime::now());
///
/// assert_eq!(info.advice, Some(RetryAdvice::DoNotRetry));
/// # Ok::<(), http::header::InvalidHeaderName>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RetryAdvice {
    /// A retry may succeed, whatever the status.
    Retry,
    /// A retry does not succeed, whatever the status and the other fields.
    DoNotRetry,
}

/// Returns the advice of `x-should-retry`, `stripe-should-retry` and similar fields. Of contradictory fields, the
/// caller keeps "do not retry".
///
/// Does not read `x-envoy-ratelimited`, which Envoy adds to each rejection by its rate limit service: such a request
/// may be sent when the quota allows it.
pub(super) fn retry_advice(name: &str, value: &[u8]) -> Option<RetryAdvice> {
    let is = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
    if !name.ends_with("should-retry") {
        return None;
    }
    match (is("true"), is("false")) {
        (true, _) => Some(RetryAdvice::Retry),
        (_, true) => Some(RetryAdvice::DoNotRetry),
        _ => None,
    }
}

/// Returns whether Discord reports that the rejection applies to every bucket.
pub(super) fn is_global(name: &str, value: &[u8]) -> bool {
    match name {
        "x-ratelimit-global" => value.eq_ignore_ascii_case(b"true"),
        "x-ratelimit-scope" => value.eq_ignore_ascii_case(b"global"),
        _ => false,
    }
}
