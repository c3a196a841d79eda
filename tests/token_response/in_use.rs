//! Tokens in use: when another one is fetched, and what APIs say of them.

use std::time::Duration;

use http::{Response, StatusCode};
use tower::Layer;
use tower_m2m::{ClientCredentialsLayer, Clock};

use crate::{
    fetch::auth,
    support::{
        Body, Source, api, get, layer, origin, send,
        server::{FixedClock, Server},
        serving, status_only,
    },
};

#[tokio::test(start_paused = true)]
async fn q20_issue_quotas_are_not_spent_on_early_refreshes() {
    let source = Source::with_lifetime(Duration::from_secs(86_400));
    let service = layer(&source).build().layer(api(&source).0);

    for _ in 0..96 {
        send(&service, get("/")).await.unwrap();
        tokio::time::advance(Duration::from_secs(900)).await;
    }

    assert!(source.fetches() <= 2, "{} in a day", source.fetches());
}

#[tokio::test(start_paused = true)]
async fn q26_an_unchanged_token_until_expiry_causes_no_hot_loop() {
    let begin = FixedClock.now();
    let server = Server::serving(move |_| {
        // The issuer caches each token for 300 s and says what is left.
        let (number, age) = {
            let age = (FixedClock.now() - begin).as_secs();
            (age / 300, age % 300)
        };
        let left = 300 - age;
        (
            200,
            format!(r#"{{"access_token":"t{number}","token_type":"Bearer","expires_in":{left}}}"#),
        )
    });
    let layer = ClientCredentialsLayer::builder(server.endpoint(auth()), origin()).seed(7);
    let service = layer
        .build()
        .layer(serving(|_| std::future::ready(status_only(StatusCode::OK))).0);

    for _ in 0..3100 {
        send(&service, get("/")).await.unwrap();
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(100)).await;
    }

    let asked = server.requests().len();
    assert!((3..=12).contains(&asked), "{asked} token requests");
}

#[tokio::test(start_paused = true)]
async fn q27_all_opaque_tokens_die_when_the_server_restarts() {
    let source = Source::default();
    let service = layer(&source).build().layer(api(&source).0);
    send(&service, get("/")).await.unwrap();

    source.revoke_all();
    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn q28_a_403_or_404_is_not_replayed() {
    for status in [
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::BAD_REQUEST,
    ] {
        let source = Source::default();
        let (api, calls) = serving(move |_| std::future::ready(status_only(status)));
        let service = layer(&source).build().layer(api);

        let response = send(&service, get("/")).await.unwrap();

        assert_eq!(response.status(), status);
        assert_eq!(source.fetches(), 1);
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn q29_a_401_without_a_challenge_rejects_the_token() {
    let source = Source::default();
    let valid = source.clone();
    let (api, _) = serving(move |request| {
        let accepted = valid.accepts(&request);
        let mut response = Response::new(Body::from(r#"{"message":"Unauthorized"}"#));
        if !accepted {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        std::future::ready(response)
    });
    let service = layer(&source).build().layer(api);
    send(&service, get("/")).await.unwrap();

    source.revoke_all();

    assert_eq!(
        send(&service, get("/")).await.unwrap().status(),
        StatusCode::OK
    );
}

#[tokio::test(start_paused = true)]
async fn a_403_for_scope_or_audience_keeps_the_token() {
    for challenge in [
        r#"Bearer error="insufficient_scope", scope="orders.write""#,
        r#"Bearer error="invalid_token", error_description="audience is not accepted""#,
        r#"Bearer realm="api""#,
        "Basic",
    ] {
        let source = Source::default();
        let (api, calls) = serving(move |_| {
            let mut response = status_only(StatusCode::FORBIDDEN);
            let challenge = http::HeaderValue::from_static(challenge);
            response
                .headers_mut()
                .insert(http::header::WWW_AUTHENTICATE, challenge);
            std::future::ready(response)
        });
        let service = layer(&source).build().layer(api);

        for sent in 1..=3 {
            let response = send(&service, get("/")).await.unwrap();

            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{challenge}");
            assert_eq!(source.fetches(), 1, "{challenge}");
            assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), sent);
        }
    }
}
