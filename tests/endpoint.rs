//! What token endpoints answer, and what becomes of it: byte for byte, without a socket.

mod support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use support::{Body, Source, api, get, origin, send};
use tower::{Layer, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{TokenError, TokenErrorKind as Kind},
};

const DIDIT: &str = r#"{"iss":"https://apx.didit.me","iat":1617220000,"sub":"the-client","client_id":"the-client","organization_id":"org","expires_in":86400,"exp":1617306400,"access_token":"canary-token"}"#;
const KEYCLOAK: &str = r#"{"access_token":"canary-token","expires_in":300,"refresh_expires_in":0,"token_type":"Bearer","not-before-policy":0,"scope":"profile email"}"#;

#[tokio::test(start_paused = true)]
async fn a_token_is_requested_with_a_form_and_basic_auth() {
    let (outcome, seen) = fetch(200, KEYCLOAK, |endpoint| {
        endpoint.scope("orders.read orders.write").audience("api")
    })
    .await;

    outcome.unwrap();
    let (headers, body) = seen.lock().unwrap().clone().unwrap();
    assert_eq!(headers[header::AUTHORIZATION], "Basic aWQ6c2VjcmV0");
    assert_eq!(
        headers[header::CONTENT_TYPE],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(headers[header::ACCEPT], "application/json");
    assert_eq!(
        body,
        "grant_type=client_credentials&scope=orders.read%20orders.write&audience=api"
    );
}

#[tokio::test(start_paused = true)]
async fn lifetimes_are_read_in_every_form() {
    let answers = [
        (DIDIT, 86_400),
        (KEYCLOAK, 300),
        (r#"{"access_token":"t","expires_in":"120"}"#, 120),
        (r#"{"access_token":"t","expires_in":3600.0}"#, 3600),
        (r#"{"access_token":"t","expires_in":"59.9"}"#, 59),
        (r#"{"access_token":"t","expires_in":-5}"#, 0),
        (r#"{"access_token":"t","expires_in":null}"#, 3600),
        (r#"{"access_token":"t","token_type":"BEARER"}"#, 3600),
        // An `exp` in the past says nothing.
        (r#"{"access_token":"t","exp":1617306400}"#, 3600),
    ];
    for (answer, seconds) in answers {
        let lifetime = fetch(200, answer, |e| e).await.0.unwrap().unwrap();
        assert_eq!(lifetime.as_secs(), seconds, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn error_responses_are_classified() {
    let cases = [
        (
            401,
            r#"{"error":"invalid_client"}"#,
            Kind::InvalidClient,
            false,
        ),
        (
            400,
            r#"{"error":"invalid_scope"}"#,
            Kind::InvalidScope,
            false,
        ),
        (
            200,
            r#"{"error":"invalid_client"}"#,
            Kind::InvalidClient,
            false,
        ),
        (403, "", Kind::InvalidClient, true),
        (403, "<html>", Kind::Rejected, true),
        (401, "<html>", Kind::InvalidClient, false),
        (429, "<html>", Kind::Throttled, true),
        (500, r#"{"error":"invalid_client"}"#, Kind::Server, true),
        (200, "", Kind::InvalidResponse, true),
        (200, "<html>login</html>", Kind::InvalidResponse, true),
        (200, "[]", Kind::InvalidResponse, true),
        (200, r#"{"expires_in":1}"#, Kind::InvalidResponse, true),
        (200, r#"{"access_token":5}"#, Kind::InvalidResponse, true),
        (
            200,
            r#"{"access_token":"t","token_type":"DPoP"}"#,
            Kind::InvalidResponse,
            false,
        ),
        (302, "", Kind::InvalidResponse, false),
    ];
    for (status, body, kind, transient) in cases {
        let error = fetch(status, body, |e| e).await.0.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_transient()),
            (kind, transient),
            "{status} {body}"
        );
        assert!(
            error.to_string().contains("https://issuer.example/token"),
            "{error}"
        );
    }
    // One kind has several causes; the message says which.
    for (status, body, cause) in [
        (200, "", "empty body"),
        (200, "<html>login</html>", "web page"),
        (200, "[]", "JSON object"),
        (200, r#"{"expires_in":1}"#, "access_token"),
        (200, r#"{"access_token":"t","token_type":"DPoP"}"#, "DPoP"),
        (302, "", "redirect"),
    ] {
        let error = fetch(status, body, |e| e).await.0.unwrap_err();
        assert!(error.to_string().contains(cause), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_client_error_lists_all_other_methods() {
    let refused = r#"{"error":"invalid_client"}"#;
    for (auth, named, not) in [
        (
            ClientAuth::basic("odd id", "p@ss"),
            &["basic_raw`", "ClientAuth::post`"][..],
            "ClientAuth::basic`",
        ),
        (
            ClientAuth::basic_raw("odd id", "p@ss"),
            &["ClientAuth::basic`", "ClientAuth::post`"],
            "basic_raw",
        ),
        (
            ClientAuth::post("odd id", "p@ss"),
            &["ClientAuth::basic`", "basic_raw`"],
            "ClientAuth::post",
        ),
        (
            ClientAuth::basic("id", "pass"),
            &["ClientAuth::post`"],
            "basic_raw",
        ),
        (
            ClientAuth::post("id", "pass"),
            &["ClientAuth::basic`"],
            "basic_raw",
        ),
    ] {
        let error = fetch_with(401, refused, auth, |e| e).await.0.unwrap_err();

        let text = error.to_string();
        assert!(text.contains("check the client id and secret"), "{text}");
        assert!(named.iter().all(|way| text.contains(way)), "{text}");
        assert!(!text.contains(not), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_description_is_quoted_without_secrets() {
    let answer = r#"{"error":"invalid_client","error_description":"secret secret of eyJhbGciOiJIUzI1NiJ9.abc123 is\nwrong"}"#;

    let error = fetch(401, answer, |e| e).await.0.unwrap_err();

    assert_eq!(error.oauth_error(), Some("invalid_client"));
    assert_eq!(
        error.error_description(),
        Some("[secret] [secret] of [redacted] is wrong")
    );
    assert!(!error.to_string().contains("eyJ"));
}

#[tokio::test(start_paused = true)]
async fn a_response_of_ten_megabytes_is_rejected() {
    let large = "x".repeat(10 << 20);

    let error = fetch(200, &large, |e| e).await.0.unwrap_err();

    assert_eq!(error.kind(), Kind::InvalidResponse);
}

#[tokio::test(start_paused = true)]
async fn a_non_utf_8_response_is_an_invalid_response() {
    let body = Bytes::from_static(b"{\"access_token\":\"\xff\xfe\"}");

    let error = fetch_bytes(200, body, ClientAuth::basic("id", "secret"), |e| e)
        .await
        .0
        .unwrap_err();

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::InvalidResponse, true)
    );
    assert!(error.to_string().contains("check"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn invalid_settings_are_named_and_nothing_is_sent() {
    let auth = || ClientAuth::post("id", "secret");
    let at = |uri: &str, auth| TokenEndpoint::new(uri.parse().unwrap(), auth);
    let issuer = "https://issuer.example/token";
    let cases = [
        (
            at("http://issuer.example/token", auth()),
            "dangerously_allow_http",
        ),
        (at("/token", auth()), "absolute https URL"),
        (at("https://user@issuer.example/token", auth()), "user info"),
        (
            at(issuer, ClientAuth::post("", "secret")),
            "client id is empty",
        ),
        (at(issuer, ClientAuth::basic_raw("a:b", "secret")), "colon"),
        (at(issuer, auth()).parameter("scope", "x"), "\"scope\""),
        (
            at(issuer, auth())
                .parameter("tenant", "a")
                .parameter("tenant", "b"),
            "\"tenant\"",
        ),
    ];
    for (endpoint, named) in cases {
        let error = endpoint.validate().unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(named), "{error}");
    }
    let empty = ClientAuth::post("id", "");
    let (outcome, seen) = fetch_with(200, KEYCLOAK, empty, |e| e).await;
    assert_eq!(outcome.unwrap_err().kind(), Kind::SecretUnavailable);
    assert!(seen.lock().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn secrets_are_hidden_in_debug_output() {
    let endpoint = TokenEndpoint::new(
        "https://user:canary@issuer.example/token?key=canary"
            .parse()
            .unwrap(),
        ClientAuth::basic("id", "canary"),
    )
    .parameter("extra", "canary");
    let error = endpoint.validate().unwrap_err();
    let layer = ClientCredentialsLayer::builder(endpoint.clone(), origin()).build();

    let printed = format!(
        "{endpoint:?} {error} {error:?} {layer:?} {:?}",
        layer.handle()
    );

    assert!(!printed.contains("canary"), "{printed}");
}

type Recorded = Arc<Mutex<Option<(HeaderMap, Bytes)>>>;
type Lifetime = Option<std::time::Duration>;

async fn fetch(
    status: u16,
    body: &str,
    settings: impl FnOnce(TokenEndpoint) -> TokenEndpoint,
) -> (Result<Lifetime, TokenError>, Recorded) {
    fetch_with(status, body, ClientAuth::basic("id", "secret"), settings).await
}

async fn fetch_with(
    status: u16,
    body: &str,
    auth: ClientAuth,
    settings: impl FnOnce(TokenEndpoint) -> TokenEndpoint,
) -> (Result<Lifetime, TokenError>, Recorded) {
    fetch_bytes(
        status,
        Bytes::copy_from_slice(body.as_bytes()),
        auth,
        settings,
    )
    .await
}

/// Sends one request through a layer whose endpoint answers so; the token's lifetime, and what the endpoint was sent.
async fn fetch_bytes(
    status: u16,
    body: Bytes,
    auth: ClientAuth,
    settings: impl FnOnce(TokenEndpoint) -> TokenEndpoint,
) -> (Result<Lifetime, TokenError>, Recorded) {
    let seen = Recorded::default();
    let log = Arc::clone(&seen);
    let endpoint = service_fn(move |request: Request<Full<Bytes>>| {
        let (log, body) = (Arc::clone(&log), body.clone());
        async move {
            let (parts, form) = request.into_parts();
            let form = form.collect().await.unwrap().to_bytes();
            *log.lock().unwrap() = Some((parts.headers, form));
            let response = Response::builder().status(status).body(Body::new(body));
            Ok::<_, BoxError>(response.unwrap())
        }
    });
    let uri = "https://issuer.example/token".parse().unwrap();
    let endpoint = settings(TokenEndpoint::new(uri, auth)).service(endpoint);
    let layer = ClientCredentialsLayer::builder(endpoint, origin()).build();
    let handle = layer.handle();
    // Without a token nothing reaches the API.
    let service = layer.layer(api(&Source::default()).0);
    let outcome = match handle.token().await {
        Ok(token) => Ok(token.lifetime()),
        Err(error) => {
            assert!(
                send(&service, get("/"))
                    .await
                    .unwrap_err()
                    .is::<TokenError>()
            );
            Err(error)
        }
    };
    (outcome, seen)
}
