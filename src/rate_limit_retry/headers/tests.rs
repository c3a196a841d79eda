//! The number of steps that reading a response takes.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::steps;

const NAMES: [&str; 20] = [
    "retry-after",
    "retry-after-ms",
    "x-ratelimit",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-reset-ms",
    "x-ratelimit-used",
    "x-ratelimit-window",
    "x-ratelimit-resource",
    "x-app-rate-limit",
    "x-app-rate-limit-count",
    "x-sentry-rate-limits",
    "x-shopify-shop-api-call-limit",
    "sforce-limit-info",
    "x-acme-limit",
    "x-acme-quota-remaining",
    "date",
];

/// The pieces that values are composed of.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "a0=1,",
            "a1=1;",
            "limit=1,",
            "remaining=1; ",
            "name=a,1;",
            "1,",
            "1;w=1,",
            "1:1,",
            "\"a\";r=1;t=2,",
            "\"a\";q=1;w=2,",
            "\"",
            "\\",
            ";",
            "=",
            ":",
            ",",
            "1s",
            "1 minute ",
            "2026-09-21 ",
            "Mon, ",
            "{\"limit\":1,",
            "[",
            "1/1,",
            "user-hour-lim:1;",
            "9",
            "a",
            " ",
            "-",
        ])
        .prop_map(str::to_owned),
        "[-0-9a-z,;:=\"\\\\/ .]{1,6}",
    ]
}

proptest! {
    #[test]
    fn parsing_is_linear_in_the_value(
        name in prop::sample::select(&NAMES[..]),
        pieces in prop::collection::vec(piece(), 1..5),
        other in prop::sample::select(&NAMES[..]),
        length in 400..=4096_usize,
    ) {
        let value: String = pieces.concat().chars().cycle().take(length).collect();

        let work = work_for(&[(name.to_owned(), value.clone()), (other.to_owned(), value)]);

        // A reader with quadratic cost takes about a thousand times as many steps.
        prop_assert!(work <= MAX_STEPS_PER_BYTE * 2 * length, "{} for {}", work, 2 * length);
    }

    #[test]
    fn parsing_is_linear_in_the_number_of_fields(
        pieces in prop::collection::vec(piece(), 1..5),
        same in any::<bool>(),
        count in 16..400_usize,
    ) {
        let value = pieces.concat();
        let work = |count: usize| {
            let name = |at: usize| if same { 0 } else { at };
            let fields: Vec<_> = (0..count)
                .map(|at| (format!("x-ratelimit-q{}-remaining", name(at)), value.clone()))
                .collect();
            work_for(&fields)
        };

        let (once, twice) = (work(count), work(2 * count));

        prop_assert!(twice <= 3 * once + 60_000, "{} and then {}", once, twice);
    }
}

#[test]
fn oversized_values_are_skipped() {
    for piece in ["a0=1,a1=1,", "1,", "\"a\";r=1;t=2,", "1s"] {
        for name in NAMES {
            let value = piece.repeat(316_000 / piece.len());

            let work = work_for(&[(name.to_owned(), value)]);

            assert!(work < 1_000, "{name} {piece}: {work}");
        }
    }
    let name = "x-ratelimit-".repeat(2_000) + "limit";
    assert!(work_for(&[(name, "1".to_owned())]) < 200_000);
}

#[test]
fn quotas_and_their_names_are_bounded() {
    let fields: Vec<_> = (0..1_000)
        .map(|at| (format!("x-ratelimit-q{at}-remaining"), "1".to_owned()))
        .collect();
    assert_eq!(
        read(StatusCode::OK, &headers(&fields), NOW).limits.len(),
        64
    );

    let list: String = (0..500).map(|at| format!("q{at}=1,")).collect();
    let fields = [("x-ratelimit-limit".to_owned(), list)];
    assert_eq!(
        read(StatusCode::OK, &headers(&fields), NOW).limits.len(),
        64
    );

    for (name, value) in [
        ("ratelimit", format!("\"{}\";r=1", "n".repeat(3_000))),
        ("x-ratelimit-limit", format!("{}=1", "n".repeat(3_000))),
    ] {
        let limits = read(StatusCode::OK, &headers(&[(name.to_owned(), value)]), NOW).limits;
        assert!(limits[0].name.as_ref().unwrap().len() <= 128);
    }
    let fields = [
        ("x-ratelimit-limit".to_owned(), "1".to_owned()),
        ("x-ratelimit-resource".to_owned(), "\u{e9}".repeat(1_000)),
    ];
    let limits = read(StatusCode::OK, &headers(&fields), NOW).limits;
    assert!(limits[0].name.as_ref().unwrap().len() <= 128);
}

fn work_for(fields: &[(String, String)]) -> usize {
    let headers = headers(fields);
    steps::steps_of(|| {
        let mut skew = ClockSkew::default();
        skew.observe(&headers, NOW);
        let _signals = read(StatusCode::TOO_MANY_REQUESTS, &headers, NOW);
    })
}

fn headers(fields: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
/// Each of several readers examines every byte, and again where lists are read.
const MAX_STEPS_PER_BYTE: usize = 100;
