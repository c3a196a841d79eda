//! Dates and lengths of time: a line for `Retry-After`, a line for `Date`. An implementation of its own says what is
//! right for HTTP-dates.
#![no_main]

use http::{StatusCode, header};
use libfuzzer_sys::fuzz_target;
use tower_m2m::rate_limit_retry::headers::read;
use tower_m2m_fuzz::{cut, header, now};

fuzz_target!(|data: &[u8]| {
    let (retry_after, date) = cut(data);
    let mut headers = header(header::RETRY_AFTER, retry_after);
    headers.extend(header(header::DATE, date));

    let signals = read(StatusCode::SERVICE_UNAVAILABLE, &headers, now());

    // Only what can be a header's value has been read.
    let sent = |name| headers.get(name).map(|value| value.as_bytes());
    let parse = |value: &[u8]| {
        let text = std::str::from_utf8(value.trim_ascii()).ok()?;
        httpdate::parse_http_date(text).ok()
    };
    if let Some(until) = sent(header::RETRY_AFTER).and_then(parse) {
        let made = sent(header::DATE).and_then(parse).unwrap_or_else(now);
        let expected = until.duration_since(made).unwrap_or_default();
        let wait = signals.retry_after.unwrap();
        assert!(wait == expected || wait < expected && wait.as_secs() >= TEN_YEARS);
    }
    let seconds = sent(header::RETRY_AFTER).and_then(|value| std::str::from_utf8(value).ok());
    let digits = seconds.filter(|text| text.len() < 10 && text.bytes().all(|b| b.is_ascii_digit()));
    if let Some(seconds) = digits.and_then(|text| text.parse().ok()) {
        let expected = std::time::Duration::from_secs(seconds);
        let wait = signals.retry_after.unwrap();
        assert!(wait == expected || wait < expected && wait.as_secs() >= TEN_YEARS);
    }
});

const TEN_YEARS: u64 = 10 * 365 * 24 * 3600;
