//! No token, and a rejected token.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use http::StatusCode;
use tokio::time::sleep;
use tower::{Layer, ServiceExt};
use tower_m2m::{
    Attempts, ClientAuth,
    client_credentials::{RejectionAction, TokenError, TokenErrorKind as Kind, TokenEvent},
};

use crate::support::{
    SECOND, Source, api, get, layer, send,
    server::{GRANTED, Server, handle},
};

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_before_it_arrives_is_not_sent() {
    let source = Source::with_lifetime(5 * SECOND).with_delay(10 * SECOND);
    let (inner, calls) = api(&source);
    let service = layer(&source).build().layer(inner);

    let error = send(&service, get("/")).await.unwrap_err();

    let error = error.downcast_ref::<TokenError>().unwrap();
    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::InvalidResponse, true)
    );
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn other_error_responses_are_permanent() {
    for (status, code) in [
        (400, "unauthorized_client"),
        (400, "invalid_target"),
        (400, "invalid_request"),
        (404, "not_an_oauth_error"),
    ] {
        let server = Server::serving(move |_| (status, format!(r#"{{"error":"{code}"}}"#)));
        let tokens = handle(server.endpoint(ClientAuth::basic("id", "secret")));

        let error = tokens.token().await.unwrap_err();
        let wait = error.retry_after().unwrap();
        server.answer(|_| (200, GRANTED.to_owned()));
        sleep(29 * SECOND).await;
        let later = tokens.token().await.unwrap_err();

        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::Rejected, false)
        );
        assert!((30 * SECOND..=36 * SECOND).contains(&wait), "{wait:?}");
        assert_eq!(later.kind(), Kind::Rejected);
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn without_a_runtime_a_request_fails_at_once() {
    let source = Source::default();
    let service = layer(&source).build().layer(api(&source).0);
    let mut call = pin!(service.oneshot(get("/")));

    let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));

    let Poll::Ready(Err(error)) = polled else {
        panic!("it waits for a runtime");
    };
    let error = error.downcast_ref::<TokenError>().unwrap();
    assert_eq!(error.kind(), Kind::Configuration);
}

#[tokio::test(start_paused = true)]
async fn each_401_is_reported_with_its_action() {
    let source = Source::default();
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let service = layer(&source)
        .on_event(move |event: &TokenEvent<'_>| {
            if let TokenEvent::Rejected { action: remedy, .. } = event {
                log.lock().unwrap().push(*remedy);
            }
        })
        .build()
        .layer(api(&source).0);
    send(&service, get("/")).await.unwrap();
    source.revoke_all();

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(Attempts::of(&response), 2);
    assert_eq!(source.fetches(), 2);
    assert_eq!(*events.lock().unwrap(), [RejectionAction::Replayed]);
}
