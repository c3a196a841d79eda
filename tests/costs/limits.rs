//! A request that costs more than a limit allows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::Response;
use http_body_util::BodyExt;
use tokio::time::sleep;
use tower::ServiceExt;
use tower_m2m::{
    ErrorClass,
    rate_limit_retry::{Cost, CostTooHigh},
};

use crate::{
    support::SECOND,
    world::{builder, chunks, request, send, service},
};

#[tokio::test(start_paused = true)]
async fn a_request_that_costs_more_than_the_limit_fails_at_once() {
    let layer = builder().build();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let service = service(&layer, move |_| {
        counter.fetch_add(1, SeqCst);
        let response = Response::builder()
            .header("x-ratelimit-limit", "10")
            .header("x-ratelimit-remaining", "10")
            .header("x-ratelimit-reset", "60");
        async { Ok(response.body(chunks(b"", 1))?) }
    });
    send(&service).await.unwrap();
    let batch = |requests: u64| {
        let mut request = request();
        let cost = Cost::new().with("requests", requests);
        request.extensions_mut().insert(cost);
        service.clone().oneshot(request)
    };
    batch(10).await.unwrap();

    let error = batch(11).await.unwrap_err();

    assert_eq!(calls.load(SeqCst), 2);
    assert_eq!(ErrorClass::of(&*error), ErrorClass::Final);
    let error = error.downcast::<CostTooHigh>().unwrap();
    assert_eq!(error.partition().as_str(), "https://api.example.com");
    assert_eq!(
        (error.quota(), error.cost(), error.limit()),
        ("requests", 11, 10)
    );
    assert_eq!(
        error.to_string(),
        "request not sent: it costs 11 of the quota requests, and https://api.example.com allows at most 10; \
         send smaller requests, or correct `.cost(..)`"
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiting_request_fails_once_its_limit_is_known_and_blocks_no_other() {
    let layer = builder().initial_window(1).build();
    let service = service(&layer, async |_| {
        sleep(SECOND / 10).await;
        let response = Response::builder()
            .header("x-ratelimit-limit", "10")
            .header("x-ratelimit-remaining", "9")
            .header("x-ratelimit-reset", "60");
        Ok(response.body(chunks(b"", 1))?)
    });
    let first = tokio::spawn(service.clone().oneshot(request()));
    tokio::task::yield_now().await;
    let mut large = request();
    large
        .extensions_mut()
        .insert(Cost::new().with("requests", 50));
    let large = tokio::spawn(service.clone().oneshot(large));
    tokio::task::yield_now().await;
    let small = tokio::spawn(service.clone().oneshot(request()));

    first.await.unwrap().unwrap();

    let error = large.await.unwrap().unwrap_err();
    assert!(error.is::<CostTooHigh>(), "{error}");
    small.await.unwrap().unwrap();
}

/// Returns a request with a cost of this amount.
fn costing(unit: &'static str, amount: u64) -> http::Request<()> {
    let mut request = request();
    let cost = Cost::new().with(unit, amount);
    request.extensions_mut().insert(cost);
    request
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_another_unit_is_named() {
    let layer = builder().build();
    let service = service(&layer, async |_| {
        let response = Response::builder()
            .header("x-ratelimit-limit-requests", "500")
            .header("x-ratelimit-remaining-requests", "499")
            .header("x-ratelimit-reset-requests", "120ms")
            .header("x-ratelimit-limit-tokens", "1000")
            .header("x-ratelimit-remaining-tokens", "1000")
            .header("x-ratelimit-reset-tokens", "0s");
        Ok(response.body(chunks(b"", 1))?)
    });
    service.clone().oneshot(costing("tokens", 5)).await.unwrap();
    service
        .clone()
        .oneshot(costing("tokens", 1_000))
        .await
        .unwrap();

    let error = service.clone().oneshot(costing("tokens", 1_001)).await;

    let error = error.unwrap_err().downcast::<CostTooHigh>().unwrap();
    assert_eq!(
        (error.quota(), error.cost(), error.limit()),
        ("tokens", 1_001, 1_000)
    );
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_the_body_announces_applies() {
    let layer = builder().build();
    let service = service(&layer, async |_| {
        let body = br#"{"extensions":{"cost":{"actualQueryCost":46,"throttleStatus":
            {"maximumAvailable":1000.0,"currentlyAvailable":54,"restoreRate":50.0}}}}"#;
        let response = Response::builder().header("content-type", "application/json");
        Ok(response.body(chunks(body, 20))?)
    });
    let response = service
        .clone()
        .oneshot(costing("points", 46))
        .await
        .unwrap();
    drop(response.into_body().collect().await.unwrap());

    let error = service.clone().oneshot(costing("points", 1_001)).await;

    let error = error.unwrap_err().downcast::<CostTooHigh>().unwrap();
    assert_eq!((error.quota(), error.limit()), ("points", 1_000));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_body_that_announces_what_remains() {
    let layer = builder().build();
    let left = Arc::new(AtomicU64::new(600));
    let api = Arc::clone(&left);
    let service = service(&layer, move |_| {
        // The server has no more than what was announced last, and throttles in a 200.
        let remaining = api
            .load(SeqCst)
            .checked_sub(300)
            .expect("no query is throttled");
        api.store(remaining, SeqCst);
        async move {
            let body = format!(
                r#"{{"extensions":{{"cost":{{"actualQueryCost":300,"throttleStatus":
                {{"maximumAvailable":1000,"currentlyAvailable":{remaining},"restoreRate":50}}}}}}}}"#
            );
            let response = Response::builder().header("content-type", "application/json");
            Ok(response.body(chunks(body.as_bytes(), 1000))?)
        }
    });
    let query = || service.clone().oneshot(costing("points", 300));
    let first = query().await.unwrap();
    drop(first.into_body().collect().await.unwrap());

    // The head of this response announces nothing, and its body is not read for a while.
    let response = query().await.unwrap();
    let next = tokio::spawn(query());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(left.load(SeqCst), 0);
    drop(response.into_body().collect().await.unwrap());
    // 300 points, at 50 in a second.
    sleep(Duration::from_millis(5900)).await;
    assert!(!next.is_finished());
    left.store(300, SeqCst);
    sleep(Duration::from_millis(200)).await;
    assert!(next.is_finished());
}
