//! How clients authenticate, what they ask for, and how it is refused; without signatures.

mod support;

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use serde_json::json;
use support::server::{GRANTED, Server, TOKEN_URL, handle};
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{
        ClientAuthentication, Grant, SecretFile, TokenError, TokenErrorKind as Kind, TokenExchange,
        TokenRequest,
    },
};

#[tokio::test(start_paused = true)]
async fn methods_without_a_signature_send_the_client_id_and_nothing_secret() {
    for (auth, id) in [
        (ClientAuth::tls("id"), Some("id")),
        (ClientAuth::self_signed_tls("id"), Some("id")),
        (ClientAuth::none("id"), Some("id")),
        (ClientAuth::anonymous(), None),
    ] {
        let server = Server::granting();

        handle(server.endpoint(auth)).token().await.unwrap();

        let asked = server.last();
        assert_eq!(asked.one("client_id"), id);
        assert_eq!(asked.one("client_secret"), None);
        assert!(!asked.headers.contains_key(header::AUTHORIZATION));
    }
}

#[tokio::test(start_paused = true)]
async fn a_ready_assertion_is_sent_with_its_type() {
    let server = Server::granting();
    let plain = ClientAuth::assertion("id", "assertion");
    let spiffe = ClientAuth::assertion_of_type("id", "svid", ClientAuth::JWT_SPIFFE);

    handle(server.endpoint(plain)).token().await.unwrap();
    handle(server.endpoint(spiffe)).token().await.unwrap();

    let asked = server.asked();
    assert_eq!(asked[0].one("client_assertion"), Some("assertion"));
    assert_eq!(
        asked[0].one("client_assertion_type"),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
    );
    assert_eq!(asked[0].one("client_id"), Some("id"));
    assert_eq!(
        asked[1].one("client_assertion_type"),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-spiffe")
    );
}

#[tokio::test]
async fn a_token_file_is_read_again_for_every_attempt_and_loses_one_line_break() {
    let file = Scratch::new("rotated", " first \n");
    let server = Server::granting();
    let handle = handle(server.endpoint(ClientAuth::assertion("id", SecretFile::new(&file.0))));

    handle.refresh_now().await.unwrap();
    std::fs::write(&file.0, "second\r\n").unwrap();
    handle.refresh_now().await.unwrap();
    std::fs::write(&file.0, "third\n\n").unwrap();
    handle.refresh_now().await.unwrap();

    let sent: Vec<_> = server.asked().iter().map(assertion).collect();
    assert_eq!(sent, [" first ", "second", "third\n"]);
}

