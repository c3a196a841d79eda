//! The fields of the IETF drafts: a line for `RateLimit`, a line for `RateLimit-Policy`.
#![no_main]

use http::{HeaderName, StatusCode};
use libfuzzer_sys::fuzz_target;
use tower_m2m::rate_limit_retry::headers::read;
use tower_m2m_fuzz::{cut, header, now};

fuzz_target!(|data: &[u8]| {
    let (quotas, policies) = cut(data);
    let mut headers = header(HeaderName::from_static("ratelimit"), quotas);
    headers.extend(header(
        HeaderName::from_static("ratelimit-policy"),
        policies,
    ));

    let signals = read(StatusCode::TOO_MANY_REQUESTS, &headers, now());

    // One member takes at least three characters.
    assert!(signals.limits.len() <= data.len());
    for limit in &signals.limits {
        let names = limit.name.as_ref().map_or(0, String::len);
        assert!(names <= data.len());
    }
    if let Some(wait) = signals.retry_after {
        assert!(signals.limits.iter().any(|limit| limit.reset == Some(wait)));
    }
});
