//! Where metadata is looked for, and what is wrong with what is found there.

use std::time::Duration;

use serde_json::json;
use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::TokenErrorKind as Kind};

use crate::{
    support::server::{GRANTED, RETRY_AFTER, Server, handle},
    world::{
        ISSUER, METHODS, OAUTH, OPENID, OPENID_INSERTED, TOKEN, discover, metadata, publishing,
        token, with,
    },
};

#[tokio::test(start_paused = true)]
async fn the_oauth_metadata_url_is_requested_first_and_once() {
    let server = publishing(OAUTH, metadata());
    let handle = handle(discover(&server, ClientAuth::basic("id", "secret")));

    handle.token().await.unwrap();
    handle.refresh_now().await.unwrap();

    assert_eq!(server.urls(), [OAUTH, TOKEN, TOKEN]);
    assert_eq!(server.requests()[0].method, "GET");
    assert!(!server.requests()[0].headers.contains_key("authorization"));
}

#[tokio::test(start_paused = true)]
async fn invalid_metadata_falls_back_to_the_openid_url() {
    let cases = [
        (301, String::new()),
        (302, String::new()),
        (308, String::new()),
        (400, r#"{"message":"Bad Request"}"#.to_owned()),
        (401, String::new()),
        (403, "<html>".to_owned()),
        (404, String::new()),
        (405, String::new()),
        (406, String::new()),
        (410, String::new()),
        (501, String::new()),
        (200, "<html>login</html>".to_owned()),
        (200, String::new()),
        (200, "[]".to_owned()),
        (200, r#"{"error":"not found"}"#.to_owned()),
        (200, json!({ "issuer": ISSUER }).to_string()),
        (
            200,
            json!({ "issuer": null, "token_endpoint": TOKEN }).to_string(),
        ),
        (204, String::new()),
        (200, "x".repeat(10 << 20)),
    ];
    for (status, body) in cases {
        let shown = body.chars().take(40).collect::<String>();
        let server = Server::serving(move |url| match url {
            OAUTH => (status, body.clone()),
            OPENID => (200, metadata().to_string()),
            _ => (200, GRANTED.to_owned()),
        });

        let outcome = token(&server, ClientAuth::basic("id", "secret")).await;

        outcome.unwrap_or_else(|error| panic!("{status} {shown}: {error}"));
        assert_eq!(server.urls(), [OAUTH, OPENID, TOKEN], "{status} {shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_and_issuer_mismatches_do_not_fall_back_to_the_openid_url() {
    let other = with(metadata(), "issuer", json!("https://other.example"));
    let cases = [
        (200, other.to_string(), Kind::Discovery, false),
        (429, String::new(), Kind::Throttled, true),
        (500, String::new(), Kind::Server, true),
    ];
    for (status, body, kind, transient) in cases {
        let server = Server::serving(move |url| match url {
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
async fn missing_metadata_lists_all_urls_and_their_responses() {
    for (first, second, says, transient) in [
        (
            (404, ""),
            (404, ""),
            ["returned 404", "returned 404"],
            false,
        ),
        (
            (403, "<html>"),
            (302, ""),
            ["returned 403", "returned 302"],
            false,
        ),
        (
            (400, ""),
            (200, "<html>"),
            ["returned 400", "returned no JSON object"],
            true,
        ),
        (
            (200, "{}"),
            (501, ""),
            ["returned no JSON object", "returned 501"],
            true,
        ),
    ] {
        let server = Server::serving(move |url| {
            let (status, body) = if url == OAUTH { first } else { second };
            (status, body.to_owned())
        });

        let error = token(&server, ClientAuth::basic("id", "secret"))
            .await
            .unwrap_err();

        assert_eq!(error.kind(), Kind::Discovery);
        assert_eq!(error.is_transient(), transient, "{error}");
        let text = error.to_string();
        for (place, said) in [OAUTH, OPENID].iter().zip(says) {
            assert!(text.contains(&format!("{place} {said}")), "{text}");
        }
        assert!(text.contains("`TokenEndpoint::new`"), "{text}");
        assert_eq!(server.urls(), [OAUTH, OPENID, OPENID_INSERTED]);
    }
}

#[tokio::test(start_paused = true)]
async fn openids_name_between_host_and_path_is_requested_last() {
    let server = publishing(OPENID_INSERTED, metadata());

    let outcome = token(&server, ClientAuth::basic("id", "secret")).await;

    outcome.unwrap();
    assert_eq!(server.urls(), [OAUTH, OPENID, OPENID_INSERTED, TOKEN]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_the_second_url_includes_the_first_response() {
    let server = Server::serving(|url| match url {
        OAUTH => (406, String::new()),
        _ => (503, String::new()),
    });
    let endpoint = discover(&server, ClientAuth::basic("id", "secret")).retries(0);

    let error = handle(endpoint).token().await.unwrap_err();

    assert_eq!((error.kind(), error.is_transient()), (Kind::Server, true));
    let text = error.to_string();
    assert!(
        text.contains(&format!("at {OPENID}, after {OAUTH} returned 406")),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_invalid_optional_member_is_ignored() {
    let documents = [
        with(metadata(), METHODS, json!("client_secret_basic")),
        with(
            metadata(),
            METHODS,
            json!("private_key_jwt client_secret_basic"),
        ),
        with(metadata(), METHODS, json!(["client_secret_basic", null, 7])),
        with(metadata(), METHODS, json!([])),
        with(metadata(), METHODS, json!({})),
        with(metadata(), METHODS, json!(null)),
        with(
            metadata(),
            "token_endpoint_auth_signing_alg_values_supported",
            json!("RS256"),
        ),
        with(metadata(), "mtls_endpoint_aliases", json!([])),
        with(metadata(), "mtls_endpoint_aliases", json!(null)),
        with(
            metadata(),
            "mtls_endpoint_aliases",
            json!({ "token_endpoint": 7 }),
        ),
        with(
            metadata(),
            "mtls_endpoint_aliases",
            json!({ "token_endpoint": "http://mtls.id.example/token" }),
        ),
        with(
            metadata(),
            "revocation_endpoint",
            json!(["https://id.example/revoke"]),
        ),
        with(metadata(), "scopes_supported", json!(7)),
    ];
    let twice =
        metadata()
            .to_string()
            .replacen('{', r#"{"token_endpoint_auth_methods_supported":[],"#, 1);
    let marked = format!("\u{feff}{}", metadata());
    let texts = documents.iter().map(ToString::to_string);
    for text in texts.chain([twice, marked]) {
        let document = text.clone();
        let server = Server::serving(move |url| match url {
            OAUTH => (200, document.clone()),
            _ => (200, GRANTED.to_owned()),
        });

        let outcome = token(&server, ClientAuth::basic("id", "secret")).await;

        outcome.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(server.urls(), [OAUTH, TOKEN], "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_remote_issuer_cannot_name_a_loopback_endpoint() {
    for at in [
        "http://127.0.0.1:9000/token",
        "http://localhost:9000/token",
        "http://x.localhost/token",
        "https://[::1]:9000/token",
    ] {
        let server = publishing(OAUTH, with(metadata(), "token_endpoint", json!(at)));

        let error = token(&server, ClientAuth::basic("id", "secret"))
            .await
            .unwrap_err();

        assert_eq!(error.kind(), Kind::InvalidResponse, "{at}");
        assert!(
            error.to_string().contains("`TokenEndpoint::new`"),
            "{error}"
        );
        assert_eq!(server.urls(), [OAUTH], "{at}");
    }
    for issuer in [
        "http://127.0.0.1:8080",
        "http://id.localhost:8080",
        "https://localhost",
    ] {
        let at = "http://localhost:9000/token";
        let document = json!({ "issuer": issuer, "token_endpoint": at }).to_string();
        let server = Server::serving(move |url| match url {
            _ if url.contains(".well-known") => (200, document.clone()),
            _ => (200, GRANTED.to_owned()),
        });
        let endpoint = TokenEndpoint::discover(issuer, ClientAuth::basic("id", "secret"));

        handle(endpoint.service(server.service()))
            .token()
            .await
            .unwrap();

        assert_eq!(server.last_request().url, at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_metadata_url_is_accepted_as_the_issuer() {
    for (given, named, first) in [
        (OPENID, ISSUER, OPENID),
        (OAUTH, ISSUER, OAUTH),
        (
            "https://id.example/.well-known/openid-configuration",
            "https://id.example/",
            "https://id.example/.well-known/openid-configuration",
        ),
    ] {
        let server = publishing(first, with(metadata(), "issuer", json!(named)));
        let endpoint = TokenEndpoint::discover(given, ClientAuth::basic("id", "secret"));

        handle(endpoint.service(server.service()))
            .token()
            .await
            .unwrap();

        assert_eq!(server.urls(), [first, TOKEN], "{given}");
    }
    let other = publishing(
        OPENID,
        with(metadata(), "issuer", json!("https://id.example/other")),
    );
    let endpoint = TokenEndpoint::discover(OPENID, ClientAuth::basic("id", "secret"));
    let error = handle(endpoint.service(other.service()))
        .token()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Discovery);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_discovery_is_not_repeated_before_the_server_allows_it() {
    let server = Server::serving(|_| (429, String::new()));
    let handle = handle(discover(&server, ClientAuth::basic("id", "secret")));

    let first = handle.token().await.unwrap_err();
    tokio::time::advance(RETRY_AFTER - Duration::from_secs(1)).await;
    let second = handle.token().await.unwrap_err();

    assert_eq!(first.retry_after(), Some(RETRY_AFTER));
    assert_eq!(second.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(server.urls(), [OAUTH]);
}

#[tokio::test(start_paused = true)]
async fn a_trailing_slash_is_a_different_issuer() {
    let server = publishing(
        OAUTH,
        with(metadata(), "issuer", json!(format!("{ISSUER}/"))),
    );

    let error = token(&server, ClientAuth::basic("id", "secret"))
        .await
        .unwrap_err();

    assert_eq!(error.kind(), Kind::Discovery);
    assert!(error.to_string().contains("final slash"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_over_plain_http_is_not_used() {
    let plain = json!("http://id.example/token");
    let server = publishing(OAUTH, with(metadata(), "token_endpoint", plain));

    let error = token(&server, ClientAuth::basic("id", "secret"))
        .await
        .unwrap_err();

    assert_eq!(error.kind(), Kind::InvalidResponse);
    assert_eq!(server.urls(), [OAUTH]);
}

#[test]
fn a_non_https_issuer_is_named() {
    for (issuer, named) in [
        ("http://id.example", "plain http"),
        ("id.example", "the issuer must be an absolute https URL"),
        ("https://id.example/?tenant=a", "without query"),
        ("https://id.example/#a", "without query"),
        ("https://user@id.example", "user info"),
        ("", "the issuer must be"),
    ] {
        let error = TokenEndpoint::discover(issuer, ClientAuth::basic("id", "secret"))
            .validate()
            .unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(named), "{error}");
    }
    let loopback = "http://127.0.0.1:8080";
    let endpoint = TokenEndpoint::discover(loopback, ClientAuth::basic("id", "secret"));
    endpoint.validate().unwrap();
}
