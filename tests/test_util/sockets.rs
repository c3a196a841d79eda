//! The servers on a socket.

use http::{Request, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use tower_m2m::test_util::{Api, ApiFault, Issuer};

use crate::client::{Body, POSTED, get, token_request};

#[tokio::test]
async fn a_token_fetched_over_http_1_and_2_is_accepted() {
    let issuer = Issuer::builder()
        .client("id", "s+e c")
        .start()
        .await
        .unwrap();
    let api = Api::builder()
        .tokens(issuer.tokens())
        .start()
        .await
        .unwrap();

    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(version == Version::HTTP_2)
            .build_http::<Body>();
        let answer = client
            .request(token_request(&issuer.token_url(), POSTED))
            .await
            .unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let request = get(&api.url(), answer["access_token"].as_str().unwrap());
        let answer = client.request(request).await.unwrap();

        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.version(), version);
    }

    assert_eq!(
        (
            issuer.stats().issued,
            issuer.stats().redundant,
            api.stats().ok
        ),
        (2, 1, 2)
    );
}

#[tokio::test]
async fn a_dropped_server_and_a_reset_both_break_the_connection() {
    let api = Api::builder().start().await.unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let request = || Request::get(api.url()).body(Body::default()).unwrap();
    api.next(ApiFault::Reset);

    let reset = client.request(request()).await;
    let answered = client.request(request()).await;
    api.next(ApiFault::Hang);
    let hanging = tokio::spawn(client.request(request()));
    while api.requests().len() < 3 {
        tokio::task::yield_now().await;
    }
    let late = request();
    drop(api);

    assert!(reset.is_err());
    assert_eq!(answered.unwrap().status(), StatusCode::OK);
    assert!(hanging.await.unwrap().is_err());
    assert!(client.request(late).await.is_err());
}
