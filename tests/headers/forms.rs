//! Values in and out of form, beyond the vectors.

use std::time::Duration;

use http::StatusCode;
use tower_m2m::rate_limit_retry::headers::{Field, HeaderProfile, Limit, RetryAdvice, read_with};

use super::{headers, now, signals, words};

const DATE: &str = "Date: Mon, 21 Sep 2026 14:13:20 GMT";

/// Status, header lines, and the wait in seconds that they ask for.
type Vector<'a> = (&'a str, u16, &'a [&'a str], Option<f64>);

/// What `Retry-After` says (RFC 9110 §10.2.3), in and out of form.
#[rustfmt::skip]
const RETRY_AFTER: &[Vector<'_>] = &[
    ("asctime date", 429, &[DATE, "Retry-After: Mon Sep 21 14:14:20 2026"], Some(60.0)),
    ("a date counts from the response's own", 429, &["Date: Mon, 21 Sep 2026 14:14:00 GMT", "Retry-After: Mon, 21 Sep 2026 14:14:20 GMT"], Some(20.0)),
    ("a date without a Date counts from now", 429, &["Retry-After: Mon, 21 Sep 2026 14:14:20 GMT"], Some(60.0)),
    ("empty", 429, &["Retry-After:"], None),
    ("milliseconds since 1970", 429, &["Retry-After: 1790000060000"], Some(60.0)),
    ("absurd", 429, &["Retry-After: 99999999999999999999"], Some(TEN_YEARS)),
    ("timeout", 408, &["Retry-After: 1"], Some(1.0)),
    ("too early", 425, &["Retry-After: 1"], Some(1.0)),
    ("another server error", 502, &["Retry-After: 1"], Some(1.0)),
    ("another client error", 404, &["Retry-After: 1"], None),
    ("twice", 429, &["Retry-After: 5", "Retry-After: 9"], Some(9.0)),
    ("twice in a line", 429, &["Retry-After: 5, 120"], Some(120.0)),
    ("milliseconds go first", 429, &["Retry-After: 9", "X-Retry-After: 90", "retry-after-ms: 250"], Some(0.25)),
    ("another name goes last", 429, &["X-Retry-After: 90", "Retry-After: 9"], Some(9.0)),
    ("a duration", 429, &["Retry-After: 1m30s"], Some(90.0)),
    ("good and bad", 429, &["Retry-After: soon", "Retry-After: 9"], Some(9.0)),
    ("out of a cache", 429, &["Age: 30", "Retry-After: 120"], Some(90.0)),
    ("out of a cache for longer than the wait", 503, &["Age: 130", "Retry-After: 120"], Some(0.0)),
    ("a date out of a cache", 503, &["Age: 30", "Date: Mon, 21 Sep 2026 14:12:50 GMT", "Retry-After: Mon, 21 Sep 2026 14:14:20 GMT"], Some(60.0)),
    ("a success out of a cache", 200, &["Age: 30", "Retry-After: 120"], None),
    ("not out of a cache", 429, &["Age: 0", "Retry-After: 120"], Some(120.0)),
];

