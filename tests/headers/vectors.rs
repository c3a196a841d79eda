//! Every vector of `tests/data/rate_limit_vectors.json`, by its id.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use tower_m2m::rate_limit_retry::headers::{RateLimitInfo, RetryAdvice, Vendor, read_with};

use super::{headers, now, signals, words};

#[derive(Deserialize)]
struct Vector {
    id: String,
    status: u16,
    headers: Vec<String>,
    expect: String,
    wait_s: Option<f64>,
    quota: Option<String>,
}

/// The quotas that the vectors name, as far as the response itself does.
#[rustfmt::skip]
const QUOTAS: &[(&str, &[&str])] = &[
    ("IE01", &["50 left of 100 reset 50s"]),
    ("IE02", &["0 left of 100 in 60s reset 44s", "of 5000 in 3600s"]),
    ("IE04", &["0 left of 100 in 60s reset 5s"]),
    ("IE06", &["default: 50 left reset 30s"]),
    ("IE07", &["burst: 0 left of 100 in 60s reset 12s", "daily: 400 left of 1000 in 86400s reset 36000s"]),
    ("IE09", &["default: 999 left for trial121323"]),
    ("IE10", &["peruser: of 65535 ContentBytes in 10s"]),
    ("IE11", &["c: of 8 ConcurrentRequests"]),
    ("IE13", &["sliding: 6 left of 12 reset 1s"]),
    ("IE18", &["default: 0 left reset 48s"]),
    ("IE20", &["0 left of 60 reset 60s"]),
    ("XR01", &["core: 0 left of 5000 reset 600s"]),
    ("XR04", &["0 left of 300 reset 23s"]),
    ("XR05", &["0 left of 300 reset 23s"]),
    ("XR06", &["0 left of 900 reset 840s"]),
    ("XR08", &["598 left of 600 reset 589s"]),
    ("XR09", &["0 left of 600 reset 12s"]),
    ("XR10", &["requests: 0 left of 1500 reset 60s"]),
    ("XR14", &["requests: 0 left of 60 reset 1s", "tokens: 149984 left of 150000 Other reset 360s"]),
    ("XR19", &["requests: 0 left of 50 reset 30s"]),
    ("XR21", &["0 left of 10 reset 60s"]),
    ("XR22", &["0 left of 20 reset 60s"]),
    ("XR23", &["8 left of 40"]),
    ("XR24", &["0 left of 40"]),
    ("XR25", &["89982 left of 100000"]),
    ("XR26", &["daily: 249000 left of 250000 in 86400s", "99 left of 100 in 10s"]),
    ("XR28", &["0 left of 100 in 60s reset 3s", "of 10000 in 86400s"]),
    ("XR31", &["+0.0167/s"]),
    ("XR33", &["9 left of 100 in 60s +0.1667/s"]),
    ("XR34", &["transaction: 0 left Other reset 60s", "default;error: 0 left Other reset 2700s"]),
    ("XR38", &["0 left of 40 reset 1s", "concurrent: 24 left of 25 ConcurrentRequests"]),
];

/// What only the vendor's documentation adds: the window.
const DOCUMENTED: &[(&str, Vendor, &str)] = &[
    (
        "XR01",
        Vendor::GITHUB,
        "core: 0 left of 5000 in 3600s reset 600s",
    ),
    ("XR06", Vendor::X, "0 left of 900 in 900s reset 840s"),
    ("XR08", Vendor::REDDIT, "598 left of 600 in 600s reset 589s"),
    (
        "XR10",
        Vendor::LINEAR,
        "requests: 0 left of 1500 in 3600s reset 60s",
    ),
    ("XR22", Vendor::LEMLIST, "0 left of 20 in 2s reset 60s"),
    ("XR23", Vendor::SHOPIFY, "8 left of 40 +2.0000/s"),
    ("XR25", Vendor::SALESFORCE, "89982 left of 100000 in 86400s"),
];

#[test]
fn every_vector_is_parsed() {
    let vectors = vectors();

    let wrong: Vec<String> = vectors.iter().filter_map(|v| mistake(v).err()).collect();

    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
    assert_eq!(vectors.len(), 70);
}

#[test]
fn a_header_profile_adds_documented_values() {
    let vectors = vectors();
    for (id, vendor, expected) in DOCUMENTED {
        let vector = vectors.iter().find(|vector| vector.id == *id).unwrap();

        let limits = read_as(*vendor, vector).limits;

        assert_eq!(words(&limits[0]), *expected, "{id}");
    }
}

fn mistake(vector: &Vector) -> Result<(), String> {
    let lines: Vec<&str> = vector.headers.iter().map(String::as_str).collect();
    let found = signals(vector.status, &lines);
    let status = StatusCode::from_u16(vector.status).unwrap();
    let wait = vector.wait_s.map(Duration::from_secs_f64);
    let waits = found.retry_after == wait;
    let good = match &*vector.expect {
        "wait" => {
            waits
                && found.advice.is_none()
                && (found.is_throttle(status) || wait.is_some() || status == 429)
        }
        "give_up_if_over_cap" | "redirect_wait" => waits && found.advice.is_none(),
        "global_stop" => waits && found.global && found.is_throttle(status),
        "no_retry" => found.retry_after.is_none() && !found.is_throttle(status),
        "do_not_retry" => found.advice == Some(RetryAdvice::DoNotRetry),
        // Envoy's own retries do not repeat it; for a client it is a rejection like any other.
        "do_not_retry_by_default" => found.advice.is_none(),
        "quota" => found.retry_after.is_none() && !found.limits.is_empty(),
        "ignore" => found.is_empty(),
        // Without a profile it must be too long rather than too short.
        "profile" => {
            found.retry_after > wait && read_as(Vendor::PRISJAKT, vector).retry_after == wait
        }
        other => panic!("{}: {other}", vector.id),
    };
    let quotas: Vec<String> = found.limits.iter().map(words).collect();
    let expected = QUOTAS.iter().find(|row| row.0 == vector.id);
    let quotas_good = match (expected, &vector.quota) {
        (Some((_, expected)), _) => quotas == *expected,
        (None, quota) => quota.is_none(),
    };
    if good && quotas_good {
        Ok(())
    } else {
        Err(format!(
            "{} {}: {found:?} {quotas:?}",
            vector.id, vector.expect
        ))
    }
}

fn read_as(vendor: Vendor, vector: &Vector) -> RateLimitInfo {
    let lines: Vec<&str> = vector.headers.iter().map(String::as_str).collect();
    let status = StatusCode::from_u16(vector.status).unwrap();
    read_with(&vendor, status, &headers(&lines), now())
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../data/rate_limit_vectors.json")).unwrap()
}