#[tokio::test]
async fn a_token_file_that_is_empty_or_missing_is_named_and_nothing_is_sent() {
    let empty = Scratch::new("empty", "\n");
    let missing = std::env::temp_dir().join("tower-m2m-there-is-no-such-file");
    for path in [&empty.0, &missing] {
        let server = Server::granting();
        let auth = ClientAuth::assertion("id", SecretFile::new(path));

        let error = handle(server.endpoint(auth)).token().await.unwrap_err();

        assert_eq!((error.kind(), error.is_transient()), (Kind::Secret, true));
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert!(server.asked().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_of_ones_own_may_set_headers_and_parameters() {
    struct Attested;

    impl ClientAuthentication for Attested {
        async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
            let endpoint = HeaderValue::from_str(&request.token_endpoint().to_string()).unwrap();
            request.header(HeaderName::from_static("x-attested-for"), endpoint);
            request.parameter("client_id", "attested");
            request.redact("attestation");
            Ok(())
        }
    }

    let server = Server::answering(|_| {
        let body = json!({"error": "invalid_client", "error_description": "no attestation"});
        (401, body.to_string())
    });

    let error = handle(server.endpoint(ClientAuth::custom(Attested)))
        .token()
        .await
        .unwrap_err();

    assert_eq!(error.description(), Some("no [secret]"));
    assert_eq!(server.last().headers["x-attested-for"], TOKEN_URL);
    assert_eq!(server.last().one("client_id"), Some("attested"));
}

#[tokio::test(start_paused = true)]
async fn a_parameter_that_both_a_setting_and_the_method_set_is_not_sent_twice() {
    struct Audience;

    impl ClientAuthentication for Audience {
        async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
            request.parameter("audience", "a");
            Ok(())
        }
    }

    let server = Server::granting();
    let endpoint = server.endpoint(ClientAuth::custom(Audience)).audience("b");

    let error = handle(endpoint).token().await.unwrap_err();

    assert_eq!(error.kind(), Kind::Configuration);
    assert!(error.to_string().contains("\"audience\""), "{error}");
    assert!(server.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_jwt_bearer_grant_sends_its_assertion() {
    let server = Server::granting();
    let endpoint = server
        .endpoint(ClientAuth::anonymous())
        .grant(Grant::jwt_bearer("workload"));

    handle(endpoint).token().await.unwrap();

    let asked = server.last();
    assert_eq!(
        asked.one("grant_type"),
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
    );
    assert_eq!(asked.one("assertion"), Some("workload"));
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

    let asked = server.last();
    let sent = |name| asked.one(name).unwrap();
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
async fn what_is_issued_as_n_a_is_no_credential() {
    let server = Server::answering(|_| {
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

    assert_eq!(error.kind(), Kind::UnsupportedTokenType);
    assert!(
        error.to_string().contains("requested_token_type"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_subject_token_is_asked_about_and_a_new_one_ends_the_back_off() {
    let file = Scratch::new("subject", "old");
    let server = Server::answering(|_| (400, r#"{"error":"invalid_grant"}"#.to_owned()));
    let grant = Grant::token_exchange(SecretFile::new(&file.0), TokenExchange::JWT);
    let handle = handle(server.endpoint(ClientAuth::anonymous()).grant(grant));

    let error = handle.token().await.unwrap_err();
    std::fs::write(&file.0, "new").unwrap();
    server.answer(|_| (200, GRANTED.to_owned()));
    tokio::time::advance(Duration::from_secs(6)).await;
    let token = handle.token().await;

    assert!(error.to_string().contains("subject token"), "{error}");
    token.unwrap();
    assert_eq!(server.last().one("subject_token"), Some("new"));
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

    let asked = server.last();
    assert_eq!(
        (asked.method.clone(), asked.url.as_str()),
        (Method::POST, TOKEN_URL)
    );
    assert_eq!(asked.one("scope"), Some("a b c"));
    assert_eq!(
        asked.all("resource"),
        ["https://api.example/a", "urn:example:b"]
    );
    assert_eq!(
        asked.one("authorization_details"),
        Some(r#"[{"amount":5,"type":"payment"}]"#)
    );
    assert_eq!(asked.one("tenant"), Some("t"));
}

#[test]
fn what_is_asked_for_wrongly_is_named() {
    let endpoint = || {
        TokenEndpoint::new(TOKEN_URL.parse().unwrap(), ClientAuth::post("id", "secret"))
            .dangerously_allow_http()
    };
    let cases = [
        (endpoint().resource("/relative"), "RFC 8707"),
        (endpoint().resource("https://api.example/#part"), "RFC 8707"),
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
        let error = endpoint.check().unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(named), "{error}");
    }
    for auth in [
        ClientAuth::tls(""),
        ClientAuth::none(""),
        ClientAuth::assertion("", "a"),
    ] {
        let endpoint = TokenEndpoint::new(TOKEN_URL.parse().unwrap(), auth);
        let error = endpoint.check().unwrap_err();
        assert!(error.to_string().contains("client id is empty"), "{error}");
    }
}

fn assertion(asked: &support::server::Asked) -> String {
    asked.one("client_assertion").unwrap().to_owned()
}

/// A file that is gone when the test is over.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str, content: &str) -> Self {
        let file = format!("tower-m2m-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(file);
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
