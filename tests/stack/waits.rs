//! Requests that wait for a token, for a turn, or for both.

use std::sync::{Arc, Mutex, atomic::Ordering::SeqCst};

use http::{StatusCode, header};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_m2m::{
    M2mLayer, RateLimitRetryLayer, client_credentials::TokenError,
    rate_limit_retry::DeadlineExceeded,
};

use crate::{
    support::{HOUR, SECOND, Source, api, get, layer, send, serving, spawn, status_only},
    world::stacked,
};

#[tokio::test(start_paused = true)]
async fn no_request_waits_while_holding_readiness() {
    let source = Source::with_lifetime(HOUR).with_delay(20 * SECOND);
    let (inner, _) = api(&source);
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(inner);
    let mut direct = limited.clone();
    let mut service =
        M2mLayer::new(RateLimitRetryLayer::new(), layer(&source).build()).layer(limited);
    // Kept alive: it is the service, not its owner's departure, that gives readiness back.
    service.ready().await.unwrap();

    let waiting = tokio::spawn(service.call(get("/")));
    sleep(SECOND).await;

    assert!(timeout(SECOND, direct.ready()).await.is_ok());
    drop(direct);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn token_waiters_are_not_counted_as_in_flight() {
    let source = Source::with_lifetime(HOUR).with_delay(20 * SECOND);
    let (inner, _) = api(&source);
    let (service, layer) = stacked(&source, inner);

    let waiting = spawn(&service, get("/"));
    sleep(SECOND).await;

    let in_flight: u32 = layer
        .handle()
        .quotas()
        .status()
        .iter()
        .map(|q| q.in_flight())
        .sum();
    assert_eq!(in_flight, 0);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_bounds_the_wait_for_a_token_too() {
    let source = Source::with_lifetime(HOUR).with_delay(20 * SECOND);
    let (inner, calls) = api(&source);
    let limits = RateLimitRetryLayer::builder().deadline(5 * SECOND).build();
    let service = M2mLayer::new(limits, layer(&source).build()).layer(inner);
    let began = Instant::now();

    let error = send(&service, get("/")).await.unwrap_err();

    let error = error.downcast::<DeadlineExceeded>().unwrap();
    assert!(!error.possibly_processed());
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(calls.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_token_request_is_the_callers_error() {
    let source = Source::default();
    source.fail_with(Some(TokenError::transient("is down")));
    let (inner, calls) = api(&source);
    let (service, layer) = stacked(&source, inner);

    let error = send(&service, get("/")).await.unwrap_err();

    assert!(error.is::<TokenError>());
    assert_eq!((source.fetches(), calls.load(SeqCst)), (1, 0));
    assert!(
        layer
            .handle()
            .quotas()
            .status()
            .iter()
            .all(|q| q.in_flight() == 0 && q.waiting() == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_begins_during_a_token_wait_applies() {
    let source = Source::with_lifetime(30 * SECOND);
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrivals);
    let (inner, _) = serving(move |_| {
        let mut log = log.lock().unwrap();
        log.push(Instant::now());
        let refused = log.len() == 1;
        async move {
            // The rejection arrives while the second request waits for the second token.
            sleep(35 * SECOND).await;
            let mut response = status_only(if refused {
                StatusCode::TOO_MANY_REQUESTS
            } else {
                StatusCode::OK
            });
            let hint = "10".parse().unwrap();
            response.headers_mut().insert(header::RETRY_AFTER, hint);
            response
        }
    });
    let service = stacked(&source, inner).0;
    let began = Instant::now();
    let first = spawn(&service, get("/"));
    sleep(31 * SECOND).await;
    let source = source.with_delay(10 * SECOND);

    let second = spawn(&service, get("/"));

    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(source.fetches(), 2);
    let arrivals = arrivals.lock().unwrap();
    assert!(arrivals[1..].iter().all(|at| *at - began >= 45 * SECOND));
}
