//! `Grant::custom`: grant types that this crate does not know.

use serde_json::json;
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{
        Grant, Secret, SecretFile, SecretSource, TokenError, TokenErrorKind as Kind, TokenSource,
    },
};

use crate::support::{
    SECOND,
    server::{GRANTED, Server, TOKEN_URL, handle},
    temp_file::TempFile,
};

const IBM: &str = "urn:ibm:params:oauth:grant-type:apikey";

#[tokio::test(start_paused = true)]
async fn zoom_and_ibm_are_asked_with_their_parameters() {
    for (grant, auth, sent) in [
        (
            Grant::custom("account_credentials", [("account_id", "account")]),
            ClientAuth::basic("id", "secret"),
            [
                ("grant_type", "account_credentials"),
                ("account_id", "account"),
            ],
        ),
        (
            Grant::custom(IBM, [("apikey", Secret::new("key"))]),
            ClientAuth::basic("bx", "bx"),
            [("grant_type", IBM), ("apikey", "key")],
        ),
    ] {
        let server = Server::granting();

        handle(server.endpoint(auth).grant(grant))
            .token()
            .await
            .unwrap();

        let asked = server.last_request();
        let pairs = asked.form.iter();
        let pairs: Vec<_> = pairs.map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(pairs, sent);
        assert!(asked.headers.contains_key("authorization"));
    }
}

#[tokio::test(start_paused = true)]
async fn parameters_are_redacted_and_not_printed() {
    let server = Server::serving(|_| {
        let text =
            json!({ "error": "invalid_grant", "error_description": "no key canary-77 here" });
        (400, text.to_string())
    });
    let grant = Grant::custom(IBM, [("apikey", "canary-77")]);
    let endpoint = server
        .endpoint(ClientAuth::anonymous())
        .grant(grant.clone());
    let printed = format!("{grant:?} {endpoint:?}");

    let error = handle(endpoint).token().await.unwrap_err();

    let text = format!(
        "{error} {error:?} {:?} {printed}",
        error.error_description()
    );
    let quoted = error.error_description().unwrap();
    assert!(quoted.starts_with("no key "), "{quoted}");
    assert!(!text.contains("canary"), "{text}");
    assert!(printed.contains(IBM), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn a_parameter_is_read_again_for_each_request_and_ends_the_backoff() {
    let file = TempFile::with_content("apikey", "old");
    let server = Server::serving(|_| (400, r#"{"error":"invalid_grant"}"#.to_owned()));
    let grant = Grant::custom(IBM, [("apikey", SecretFile::new(file.path()))]);
    let handle = handle(server.endpoint(ClientAuth::anonymous()).grant(grant));
    handle.token().await.unwrap_err();
    tokio::time::advance(6 * SECOND).await;
    handle.token().await.unwrap_err();
    assert_eq!(server.requests().len(), 1);

    file.write("new");
    server.answer(|_| (200, GRANTED.to_owned()));
    tokio::time::advance(6 * SECOND).await;
    handle.token().await.unwrap();

    assert_eq!(server.last_request().form_value("apikey"), Some("new"));
}

#[test]
fn a_parameter_that_is_set_twice_is_an_error() {
    let endpoint = |grant| {
        let uri = TOKEN_URL.parse().unwrap();
        TokenEndpoint::new(uri, ClientAuth::anonymous())
            .parameter("tenant", "t")
            .grant(grant)
    };
    for (grant, names) in [
        (Grant::custom(" ", [("a", "1")]), "name of the grant"),
        (Grant::custom("x", [("a", "1"), ("a", "2")]), "\"a\""),
        (Grant::custom("x", [("tenant", "1")]), "\"tenant\""),
        (Grant::custom("x", [("scope", "1")]), "\"scope\""),
        (Grant::custom("x", [("client_id", "1")]), "\"client_id\""),
    ] {
        let error = endpoint(grant).validate().unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(names), "{error}");
    }
    let saml = Grant::custom("saml2-bearer", [("assertion", "1")]);
    assert!(endpoint(saml).validate().is_ok());
}

#[tokio::test]
async fn tokens_are_shared_by_equal_parameters_only() {
    struct Unreadable;
    impl SecretSource for Unreadable {
        async fn read(&self) -> Result<Secret, TokenError> {
            Err(TokenError::transient("was not sent: no vault"))
        }
    }
    let server = Server::granting();
    let of = async |grant| {
        let endpoint = server.endpoint(ClientAuth::anonymous()).grant(grant);
        endpoint.cache_key().await
    };
    let one = of(Grant::custom("x", [("a", "1")])).await;

    assert_eq!(one, of(Grant::custom("x", [("a", "1")])).await);
    for (name, value) in [("a", "2"), ("b", "1")] {
        assert_ne!(one, of(Grant::custom("x", [(name, value)])).await);
    }
    assert_ne!(one, of(Grant::custom("y", [("a", "1")])).await);
    assert!(one.is_some());
    let unreadable = of(Grant::custom("x", [("a", Unreadable)])).await;
    assert!(unreadable.is_none());
}
