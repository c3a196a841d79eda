//! The kinds of field sets that real servers send, with other names, numbers, cases and orders.

use std::time::Duration;

use http::StatusCode;

use super::{signals, words};

/// What it is about, status, header lines, and the quotas in them.
type Quotas<'a> = (&'a str, u16, &'a [&'a str], &'a [&'a str]);
/// What it is about, status, header lines, and the wait in seconds that they ask for.
type Waits<'a> = (&'a str, u16, &'a [&'a str], Option<f64>);

#[test]
#[rustfmt::skip]
fn list_values_are_matched_by_position() {
    check_quotas(&[
        ("limit and usage", 200, &["X-Acme-RateLimit-Usage: 7, 900", "X-Acme-RateLimit-Limit: 10, 1000"], &["3 left of 10", "100 left of 1000"]),
        ("three lists", 200, &["RateLimit-Limit: 60,5000,90000", "RateLimit-Remaining: 59,0,89000", "RateLimit-Reset: 12,3000,86000"], &["59 left of 60 reset 12s", "0 left of 5000 reset 3000s", "89000 left of 90000 reset 86000s"]),
        ("in lines", 200, &["RateLimit-Limit: 60", "RateLimit-Limit: 5000", "RateLimit-Remaining: 1", "RateLimit-Remaining: 4000"], &["1 left of 60", "4000 left of 5000"]),
        ("a list and one reset for all", 200, &["RateLimit-Limit: 60,5000", "RateLimit-Remaining: 1,4000", "RateLimit-Reset: 30"], &["1 left of 60 reset 30s", "4000 left of 5000 reset 30s"]),
        ("with windows", 200, &["RateLimit-Limit: 60;w=60, 5000;w=3600", "RateLimit-Remaining: 1, 4000"], &["1 left of 60 in 60s", "4000 left of 5000 in 3600s"]),
        ("with policies of their own", 200, &["RateLimit-Limit: 60, 5000", "RateLimit-Remaining: 1, 4000", "RateLimit-Policy: 60;w=60, 5000;w=3600"], &["1 left of 60 in 60s", "4000 left of 5000 in 3600s"]),
        ("with dates", 200, &["RateLimit-Remaining: 1, 4000", "RateLimit-Reset: 2026-09-21T14:14:20Z, 2026-09-21T15:13:20Z"], &["1 left reset 60s", "4000 left reset 3600s"]),
        ("in milliseconds", 200, &["RateLimit-Remaining: 1, 4000", "RateLimit-Reset-Ms: 1500,60000"], &["1 left reset 1.5s", "4000 left reset 60s"]),
        ("one without a limit", 200, &["RateLimit-Limit: -1, 5000", "RateLimit-Remaining: 0, 4000"], &["4000 left of 5000"]),
        ("of a dimension", 200, &["X-RateLimit-Tokens-Limit: 60,5000", "X-RateLimit-Tokens-Used: 50,60"], &["tokens: 10 left of 60 Other", "tokens: 4940 left of 5000 Other"]),
        ("not as many: the least generous", 200, &["RateLimit-Limit: 60, 5000", "RateLimit-Remaining: 7"], &["7 left of 60"]),
        ("by name", 200, &["X-RateLimit-Limit: name=per-user,20;name=per-app,500;", "X-RateLimit-Remaining: name=per-app,499;name=per-user,3;"], &["per-user: 3 left of 20", "per-app: 499 left of 500"]),
        ("by key", 200, &["X-RateLimit-Limit: minute=60, day=1000", "X-RateLimit-Remaining: minute=0, day=999", "X-RateLimit-Reset: minute=30, day=9000"], &["minute: 0 left of 60 in 60s reset 30s", "day: 999 left of 1000 in 86400s reset 9000s"]),
        ("all in one", 200, &["X-Rate-Limit: app-day-lim:900;app-day-rem:12;app-hour-lim:90;app-hour-rem:1"], &["app-day: 12 left of 900 in 86400s", "app-hour: 1 left of 90 in 3600s"]),
        ("two names for a policy", 200, &["RateLimit: \"x\";r=5;t=9", "RateLimit-Policy: \"sliding\";\"x\";q=10;w=60"], &["x: 5 left of 10 in 60s reset 9s"]),
    ]);
}

