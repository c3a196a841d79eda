//! After a thousand answers that say nothing about limits, requests go past the gate; what an answer says then is
//! heeded all the same, and only by those whom it concerns.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use tokio::time::Instant;
use tower::Layer;
use tower_m2m::{
    M2mLayer, RateLimitRetryLayer,
    rate_limit_retry::{
        PartitionKey, StoredQuotas,
        headers::{Field, HeaderProfile},
    },
    test_util::MemoryQuotaStore,
};

use crate::support::{
    API, Body, Client, Inner, Source, get, layer, send, serving, spawn, status_only,
};

/// Responses without limit fields after which a partition uses the fast path.
const SILENT: usize = 1000;
const TEN_SECONDS: Duration = Duration::from_secs(10);
const OTHER: &str = "https://other.example.com/";

#[tokio::test(start_paused = true)]
async fn a_429_holds_the_next_request() {
    let api = Flaky::default();
    let service = RateLimitRetryLayer::builder()
        .max_retries(0)
        .build()
        .layer(api.inner());
    many(&service, || get("/")).await;
    api.throttle_once("/");
    let refused = send(&service, get("/")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let began = Instant::now();

    send(&service, get("/")).await.unwrap();

    assert_held(began);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_request_is_retried() {
    let api = Flaky::default();
    let service = RateLimitRetryLayer::new().layer(api.inner());
    many(&service, || get("/")).await;
    api.throttle_once("/");
    let began = Instant::now();

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_held(began);
}

#[tokio::test(start_paused = true)]
async fn a_429_does_not_hold_other_origins() {
    for (host, also) in [
        ("https://a.example.com/", OTHER),
        ("http://a.example.com/", "https://a.example.com/"),
    ] {
        let api = Flaky::default();
        let service = RateLimitRetryLayer::builder()
            .max_retries(0)
            .build()
            .layer(api.inner());
        many(&service, || to(host)).await;
        many(&service, || to(also)).await;
        api.throttle_once(also);
        send(&service, to(also)).await.unwrap();
        let began = Instant::now();

        // The partitions are distinguished although both run on one thread, which caches the last one used.
        many(&service, || to(host)).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "{host}");

        send(&service, to(also)).await.unwrap();
        assert_held(began);
    }
}

#[tokio::test(start_paused = true)]
async fn the_fast_path_works_with_a_token() {
    let api = Flaky::default();
    let source = Source::default();
    let layer = M2mLayer::new(
        RateLimitRetryLayer::builder().max_retries(0).build(),
        layer(&source)
            .allow_origin(OTHER.parse().unwrap())
            .name("orders")
            .build(),
    );
    let service = layer.layer(api.inner());
    many(&service, || get("/")).await;
    many(&service, || to(OTHER)).await;
    api.throttle_once(OTHER);
    send(&service, to(OTHER)).await.unwrap();
    let began = Instant::now();

    many(&service, || get("/")).await;
    assert_eq!(began.elapsed(), Duration::ZERO);

    send(&service, to(OTHER)).await.unwrap();
    assert_held(began);
}

#[tokio::test(start_paused = true)]
async fn custom_partitions_are_held_separately() {
    let api = Flaky::default();
    let service = RateLimitRetryLayer::builder()
        .max_retries(0)
        .partition_by(|parts| PartitionKey::new(parts.uri.path()))
        .build()
        .layer(api.inner());
    many(&service, || get("/a")).await;
    many(&service, || get("/b")).await;
    api.throttle_once("/b");
    send(&service, get("/b")).await.unwrap();
    let began = Instant::now();

    many(&service, || get("/a")).await;
    assert_eq!(began.elapsed(), Duration::ZERO);

    send(&service, get("/b")).await.unwrap();
    assert_held(began);
}

#[tokio::test(start_paused = true)]
async fn a_vendor_header_is_parsed() {
    #[derive(Debug)]
    struct Acme;

    impl HeaderProfile for Acme {
        fn field(&self, name: &str) -> Option<Field> {
            match name {
                "acme-left" => Some(Field::Remaining),
                "acme-back-in" => Some(Field::Reset),
                _ => None,
            }
        }
    }

    let api = Flaky::default();
    let service = RateLimitRetryLayer::builder()
        .profile(Acme)
        .build()
        .layer(api.inner());
    many(&service, || get("/")).await;
    api.announce_once(&[("acme-left", "0"), ("acme-back-in", "10")]);
    send(&service, get("/")).await.unwrap();
    let began = Instant::now();

    send(&service, get("/")).await.unwrap();

    assert_held(began);
}

#[tokio::test(start_paused = true)]
async fn a_remote_hold_is_obeyed() {
    let api = Flaky::default();
    let store = MemoryQuotaStore::new();
    let process = || {
        RateLimitRetryLayer::builder()
            .max_retries(0)
            .store(StoredQuotas::new("fleet", store.clone()))
            .build()
            .layer(api.inner())
    };
    let (one, other) = (process(), process());
    many(&one, || get("/")).await;
    send(&other, get("/")).await.unwrap();
    api.throttle_once("/");
    send(&other, get("/")).await.unwrap();
    // The store has notified the other process meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();

    send(&one, get("/")).await.unwrap();

    assert!(
        began.elapsed() > Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_at_its_deadline() {
    let (inner, _) = serving(|_| async {
        tokio::time::sleep(TEN_SECONDS).await;
        status_only(StatusCode::OK)
    });
    let api = Flaky::default();
    let quick = RateLimitRetryLayer::builder()
        .deadline(Duration::from_secs(1))
        .build();
    many(&quick.layer(api.inner()), || get("/")).await;
    let began = Instant::now();

    send(&quick.layer(inner), get("/")).await.unwrap_err();

    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_limit_announced_on_a_success_is_obeyed() {
    let api = Flaky::default();
    let service = RateLimitRetryLayer::new().layer(api.inner());
    many(&service, || get("/")).await;
    api.announce_once(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "10")]);
    send(&service, get("/")).await.unwrap();
    let began = Instant::now();

    send(&service, get("/")).await.unwrap();

    assert_held(began);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_recorded_only_for_retried_requests() {
    let api = Flaky::default();
    let service = RateLimitRetryLayer::new().layer(api.inner());
    many(&service, || get("/")).await;
    api.throttle_once("/");

    let again = send(&service, get("/")).await.unwrap();
    let once = send(&service, get("/")).await.unwrap();

    assert_eq!(tower_m2m::Attempts::of(&again), 2);
    assert_eq!(tower_m2m::Attempts::of(&once), 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_can_be_forgotten() {
    let api = Flaky::default();
    let layer = RateLimitRetryLayer::builder().max_retries(0).build();
    let service = layer.layer(api.inner());
    api.throttle_once("/");
    send(&service, get("/")).await.unwrap();
    let waiting = spawn(&service, get("/"));
    tokio::task::yield_now().await;
    let began = Instant::now();

    layer.handle().forget(&PartitionKey::new(API));

    waiting.await.unwrap().unwrap();
    send(&service, get("/")).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// An API that reports no limits unless the test sets one.
#[derive(Clone, Default)]
struct Flaky(Arc<Mutex<Option<(String, Response<Body>)>>>);

impl Flaky {
    /// The next request whose URL ends so, or begins so, is refused for ten seconds.
    fn throttle_once(&self, url: &str) {
        let mut response = status_only(StatusCode::TOO_MANY_REQUESTS);
        let ten = "10".parse().unwrap();
        response.headers_mut().insert(RETRY_AFTER, ten);
        *self.0.lock().unwrap() = Some((url.to_owned(), response));
    }

    fn announce_once(&self, fields: &[(&'static str, &'static str)]) {
        let mut response = status_only(StatusCode::OK);
        for (name, value) in fields {
            let value = value.parse().unwrap();
            response.headers_mut().insert(*name, value);
        }
        *self.0.lock().unwrap() = Some(("/".to_owned(), response));
    }

    fn inner(&self) -> Inner {
        let flaky = self.clone();
        let (inner, _) = serving(move |request| {
            let url = request.uri().to_string();
            let now = flaky
                .0
                .lock()
                .unwrap()
                .take_if(|(of, _)| url.ends_with(&**of));
            std::future::ready(now.map_or_else(|| status_only(StatusCode::OK), |(_, it)| it))
        });
        inner
    }
}

fn to(url: &str) -> Request<Body> {
    Request::get(url).body(Body::default()).unwrap()
}

/// Ten seconds, and a little for jitter.
fn assert_held(since: Instant) {
    let held = since.elapsed();
    assert!(
        (TEN_SECONDS..TEN_SECONDS * 11 / 10).contains(&held),
        "{held:?}"
    );
}

/// As many requests as open a partition, and some more.
async fn many(service: &impl Client, request: impl Fn() -> Request<Body>) {
    for _ in 0..SILENT + 5 {
        let response = send(service, request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}
