//! What a configuration has the layer send.

mod support;

use http::StatusCode;
use serde_json::{Value, json};
use support::{
    API, get, send,
    server::{self, Server},
    serving, status_only,
    temp_file::TempFile,
};
use tower::Layer;
use tower_m2m::client_credentials::{Config, TokenErrorKind, TokenHandle};

const OK: StatusCode = StatusCode::OK;
const BAD_REQUEST: StatusCode = StatusCode::BAD_REQUEST;

#[tokio::test(start_paused = true)]
async fn every_parameter_is_in_the_form() {
    let server = fetch(&json!({
        "client_id": "orders", "client_secret": "word", "scope": ["a", "b c"], "audience": "aud",
        "resource": ["https://a", "https://b"], "authorization_details": [{"type": "t"}],
        "parameters": {"tenant": "x", "login": "y"}, "token_url": "https://id.example/token",
    }))
    .await;

    let asked = server.last_request();
    for (name, value) in [
        ("grant_type", "client_credentials"),
        ("client_id", "orders"),
        ("client_secret", "word"),
        ("scope", "a b c"),
        ("audience", "aud"),
        ("authorization_details", r#"[{"type":"t"}]"#),
        ("tenant", "x"),
        ("login", "y"),
    ] {
        assert_eq!(asked.form_value(name), Some(value), "{name}");
    }
    assert_eq!(asked.form_values("resource"), ["https://a", "https://b"]);
}

#[tokio::test(start_paused = true)]
async fn each_authentication_method_sends_its_parameters() {
    let assertion = TempFile::with_content("assertion", "ready\n");
    let path = assertion.path();
    for (keys, sent) in [
        (
            json!({"client_auth": "post", "client_secret": "word"}),
            "client_secret",
        ),
        (
            json!({"client_auth": "client_secret_post", "client_secret": "word"}),
            "client_secret",
        ),
        (
            json!({"client_auth": "basic", "client_secret": "w d"}),
            "Basic b3JkZXJzOnclMjBk",
        ),
        (
            json!({"client_auth": "basic_raw", "client_secret": "w d"}),
            "Basic b3JkZXJzOncgZA==",
        ),
        (
            json!({"client_auth": "assertion", "assertion_file": path}),
            "client_assertion",
        ),
        (json!({"client_auth": "tls_client_auth"}), "client_id"),
        (json!({"client_auth": "none"}), "client_id"),
        #[cfg(feature = "jwt-rust-crypto")]
        (
            json!({"client_auth": "client_secret_jwt", "client_secret": "word", "assertion_audience": "a"}),
            "client_assertion",
        ),
        #[cfg(feature = "jwt-rust-crypto")]
        (
            json!({
                "client_auth": "private_key_jwt", "private_key_file": "tests/keys/ec.pem", "key_id": "1",
                "signing_algorithm": "ES256", "assertion_audience": "token_endpoint",
            }),
            "client_assertion",
        ),
    ] {
        let mut keys = keys;
        keys["client_id"] = json!("orders");
        keys["token_url"] = json!("https://id.example/token");

        let asked = fetch(&keys).await.last_request();

        match sent.strip_prefix("Basic") {
            Some(_) => assert_eq!(asked.headers["authorization"], sent),
            None => {
                assert!(asked.form_value(sent).is_some(), "{keys}");
                assert_eq!(asked.form_value("client_id"), Some("orders"), "{keys}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_file_is_reread_and_a_variable_is_not() {
    let file = TempFile::with_content("secret", "first");
    let keys = json!({
        "client_id": "orders", "client_secret_file": file.path(), "token_url": "https://id.example/token",
    });
    let (server, config) = (Server::granting(), read(&keys));
    let tokens = tokens(&server, &config);

    tokens.token().await.unwrap();
    std::fs::write(file.path(), "second").unwrap();
    tokens.refresh_now().await.unwrap();

    let asked = server.requests();
    let sent: Vec<_> = asked
        .iter()
        .map(|asked| asked.form_value("client_secret"))
        .collect();
    assert_eq!(sent, [Some("first"), Some("second")]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_can_be_in_another_variable() {
    let vars = |name: &str| match name {
        "A_CLIENT_ID" => Some("orders".to_owned()),
        "A_CLIENT_SECRET_VARIABLE" => Some("VAULT".to_owned()),
        "VAULT" => Some("word".to_owned()),
        "A_TOKEN_URL" => Some("https://id.example/token".to_owned()),
        _ => None,
    };
    let (server, config) = (Server::granting(), Config::from_vars("A_", vars).unwrap());

    tokens(&server, &config).token().await.unwrap();

    assert_eq!(
        server.last_request().form_value("client_secret"),
        Some("word")
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_file_is_reported_by_key() {
    for keys in [
        json!({"client_id": "orders", "client_secret_file": "/canary"}),
        json!({"client_id": "orders", "client_auth": "assertion", "assertion_file": "/canary"}),
    ] {
        let mut keys = keys;
        keys["token_url"] = json!("https://id.example/token");
        let (server, config) = (Server::granting(), read(&keys));

        let error = tokens(&server, &config).token().await.unwrap_err();

        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), TokenErrorKind::SecretUnavailable);
        assert!(text.contains("_file names could not be read"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn grants_send_the_token_from_their_file() {
    let file = TempFile::with_content("subject", "jwt");
    for (keys, name) in [
        (
            json!({"grant": "jwt_bearer", "grant_assertion_file": file.path()}),
            "assertion",
        ),
        (
            json!({
                "grant": "token_exchange", "subject_token_file": file.path(), "subject_token_type": "urn:t",
                "requested_token_type": "urn:r",
            }),
            "subject_token",
        ),
    ] {
        let mut keys = keys;
        keys["client_auth"] = json!("anonymous");
        keys["token_url"] = json!("https://id.example/token");

        let asked = fetch(&keys).await.last_request();

        assert_eq!(asked.form_value(name), Some("jwt"));
        assert_eq!(asked.form_value("client_id"), None);
        let exchange = name == "subject_token";
        assert_eq!(
            asked.form_value("subject_token_type"),
            exchange.then_some("urn:t")
        );
        assert_eq!(
            asked.form_value("requested_token_type"),
            exchange.then_some("urn:r")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn configured_token_types_are_accepted() {
    let config = read(&json!({
        "client_id": "orders", "client_secret": "word", "bearer_types": "JWT BearerToken",
        "token_url": "https://id.example/token",
    }));
    let server = Server::serving(|_| {
        let answer = r#"{"access_token":"token","token_type":"BearerToken","expires_in":300}"#;
        (200, answer.to_owned())
    });

    tokens(&server, &config).token().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_token_endpoint_is_discovered_from_the_issuer() {
    let server = Server::serving(|url| match url.contains("well-known") {
        true => (
            200,
            r#"{"issuer": "https://id.example", "token_endpoint": "https://id.example/found"}"#
                .into(),
        ),
        false => (200, server::GRANTED.into()),
    });
    let keys = json!({
        "client_id": "orders", "client_secret": "word", "issuer": "https://id.example", "client_auth": "basic",
    });

    tokens(&server, &read(&keys)).token().await.unwrap();

    assert_eq!(server.last_request().url, "https://id.example/found");
}

#[tokio::test(start_paused = true)]
async fn the_issuer_is_named_by_the_api_among_those_that_are_allowed() {
    let serving = || {
        Server::serving(|url| {
            let body = if url.contains("oauth-protected-resource") {
                r#"{"resource":"https://api.example/mcp","scopes_supported":["read","write"],
                    "authorization_servers":["https://other.example","https://id.example"]}"#
            } else if url.contains("well-known") {
                r#"{"issuer": "https://id.example", "token_endpoint": "https://id.example/found"}"#
            } else {
                server::GRANTED
            };
            (200, body.to_owned())
        })
    };
    let mut keys = json!({
        "client_id": "orders", "client_secret": "word", "protected_resource": "https://api.example/mcp",
        "client_auth": "basic", "allowed_issuers": "https://third.example\nhttps://id.example\n",
    });
    for (supported, scope) in [(false, None), (true, Some("read write"))] {
        keys["supported_scopes"] = json!(supported);
        let server = serving();

        tokens(&server, &read(&keys)).token().await.unwrap();

        let request = server.last_request();
        assert_eq!(request.url, "https://id.example/found");
        assert_eq!(
            request.form_value("resource"),
            Some("https://api.example/mcp")
        );
        assert_eq!(request.form_value("scope"), scope);
    }
    keys["allowed_issuers"] = json!(["https://third.example"]);
    let server = serving();

    let error = tokens(&server, &read(&keys)).token().await.unwrap_err();

    assert_eq!(error.kind(), TokenErrorKind::Discovery);
    assert!(!format!("{:?}", server.requests()).contains("word"));
}

#[tokio::test(start_paused = true)]
async fn an_api_key_goes_into_its_header_without_a_token_endpoint() {
    let file = TempFile::with_content("key", "key-1");
    for (keys, header, value) in [
        (
            json!({"api_key": "key-1", "header": "x-api-key"}),
            "x-api-key",
            "key-1",
        ),
        (
            json!({"api_key_file": file.path(), "scheme": "Token"}),
            "authorization",
            "Token key-1",
        ),
        (json!({"api_key": "key-1"}), "authorization", "Bearer key-1"),
    ] {
        let mut keys = keys;
        keys["allowed_origins"] = json!(API);
        let (api, calls) = serving(move |request| {
            let right = request
                .headers()
                .get(header)
                .is_some_and(|sent| sent == value);
            std::future::ready(status_only(if right { OK } else { BAD_REQUEST }))
        });

        let client = read(&keys).layer().unwrap().build().layer(api);
        let response = send(&client, get("/")).await.unwrap();

        assert_eq!(response.status(), OK, "{keys}");
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn assumed_origin_and_name_are_applied() {
    let config = read(&json!({
        "api_key_file": "/nowhere", "name": "orders", "allowed_origins": API, "assume_origin": API,
    }));
    let (api, _) = serving(|_| std::future::ready(status_only(OK)));
    let client = config.layer().unwrap().build().layer(api);
    let request = http::Request::get("/orders").body(support::Body::default());

    let error = send(&client, request.unwrap()).await.unwrap_err();

    let text = error.to_string();
    assert!(
        text.contains("orders") && text.contains("api_key_file"),
        "{text}"
    );
}

async fn fetch(keys: &Value) -> Server {
    let server = Server::granting();
    tokens(&server, &read(keys)).token().await.unwrap();
    server
}

fn tokens(server: &Server, config: &Config) -> TokenHandle {
    server::handle(config.endpoint().unwrap().service(server.service()))
}

fn read(keys: &Value) -> Config {
    serde_json::from_str(&keys.to_string()).unwrap()
}
