//! Time to read the rate-limit headers of a response, per dialect and for responses without any.

use std::{
    hint::black_box,
    time::{Duration, SystemTime},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, StatusCode};
use tower_m2m::rate_limit_retry::headers::read;

const DATE: &str = "date: Mon, 21 Sep 2026 14:13:20 GMT";
/// Other headers of a JSON API.
const COMMON: [&str; 8] = [
    DATE,
    "content-type: application/json; charset=utf-8",
    "content-length: 1024",
    "server: nginx",
    "vary: Accept-Encoding",
    "x-request-id: 5f1c7a52-8d5e-4a6e-a1a5-4f2b7f3f8c11",
    "strict-transport-security: max-age=31536000; includeSubDomains",
    "cache-control: no-store",
];

fn readers(c: &mut Criterion) {
    let hostile = format!("ratelimit: {}", r#""a";r=1;t=2, "#.repeat(290));
    let cases: [(&str, u16, &[&str]); 7] = [
        ("nothing", 200, &[]),
        ("retry_after", 429, &["retry-after: 23"]),
        (
            "x_ratelimit",
            200,
            &[
                "x-ratelimit-limit: 300",
                "x-ratelimit-remaining: 299",
                "x-ratelimit-reset: 1790000023",
            ],
        ),
        (
            "draft_10",
            200,
            &[
                r#"ratelimit: "burst";r=9;t=12, "daily";r=400;t=36000"#,
                r#"ratelimit-policy: "burst";q=100;w=60, "daily";q=1000;w=86400"#,
            ],
        ),
        (
            "openai",
            429,
            &[
                "x-ratelimit-limit-requests: 60",
                "x-ratelimit-limit-tokens: 150000",
                "x-ratelimit-remaining-requests: 0",
                "x-ratelimit-remaining-tokens: 149984",
                "x-ratelimit-reset-requests: 1s",
                "x-ratelimit-reset-tokens: 6m0s",
            ],
        ),
        (
            "javascript_date",
            429,
            &[
                "x-ratelimit-remaining: 0",
                "x-ratelimit-reset: Mon Sep 21 2026 15:14:20 GMT+0100 (Central European Standard Time)",
            ],
        ),
        ("hostile_4_kib", 429, &[hostile.trim_end_matches(", ")]),
    ];
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let mut group = c.benchmark_group("headers");
    group.throughput(Throughput::Elements(1));
    for (name, status, lines) in cases {
        let headers = headers(lines);
        let status = StatusCode::from_u16(status).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| read(black_box(status), black_box(&headers), now))
        });
        let counted = allocation_counter::measure(|| {
            black_box(read(black_box(status), black_box(&headers), now));
        });
        println!("headers/{name}: {} allocations", counted.count_total);
        if name == "nothing" {
            assert_eq!(counted.count_total, 0, "no field describes a limit");
        }
    }
    group.finish();
}

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in COMMON.iter().chain(lines) {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

criterion_group!(benches, readers);
criterion_main!(benches);
