//! Which partitions a rejection holds.

use http::{Request, StatusCode};
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::RateLimitRetryLayer;

use crate::{
    support::{Body, SECOND, get, send, serving, spawn},
    world::{by_path, throttling_once},
};

#[tokio::test(start_paused = true)]
async fn an_origin_wide_429_holds_all_partitions() {
    for (name, value) in [
        ("x-ratelimit-global", "true"),
        ("x-ratelimit-scope", "global"),
    ] {
        let (inner, _) = throttling_once("/a", &[("retry-after", "30"), (name, value)]);
        let service = by_path().build().layer(inner);
        let began = Instant::now();
        send(&service, get("/known")).await.unwrap();
        let refused = spawn(&service, get("/a"));
        sleep(SECOND).await;

        let elsewhere = Request::get("https://other.example.com/").body(Body::default());
        send(&service, elsewhere.unwrap()).await.unwrap();
        assert_eq!(began.elapsed(), SECOND);
        let new = spawn(&service, get("/new"));
        send(&service, get("/known")).await.unwrap();
        assert!(began.elapsed() >= 30 * SECOND);
        new.await.unwrap().unwrap();
        refused.await.unwrap().unwrap();
        assert!(began.elapsed() < 32 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_holds_only_its_partition() {
    let (inner, _) = throttling_once(
        "/a",
        &[("retry-after", "30"), ("x-ratelimit-scope", "user")],
    );
    let service = by_path().build().layer(inner);
    let began = Instant::now();
    let refused = spawn(&service, get("/a"));
    sleep(SECOND).await;

    send(&service, get("/b")).await.unwrap();

    assert_eq!(began.elapsed(), SECOND);
    refused.await.unwrap().unwrap();
}

/// Writes are counted as such, and with everything else.
#[tokio::test(start_paused = true)]
async fn a_limit_for_another_partition_holds_only_that_one() {
    let headers = [
        ("retry-after", "30"),
        ("x-ratelimit-limit", "10"),
        ("x-ratelimit-remaining", "0"),
    ];
    let (inner, _) = throttling_once("/write", &headers);
    let (inner, _) = serving(move |request| {
        let inner = inner.clone();
        async move {
            let mut response = send(&inner, request).await.unwrap();
            if response.status() == StatusCode::OK {
                let headers = response.headers_mut();
                headers.insert("x-ratelimit-limit", 600.into());
                headers.insert("x-ratelimit-remaining", 500.into());
            }
            response
        }
    });
    let service = RateLimitRetryLayer::builder()
        .partitions_by(|parts| match parts.uri.path() {
            "/write" => vec!["all".into(), "writes".into()],
            _ => vec!["all".into()],
        })
        .build()
        .layer(inner);
    let began = Instant::now();
    send(&service, get("/read")).await.unwrap();
    let refused = spawn(&service, get("/write"));
    sleep(SECOND).await;

    send(&service, get("/read")).await.unwrap();
    assert_eq!(began.elapsed(), SECOND);

    send(&service, get("/write")).await.unwrap();
    assert!(began.elapsed() >= 30 * SECOND);
    refused.await.unwrap().unwrap();
}
