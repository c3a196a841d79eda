//! What a response says about limits, dialect by dialect.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use tower_m2m::rate_limit_retry::headers::{Limit, Signals, read};

/// Mon, 21 Sep 2026 14:13:20 GMT.
const NOW: u64 = 1_790_000_000;
const DATE: &str = "Date: Mon, 21 Sep 2026 14:13:20 GMT";

/// Status, header lines, and the wait in seconds that they ask for.
type Vector<'a> = (&'a str, u16, &'a [&'a str], Option<f64>);

/// What `Retry-After` says (RFC 9110 §10.2.3), in and out of form.
#[rustfmt::skip]
const RETRY_AFTER: &[Vector<'_>] = &[
    ("RA01 seconds", 429, &["Retry-After: 120"], Some(120.0)),
    ("RA02 zero is a hint", 503, &["Retry-After: 0"], Some(0.0)),
    ("RA03 white space", 429, &["Retry-After:   7  "], Some(7.0)),
    ("RA04 IMF-fixdate", 429, &[DATE, "Retry-After: Mon, 21 Sep 2026 14:14:20 GMT"], Some(60.0)),
    ("RA05 RFC 850 date", 429, &[DATE, "Retry-After: Monday, 21-Sep-26 14:14:20 GMT"], Some(60.0)),
    ("asctime date", 429, &[DATE, "Retry-After: Mon Sep 21 14:14:20 2026"], Some(60.0)),
    ("a date counts from the response's own", 429, &["Date: Mon, 21 Sep 2026 14:14:00 GMT", "Retry-After: Mon, 21 Sep 2026 14:14:20 GMT"], Some(20.0)),
    ("a date without a Date counts from now", 429, &["Retry-After: Mon, 21 Sep 2026 14:14:20 GMT"], Some(60.0)),
    ("RA07 a date in the past", 429, &[DATE, "Retry-After: Mon, 21 Sep 2026 14:08:20 GMT"], Some(0.0)),
    ("RA08 a fraction", 429, &["Retry-After: 1.5"], Some(1.5)),
    ("RA09 a fraction of zero", 429, &["Retry-After: 2.0"], Some(2.0)),
    ("RA10 negative", 429, &["Retry-After: -5"], None),
    ("RA12 a day", 429, &["Retry-After: 86400"], Some(86400.0)),
    ("RA13 garbage", 429, &["Retry-After: soon"], None),
    ("empty", 429, &["Retry-After:"], None),
    ("RA15 seconds since 1970", 429, &["Retry-After: 1790000060"], Some(60.0)),
    ("milliseconds since 1970", 429, &["Retry-After: 1790000060000"], Some(60.0)),
    ("absurd", 429, &["Retry-After: 99999999999999999999"], Some(TEN_YEARS)),
    ("RA17 a redirect", 301, &["Location: /x", "Retry-After: 10"], Some(10.0)),
    ("RA18 success", 200, &["Retry-After: 10"], None),
    ("RA19 too large", 413, &["Retry-After: 20"], Some(20.0)),
    ("timeout", 408, &["Retry-After: 1"], Some(1.0)),
    ("too early", 425, &["Retry-After: 1"], Some(1.0)),
    ("another server error", 502, &["Retry-After: 1"], Some(1.0)),
    ("another client error", 404, &["Retry-After: 1"], None),
    ("twice", 429, &["Retry-After: 5", "Retry-After: 9"], Some(9.0)),
    ("good and bad", 429, &["Retry-After: soon", "Retry-After: 9"], Some(9.0)),
    ("out of a cache", 429, &["Age: 30", "Retry-After: 120"], None),
    ("not out of a cache", 429, &["Age: 0", "Retry-After: 120"], Some(120.0)),
    ("XR13 Discord", 429, &["X-RateLimit-Global: true", "X-RateLimit-Scope: global", "Retry-After: 65"], Some(65.0)),
    ("XR24 Shopify", 429, &["X-Shopify-Shop-Api-Call-Limit: 40/40", "Retry-After: 2.0"], Some(2.0)),
    ("XR39 Slack", 429, &["Retry-After: 30"], Some(30.0)),
    ("XR40 no hint at all", 429, &[], None),
];