/// What quotas say, if `Retry-After` does not.
#[rustfmt::skip]
const RESETS: &[Vector<'_>] = &[
    ("a skewed clock cancels out", 429, &["Date: Mon, 21 Sep 2026 13:13:20 GMT", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1789996460"], Some(60.0)),
    ("Retry-After comes first", 429, &["Retry-After: 5", "RateLimit-Remaining: 0", "RateLimit-Reset: 50"], Some(5.0)),
    ("unless it is malformed", 429, &["Retry-After: soon", "RateLimit-Remaining: 0", "RateLimit-Reset: 50"], Some(50.0)),
    ("403 with both", 403, &["Retry-After: 5", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 1790000600"], Some(5.0)),
    ("the longest of two that are used up", 503, &["RateLimit-Remaining: 0", "RateLimit-Reset: 5", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 50"], Some(50.0)),
    ("only what is used up", 429, &["RateLimit-Remaining: 0", "RateLimit-Reset: 5", "X-RateLimit-Remaining: 7", "X-RateLimit-Reset: 50"], Some(5.0)),
    ("nothing is used up", 429, &["RateLimit-Remaining: 7", "RateLimit-Reset: 5"], None),
    ("unknown", 429, &["X-RateLimit-Remaining: -1", "X-RateLimit-Reset: 0"], None),
    ("GitHub: 403 for requests that come too fast", 403, &["x-ratelimit-remaining: 4999", "Retry-After: 60"], Some(60.0)),
    ("no word about what remains", 429, &["X-RateLimit-Reset: 17"], Some(17.0)),
    ("a list of bad items", 429, &["RateLimit: quota;t=1"], None),
    ("absurd", 429, &["RateLimit: \"a\";r=0;t=999999999999999"], Some(TEN_YEARS)),
    ("no reset", 429, &["X-RateLimit-Remaining: 0"], None),
    ("malformed reset", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: soon"], None),
    ("reset further than 400 days off", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1890000000"], None),
    ("the largest of two resets", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 5", "X-RateLimit-Reset: 9"], Some(9.0)),
    ("out of a cache", 429, &["Age: 1", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 5"], None),
    ("nanoseconds", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1s500000000ns"], Some(1.5)),
    ("success", 200, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 5"], None),
    ("another error", 500, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 5"], None),
];

const TEN_YEARS: f64 = 315_360_000.0;

#[test]
fn retry_after_is_parsed_in_valid_and_invalid_forms() {
    check(RETRY_AFTER);
}

#[test]
fn the_reset_of_an_exhausted_quota_is_the_wait() {
    check(RESETS);
}

#[test]
fn a_quota_is_parsed_from_every_header_family() {
    #[rustfmt::skip]
    let vectors: &[(&str, &[&str], &[&str])] = &[
        ("drafts 04 to 06", &["RateLimit-Limit: 10", "RateLimit-Policy: 10;w=1, 50;w=60", "RateLimit-Remaining: 9", "RateLimit-Reset: 1"], &["9 left of 10 in 1s reset 1s", "of 50 in 60s"]),
        ("draft 07", &["RateLimit: limit=10, remaining=4, reset=3", "RateLimit-Policy: 10;w=60, 5000;w=3600"], &["4 left of 10 in 60s reset 3s", "of 5000 in 3600s"]),
        ("draft 08 over lines", &["RateLimit: \"a\";r=1;t=2", "RateLimit: \"b\";r=3;t=4"], &["a: 1 left reset 2s", "b: 3 left reset 4s"]),
        ("only the bad item is lost", &["RateLimit: \"a\";r=-1, \"b\";r=3;t=4"], &["b: 3 left reset 4s"]),
        ("and every bad item", &[r#"RateLimit: "a";r=5;t=-1, "b";r=5;qu=7, "c";r=5;pk=7, "d";r=5;w=x, "e";r=5"#], &["e: 5 left"]),
        ("decimals are rounded down", &["RateLimit: \"a\";r=1.9;t=2.5"], &["a: 1 left reset 2s"]),
        ("a partition key as text", &[r#"RateLimit: "a";r=1;pk="me", "b";r=2;pk=:bWU=:"#], &["a: 1 left for me", "b: 2 left for me"]),
        ("units", &[r#"RateLimit-Policy: "a";q=5;qu="requests", "b";q=6;qu="content-bytes", "c";q=7;qu="concurrent-requests", "d";q=8;qu="tokens""#], &["a: of 5", "b: of 6 ContentBytes", "c: of 7 ConcurrentRequests", "d: of 8 Other"]),
        ("a window of zero is none", &[r#"RateLimit-Policy: "a";q=5;w=0, "b";q=6;w=1"#], &["a: of 5", "b: of 6 in 1s"]),
        ("tokens as names", &["RateLimit: a;r=1;t=2", "RateLimit-Policy: a;q=5;w=9"], &["a: 1 left of 5 in 9s reset 2s"]),
        ("an escaped name", &[r#"RateLimit: "a\"b";r=1;t=2"#], &["a\"b: 1 left reset 2s"]),
        ("a comment with commas", &[r#"X-RateLimit-Limit: 100, 50;w=5;comment="a, 100;w=1", 100; w=60"#], &["of 100 in 60s", "of 50 in 5s"]),
        ("a comment with a quote", &[r#"X-RateLimit-Limit: 100;w=60;comment="a\", 7;w=9""#], &["of 100 in 60s"]),
        ("a rate of zero is none", &["X-RateLimit-Replenish-Rate: 0", "X-RateLimit-Remaining: 1"], &["1 left"]),
        ("other prefixes", &["x-sib-ratelimit-limit: 40", "x-sib-ratelimit-remaining: 3", "x-sib-ratelimit-reset: 7"], &["3 left of 40 reset 7s"]),
        ("dimensions", &["anthropic-ratelimit-input-tokens-limit: 9000", "anthropic-ratelimit-input-tokens-remaining: 8000", "anthropic-ratelimit-requests-remaining: 3"], &["input-tokens: 8000 left of 9000 Other", "requests: 3 left"]),
        ("periods", &["X-RateLimit-Limit-Minute: 10", "X-RateLimit-Remaining-Minute: 9", "X-RateLimit-Limit-Hour: 100"], &["minute: 9 left of 10 in 60s", "hour: of 100 in 3600s"]),
        ("all periods", &["X-RateLimit-Limit-Second: 1", "X-RateLimit-Limit-Minutely: 2", "X-RateLimit-Limit-Hourly: 3", "X-RateLimit-Limit-Daily: 4", "X-RateLimit-Limit-Week: 5"], &["second: of 1 in 1s", "minutely: of 2 in 60s", "hourly: of 3 in 3600s", "daily: of 4 in 86400s", "week: of 5 in 604800s"]),
        ("a delta goes before a date", &["X-RateLimit-Remaining: 1", "X-RateLimit-Reset: 1790000500.5", "X-RateLimit-Reset-After: 2.5", "X-RateLimit-Bucket: abcd"], &["abcd: 1 left reset 2.5s"]),
        ("ISO without seconds", &["X-RateLimit-Remaining: 1", "X-RateLimit-Reset: 2026-09-21T14:15Z"], &["1 left reset 100s"]),
        ("nanoseconds since 1970", &["X-RateLimit-Remaining: 1", "X-RateLimit-Reset: 1790000060000000000"], &["1 left reset 60s"]),
        ("microseconds since 1970", &["X-RateLimit-Remaining: 1", "X-RateLimit-Reset: 1790000060000000"], &["1 left reset 60s"]),
        ("HTTP-date", &["X-RateLimit-Remaining: 1", "X-RateLimit-Reset: Mon, 21 Sep 2026 14:14:20 GMT"], &["1 left reset 60s"]),
        ("JSON", &[r#"X-RateLimit: {"name":"API","period":10,"limit":50,"remaining":0,"until":"2026-09-21T14:13:26Z"}"#], &["API: 0 left of 50 in 10s reset 6s"]),
        ("pairs", &["zendesk-ratelimit-tickets-index: total=100; remaining=99; resets=41"], &["tickets-index: 99 left of 100 reset 41s"]),
        ("limit:seconds", &["X-App-Rate-Limit: 20:1,100:120", "X-App-Rate-Limit-Count: 1:1,5:120"], &["19 left of 20 in 1s", "95 left of 100 in 120s"]),
        ("a bare limit", &["X-Rate-Limit: 700"], &["of 700"]),
        ("Docker Hub", &["RateLimit-Limit: 100;w=21600", "RateLimit-Remaining: 76;w=21600"], &["76 left of 100 in 21600s"]),
        ("the smallest", &["X-RateLimit-Remaining: 7", "X-RateLimit-Remaining: 3, 9"], &["3 left"]),
        ("good and bad", &["X-RateLimit-Limit: lots", "X-RateLimit-Remaining: 7"], &["7 left"]),
        ("overdrawn", &["X-RateLimit-Remaining: -3"], &["0 left"]),
        ("used and limit", &["X-RateLimit-Limit: 10", "X-RateLimit-Used: 4"], &["6 left of 10"]),
    ];
    for (id, lines, expected) in vectors {
        let signals = signals(200, lines);

        let limits: Vec<String> = signals.limits.iter().map(words).collect();
        assert_eq!(limits, *expected, "{id}");
        assert_eq!(signals.retry_after, None, "{id}");
    }
}

#[test]
fn a_header_profile_overrides_and_ignores_fields() {
    #[derive(Debug)]
    struct Acme;

    impl HeaderProfile for Acme {
        fn field(&self, name: &str) -> Option<Field> {
            (name == "x-ratelimit-reset").then_some(Field::Ignored)
        }

        fn complete(&self, limit: &mut Limit) {
            limit.window = Some(Duration::from_secs(60));
        }
    }

    let lines = ["X-RateLimit-Remaining: 3", "X-RateLimit-Reset: 5"];
    let of = |profile: &dyn HeaderProfile| {
        let signals = read_with(profile, StatusCode::OK, &headers(&lines), now());
        signals.limits.iter().map(words).collect::<Vec<_>>()
    };
    #[derive(Debug)]
    struct Silent;

    impl HeaderProfile for Silent {}

    assert_eq!(of(&Acme), ["3 left in 60s"]);
    assert_eq!(of(&Silent), ["3 left reset 5s"]);
}

#[test]
fn status_418_throttles_the_origin() {
    assert!(signals(418, &[]).global);
    assert!(signals(418, &["Retry-After: 5"]).global);
    assert!(!signals(429, &["Retry-After: 5"]).global);
}

#[test]
fn explicit_retry_flags_are_obeyed() {
    for (line, expected) in [
        ("x-should-retry: true", Some(RetryAdvice::Retry)),
        ("x-should-retry: False", Some(RetryAdvice::DoNotRetry)),
        ("stripe-should-retry: true", Some(RetryAdvice::Retry)),
        ("x-should-retry: perhaps", None),
        ("x-envoy-ratelimited: true", None),
        ("grpc-retry-pushback-ms: -1", Some(RetryAdvice::DoNotRetry)),
        ("grpc-retry-pushback-ms: 100", None),
    ] {
        assert_eq!(signals(503, &[line]).advice, expected, "{line}");
    }
    let both = ["x-should-retry: false", "stripe-should-retry: true"];
    assert_eq!(signals(409, &both).advice, Some(RetryAdvice::DoNotRetry));
}

#[test]
fn duplicate_quotas_are_merged() {
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
fn an_exhausted_quota_on_a_success_is_recorded_without_a_wait() {
    let signals = signals(200, &["RateLimit-Remaining: 0", "RateLimit-Reset: 48"]);

    assert_eq!(signals.retry_after, None);
    assert!(signals.is_exhausted());
    assert_eq!(signals.exhausted_reset(), Some(Duration::from_secs(48)));
}

#[test]
fn a_response_without_fields_is_empty() {
    for lines in [
        &["Content-Type: text/html"][..],
        &["Age: 30", "RateLimit-Remaining: 0", "RateLimit-Reset: 10"],
        &["X-RateLimit-Limit: lots", "X-RateLimit-Resource: core"],
        &[
            "X-RateLimit-Delay: 700",
            "X-RateLimit-NearLimit: true",
            "RateLimit-Reason: jira-burst-based",
        ],
    ] {
        assert!(signals(200, lines).is_empty(), "{lines:?}");
    }
}

fn check(vectors: &[Vector<'_>]) {
    for (id, status, lines, expected) in vectors {
        let wait = signals(*status, lines).retry_after;

        assert_eq!(wait, expected.map(Duration::from_secs_f64), "{id}");
    }
}
