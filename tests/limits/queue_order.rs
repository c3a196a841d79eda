//! In which order requests are sent, and how a hold affects requests that are admitted but not yet sent.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Response, StatusCode};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tower::{
    Layer,
    limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer},
};
use tower_m2m::{M2mLayer, RateLimitRetryLayer, rate_limit_retry::PartitionKey};

use crate::support::{
    API, Body, Client, HOUR, Inner, SECOND, Source, get, layer, serving, spawn, status_only,
    throttled,
};

#[tokio::test(start_paused = true)]
async fn a_hold_that_begins_during_poll_ready_applies() {
    let limits = RateLimitRetryLayer::new();
    held(&limits, |inner| limits.layer(inner)).await;

    let limits = RateLimitRetryLayer::new();
    let credentials = layer(&Source::with_lifetime(HOUR)).build();
    let both = M2mLayer::new(limits.clone(), credentials);
    held(&limits, |inner| both.layer(inner)).await;
}

/// A request that is sent again has its turn after ten seconds, but no connection for the time being.
async fn held<S: Client>(
    limits: &RateLimitRetryLayer,
    layer: impl FnOnce(ConcurrencyLimit<Inner>) -> S,
) {
    let (inner, arrivals) = throttling_the_first(1, Duration::ZERO);
    let connections = Arc::new(Semaphore::new(1));
    let one = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&connections));
    let call = spawn(&layer(one.layer(inner)), get("/a"));
    sleep(SECOND).await;
    let taken = connections.acquire_owned().await.unwrap();
    sleep(14 * SECOND).await;
    limits.handle().pause(&PartitionKey::new(API), 20 * SECOND);
    sleep(SECOND).await;
    drop(taken);

    assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);

    let arrivals = arrivals.lock().unwrap();
    let second = arrivals[1].1 - arrivals[0].1;
    assert!(second >= 35 * SECOND, "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_request_goes_before_later_ones() {
    let (inner, arrivals) = throttling_the_first(2, Duration::from_millis(100));
    let service = RateLimitRetryLayer::new().layer(inner);
    let mut calls = Vec::new();
    for path in ["/a", "/b", "/c", "/d"] {
        calls.push(spawn(&service, get(path)));
        if path == "/b" {
            sleep(SECOND).await;
        }
    }

    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    assert_eq!(order(&arrivals), "/a/b/a/b/c/d");
}

#[tokio::test(start_paused = true)]
async fn a_request_throttled_without_a_hint_does_not_probe_twice_in_a_row() {
    let (inner, arrivals) = throttling(1, Duration::from_millis(100), || {
        status_only(StatusCode::TOO_MANY_REQUESTS)
    });

    let limits = RateLimitRetryLayer::builder().initial_window(1).build();
    one_after_another(&limits.layer(inner)).await;

    assert_eq!(order(&arrivals), "/a/b/a");
}

#[tokio::test(start_paused = true)]
async fn a_request_throttled_three_times_yields_to_others() {
    let (inner, arrivals) = throttling_the_first(3, Duration::ZERO);

    one_after_another(&RateLimitRetryLayer::new().layer(inner)).await;

    assert_eq!(order(&arrivals), "/a/a/a/b/a");
}

async fn one_after_another(service: &impl Client) {
    let first = spawn(service, get("/a"));
    sleep(Duration::from_millis(1)).await;
    let second = spawn(service, get("/b"));

    for call in [first, second] {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

fn order(arrivals: &Arrivals) -> String {
    let arrivals = arrivals.lock().unwrap();
    arrivals.iter().map(|(path, _)| path.as_str()).collect()
}

type Arrivals = Arc<Mutex<Vec<(String, Instant)>>>;

/// An API that rejects the first `count` requests for ten seconds and takes `delay` for each.
fn throttling_the_first(count: usize, delay: Duration) -> (Inner, Arrivals) {
    throttling(count, delay, || throttled("10"))
}

fn throttling(
    count: usize,
    delay: Duration,
    refusal: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static,
) -> (Inner, Arrivals) {
    let arrivals = Arrivals::default();
    let log = Arc::clone(&arrivals);
    let (inner, _) = serving(move |request| {
        let mut log = log.lock().unwrap();
        log.push((request.uri().path().to_owned(), Instant::now()));
        let refusal = (log.len() <= count).then(&refusal);
        async move {
            sleep(delay).await;
            refusal.unwrap_or_else(|| status_only(StatusCode::OK))
        }
    });
    (inner, arrivals)
}
