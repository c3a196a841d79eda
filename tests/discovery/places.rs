//! Where metadata is looked for, and what is wrong with what is found there.

use std::time::Duration;

use serde_json::json;
use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::TokenErrorKind as Kind};

use crate::{
    support::server::{GRANTED, RETRY_AFTER, Server, handle},
    world::{ISSUER, OAUTH, OPENID, TOKEN, discover, metadata, publishing, token, with},
};

#[tokio::test(start_paused = true)]
async fn the_oauth_place_is_asked_first_and_found_once() {
    let server = publishing(OAUTH, metadata());
    let handle = handle(discover(&server, ClientAuth::basic("id", "secret")));

    handle.token().await.unwrap();
    handle.refresh_now().await.unwrap();

    assert_eq!(server.urls(), [OAUTH, TOKEN, TOKEN]);
    assert_eq!(server.asked()[0].method, "GET");
    assert!(!server.asked()[0].headers.contains_key("authorization"));
}

#[tokio::test(start_paused = true)]
async fn a_404_leads_to_the_openid_place() {
    let server = publishing(OPENID, metadata());

    token(&server, ClientAuth::basic("id", "secret"))
        .await
        .unwrap();

    assert_eq!(server.urls(), [OAUTH, OPENID, TOKEN]);
}

#[tokio::test(start_paused = true)]
async fn nothing_but_a_404_leads_to_the_openid_place() {
    let other = with(metadata(), "issuer", json!("https://other.example"));
    let cases = [
        (200, other.to_string(), Kind::IssuerMismatch, false),
        (200, "<html>".to_owned(), Kind::Malformed, true),
        (
            200,
            json!({ "issuer": ISSUER }).to_string(),
            Kind::Malformed,
            true,
        ),
        (200, "x".repeat(10 << 20), Kind::TooLarge, true),
        (302, String::new(), Kind::Redirected, false),
        (403, String::new(), Kind::Refused, false),
        (429, String::new(), Kind::Throttled, true),
        (500, String::new(), Kind::Server, true),
    ];
    for (status, body, kind, transient) in cases {
        let server = Server::answering(move |url| match url {
            OAUTH => (status, body.clone()),
            OPENID => (200, metadata().to_string()),
            _ => (200, GRANTED.to_owned()),
        });

        let error = token(&server, ClientAuth::basic("id", "secret"))
            .await
            .unwrap_err();

        assert_eq!(
            (error.kind(), error.is_transient()),
            (kind, transient),
            "{error}"
        );
        assert_eq!(server.urls(), [OAUTH], "{error}");
        assert!(error.to_string().contains(ISSUER), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_discovery_is_not_repeated_before_the_server_allows_it() {
    let server = Server::answering(|_| (429, String::new()));
    let handle = handle(discover(&server, ClientAuth::basic("id", "secret")));

    let first = handle.token().await.unwrap_err();
    tokio::time::advance(RETRY_AFTER - Duration::from_secs(1)).await;
    let second = handle.token().await.unwrap_err();

    assert_eq!(first.retry_after(), Some(RETRY_AFTER));
    assert_eq!(second.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(server.urls(), [OAUTH]);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_without_metadata_is_an_error_that_says_what_to_do() {
    let server = Server::answering(|_| (404, String::new()));

    let error = token(&server, ClientAuth::basic("id", "secret"))
        .await
        .unwrap_err();

    assert_eq!(error.kind(), Kind::NoMetadata);
    assert!(error.to_string().contains("check the issuer"), "{error}");
    assert_eq!(server.urls(), [OAUTH, OPENID]);
}

#[tokio::test(start_paused = true)]
async fn a_slash_more_is_another_issuer() {
    let server = publishing(
        OAUTH,
        with(metadata(), "issuer", json!(format!("{ISSUER}/"))),
    );

    let error = token(&server, ClientAuth::basic("id", "secret"))
        .await
        .unwrap_err();

    assert_eq!(error.kind(), Kind::IssuerMismatch);
    assert!(error.to_string().contains("final slash"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_over_plain_http_is_not_used() {
    let plain = json!("http://id.example/token");
    let server = publishing(OAUTH, with(metadata(), "token_endpoint", plain));

    let error = token(&server, ClientAuth::basic("id", "secret"))
        .await
        .unwrap_err();

    assert_eq!(error.kind(), Kind::Malformed);
    assert_eq!(server.urls(), [OAUTH]);
}

#[test]
fn an_issuer_that_is_no_https_url_is_named() {
    for (issuer, named) in [
        ("http://id.example", "plain http"),
        ("id.example", "the issuer must be an absolute https URL"),
        ("https://id.example/?tenant=a", "without query"),
        ("https://id.example/#a", "without query"),
        ("https://user@id.example", "user info"),
        ("", "the issuer must be"),
    ] {
        let error = TokenEndpoint::discover(issuer, ClientAuth::basic("id", "secret"))
            .check()
            .unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(named), "{error}");
    }
    let loopback = "http://127.0.0.1:8080";
    let endpoint = TokenEndpoint::discover(loopback, ClientAuth::basic("id", "secret"));
    endpoint.check().unwrap();
}
