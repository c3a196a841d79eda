//! What they ask for, and what is wrong with it.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{Grant, SecretFile, TokenErrorKind as Kind, TokenExchange},
};

use crate::support::{
    server::{GRANTED, Server, TOKEN_URL, handle},
    temp_file::TempFile,
};

#[tokio::test(start_paused = true)]
async fn the_jwt_bearer_grant_sends_its_assertion() {
    let server = Server::granting();
    let endpoint = server
        .endpoint(ClientAuth::anonymous())
        .grant(Grant::jwt_bearer("workload"));

    handle(endpoint).token().await.unwrap();

    let asked = server.last_request();
    assert_eq!(
        asked.form_value("grant_type"),
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
    );
    assert_eq!(asked.form_value("assertion"), Some("workload"));
}

#[tokio::test(start_paused = true)]
async fn a_token_exchange_sends_subject_actor_and_types() {
    let server = Server::granting();
    let exchange = TokenExchange::new("subject", TokenExchange::JWT)
        .actor("actor", TokenExchange::ID_TOKEN)
        .requested_token_type(TokenExchange::ACCESS_TOKEN);
    let endpoint = server
        .endpoint(ClientAuth::basic("id", "secret"))
        .grant(exchange)
        .audience("api");

    handle(endpoint).token().await.unwrap();

    let asked = server.last_request();
    let sent = |name| asked.form_value(name).unwrap();
    assert_eq!(
        sent("grant_type"),
        "urn:ietf:params:oauth:grant-type:token-exchange"
    );
    assert_eq!(
        (sent("subject_token"), sent("actor_token")),
        ("subject", "actor")
    );
    assert_eq!(sent("subject_token_type"), TokenExchange::JWT);
    assert_eq!(sent("actor_token_type"), TokenExchange::ID_TOKEN);
    assert_eq!(sent("requested_token_type"), TokenExchange::ACCESS_TOKEN);
    assert_eq!(sent("audience"), "api");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_type_n_a_is_rejected() {
    let server = Server::serving(|_| {
        let answer = json!({
            "access_token": "canary",
            "issued_token_type": TokenExchange::ID_TOKEN,
            "token_type": "N_A",
        });
        (200, answer.to_string())
    });
    let endpoint = server
        .endpoint(ClientAuth::anonymous())
        .grant(Grant::token_exchange("subject", TokenExchange::JWT));

    let error = handle(endpoint).token().await.unwrap_err();

    assert_eq!(error.kind(), Kind::InvalidResponse);
    assert!(
        error.to_string().contains("requested_token_type"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn a_new_subject_token_ends_the_backoff_of_a_rejected_one() {
    let file = TempFile::with_content("subject", "old");
    let server = Server::serving(|_| (400, r#"{"error":"invalid_grant"}"#.to_owned()));
    let grant = Grant::token_exchange(SecretFile::new(file.path()), TokenExchange::JWT);
    let handle = handle(server.endpoint(ClientAuth::anonymous()).grant(grant));

    let error = handle.token().await.unwrap_err();
    file.write("new");
    server.answer(|_| (200, GRANTED.to_owned()));
    tokio::time::advance(Duration::from_secs(6)).await;
    let token = handle.token().await;

    assert!(error.to_string().contains("subject token"), "{error}");
    token.unwrap();
    assert_eq!(
        server.last_request().form_value("subject_token"),
        Some("new")
    );
}

#[tokio::test(start_paused = true)]
async fn parameters_are_sent_in_the_form_and_never_in_the_url() {
    let server = Server::granting();
    let endpoint = server
        .endpoint(ClientAuth::post("id", "secret"))
        .scope("a b")
        .scope("b c")
        .resource("https://api.example/a")
        .resource("urn:example:b")
        .authorization_details(json!([{ "type": "payment", "amount": 5 }]))
        .parameter("tenant", "t");

    handle(endpoint).token().await.unwrap();

    let asked = server.last_request();
    assert_eq!(
        (asked.method.clone(), asked.url.as_str()),
        (Method::POST, TOKEN_URL)
    );
    assert_eq!(asked.form_value("scope"), Some("a b c"));
    assert_eq!(
        asked.form_values("resource"),
        ["https://api.example/a", "urn:example:b"]
    );
    assert_eq!(
        asked.form_value("authorization_details"),
        Some(r#"[{"amount":5,"type":"payment"}]"#)
    );
    assert_eq!(asked.form_value("tenant"), Some("t"));
}

#[test]
fn invalid_grant_settings_are_named() {
    let endpoint = || {
        TokenEndpoint::new(TOKEN_URL.parse().unwrap(), ClientAuth::post("id", "secret"))
            .dangerously_allow_http()
    };
    let cases = [
        (
            endpoint().authorization_details(json!({ "type": "x" })),
            "RFC 9396",
        ),
        (
            endpoint().authorization_details(json!([{ "no": "type" }])),
            "RFC 9396",
        ),
        (
            endpoint().parameter("subject_token", "x"),
            "\"subject_token\"",
        ),
        (
            endpoint().parameter("client_assertion", "x"),
            "\"client_assertion\"",
        ),
    ];
    for (endpoint, named) in cases {
        let error = endpoint.validate().unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(named), "{error}");
    }
    for auth in [
        ClientAuth::tls(""),
        ClientAuth::none(""),
        ClientAuth::assertion("", "a"),
    ] {
        let endpoint = TokenEndpoint::new(TOKEN_URL.parse().unwrap(), auth);
        let error = endpoint.validate().unwrap_err();
        assert!(error.to_string().contains("client id is empty"), "{error}");
    }
}
