//! Fields that say outright whether to send again, and how far a refusal reaches.

/// What the server says about sending the request again.
///
/// # Examples
///
/// ```
/// use std::time::SystemTime;
///
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use tower_m2m::rate_limit_retry::headers::{Advice, read};
///
/// let headers = HeaderMap::from_iter([("x-should-retry".parse()?, HeaderValue::from_static("false"))]);
///
/// let signals = read(StatusCode::TOO_MANY_REQUESTS, &headers, SystemTime::now());
///
/// assert_eq!(signals.advice, Some(Advice::DoNotRetry));
/// # Ok::<(), http::header::InvalidHeaderName>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Advice {
    /// It may help, whatever the status.
    Retry,
    /// It does not help, whatever the status and the other fields.
    DoNotRetry,
}

/// `x-should-retry`, `stripe-should-retry` and their like. Of contradictory ones, the refusal counts.
///
/// Not `x-envoy-ratelimited`, with which Envoy marks each refusal of its rate limit service: a request that was refused
/// may be sent when the quota allows it.
pub(super) fn advice(name: &str, value: &[u8]) -> Option<Advice> {
    let is = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
    if !name.ends_with("should-retry") {
        return None;
    }
    match (is("true"), is("false")) {
        (true, _) => Some(Advice::Retry),
        (_, true) => Some(Advice::DoNotRetry),
        _ => None,
    }
}

/// Discord's way to say that every bucket is meant.
pub(super) fn is_global(name: &str, value: &[u8]) -> bool {
    match name {
        "x-ratelimit-global" => value.eq_ignore_ascii_case(b"true"),
        "x-ratelimit-scope" => value.eq_ignore_ascii_case(b"global"),
        _ => false,
    }
}