#[test]
#[rustfmt::skip]
fn a_time_unit_in_the_name_is_used() {
    check_waits(&[
        ("Retry-After-Milliseconds", 429, &["Retry-After-Milliseconds: 2500"], Some(2.5)),
        ("millis", 429, &["X-Acme-Retry-After-Millis: 250"], Some(0.25)),
        ("glued", 429, &["Acme-Write-RetryAfter-Ms: 250"], Some(0.25)),
        ("they go before seconds", 429, &["Retry-After: 3", "X-Retry-After-Milliseconds: 2500"], Some(2.5)),
        ("reset", 429, &["RateLimit-Remaining: 0", "RateLimit-Reset-Milliseconds: 900"], Some(0.9)),
        ("before the word", 429, &["RateLimit-Remaining: 0", "RateLimit-Millis-Until-Reset: 900"], Some(0.9)),
        ("in JSON", 429, &[r#"X-RateLimit: {"remaining":0,"resetInMs":900}"#], Some(0.9)),
        ("in pairs", 429, &["X-RateLimit: remaining=0; reset_ms=900"], Some(0.9)),
        ("a date in milliseconds", 429, &["RateLimit-Remaining: 0", "RateLimit-Reset-Ms: 1790000004500"], Some(4.5)),
        ("a fraction", 429, &["Retry-After-Ms: 1500.5"], Some(1.5005)),
        ("minutes", 429, &["RateLimit-Remaining: 0", "RateLimit-Reset-Minutes: 2"], Some(120.0)),
        ("seconds", 429, &["RateLimit-Remaining: 0", "RateLimit-Reset-In-Seconds: 2"], Some(2.0)),
        ("time that remains", 429, &["RateLimit-Remaining: 0", "RateLimit-Time-Remaining: 7"], Some(7.0)),
        ("a minute's quota", 429, &["RateLimit-Remaining-Minute: 0", "RateLimit-Reset-Minute: 7"], Some(7.0)),
    ]);
    check_quotas(&[
        ("window", 200, &["RateLimit-Limit: 9", "RateLimit-Window-Ms: 2500"], &["of 9 in 2.5s"]),
        ("minutes", 200, &["RateLimit-Limit: 9", "RateLimit-Window-Minutes: 2"], &["of 9 in 120s"]),
    ]);
}

#[test]
#[rustfmt::skip]
fn waits_and_resets_are_parsed_under_many_names_and_formats() {
    check_waits(&[
        ("of a named quota", 429, &["Retry-After-uploads: 17"], Some(17.0)),
        ("the longest of several", 429, &["Retry-After-short: 1", "Retry-After-daily: 17"], Some(17.0)),
        ("glued", 429, &["Acme-Limit-Write-RetryAfter: 17"], Some(17.0)),
        ("prefixed", 429, &["X-Acme-RetryAfter: 17"], Some(17.0)),
        ("a wait by another word", 429, &["X-Retry-In: 970ms"], Some(0.97)),
        ("expiry", 429, &["X-Acme-RateLimit-Remaining: 0", "X-Acme-RateLimit-Expiry: 1790000017"], Some(17.0)),
        ("expires", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Expires: Mon, 21 Sep 2026 14:13:37 UTC"], Some(17.0)),
        ("UTC", 503, &["Retry-After: Mon, 21 Sep 2026 14:13:37 UTC"], Some(17.0)),
        ("an ISO date with a space", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 2026-09-21 14:13:37"], Some(17.0)),
        ("and with a zone", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 2026-09-21 16:13:37 +0200"], Some(17.0)),
        ("as Go prints it", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 2026-09-21 14:13:37.25 +0000 UTC"], Some(17.25)),
        ("in words", 429, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 17 seconds"], Some(17.0)),
        ("a reason is no wait", 429, &["Retry-After-Reason: quota"], None),
        ("a count of retries is no wait", 429, &["X-Retry-Count: 3", "X-Max-Retry: 9"], None),
    ]);
}

#[test]
#[rustfmt::skip]
fn quotas_are_parsed_under_many_names() {
    check_quotas(&[
        ("left and allowed", 200, &["X-RateLimit-Calls-Left: 3", "X-RateLimit-Calls-Allowed: 9"], &["calls: 3 left of 9"]),
        ("available and quota", 200, &["X-RateLimit-Available-Calls: 3", "X-RateLimit-Calls-Quota: 9"], &["calls: 3 left of 9"]),
        ("the word limit twice", 200, &["X-RateLimit-Calls-Limit: 9", "X-RateLimit-Calls-Limit-Remaining: 3", "X-RateLimit-Calls-Limit-Reset: 5"], &["calls: 3 left of 9 reset 5s"]),
        ("a word in the middle", 200, &["X-RateLimit-Limit-Tokens-Minute: 9", "X-RateLimit-Tokens-Remaining-Minute: 3"], &["tokens-minute: 3 left of 9 Other in 60s"]),
        ("a reset under a shorter name", 200, &["X-RateLimit-Jobs-Left: 3", "X-RateLimit-Jobs-Quota: 9", "X-RateLimit-Time-Reset-Ms: 1500"], &["jobs: 3 left of 9 reset 1.5s"]),
        ("of several the one that is used up", 200, &["X-RateLimit-Day-Left: 3", "X-RateLimit-Hour-Left: 0", "X-RateLimit-Reset: 15"], &["day: 3 left in 86400s", "hour: 0 left in 3600s reset 15s"]),
        ("also without the word ratelimit", 200, &["X-Acme-Calls-Left: 0", "X-Acme-Calls-Quota: 9", "X-Acme-Reset-Ms: 1500"], &["acme-calls: 0 left of 9 reset 1.5s"]),
        ("a limit under a shorter name", 200, &["X-Acme-RateLimit-Requests-Remain: 3", "X-Acme-RateLimit-Limit: 9", "X-Acme-RateLimit-Reset-Timestamp: 1790000005"], &["requests: 3 left of 9 reset 5s"]),
        ("a limit under a longer name", 200, &["RateLimit-HourlyLimit: 9", "RateLimit-Remaining: 3", "RateLimit-Reset: 5"], &["hourly: 3 left of 9 in 3600s reset 5s"]),
        ("not if more is left than the limit", 200, &["RateLimit-SecondLimit: 9", "RateLimit-Remaining: 300"], &["300 left", "second: of 9 in 1s"]),
        ("windows as adjectives", 200, &["X-Limit-Per-Second: 10", "X-Remaining-This-Second: 9", "X-Limit-Per-Day: 100", "X-Remaining-Today: 99"], &["second: 9 left of 10 in 1s", "day: 99 left of 100 in 86400s"]),
        ("names and numbers", 200, &["X-Ms-RateLimit-Remaining-Resource: Acme/Reads;133, Acme/Writes;0"], &["resource-Acme/Reads: 133 left", "resource-Acme/Writes: 0 left"]),
        ("windows as durations", 200, &["X-RateLimit-Limit: 9", "X-RateLimit-Window: 15m"], &["of 9 in 900s"]),
        ("windows in words", 200, &["X-RateLimit-Limit: 9", "X-RateLimit-Period: 24-hour"], &["of 9 in 86400s"]),
        ("windows in the name", 200, &["X-RateLimit-15min-Limit: 9", "X-RateLimit-Limit-24-Hour: 99"], &["15min: of 9 in 900s", "24-hour: of 99 in 86400s"]),
        ("a limit with its window", 200, &["X-RateLimit-Limit: 100 requests per minute", "X-Acme-RateLimit-Limit: 5/second"], &["of 100 in 60s", "of 5 in 1s"]),
        ("no such word as ratelimit", 200, &["X-Acme-Limit: 120", "X-Acme-Remaining: 7", "X-Acme-Reset: 30"], &["acme: 7 left of 120 reset 30s"]),
        ("a quota", 200, &["X-Day-Quota-Limit: 99", "X-Day-Quota-Remaining: 7"], &["day: 7 left of 99 in 86400s"]),
        ("glued", 200, &["X-CallQuota-Remaining: 7", "X-CallQuota-Reset: 2026-09-21T14:13:30Z"], &["call: 7 left reset 10s"]),
        ("requests", 200, &["X-Requests-Left: 7", "X-Requests-Limit: 9"], &["requests: 7 left of 9"]),
        ("the hours of an app", 200, &["x-client-limit-3hour-remaining: 7", "x-client-limit-3hour-limit: 9", "x-client-limit-3hour-reset: 1790000100"], &["client-3hour: 7 left of 9 in 10800s reset 100s"]),
    ]);
}

#[test]
fn unrelated_fields_are_not_quotas() {
    for lines in [
        &["X-Page-Limit: 20", "X-Page-Remaining: 0"][..],
        &["X-Limit: 20", "X-Remaining: 0"],
        &[
            "X-Pagination-Limit: 20",
            "X-Pagination-Remaining: 0",
            "X-Pagination-Reset: 9",
        ],
        &["X-Upload-Limit: 1000"],
        &["X-Content-Limit: 20", "X-Content-Remaining: 0"],
        &["X-Password-Reset: 3600"],
        &["X-Storage-Quota-Remaining: 0"],
        &["X-Acme-Reset: 3600"],
        &["X-RateLimit-Requested-Tokens: 1"],
        &["X-RateLimit-Tier: 0", "X-RateLimit-Version: 2"],
    ] {
        assert!(signals(200, lines).is_empty(), "{lines:?}");
    }
}

#[test]
fn an_absent_quota_is_not_an_exhausted_one() {
    for limit in ["0", "-1", "-5", "unlimited", "Unlimited", "infinite"] {
        for remaining in ["0", "-1", "-5", "-2010"] {
            for status in [200, 204, 304, 404, 500] {
                let lines = [
                    format!("X-Acme-RateLimit-Limit: {limit}"),
                    format!("X-Acme-RateLimit-Remaining: {remaining}"),
                    "X-Acme-RateLimit-Reset: 3600".to_owned(),
                ];
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();

                let read = signals(status, &lines);

                assert!(!read.is_exhausted(), "{lines:?}");
                assert_eq!(read.exhausted_reset(), None, "{lines:?}");
            }
        }
    }
    let real = [
        "X-RateLimit-Limit: 0",
        "X-RateLimit-Remaining: 0",
        "X-RateLimit-Reset: 30",
    ];
    assert_eq!(
        signals(429, &real).retry_after,
        Some(Duration::from_secs(30))
    );
    // The last one that is accepted.
    let last = ["X-RateLimit-Limit: 1", "X-RateLimit-Remaining: 0"];
    assert!(signals(200, &last).is_exhausted());
}

#[test]
#[rustfmt::skip]
fn a_403_throttles_only_if_the_request_quota_is_exhausted() {
    for (lines, throttle) in [
        (&["X-RateLimit-Tokens-Remaining: 0", "X-RateLimit-Tokens-Reset: 50"][..], false),
        (&["X-RateLimit-Points-Remaining: 0", "X-RateLimit-Points-Reset: 50"], false),
        (&["X-RateLimit-Bytes-Remaining: 0", "X-RateLimit-Bytes-Reset: 50"], false),
        (&["X-RateLimit-Limit: unlimited", "X-RateLimit-Remaining: -7", "X-RateLimit-Reset: 50"], false),
        (&["X-RateLimit-Limit: 0", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 0"], false),
        (&["X-RateLimit-Remaining: 5", "X-RateLimit-Reset: 50"], false),
        (&["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 50"], true),
        (&["X-RateLimit-Api-Token-Remaining: 0", "X-RateLimit-Api-Token-Reset: 50"], true),
        (&["X-RateLimit-Tokens-Remaining: 0", "Retry-After: 50"], true),
    ] {
        let read = signals(403, lines);

        assert_eq!(
            read.is_throttle(StatusCode::FORBIDDEN),
            throttle,
            "{lines:?}"
        );
        let wait = throttle.then_some(Duration::from_secs(50));
        assert_eq!(read.retry_after, wait, "{lines:?}");
    }
}

#[test]
#[rustfmt::skip]
fn units_match_whole_words() {
    check_quotas(&[
        ("a credential", 200, &["X-RateLimit-Auth-Token-Remaining: 3"], &["auth-token: 3 left"]),
        ("a user's token", 200, &["X-RateLimit-Remaining-User-Token: 3"], &["user-token: 3 left"]),
        ("an endpoint", 200, &["X-RateLimit-Endpoint-Remaining: 3"], &["endpoint: 3 left"]),
        ("discounts", 200, &["X-RateLimit-Discounts-Remaining: 3"], &["discounts: 3 left"]),
        ("of a model", 200, &["X-RateLimit-Output-Tokens-Remaining: 3"], &["output-tokens: 3 left Other"]),
        ("one token", 200, &["X-RateLimit-Remaining-Token: 3"], &["token: 3 left Other"]),
        ("points", 200, &["X-RateLimit-Points-Remaining: 3"], &["points: 3 left Other"]),
        ("units", 200, &["X-RateLimit-ProcessingUnits-Remaining: 3"], &["processingunits: 3 left Other"]),
        ("at the same time", 200, &["X-RateLimit-Concurrency-Remaining: 3"], &["concurrency: 3 left ConcurrentRequests"]),
    ]);
}

fn check_quotas(vectors: &[Quotas<'_>]) {
    for (id, status, lines, expected) in vectors {
        let limits = signals(*status, lines).limits;

        let mut limits: Vec<String> = limits.iter().map(words).collect();
        let mut expected: Vec<&str> = expected.to_vec();
        limits.sort();
        expected.sort_unstable();
        assert_eq!(limits, expected, "{id}");
    }
}

fn check_waits(vectors: &[Waits<'_>]) {
    for (id, status, lines, expected) in vectors {
        let wait = signals(*status, lines).retry_after;

        assert_eq!(wait, expected.map(Duration::from_secs_f64), "{id}");
    }
}
