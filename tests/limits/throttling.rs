//! Throttling responses other than 429, and responses that do not throttle.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use tokio::time::Instant;
use tower::Layer;
use tower_m2m::{
    Attempts, RateLimitRetryLayer,
    rate_limit_retry::{GaveUp, GiveUpReason},
};

use crate::support::{Body, SECOND, get, post, send, serving, status_only};

#[tokio::test(start_paused = true)]
async fn other_throttling_statuses_hold_the_partition_and_use_the_retry_budget() {
    for status in [408, 420, 425, 430, 503, 529] {
        let seen = run(status, &["retry-after: 20"], get("/")).await;
        assert_eq!((seen.sent, seen.waited), (2, 20), "{status}");

        let seen = run(status, &["retry-after: 20"], post("/")).await;
        assert_eq!(seen.sent, 1, "{status}");
        assert_eq!(seen.reason, Some(GiveUpReason::NotIdempotent), "{status}");
        assert_eq!(seen.held, Some(20), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_shed_by_a_proxy_holds_the_partition_and_is_retried_for_any_method() {
    for (status, lines) in [
        (429, &["x-envoy-ratelimited: true", "retry-after: 20"][..]),
        (429, &["x-envoy-ratelimited: true"]),
        (503, &["x-envoy-ratelimited: true", "retry-after: 20"]),
        (503, &["x-envoy-overloaded: true", "retry-after: 20"]),
        (503, &["x-envoy-overloaded: true"]),
    ] {
        for request in [get("/"), post("/")] {
            let seen = run(status, lines, request).await;

            assert_eq!(seen.sent, 2, "{status} {lines:?}");
            assert!(
                seen.waited >= 20 || lines.len() == 1,
                "{status} {lines:?} {}",
                seen.waited
            );
        }
        let layer = RateLimitRetryLayer::builder().max_retries(0).build();
        let seen = run_through(&layer, status, lines, post("/")).await;
        assert!(seen.held.is_some(), "{status} {lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_403_with_an_exhausted_request_quota_is_throttling() {
    for (lines, throttle) in [
        (
            &["x-ratelimit-remaining: 0", "x-ratelimit-reset: 50"][..],
            true,
        ),
        (&["retry-after: 50"], true),
        (
            &[
                "x-ratelimit-remaining-tokens: 0",
                "x-ratelimit-reset-tokens: 50s",
            ],
            false,
        ),
        (
            &[
                "x-ratelimit-limit: 0",
                "x-ratelimit-remaining: 0",
                "x-ratelimit-reset: 50",
            ],
            false,
        ),
        (
            &["x-ratelimit-remaining: 7", "x-ratelimit-reset: 50"],
            false,
        ),
    ] {
        let seen = run(403, lines, get("/")).await;

        let sent = 1 + u32::from(throttle);
        assert_eq!(seen.sent, sent, "{lines:?}");
        assert_eq!(seen.waited >= 50, throttle, "{lines:?}");
        assert_eq!(seen.reason, None, "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_409_and_421_are_returned_to_the_caller() {
    for status in [409, 421] {
        let seen = run(status, &["retry-after: 20"], get("/")).await;

        assert_eq!((seen.sent, seen.held), (1, None), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_credential_is_not_retried_on_a_server_hint() {
    for status in [401, 407] {
        let lines = ["x-should-retry: true", "retry-after: 1"];

        let seen = run(status, &lines, get("/")).await;

        assert_eq!((seen.sent, seen.reason), (1, None), "{status}");
    }
}

/// The outcome of a request whose first response was a rejection.
struct Seen {
    sent: u32,
    reason: Option<GiveUpReason>,
    /// In seconds.
    waited: u64,
    /// For how many seconds more the partition is held.
    held: Option<u64>,
}

async fn run(status: u16, lines: &[&str], request: Request<Body>) -> Seen {
    run_through(&RateLimitRetryLayer::new(), status, lines, request).await
}

async fn run_through(
    layer: &RateLimitRetryLayer,
    status: u16,
    lines: &[&str],
    request: Request<Body>,
) -> Seen {
    let lines: Arc<[String]> = lines.iter().map(ToString::to_string).collect();
    let (inner, calls) = serving(move |request| {
        let again = Attempts::of_request(&request) > 1;
        let mut response = Response::builder().status(if again { 200 } else { status });
        for line in lines.iter().filter(|_| !again) {
            let (name, value) = line.split_once(": ").unwrap();
            response = response.header(name, value);
        }
        std::future::ready(response.body(Body::default()).unwrap())
    });
    drop(calls);
    let began = Instant::now();

    let response = send(&layer.layer(inner), request).await.unwrap();

    let waited = began.elapsed();
    let status = layer.handle().status();
    let held = status.iter().filter_map(|status| status.held_for()).max();
    // Jitter only adds, and not much.
    Seen {
        sent: Attempts::of(&response),
        reason: GaveUp::of(&response).map(|gave_up| gave_up.reason()),
        waited: waited.as_secs(),
        held: held.map(|held| (held + SECOND / 2).as_secs()),
    }
}

#[tokio::test(start_paused = true)]
async fn overload_without_retry_after_is_a_transient_failure() {
    let (inner, calls) =
        serving(|_| std::future::ready(status_only(StatusCode::from_u16(529).unwrap())));
    let layer = RateLimitRetryLayer::builder().max_retries(1).build();

    for (request, sent) in [(get("/"), 2), (post("/"), 3)] {
        let response = send(&layer.layer(inner.clone()), request).await.unwrap();

        assert_eq!(response.status(), 529);
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), sent);
    }
}
