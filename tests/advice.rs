//! What the layer does with what a server says outright about sending again.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use http::{Request, Response, StatusCode};
use support::{Body, get, post, send, serving};
use tokio::time::Instant;
use tower::Layer;
use tower_m2m::{
    Attempts, Clock, RateLimitRetryLayer,
    rate_limit_retry::{GaveUp, GiveUpReason, headers::Vendor},
};

#[tokio::test(start_paused = true)]
async fn a_do_not_retry_header_is_obeyed() {
    for header in ["x-should-retry: false", "grpc-retry-pushback-ms: -1"] {
        let (sent, reason, _) = run(429, &[header, "retry-after: 1"], get("/")).await;

        assert_eq!(
            (sent, reason),
            (1, Some(GiveUpReason::DoNotRetry)),
            "{header}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_may_request_a_retry_of_any_method() {
    for status in [409, 429, 500, 503] {
        let (sent, _, _) = run(status, &["x-should-retry: true"], post("/")).await;

        assert_eq!(sent, 2, "{status}");
    }
    let (sent, _, _) = run(500, &[], post("/")).await;
    assert_eq!(sent, 1);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_a_lower_bound_for_transient_failures() {
    for (status, request) in [
        (502, get("/")),
        (413, post("/")),
        (418, post("/")),
        (403, post("/")),
    ] {
        let (sent, _, took) = run(status, &["retry-after: 20"], request).await;

        assert_eq!(sent, 2, "{status}");
        assert!(took >= Duration::from_secs(20), "{status}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_profile_interprets_the_values() {
    let builder = RateLimitRetryLayer::builder().profile(Vendor::PRISJAKT);
    let lines = ["x-rate-limit-remaining: 0", "x-rate-limit-reset: 60000"];

    let (sent, _, took) = run_through(&builder.build(), 429, &lines, get("/")).await;

    assert_eq!(sent, 2);
    assert!((60..62).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn clock_skew_is_corrected_without_a_date_header() {
    for (ahead, behind) in [(0, 0), (90, 0), (0, 90), (86_400, 0), (0, 3600)] {
        let began = Instant::now();
        let clock = Off {
            began,
            start: server_epoch() + ahead - behind,
        };
        let layer = RateLimitRetryLayer::builder().clock(clock).build();
        let date = "date: Mon, 21 Sep 2026 14:13:20 GMT";
        let _ = run_through(&layer, 200, &[date, "x-ratelimit-remaining: 9"], get("/")).await;
        let reset = format!("x-ratelimit-reset: {}", server_epoch() + 30);

        let (sent, _, took) =
            run_through(&layer, 429, &["x-ratelimit-remaining: 0", &reset], get("/")).await;

        assert_eq!(sent, 2, "{ahead} {behind}");
        assert!(
            (30..32).contains(&took.as_secs()),
            "{ahead} {behind}: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn quotas_in_other_units_hold_no_request() {
    let layer = RateLimitRetryLayer::new();
    for (field, waits) in [("tokens", false), ("requests", true)] {
        let lines = [
            format!("x-ratelimit-remaining-{field}: 0"),
            format!("x-ratelimit-reset-{field}: 30s"),
        ];
        let _ = run_through(&layer, 200, &[&lines[0], &lines[1]], get("/")).await;

        let (_, _, took) = run_through(&layer, 200, &[], get("/")).await;

        assert_eq!(took >= Duration::from_secs(30), waits, "{field}: {took:?}");
    }
}

/// How often a request is sent if the first answer is this one, why no more, and how long it takes.
async fn run(
    status: u16,
    lines: &[&str],
    request: Request<Body>,
) -> (u32, Option<GiveUpReason>, Duration) {
    run_through(&RateLimitRetryLayer::new(), status, lines, request).await
}

async fn run_through(
    layer: &RateLimitRetryLayer,
    status: u16,
    lines: &[&str],
    request: Request<Body>,
) -> (u32, Option<GiveUpReason>, Duration) {
    let mut refusal = Response::builder().status(status);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        refusal = refusal.header(name, value);
    }
    let refusal = refusal.body(Body::default()).unwrap();
    let refusal = Arc::new(Mutex::new(Some(refusal)));
    let (inner, _) = serving(move |_| {
        let answer = refusal.lock().unwrap().take();
        async move { answer.unwrap_or_else(|| support::status_only(StatusCode::OK)) }
    });
    let service = layer.layer(inner);
    let began = Instant::now();
    let response = send(&service, request).await.unwrap();
    let reason = GaveUp::of(&response).map(|gave_up| gave_up.reason());
    (Attempts::of(&response), reason, began.elapsed())
}

/// A wall clock with any start that advances with tokio's clock.
struct Off {
    began: Instant,
    start: u64,
}

impl Clock for Off {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.start) + self.began.elapsed()
    }
}

/// Mon, 21 Sep 2026 14:13:20 GMT.
fn server_epoch() -> u64 {
    1_790_000_000
}
