//! What a response says about limits, dialect by dialect.

mod allocations;
mod field_sets;
mod forms;
mod kinds;
mod names;
mod properties;
mod vectors;
mod waits;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode};
use tower_m2m::rate_limit_retry::headers::{Limit, RateLimitInfo, Unit, read};

fn signals(status: u16, lines: &[&str]) -> RateLimitInfo {
    read(
        StatusCode::from_u16(status).unwrap(),
        &headers(lines),
        now(),
    )
}

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

/// Mon, 21 Sep 2026 14:13:20 GMT.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// A quota in few words: `burst: 0 of 100 in 60 s, reset 12 s`.
fn words(limit: &Limit) -> String {
    let mut words = Vec::new();
    if let Some(name) = &limit.name {
        words.push(format!("{name}:"));
    }
    if let Some(remaining) = limit.remaining {
        words.push(format!("{remaining} left"));
    }
    if let Some(count) = limit.limit {
        words.push(format!("of {count}"));
    }
    match limit.unit {
        Unit::Requests => {}
        unit => words.push(format!("{unit:?}")),
    }
    for (word, time) in [("in", limit.window), ("reset", limit.reset)] {
        if let Some(time) = time {
            words.push(format!("{word} {}s", time.as_secs_f64()));
        }
    }
    if let Some(refill) = limit.refill {
        words.push(format!("+{refill:.4}/s"));
    }
    if let Some(key) = &limit.partition_key {
        words.push(format!("for {}", String::from_utf8_lossy(key)));
    }
    words.join(" ")
}
