//! One fetch for all who wait, whatever becomes of it and of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::StatusCode;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_m2m::{
    ClientCredentialsLayer,
    client_credentials::{
        AccessToken, FetchContext, TokenError, TokenErrorKind, TokenEvent, TokenSource,
    },
};

use crate::{
    callers::{errors_of, send_owned, statuses},
    support::{HOUR, SECOND, Source, api, get, layer, origin},
};

#[tokio::test(start_paused = true)]
async fn ten_thousand_cold_requests_cause_one_token_request() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let (inner, calls) = api(&source);
    let service = layer(&source).build().layer(inner);

    let statuses = statuses(&service, 10_000).await;

    assert!(statuses.iter().all(|s| *s == StatusCode::OK));
    assert_eq!(source.fetches(), 1);
    assert_eq!(calls.load(SeqCst), 10_000);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_at_expiry_cause_one_token_request() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    statuses(&service, 1).await;
    sleep(2 * HOUR).await;

    let statuses = statuses(&service, 10_000).await;

    assert!(statuses.iter().all(|s| *s == StatusCode::OK));
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_first_caller_changes_nothing() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    let first = tokio::spawn(send_owned(service.clone()));
    sleep(SECOND / 2).await;
    let second = tokio::spawn(send_owned(service.clone()));
    sleep(SECOND / 10).await;

    first.abort();

    let began = Instant::now();
    assert_eq!(second.await.unwrap(), StatusCode::OK);
    assert!(began.elapsed() < SECOND / 2);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_is_shared_and_backed_off() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    source.fail_with(Some(TokenError::transient("is down")));
    let service = layer(&source).build().layer(api(&source).0);

    let errors = errors_of(&service, 1_000).await;
    let later = errors_of(&service, 10).await;

    assert_eq!(errors.len(), 1_000);
    assert_eq!(later.len(), 10);
    assert_eq!(source.fetches(), 1);
    assert!(later[0].retry_after().unwrap() <= SECOND);
    assert!(later[0].to_string().contains("attempt 1"));
}

#[tokio::test(start_paused = true)]
async fn the_endpoints_retry_after_applies_to_every_caller() {
    let source = Source::with_lifetime(HOUR);
    let throttled = TokenError::transient("was throttled").with_retry_after(60 * SECOND);
    source.fail_with(Some(throttled));
    let service = layer(&source).build().layer(api(&source).0);
    errors_of(&service, 1).await;
    source.fail_with(None);

    sleep(59 * SECOND).await;
    let early = errors_of(&service, 100).await;
    sleep(2 * SECOND).await;
    let late = statuses(&service, 100).await;

    assert_eq!(early.len(), 100);
    assert_eq!(late.len(), 100);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_retried_after_30_seconds() {
    let source = Source::with_lifetime(HOUR);
    source.fail_with(Some(TokenError::permanent("was refused")));
    let service = layer(&source).build().layer(api(&source).0);
    errors_of(&service, 1).await;

    sleep(29 * SECOND).await;
    errors_of(&service, 1).await;
    assert_eq!(source.fetches(), 1);
    source.fail_with(None);
    sleep(8 * SECOND).await;

    assert_eq!(statuses(&service, 1).await, [StatusCode::OK]);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_event_sink_changes_nothing() {
    let source = Source::with_lifetime(HOUR);
    let events = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&events);
    let layer = layer(&source)
        .on_event(|_| panic!("a sink of the user's"))
        .on_event(move |_: &TokenEvent<'_>| {
            counter.fetch_add(1, SeqCst);
        })
        .build();
    let service = layer.layer(api(&source).0);

    assert_eq!(statuses(&service, 10).await.len(), 10);

    assert_eq!(events.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_panic_is_a_fetch_failure() {
    struct Panics;
    impl TokenSource for Panics {
        async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
            panic!("a source of the user's")
        }
    }
    let (inner, _) = api(&Source::default());
    let service = ClientCredentialsLayer::builder(Panics, origin())
        .build()
        .layer(inner);

    let error = errors_of(&service, 3).await.remove(2);

    assert_eq!(error.kind(), TokenErrorKind::Aborted);
    assert!(error.is_transient());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_ends_at_its_deadline() {
    let source = Source::with_lifetime(HOUR).with_delay(24 * HOUR);
    let service = layer(&source).build().layer(api(&source).0);
    let began = Instant::now();

    let error = errors_of(&service, 1).await.remove(0);

    assert_eq!(error.kind(), TokenErrorKind::Timeout);
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_for_a_token_while_holding_readiness() {
    let source = Source::with_lifetime(HOUR).with_delay(20 * SECOND);
    let (inner, _) = api(&source);
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(inner);
    let mut direct = limited.clone();
    // Kept alive: it is the service, not its owner's departure, that gives readiness back.
    let mut service = layer(&source).build().layer(limited);
    service.ready().await.unwrap();

    let waiting = tokio::spawn(service.call(get("/")));
    tokio::task::yield_now().await;

    // The one permit is free, although a request waits for a token.
    let ready = timeout(SECOND, direct.ready()).await;
    assert!(ready.is_ok());
    drop(direct);
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn a_token_with_a_line_break_is_an_error_and_not_shown() {
    let service = ClientCredentialsLayer::builder(AccessToken::new("canary\nx"), origin())
        .build()
        .layer(api(&Source::default()).0);

    let error = errors_of(&service, 1).await.remove(0);

    assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
    assert!(!format!("{error} {error:?}").contains("canary"));
}
