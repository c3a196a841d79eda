//! `QuotaHandle::bypass`: the limiter out of the way.
#![expect(clippy::disallowed_methods, reason = "on the paused clock")]

mod support;

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use http::{Response, StatusCode, header::RETRY_AFTER};
use support::{API, Body, Inner, Source, api, get, layer, send, serving, spawn, status_only};
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::{
    Attempts, M2mLayer, RateLimitRetryLayer,
    rate_limit_retry::{GaveUp, PartitionKey},
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn bypass_releases_queued_requests() {
    let limits = RateLimitRetryLayer::new();
    let (inner, calls) = always(StatusCode::OK);
    let service = limits.layer(inner);
    let partition = PartitionKey::new(API);
    limits.handle().pause(&partition, MINUTE);
    let waiting: Vec<_> = (0..3).map(|_| spawn(&service, get("/"))).collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(calls.load(SeqCst), 0);
    let began = Instant::now();

    limits.handle().bypass();

    for response in waiting {
        assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    send(&service, get("/")).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(calls.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn bypass_returns_throttling_and_errors_unchanged() {
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_GATEWAY] {
        let limits = RateLimitRetryLayer::new();
        let (inner, calls) = always(status);
        let service = limits.layer(inner);
        limits.handle().bypass();

        for sent in 1..=3 {
            let response = send(&service, get("/")).await.unwrap();

            assert_eq!(response.status(), status);
            assert!(GaveUp::of(&response).is_none());
            assert_eq!(Attempts::of(&response), 1);
            assert_eq!(calls.load(SeqCst), sent);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn limits_observed_during_a_bypass_apply_afterwards() {
    let limits = RateLimitRetryLayer::new();
    let (inner, calls) = always(StatusCode::TOO_MANY_REQUESTS);
    let service = limits.layer(inner);
    limits.handle().bypass();
    assert!(limits.handle().is_bypassed());
    send(&service, get("/")).await.unwrap();

    limits.handle().enforce();

    assert!(!limits.handle().is_bypassed());
    let waiting = spawn(&service, get("/"));
    sleep(MINUTE - Duration::from_secs(1)).await;
    assert_eq!(calls.load(SeqCst), 1);
    sleep(Duration::from_secs(2)).await;
    assert!(calls.load(SeqCst) > 1);
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn bypass_still_replaces_a_rejected_token() {
    let source = Source::default();
    let both = M2mLayer::new(RateLimitRetryLayer::new(), layer(&source).build());
    let service = both.layer(api(&source).0);
    both.handle().quotas().bypass();
    send(&service, get("/")).await.unwrap();
    source.revoke_all();

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(Attempts::of(&response), 2);
}

/// An API that always gives this answer, which a minute's wait would help; and how often it was called.
fn always(status: StatusCode) -> (Inner, Arc<std::sync::atomic::AtomicUsize>) {
    serving(move |_| {
        let mut response: Response<Body> = status_only(status);
        if !status.is_success() {
            response.headers_mut().insert(RETRY_AFTER, 60.into());
        }
        std::future::ready(response)
    })
}