/// What quotas say, if `Retry-After` does not.
#[rustfmt::skip]
const RESETS: &[Vector<'_>] = &[
    ("IE02 policies", 429, &["RateLimit-Limit: 100, 100;w=60;burst=1000;comment=\"sliding window\", 5000;w=3600", "RateLimit-Remaining: 0", "RateLimit-Reset: 44"], Some(44.0)),
    ("IE20 GitLab: a date under the IETF name", 429, &["RateLimit-Limit: 60", "RateLimit-Observed: 67", "RateLimit-Remaining: 0", "RateLimit-Reset: 1790000060"], Some(60.0)),
    ("XR01 GitHub: 403 for a quota", 403, &[DATE, "x-ratelimit-limit: 5000", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 1790000600"], Some(600.0)),
    ("XR03 403 for a lack of rights", 403, &["x-ratelimit-limit: 5000", "x-ratelimit-remaining: 4999", "x-ratelimit-reset: 1790000600"], None),
    ("XR04 Didit", 429, &[DATE, "X-RateLimit-Limit: 300", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1790000023", "Retry-After: 23"], Some(23.0)),
    ("XR05 Didit without Retry-After", 429, &[DATE, "X-RateLimit-Limit: 300", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1790000023"], Some(23.0)),
    ("XR06 X", 429, &[DATE, "x-rate-limit-limit: 900", "x-rate-limit-remaining: 0", "x-rate-limit-reset: 1790000840"], Some(840.0)),
    ("XR09 Reddit", 429, &["x-ratelimit-remaining: 0.0", "x-ratelimit-used: 600", "x-ratelimit-reset: 12"], Some(12.0)),
    ("XR11 more than anybody waits", 429, &["X-Rate-Limit-Limit: 10000", "X-Rate-Limit-Remaining: 0", "X-Rate-Limit-Reset: 600000"], Some(600_000.0)),
    ("XR28 WHOOP", 429, &["X-RateLimit-Limit: 100, 100;window=60, 10000;window=86400", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 3"], Some(3.0)),
    ("XR41 zero is now, not 1970", 429, &["X-RateLimit-Limit: 60", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 0"], Some(0.0)),
    ("XR42 a date in the past", 429, &[DATE, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1789999995"], Some(0.0)),
    ("a skewed clock cancels out", 429, &["Date: Mon, 21 Sep 2026 13:13:20 GMT", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1789996460"], Some(60.0)),
    ("Retry-After comes first", 429, &["Retry-After: 5", "RateLimit-Remaining: 0", "RateLimit-Reset: 50"], Some(5.0)),
    ("unless it is malformed", 429, &["Retry-After: soon", "RateLimit-Remaining: 0", "RateLimit-Reset: 50"], Some(50.0)),
    ("403 with both", 403, &["Retry-After: 5", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 1790000600"], Some(5.0)),
    ("the longest of two that are used up", 503, &["RateLimit-Remaining: 0", "RateLimit-Reset: 5", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 50"], Some(50.0)),
    ("only what is used up", 429, &["RateLimit-Remaining: 0", "RateLimit-Reset: 5", "X-RateLimit-Remaining: 7", "X-RateLimit-Reset: 50"], Some(5.0)),
    ("nothing is used up", 429, &["RateLimit-Remaining: 7", "RateLimit-Reset: 5"], None),
    ("unknown", 429, &["X-RateLimit-Remaining: -1", "X-RateLimit-Reset: 0"], None),
    ("no reset", 429, &["X-RateLimit-Remaining: 0"], None),
    ("malformed reset", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: soon"], None),
    ("reset further than 400 days off", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1890000000"], None),
    ("the largest of two resets", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 5", "X-RateLimit-Reset: 9"], Some(9.0)),
    ("out of a cache", 429, &["Age: 1", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 5"], None),
    ("success", 200, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 5"], None),
    ("another error", 500, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 5"], None),
];

const TEN_YEARS: f64 = 315_360_000.0;

#[test]
fn retry_after_is_read_in_and_out_of_form() {
    check(RETRY_AFTER);
}

#[test]
fn the_reset_of_a_used_up_quota_is_the_wait() {
    check(RESETS);
}

#[test]
fn a_quota_is_read_from_every_family() {
    #[rustfmt::skip]
    let vectors: &[(&str, &[&str], [Option<u64>; 4])] = &[
        ("IE01", &["RateLimit-Limit: 100", "RateLimit-Remaining: 50", "RateLimit-Reset: 50"], [Some(100), Some(50), Some(50), None]),
        ("IE02", &["RateLimit-Limit: 100, 100;w=60, 5000;w=3600", "RateLimit-Remaining: 5"], [Some(100), Some(5), None, Some(60)]),
        ("XR05", &["X-RateLimit-Limit: 300", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1790000023"], [Some(300), Some(0), Some(23), None]),
        ("XR06", &["x-rate-limit-limit: 900", "x-rate-limit-remaining: 899", "x-rate-limit-reset: 1790000840"], [Some(900), Some(899), Some(840), None]),
        ("XR08", &["x-ratelimit-remaining: 598.0", "x-ratelimit-used: 2", "x-ratelimit-reset: 589"], [None, Some(598), Some(589), None]),
        ("XR33", &["X-RateLimit-Limit: 100", "X-RateLimit-Remaining: 9", "retry-after: 0"], [Some(100), Some(9), None, None]),
        ("Docker Hub", &["RateLimit-Limit: 100;w=21600", "RateLimit-Remaining: 76;w=21600"], [Some(100), Some(76), None, Some(21600)]),
        ("the smallest", &["X-RateLimit-Remaining: 7", "X-RateLimit-Remaining: 3, 9"], [None, Some(3), None, None]),
        ("good and bad", &["X-RateLimit-Limit: lots", "X-RateLimit-Remaining: 7"], [None, Some(7), None, None]),
    ];
    for (id, lines, expected) in vectors {
        let signals = signals(200, lines);

        assert_eq!(
            signals.limits.iter().map(numbers).collect::<Vec<_>>(),
            [*expected],
            "{id}"
        );
        assert_eq!(signals.retry_after, None, "{id}");
    }
}

#[test]
fn a_quota_that_is_named_twice_alike_is_one() {
    let signals = signals(
        200,
        &[
            "RateLimit-Limit: 10",
            "RateLimit-Remaining: 9",
            "X-RateLimit-Limit: 10",
            "X-RateLimit-Remaining: 9",
        ],
    );

    assert_eq!(signals.limits.len(), 1);
}

#[test]
fn a_used_up_quota_of_a_success_is_no_wait_but_is_known() {
    let signals = signals(200, &["RateLimit-Remaining: 0", "RateLimit-Reset: 48"]);

    assert_eq!(signals.retry_after, None);
    assert!(signals.is_exhausted());
    assert_eq!(signals.exhausted_reset(), Some(Duration::from_secs(48)));
}

#[test]
fn a_response_that_says_nothing_is_empty() {
    for lines in [
        &["Content-Type: text/html"][..],
        &["Age: 30", "RateLimit-Remaining: 0", "RateLimit-Reset: 10"],
        &["X-RateLimit-Limit: lots", "X-RateLimit-Resource: core"],
        &["X-Rate-Limit: 700"],
    ] {
        assert!(signals(200, lines).is_empty(), "{lines:?}");
    }
}

proptest! {
    #[test]
    fn no_value_of_any_field_panics(
        status in 100..600u16,
        fields in prop::collection::vec((0..NAMES.len(), value()), 0..8),
        now in any::<u32>(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_static(NAMES[name]), value);
            }
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.into());

        let signals = read(StatusCode::from_u16(status).unwrap(), &headers, now);

        let longest = Some(Duration::from_secs_f64(TEN_YEARS));
        prop_assert!(signals.retry_after <= longest);
        prop_assert!(signals.limits.iter().all(|limit| limit.reset <= longest && limit.window <= longest));
    }
}

/// Bytes of any kind, and those that come near to a meaning.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        r#"[-0-9.,;=w" \\]{0,30}"#.prop_map(String::into_bytes),
        any::<u64>().prop_map(|number| number.to_string().into_bytes()),
        "(Mon|Tue), [0-9]{2} (Feb|Sep) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
            .prop_map(String::into_bytes),
    ]
}

const NAMES: [&str; 12] = [
    "age",
    "date",
    "retry-after",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-rate-limit-limit",
    "x-rate-limit-remaining",
    "x-rate-limit-reset",
];

fn check(vectors: &[Vector<'_>]) {
    for (id, status, lines, expected) in vectors {
        let wait = signals(*status, lines).retry_after;

        assert_eq!(wait, expected.map(Duration::from_secs_f64), "{id}");
    }
}

fn signals(status: u16, lines: &[&str]) -> Signals {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    read(StatusCode::from_u16(status).unwrap(), &headers, now)
}

/// Limit, remaining, reset and window, in seconds.
fn numbers(limit: &Limit) -> [Option<u64>; 4] {
    let seconds = |wait: Option<Duration>| wait.map(|wait| wait.as_secs());
    [
        limit.limit,
        limit.remaining,
        seconds(limit.reset),
        seconds(limit.window),
    ]
}
