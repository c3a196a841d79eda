//! Faults: which requests get them, and what a client sees of them.

use std::{
    error::Error as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::Instant;
use tower::ServiceExt as _;
use tower_m2m::test_util::{Api, ApiFault, FaultTarget};

use crate::client::{Body, MINUTE, get, send};

/// Clients of both versions of HTTP.
fn clients() -> [(Version, Client<HttpConnector, Body>); 2] {
    [Version::HTTP_11, Version::HTTP_2].map(|version| {
        let mut client = Client::builder(TokioExecutor::new());
        client.http2_only(version == Version::HTTP_2);
        (version, client.build_http())
    })
}

#[tokio::test]
async fn a_fault_is_for_its_method_its_path_and_the_nth_request() {
    let api = Api::builder().in_process();
    let uploads = FaultTarget::any().method(Method::PUT).path("/files/*");
    api.next_for(uploads.nth(2), ApiFault::status(StatusCode::BAD_GATEWAY));
    api.always(Some(ApiFault::status(StatusCode::IM_A_TEAPOT)));
    let search = FaultTarget::any().path("/search");
    api.always_for(
        search.clone(),
        Some(ApiFault::status(StatusCode::NOT_FOUND)),
    );
    let status = async |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::default()).unwrap();
        send(api.service(), request).await.status().as_u16()
    };

    assert_eq!(status(Method::PUT, "/files/1").await, 418);
    assert_eq!(status(Method::GET, "/files/1").await, 418);
    assert_eq!(status(Method::PUT, "/file").await, 418);
    assert_eq!(status(Method::PUT, "/files/2?a").await, 502);
    assert_eq!(status(Method::PUT, "/files/3").await, 418);
    assert_eq!(status(Method::GET, "/search?q=1").await, 404);
    api.always_for(search, None);
    assert_eq!(status(Method::GET, "/search").await, 418);
    api.always(None);
    assert_eq!(status(Method::GET, "/search").await, 200);
    assert_eq!(api.stats().rejected, 7);
}

#[tokio::test(start_paused = true)]
async fn a_trickled_body_takes_its_time_on_tokios_clock() {
    let api = Api::builder().in_process();
    api.next(ApiFault::Trickle {
        bytes: 4,
        interval: MINUTE,
    });
    #[expect(clippy::disallowed_methods, reason = "tokio's paused clock")]
    let began = Instant::now();

    let mut body = send(api.service(), get("/", "any")).await.into_body();
    assert_eq!(began.elapsed(), Duration::ZERO);
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, r#"{"ok"#);
    let rest = body.collect().await.unwrap().to_bytes();

    assert_eq!(rest, r#"":true,"received":0}"#);
    assert_eq!(began.elapsed(), 6 * MINUTE);
}

#[tokio::test]
async fn a_truncated_body_breaks_off_in_both_versions() {
    let api = Api::builder().start().await.unwrap();
    for (version, client) in clients() {
        for (length, arrives) in [(5, 5), (1000, 23)] {
            api.next(ApiFault::Truncate(length));
            let request = Request::get(api.url()).body(Body::default()).unwrap();
            let response = client.request(request).await.unwrap();
            assert_eq!(response.headers().get("content-length").unwrap(), "24");

            let (mut body, mut length) = (response.into_body(), 0);
            let error = loop {
                match body.frame().await.expect("an error before the end") {
                    Ok(frame) => length += frame.into_data().unwrap().len(),
                    Err(error) => break error,
                }
            };

            assert_eq!(length, arrives, "{version:?} {error:?}");
        }
    }
}

#[tokio::test]
async fn an_early_response_comes_before_the_end_of_the_upload() {
    let api = Api::builder().start().await.unwrap();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = Client::builder(TokioExecutor::new());
        let client = client
            .http2_only(version == Version::HTTP_2)
            .build_http::<Endless>();
        api.next(ApiFault::EarlyStatus(StatusCode::PAYLOAD_TOO_LARGE));
        let request = Request::put(api.url()).body(Endless).unwrap();

        let response = client.request(request).await.unwrap();

        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    let requests = api.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].body, Bytes::new());
}

/// An upload that never ends.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_stream_is_reset_with_the_code_and_its_connection_stays() {
    let [_, (_, client)] = clients();
    let api = Api::builder().start().await.unwrap();
    let request = || Request::get(api.url()).body(Body::default()).unwrap();
    client.request(request()).await.unwrap();
    api.next(ApiFault::ResetStream(11));

    let error = client.request(request()).await.unwrap_err();
    client.request(request()).await.unwrap();

    let source = error.source().unwrap().source().unwrap();
    let reset = source.downcast_ref::<h2::Error>().unwrap();
    assert_eq!(reset.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    assert!(reset.is_remote() && reset.is_reset(), "{reset:?}");
    let connections: Vec<_> = api.requests().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [Some(1); 3]);
}

#[tokio::test]
async fn a_connection_ends_after_its_response_in_both_versions() {
    for (version, client) in clients() {
        let api = Api::builder().start().await.unwrap();
        let request = || Request::get(api.url()).body(Body::default()).unwrap();
        api.next_for(FaultTarget::any().nth(2), ApiFault::GoAway);
        let send = async || {
            let response = client.request(request()).await.unwrap();
            response.into_body().collect().await.unwrap();
            api.requests().last().unwrap().connection
        };

        assert_eq!(send().await, Some(1));
        assert_eq!(send().await, Some(1));
        // The client learns of it in its own time.
        while send().await == Some(1) {
            assert!(api.stats().requests < 10_000, "{version:?}");
        }
        assert_eq!(send().await, Some(2));
    }
}

#[tokio::test]
async fn faults_of_connections_work_in_process() {
    let api = Api::builder().in_process();
    api.next(ApiFault::GoAway);
    api.next(ApiFault::ResetStream(7));
    api.next(ApiFault::EarlyStatus(StatusCode::PAYLOAD_TOO_LARGE));
    let next = || api.service().oneshot(get("/", "any"));

    assert_eq!(next().await.unwrap().status(), StatusCode::OK);
    let reset = next().await.unwrap_err();
    let reset = reset.downcast_ref::<h2::Error>().unwrap();
    assert_eq!(reset.reason(), Some(h2::Reason::REFUSED_STREAM));
    assert_eq!(next().await.unwrap().status(), 413);
    assert_eq!(api.requests()[0].connection, None);
}
