//! What a 401 costs, and how soon the next one is repaired.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{StatusCode, header};
use support::{HOUR, Inner, SECOND, Source, api, get, layer, post, send, serving, status_only};
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::client_credentials::{RejectionAction, TokenEvent};

#[tokio::test(start_paused = true)]
async fn an_api_with_a_fast_clock_works_with_short_lived_tokens() {
    for (life, of_use) in [(4, 2_500), (8, 4_500), (20, 11_000)] {
        let source = Source::with_lifetime(life * SECOND);
        let service = layer(&source)
            .build()
            .layer(rejecting_after(Duration::from_millis(of_use)));

        for _ in 0..600 {
            let response = send(&service, get("/")).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "life of {life} s");
            sleep(SECOND / 10).await;
        }

        let needed = 60_000 / of_use as usize;
        assert!(
            (needed..=needed + 2).contains(&source.fetches()),
            "{} fetches for lives of {life} s",
            source.fetches()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_always_says_401_costs_two_token_requests_per_short_lifetime() {
    let source = Source::with_lifetime(6 * SECOND);
    let service = layer(&source)
        .build()
        .layer(rejecting_after(Duration::ZERO));

    for _ in 0..600 {
        let response = send(&service, get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        sleep(SECOND / 10).await;
    }

    // One for the start, and then one in 3 s.
    assert!(
        (10..=21).contains(&source.fetches()),
        "{}",
        source.fetches()
    );
}

#[tokio::test(start_paused = true)]
async fn an_accepted_replacement_is_refreshed_immediately_on_a_401() {
    let source = Source::with_lifetime(HOUR);
    let service = layer(&source).build().layer(api(&source).0);
    send(&service, get("/")).await.unwrap();

    for revocation in 1..=5 {
        source.revoke_all();
        let response = send(&service, get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{revocation}");
        assert_eq!(source.fetches(), 1 + revocation);
        sleep(11 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_from_refresh_now_is_replaced_like_any_other() {
    let source = Source::with_lifetime(HOUR);
    let layer = layer(&source).build();
    let service = layer.layer(api(&source).0);
    layer.handle().refresh_now().await.unwrap();
    sleep(11 * SECOND).await;
    source.revoke_all();

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_non_replayable_request_reports_whether_the_token_is_refreshed() {
    let source = Source::with_lifetime(HOUR);
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let (inner, _) = serving(|_| std::future::ready(status_only(StatusCode::UNAUTHORIZED)));
    let service = layer(&source)
        .replay(false)
        .on_event(move |event: &TokenEvent<'_>| {
            if let TokenEvent::Rejected { action: remedy, .. } = event {
                log.lock().unwrap().push(*remedy);
            }
        })
        .build()
        .layer(inner);

    for _ in 0..3 {
        send(&service, post("/")).await.unwrap();
        sleep(SECOND).await;
    }

    assert_eq!(
        *events.lock().unwrap(),
        [
            RejectionAction::RefreshedOnly,
            RejectionAction::Returned,
            RejectionAction::Returned
        ]
    );
    assert_eq!(source.fetches(), 2);
}

/// An API that takes each token for `of_use` from the first time that it sees it.
fn rejecting_after(of_use: Duration) -> Inner {
    let seen = Arc::new(Mutex::new(HashMap::new()));
    let (inner, _) = serving(move |request| {
        let token = request.headers()[header::AUTHORIZATION].clone();
        let mut seen = seen.lock().unwrap();
        let first = *seen.entry(token).or_insert_with(Instant::now);
        std::future::ready(status_only(if first.elapsed() < of_use {
            StatusCode::OK
        } else {
            StatusCode::UNAUTHORIZED
        }))
    });
    inner
}
