//! One quota under any name, in any form and order.

use std::time::Duration;

use http::StatusCode;
use proptest::{prelude::*, sample::select};
use tower_m2m::rate_limit_retry::headers::read;

use super::{headers, now, words};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn field_names_of_all_styles_parse_equally(
        family in select(&["RateLimit", "X-RateLimit", "X-Rate-Limit", "Acme-RateLimit", "x_rate_limit", "X-Acme", "Acme-Api"][..]),
        dimension in select(&["", "requests", "calls", "daily", "15min", "24-hour"][..]),
        role_first in any::<bool>(),
        limit_word in select(&["limit", "max", "quota", "allowed", "LIMIT"][..]),
        left_word in select(&["remaining", "left", "available", "limit-remaining", "Remaining"][..]),
        time in select(TIMES),
        limit in 1..100_000u64,
        left in 0..100_000u64,
        wait in 1..86_400u64,
        order in Just([0, 1, 2]).prop_shuffle(),
    ) {
        let left = left.min(limit);
        let named = |role: &str| match (dimension, role_first) {
            ("", _) => format!("{family}-{role}"),
            (dimension, true) => format!("{family}-{role}-{dimension}"),
            (dimension, false) => format!("{family}-{dimension}-{role}"),
        };
        let (time_word, written) = time;
        let lines = [
            format!("{}: {limit}", named(limit_word)),
            format!("{}: {left}", named(left_word)),
            format!("{}: {}", named(time_word), written(wait)),
        ];
        let lines = order.map(|at| lines[at].as_str());
        let status = StatusCode::TOO_MANY_REQUESTS;

        let signals = read(status, &headers(&lines), now());

        let shown: Vec<String> = signals.limits.iter().map(words).collect();
        prop_assert_eq!(signals.limits.len(), 1, "{:?} {:?}", lines, shown);
        let quota = &signals.limits[0];
        let reset = Duration::from_secs(wait);
        prop_assert_eq!((quota.limit, quota.remaining, quota.reset), (Some(limit), Some(left), Some(reset)), "{:?} {:?}", lines, shown);
        let window = match dimension {
            "daily" | "24-hour" => Some(Duration::from_secs(86_400)),
            "15min" => Some(Duration::from_secs(900)),
            _ => None,
        };
        prop_assert_eq!(quota.window, window);
        prop_assert_eq!(signals.retry_after, (left == 0).then_some(reset));
    }
}

type Written = fn(u64) -> String;

/// The names and the forms of a time.
const TIMES: &[(&str, Written)] = &[
    ("reset", |wait| wait.to_string()),
    ("reset-after", |wait| format!("{wait}.0")),
    ("reset-ms", |wait| (wait * 1_000).to_string()),
    ("time-reset-ms", |wait| (wait * 1_000).to_string()),
    ("reset-after-milliseconds", |wait| {
        (wait * 1_000).to_string()
    }),
    ("reset-in-seconds", |wait| wait.to_string()),
    ("reset", |wait| format!("{wait}s")),
    ("reset", |wait| (1_790_000_000 + wait).to_string()),
    ("reset-timestamp", |wait| {
        ((1_790_000_000 + wait) * 1_000).to_string()
    }),
    ("expiry", |wait| (1_790_000_000 + wait).to_string()),
    ("expires-at", |wait| date(wait).replace("GMT", "UTC")),
    ("until", date),
    ("reset-time", |wait| {
        let seconds = 51_200 + wait;
        let day = 21 + seconds / 86_400;
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        format!("2026-09-{day} {hour:02}:{minute:02}:{second:02} UTC")
    }),
];

fn date(wait: u64) -> String {
    httpdate::fmt_http_date(now() + Duration::from_secs(wait))
}
