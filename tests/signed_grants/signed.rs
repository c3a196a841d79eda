//! `Grant::signed_jwt` (RFC 7523 §2.1).

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{
        AssertionAudience, AssertionClaims, Grant, KeyAlgorithm, SecretFile, SigningKey,
        TokenErrorKind as Kind, TokenSource,
    },
};

use crate::{
    EC, RSA, header,
    support::{
        SECOND,
        server::{FIXED_SECONDS, GRANTED, Server, TOKEN_URL, handle},
        temp_file::TempFile,
    },
    verified,
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

fn key() -> SigningKey {
    SigningKey::pem(KeyAlgorithm::Es256, EC)
        .unwrap()
        .with_key_id("2026-11")
}

fn endpoint(server: &Server, claims: AssertionClaims) -> TokenEndpoint {
    server
        .endpoint(ClientAuth::anonymous())
        .grant(Grant::signed_jwt(key(), claims))
}

#[test]
fn debug_output_names_the_claims_and_shows_no_value() {
    let claims = AssertionClaims::new("canary").claim("box_sub_type", "canary");

    let text = format!("{claims:?}");

    assert!(
        text.contains("iss") && text.contains("box_sub_type"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_assertion_has_the_claims_of_rfc_7523() {
    let server = Server::granting();
    let claims = AssertionClaims::new("client").audience("https://id.example");

    handle(endpoint(&server, claims)).token().await.unwrap();

    let asked = server.last_request();
    assert_eq!(asked.form_value("grant_type"), Some(JWT_BEARER));
    let assertion = asked.form_value("assertion").unwrap();
    let mut claims = verified(assertion, Algorithm::ES256);
    let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(jti.as_str().unwrap().len(), 22);
    assert_eq!(
        claims,
        json!({
            "iss": "client",
            "sub": "client",
            "aud": "https://id.example",
            "iat": FIXED_SECONDS,
            "exp": FIXED_SECONDS + 60,
        })
    );
    assert_eq!(
        header(assertion),
        json!({ "alg": "ES256", "typ": "JWT", "kid": "2026-11" })
    );
    // Nothing else identifies the client.
    assert_eq!(asked.form.len(), 2);
    assert!(!asked.headers.contains_key("authorization"));
}

#[tokio::test(start_paused = true)]
async fn claims_follow_the_settings() {
    let server = Server::granting();
    let claims = AssertionClaims::new("client")
        .subject("enterprise")
        .lifetime(Duration::from_secs(30))
        .typ("authorization-grant+jwt")
        .claim("box_sub_type", "enterprise")
        .claim("jti", Value::Null)
        .claim("iat", 7)
        .scope_claim(true);
    let endpoint = endpoint(&server, claims)
        .assertion_audience(AssertionAudience::TokenEndpoint)
        .scope("a b");

    handle(endpoint).token().await.unwrap();

    let asked = server.last_request();
    let assertion = asked.form_value("assertion").unwrap();
    assert_eq!(
        verified(assertion, Algorithm::ES256),
        json!({
            "iss": "client",
            "sub": "enterprise",
            "aud": TOKEN_URL,
            "iat": 7,
            "exp": FIXED_SECONDS + 30,
            "scope": "a b",
            "box_sub_type": "enterprise",
        })
    );
    assert_eq!(header(assertion)["typ"], "authorization-grant+jwt");
    assert_eq!(asked.form_value("scope"), None);
}

#[tokio::test(start_paused = true)]
async fn scopes_are_a_parameter_unless_they_are_a_claim() {
    let server = Server::granting();
    let claims = AssertionClaims::new("client").audience("https://id.example");

    handle(endpoint(&server, claims).scope("a b"))
        .token()
        .await
        .unwrap();

    let asked = server.last_request();
    assert_eq!(asked.form_value("scope"), Some("a b"));
    let assertion = asked.form_value("assertion").unwrap();
    assert!(verified(assertion, Algorithm::ES256).get("scope").is_none());
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_an_assertion_of_its_own() {
    let server = Server::serving(|_| (503, String::new()));
    let claims = AssertionClaims::new("client").audience("https://id.example");

    handle(endpoint(&server, claims)).token().await.unwrap_err();

    let mut ids: Vec<_> = server
        .requests()
        .iter()
        .map(|asked| verified(asked.form_value("assertion").unwrap(), Algorithm::ES256))
        .map(|claims| claims["jti"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 3);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_authenticates_beside_the_grant() {
    // Box wants the secret as well.
    let server = Server::granting();
    let claims = AssertionClaims::new("id").audience("https://id.example");
    let endpoint = server
        .endpoint(ClientAuth::post("id", "secret"))
        .grant(Grant::signed_jwt(key(), claims));

    handle(endpoint).token().await.unwrap();

    let asked = server.last_request();
    assert_eq!(asked.form_value("client_secret"), Some("secret"));
    assert!(asked.form_value("assertion").is_some());
}

#[test]
fn an_assertion_without_an_audience_fails_before_sending() {
    let server = Server::granting();
    let endpoint = endpoint(&server, AssertionClaims::new("client"));

    let error = endpoint.validate().unwrap_err();

    assert_eq!(error.kind(), Kind::Configuration);
    assert!(
        error.to_string().contains(".assertion_audience(..)"),
        "{error}"
    );
    assert!(endpoint.issuer("https://id.example").validate().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_replaced_key_ends_the_backoff_of_a_rejected_one() {
    let file = TempFile::with_content("signed-grant-key", EC);
    let server = Server::serving(|_| (400, r#"{"error":"invalid_grant"}"#.to_owned()));
    let key = SigningKey::source(KeyAlgorithm::Es256, SecretFile::new(file.path()));
    let claims = AssertionClaims::new("client").audience("https://id.example");
    let endpoint = server
        .endpoint(ClientAuth::anonymous())
        .grant(Grant::signed_jwt(key, claims));
    let handle = handle(endpoint);

    let error = handle.token().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected);
    tokio::time::advance(6 * SECOND).await;
    handle.token().await.unwrap_err();
    assert_eq!(server.requests().len(), 1);

    file.write(include_str!("../keys/ec_short.jwk"));
    server.answer(|_| (200, GRANTED.to_owned()));
    tokio::time::advance(6 * SECOND).await;

    handle.token().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_error_repeats_the_assertion_or_the_key() {
    let server = Server::granting();
    let claims = AssertionClaims::new("client").audience("https://id.example");
    let endpoint = endpoint(&server, claims);
    let shown = server.clone();
    server.answer(move |_| {
        // A server that quotes what it was sent.
        let sent = shown.last_request();
        let sent = sent.form_value("assertion").unwrap().to_owned();
        let text = json!({ "error": "invalid_grant", "error_description": format!("bad {sent}") });
        (400, text.to_string())
    });
    let printed = format!("{endpoint:?}");

    let error = handle(endpoint).token().await.unwrap_err();

    let sent = server.last_request();
    let sent = sent.form_value("assertion").unwrap();
    let text = format!("{error} {error:?} {printed}");
    assert!(!text.contains(sent), "{text}");
    assert!(!text.contains(sent.rsplit('.').next().unwrap()), "{text}");
}

#[tokio::test]
async fn tokens_are_shared_by_equal_keys_and_claims_only() {
    let server = Server::granting();
    let claims = || AssertionClaims::new("client").audience("https://id.example");
    let of = async |claims| endpoint(&server, claims).cache_key().await.unwrap();

    let one = of(claims()).await;

    assert_eq!(one, of(claims()).await);
    assert_eq!(one, of(claims().lifetime(SECOND)).await);
    for other in [
        claims().subject("other"),
        claims().claim("a", 1),
        claims().scope_claim(true),
        claims().audience("https://other.example"),
    ] {
        assert_ne!(one, of(other).await);
    }
    let other_key = SigningKey::pem(KeyAlgorithm::Rs256, RSA).unwrap();
    let other_key = server
        .endpoint(ClientAuth::anonymous())
        .grant(Grant::signed_jwt(other_key, claims()));
    assert_ne!(Some(one), other_key.cache_key().await);
}
