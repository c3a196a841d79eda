//! What the errors of a client say about whether a request was processed.

use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    Attempts, Backoff, BoxError, ErrorClass, RateLimitRetryLayer, rate_limit_retry::RateLimitEvent,
};

use crate::{
    http2_server::{
        ENHANCE_YOUR_CALM, Http2Server, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, Reply,
    },
    world::{full, http1, limits},
};

#[tokio::test]
async fn an_unprocessed_stream_is_retried_for_any_method() {
    for reply in [
        Reply::Reset(REFUSED_STREAM),
        Reply::GoAway(NO_ERROR),
        Reply::GoAway(INTERNAL_ERROR),
    ] {
        let server = Http2Server::start(&[reply]).await;

        let response = send(&limits(), &server, Method::POST).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK, "{reply:?}");
        assert_eq!(Attempts::of(&response), 2, "{reply:?}");
        assert_eq!(server.requests(), 2, "{reply:?}");
    }
}

#[tokio::test]
async fn a_possibly_processed_stream_is_retried_if_idempotent() {
    for reply in [Reply::Reset(INTERNAL_ERROR), Reply::Close] {
        let server = Http2Server::start(&[reply]).await;
        let error = send(&limits(), &server, Method::POST).await.err().unwrap();
        assert_eq!(ErrorClass::of(&*error), ErrorClass::MaybeProcessed);
        assert_eq!(server.requests(), 1, "{reply:?}");

        let server = Http2Server::start(&[reply]).await;
        let response = send(&limits(), &server, Method::PUT).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{reply:?}");
    }
}

#[tokio::test]
async fn enhance_your_calm_holds_the_partition() {
    for (reply, post) in [
        (Reply::Reset(ENHANCE_YOUR_CALM), false),
        // Beyond the last stream that was processed.
        (Reply::GoAway(ENHANCE_YOUR_CALM), true),
    ] {
        for method in [Method::GET, Method::POST] {
            let server = Http2Server::start(&[reply]).await;
            let events = Arc::<Mutex<Vec<Duration>>>::default();
            let log = Arc::clone(&events);
            let moment = Duration::from_millis(1);
            let limits = RateLimitRetryLayer::builder()
                .backoff(Backoff::new(moment, moment))
                .initial_window_timeout(Duration::from_millis(50))
                .on_event(move |event| {
                    if let RateLimitEvent::Throttled { held_for, .. } = event {
                        log.lock().unwrap().push(*held_for);
                    }
                });

            let outcome = send(&limits.build(), &server, method.clone()).await;

            let sent_again = method == Method::GET || post;
            assert_eq!(outcome.is_ok(), sent_again, "{reply:?} {method}");
            let held = events.lock().unwrap().clone();
            assert_eq!(held.len(), 1, "{reply:?} {method}");
            assert!(held[0] > Duration::ZERO, "{reply:?} {method}");
        }
    }
}

#[tokio::test]
async fn connections_closed_before_sending_lose_no_request() {
    let url = closing(|number| number % 2 == 0).await;
    let client = limits().layer(http1::<Full<Bytes>>());

    for _ in 0..60 {
        if let Err(error) = client.clone().oneshot(post(&url)).await {
            let sources = std::iter::successors(Some(&*error as &dyn Error), |e| (*e).source());
            let said: Vec<String> = sources.map(ToString::to_string).collect();
            let unsent = ["operation was canceled", "channel closed"];
            assert!(
                !said.iter().any(|text| unsent.contains(&&**text)),
                "{said:?}"
            );
        }
    }
}

/// A server that closes each connection for which `closes` says so, by its number, and else answers one request.
async fn closing(closes: fn(usize) -> bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for number in 0.. {
            let (mut connection, _) = listener.accept().await.unwrap();
            if closes(number) {
                continue;
            }
            tokio::spawn(async move {
                drop(connection.read(&mut [0; 4096]).await);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                drop(connection.write_all(answer).await);
            });
        }
    });
    url
}

async fn send(
    limits: &RateLimitRetryLayer,
    server: &Http2Server,
    method: Method,
) -> Result<Response<impl Body + use<>>, BoxError> {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let request = Request::builder().method(method).uri(&server.url);
    let request = request.body(full()).unwrap();
    limits.layer(client).oneshot(request).await
}

fn post(url: &str) -> Request<Full<Bytes>> {
    Request::post(url).body(full()).unwrap()
}
