//! A token that is renewed before it expires, or at the word of its handle.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::client_credentials::{TokenError, TokenErrorKind};

use crate::{
    callers::{errors_of, statuses},
    support::{HOUR, SECOND, Source, api, layer},
};

#[tokio::test(start_paused = true)]
async fn no_request_waits_while_the_token_is_valid() {
    let source = Source::with_lifetime(300 * SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    statuses(&service, 1).await;
    let source = source.with_delay(5 * SECOND);
    sleep(275 * SECOND).await;

    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(statuses(&service, 1).await, [StatusCode::OK]);
    }

    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(source.fetches(), 2);
    sleep(6 * SECOND).await;
    statuses(&service, 1).await;
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_early_refresh_keeps_the_valid_token() {
    let source = Source::with_lifetime(300 * SECOND);
    let service = layer(&source).build().layer(api(&source).0);
    statuses(&service, 1).await;
    source.fail_with(Some(TokenError::permanent("is down")));
    sleep(275 * SECOND).await;

    let used = statuses(&service, 100).await;
    sleep(SECOND).await;
    let still_used = statuses(&service, 100).await;

    assert!(used.iter().chain(&still_used).all(|s| *s == StatusCode::OK));
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn zero_lifetimes_cause_no_hot_loop() {
    let source = Source::with_lifetime(Duration::ZERO);
    let service = layer(&source).build().layer(api(&source).0);

    for _ in 0..1_000 {
        assert_eq!(statuses(&service, 1).await, [StatusCode::OK]);
        sleep(Duration::from_millis(10)).await;
    }

    assert!(
        source.fetches() <= 15,
        "{} fetches in 10 s",
        source.fetches()
    );
}

#[tokio::test(start_paused = true)]
async fn the_handle_gets_refreshes_invalidates_and_shuts_down() {
    let source = Source::with_lifetime(HOUR);
    let layer = layer(&source).build();
    let handle = layer.handle();
    let service = layer.layer(api(&source).0);

    handle.prefetch().await.unwrap();
    assert_eq!(handle.token().await.unwrap().expose(), Some("token-1"));
    assert_eq!(
        handle.refresh_now().await.unwrap().expose(),
        Some("token-2")
    );
    handle.invalidate();
    assert!(!handle.status().is_usable());
    assert_eq!(handle.token().await.unwrap().expose(), Some("token-3"));
    handle.shutdown().await;
    assert_eq!(statuses(&service, 1).await, [StatusCode::OK]);
    sleep(2 * HOUR).await;

    let error = errors_of(&service, 1).await.remove(0);
    assert_eq!(error.kind(), TokenErrorKind::ShutDown);
    assert_eq!(source.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_status_reports_a_refresh_and_a_shutdown() {
    let source = Source::with_lifetime(HOUR).with_delay(SECOND);
    let handle = layer(&source).build().handle();
    let forced = handle.clone();
    let refresh = tokio::spawn(async move { forced.refresh_now().await });
    sleep(SECOND / 2).await;

    let during = handle.status();
    refresh.await.unwrap().unwrap();
    let after = handle.status();
    handle.shutdown().await;

    assert!(during.is_refreshing() && !after.is_refreshing());
    assert!(!after.is_shut_down() && handle.status().is_shut_down());
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_that_fails_keeps_the_token() {
    let source = Source::with_lifetime(HOUR);
    let layer = layer(&source).build();
    let handle = layer.handle();
    handle.prefetch().await.unwrap();
    source.fail_with(Some(TokenError::transient("is down")));

    assert!(handle.refresh_now().await.is_err());

    assert!(handle.status().is_usable());
    assert_eq!(handle.token().await.unwrap().expose(), Some("token-1"));
}
