//! Quotas, waits and retries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{body::Body, response::Response};

use crate::support::{KEY, Upstream, gateway, gateway_to, issuer, send, tenant};

#[tokio::test]
async fn a_wait_beyond_max_wait_becomes_a_503_with_retry_after() {
    let (issuer, upstream) = (
        issuer().await,
        Upstream::answering(429, ("retry-after", "50")).await,
    );
    let gateway = gateway_to(&upstream, &issuer).await;

    let told = send(&gateway, "GET", "/").await;
    let held = send(&gateway, "GET", "/").await;

    assert_eq!((told.status, told.retry_after()), (503, Some(50)));
    assert_eq!(held.status, 503);
    assert!((45..=52).contains(&held.retry_after().unwrap()), "{held:?}");
    // The second was not sent.
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_429_holds_only_its_own_tenant() {
    let issuer = issuer().await;
    let full = Upstream::answering(429, ("retry-after", "50")).await;
    let free = Upstream::answering(200, ("x", "y")).await;
    let tenants = tenant("full", "caller-key-of-the-full", &full.origin, &issuer)
        + &tenant("free", KEY, &free.origin, &issuer);
    let gateway = gateway("", &tenants).await;
    let by_full = http::Request::get(format!("http://{}/", gateway.address()))
        .header("authorization", "Bearer caller-key-of-the-full");

    let refused = crate::support::answer(by_full.body(Body::empty()).unwrap()).await;
    let response = send(&gateway, "GET", "/").await;

    assert_eq!((refused.status, response.status), (503, 200));
}

#[tokio::test]
async fn a_wait_within_max_wait_is_waited_for() {
    let issuer = issuer().await;
    let upstream = failing_once(429).await;
    let gateway = gateway_to(&upstream, &issuer).await;

    let response = send(&gateway, "GET", "/").await;

    assert_eq!(response.status, 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn only_idempotent_requests_are_retried() {
    let issuer = issuer().await;
    for (method, status, answered, sent) in [
        ("GET", 502, 200, 2),
        ("PUT", 502, 200, 2),
        ("POST", 502, 502, 1),
        ("PATCH", 503, 503, 1),
        ("PUT", 429, 200, 2),
        ("POST", 429, 503, 1),
    ] {
        let upstream = failing_once(status).await;
        let gateway = gateway_to(&upstream, &issuer).await;

        let response = send(&gateway, method, "/").await;

        assert_eq!(response.status, answered, "{method} {status}");
        assert_eq!(upstream.requests().len(), sent, "{method} {status}");
        assert!(
            upstream
                .requests()
                .iter()
                .all(|asked| asked.method == *method)
        );
    }
}

#[tokio::test]
async fn a_throttled_post_is_retried_if_configured() {
    let issuer = issuer().await;
    let upstream = failing_once(429).await;
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let tenants = tenants.replacen("caller_keys", "retry_all_methods = true\ncaller_keys", 1);
    let gateway = gateway("", &tenants).await;

    let response = send(&gateway, "POST", "/").await;

    assert_eq!(
        (response.status, response.body.as_str()),
        (200, "some bytes")
    );
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn an_unreachable_upstream_becomes_a_502() {
    let issuer = issuer().await;
    let upstream = Upstream::answering(200, ("x", "y")).await;
    let tenants = tenant("acme", KEY, "http://127.0.0.1:1", &issuer);
    let gateway = gateway("deadline = 1", &tenants).await;

    let response = send(&gateway, "POST", "/").await;

    assert!([502, 504].contains(&response.status), "{response:?}");
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_slow_upstream_becomes_a_504() {
    let issuer = issuer().await;
    let upstream = Upstream::start(|_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Response::default()
    })
    .await;
    let tenants = tenant("acme", KEY, &upstream.origin, &issuer);
    let gateway = gateway("deadline = 1", &tenants).await;

    let response = send(&gateway, "GET", "/").await;

    assert_eq!(response.status, 504);
}

/// Answers this status once, and then what it is sent.
async fn failing_once(status: u16) -> Upstream {
    let asked = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |request| {
        let first = asked.fetch_add(1, Relaxed) == 0;
        async move {
            let mut response = Response::new(request.into_body());
            if first {
                *response.status_mut() = status.try_into().unwrap();
                *response.body_mut() = Body::empty();
                if status == 429 {
                    response.headers_mut().insert("retry-after", 1.into());
                }
            }
            response
        }
    })
    .await
}
