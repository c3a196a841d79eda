//! When metadata is fetched again, and what becomes of it if that fails or says something else.

use std::time::Duration;

use serde_json::{Value, json};
use tower_m2m::{ClientAuth, client_credentials::TokenErrorKind as Kind};

use crate::{
    support::server::{GRANTED, handle},
    world::{METHODS, OAUTH, TOKEN, discover, metadata, publish, publishing, with, with_events},
};

#[tokio::test(start_paused = true)]
async fn metadata_is_refreshed_after_an_hour_and_applied_within_its_origin() {
    let server = publishing(OAUTH, metadata());
    let handle = handle(discover(&server, ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();

    let moved = "https://id.example/realms/m2m/v2/token";
    publish(
        &server,
        OAUTH,
        with(metadata(), "token_endpoint", json!(moved)),
    );
    tokio::time::advance(Duration::from_secs(3601)).await;
    handle.refresh_now().await.unwrap();

    assert_eq!(server.urls(), [OAUTH, TOKEN, OAUTH, moved]);
}

#[tokio::test(start_paused = true)]
async fn refreshed_metadata_that_moves_the_endpoint_or_drops_the_method_is_rejected() {
    let elsewhere = json!("https://evil.example/token");
    for document in [
        with(metadata(), "token_endpoint", elsewhere),
        with(metadata(), METHODS, json!(["client_secret_post"])),
        with(metadata(), METHODS, json!(["none"])),
    ] {
        let server = publishing(OAUTH, metadata());
        let (endpoint, events) = with_events(discover(&server, ClientAuth::basic("id", "secret")));
        endpoint.token().await.unwrap();

        publish(&server, OAUTH, document);
        tokio::time::advance(Duration::from_secs(3601)).await;
        endpoint.refresh_now().await.unwrap();

        assert_eq!(*events.lock().unwrap(), [Kind::Discovery]);
        assert_eq!(server.urls(), [OAUTH, TOKEN, OAUTH, TOKEN]);
        assert!(server.last_request().headers.contains_key("authorization"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_metadata_refresh_is_reported_and_has_its_own_backoff() {
    let server = publishing(OAUTH, metadata());
    let (handle, events) = with_events(discover(&server, ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();
    server.answer(|url| match url {
        OAUTH => (503, String::new()),
        _ => (200, GRANTED.to_owned()),
    });

    tokio::time::advance(Duration::from_secs(3601)).await;
    handle.refresh_now().await.unwrap();
    handle.refresh_now().await.unwrap();
    tokio::time::advance(Duration::from_secs(11)).await;
    handle.refresh_now().await.unwrap();

    assert_eq!(*events.lock().unwrap(), [Kind::Server, Kind::Server]);
    assert_eq!(
        server.urls(),
        [OAUTH, TOKEN, OAUTH, TOKEN, TOKEN, OAUTH, TOKEN]
    );
}

#[tokio::test(start_paused = true)]
async fn the_backoff_of_metadata_refreshes_grows_to_minutes() {
    let server = publishing(OAUTH, metadata());
    let (handle, events) = with_events(discover(&server, ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();
    publish(&server, "nowhere", Value::Null);
    tokio::time::advance(Duration::from_secs(3601)).await;
    for _ in 0..8 {
        handle.refresh_now().await.unwrap();
        tokio::time::advance(Duration::from_secs(601)).await;
    }
    handle.refresh_now().await.unwrap();

    tokio::time::advance(Duration::from_secs(290)).await;
    handle.refresh_now().await.unwrap();

    assert_eq!(*events.lock().unwrap(), [Kind::Discovery; 9]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_metadata_refresh_leaves_time_for_the_token_request() {
    let server = publishing(OAUTH, metadata());
    let (handle, events) = with_events(discover(&server, ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();
    server.answer(|url| match url {
        OAUTH => (0, String::new()),
        _ => (200, GRANTED.to_owned()),
    });

    tokio::time::advance(Duration::from_secs(3601)).await;
    handle.refresh_now().await.unwrap();

    assert_eq!(*events.lock().unwrap(), [Kind::Timeout]);
    assert_eq!(server.urls(), [OAUTH, TOKEN, OAUTH, TOKEN]);
}
