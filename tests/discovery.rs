//! How the token endpoint is found from the issuer, and what its metadata may and may not change.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use support::server::{GRANTED, RETRY_AFTER, Server, handle, layer};
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{TokenError, TokenErrorKind as Kind, TokenEvent},
};

const ISSUER: &str = "https://id.example/realms/m2m";
const OAUTH: &str = "https://id.example/.well-known/oauth-authorization-server/realms/m2m";
const OPENID: &str = "https://id.example/realms/m2m/.well-known/openid-configuration";
const TOKEN: &str = "https://id.example/realms/m2m/token";

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

#[tokio::test(start_paused = true)]
async fn a_secret_is_sent_the_way_that_the_server_offers() {
    for (methods, basic) in [
        (json!(["client_secret_post"]), false),
        (json!(["client_secret_post", "client_secret_basic"]), true),
        (Value::Null, true),
    ] {
        let server = publishing(OAUTH, with(metadata(), METHODS, methods));

        token(&server, ClientAuth::basic("id", "secret"))
            .await
            .unwrap();

        let asked = server.last();
        assert_eq!(asked.headers.contains_key("authorization"), basic);
        assert_eq!(asked.one("client_secret").is_some(), !basic);
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_never_weakens_the_credential() {
    let all_but_ours = json!(["none", "client_secret_basic", "client_secret_post"]);
    let cases = [
        (ClientAuth::tls("id"), all_but_ours.clone()),
        (ClientAuth::tls("id"), Value::Null),
        (
            ClientAuth::self_signed_tls("id"),
            json!(["tls_client_auth"]),
        ),
        (
            ClientAuth::basic("id", "secret"),
            json!(["none", "private_key_jwt"]),
        ),
        (ClientAuth::none("id"), Value::Null),
    ];
    for (auth, methods) in cases {
        let server = publishing(OAUTH, with(metadata(), METHODS, methods));

        let error = token(&server, auth).await.unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(
            error.to_string().contains("the server's metadata offers"),
            "{error}"
        );
        assert_eq!(server.urls(), [OAUTH]);
    }
}

#[cfg(feature = "jwt-aws-lc-rs")]
#[tokio::test(start_paused = true)]
async fn a_key_never_becomes_a_secret_and_its_audience_is_the_issuer() {
    use tower_m2m::client_credentials::{KeyAlgorithm, SigningKey};

    let key = || SigningKey::pem(KeyAlgorithm::Es256, include_bytes!("keys/ec.pem")).unwrap();
    let weak = publishing(
        OAUTH,
        with(metadata(), METHODS, json!(["client_secret_post"])),
    );
    let good = publishing(OAUTH, with(metadata(), METHODS, json!(["private_key_jwt"])));

    let signs = ClientAuth::client_secret_jwt("id", "secret");
    let of_secret = token(&weak, signs).await.unwrap_err();
    let of_key = token(&weak, ClientAuth::private_key_jwt("id", key()))
        .await
        .unwrap_err();
    token(&good, ClientAuth::private_key_jwt("id", key()))
        .await
        .unwrap();

    assert_eq!(of_secret.kind(), Kind::Configuration);
    assert_eq!(of_key.kind(), Kind::Configuration);
    assert!(good.last().one("client_assertion").is_some());
}

#[cfg(feature = "jwt-aws-lc-rs")]
#[tokio::test(start_paused = true)]
async fn an_assertion_is_signed_only_with_what_the_server_takes() {
    let signed = with(metadata(), METHODS, json!(["client_secret_jwt"]));
    let takes = |algorithms| with(signed.clone(), ALGORITHMS, algorithms);
    let auth = || ClientAuth::client_secret_jwt("id", "secret");
    let good = publishing(OAUTH, takes(json!(["RS256", "HS256"])));
    let bad = publishing(OAUTH, takes(json!(["RS256"])));

    token(&good, auth()).await.unwrap();
    let refused = token(&bad, auth()).await.unwrap_err();

    assert_eq!(refused.kind(), Kind::Configuration);
    let text = refused.to_string();
    assert!(text.contains(r#"["RS256"] only"#), "{text}");
    assert!(text.contains("signs with HS256"), "{text}");
    assert_eq!(bad.urls(), [OAUTH]);

    let (handle, told) = told(discover(&good, auth()));
    handle.token().await.unwrap();
    publish(&good, OAUTH, takes(json!(["RS256"])));
    tokio::time::advance(Duration::from_secs(3601)).await;
    handle.refresh_now().await.unwrap();
    assert_eq!(*told.lock().unwrap(), [Kind::MetadataChanged]);
}

#[tokio::test(start_paused = true)]
async fn only_a_certificate_goes_to_the_mtls_alias() {
    let alias = json!({ "token_endpoint": "https://mtls.id.example/token" });
    let methods = json!(["client_secret_basic", "tls_client_auth"]);
    let document = with(
        with(metadata(), METHODS, methods),
        "mtls_endpoint_aliases",
        alias,
    );

    for (auth, place) in [
        (ClientAuth::tls("id"), "https://mtls.id.example/token"),
        (ClientAuth::basic("id", "secret"), TOKEN),
    ] {
        let server = publishing(OAUTH, document.clone());

        token(&server, auth).await.unwrap();

        assert_eq!(server.last().url, place);
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_is_renewed_after_an_hour_and_followed_within_its_origin() {
    let server = publishing(OAUTH, metadata());
    let handle = handle(discover(&server, ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();

    let moved = "https://id.example/realms/m2m/v2/token";
    publish(
        &server,
        OAUTH,
        with(metadata(), "token_endpoint", json!(moved)),
    );
    tokio::time::advance(Duration::from_secs(3601)).await;
    handle.refresh_now().await.unwrap();

    assert_eq!(server.urls(), [OAUTH, TOKEN, OAUTH, moved]);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_document_that_moves_the_endpoint_or_drops_the_method_is_told_and_not_adopted() {
    let elsewhere = json!("https://evil.example/token");
    for document in [
        with(metadata(), "token_endpoint", elsewhere),
        with(metadata(), METHODS, json!(["client_secret_post"])),
        with(metadata(), METHODS, json!(["none"])),
    ] {
        let server = publishing(OAUTH, metadata());
        let (endpoint, told) = told(discover(&server, ClientAuth::basic("id", "secret")));
        endpoint.token().await.unwrap();

        publish(&server, OAUTH, document);
        tokio::time::advance(Duration::from_secs(3601)).await;
        endpoint.refresh_now().await.unwrap();

        assert_eq!(*told.lock().unwrap(), [Kind::MetadataChanged]);
        assert_eq!(server.urls(), [OAUTH, TOKEN, OAUTH, TOKEN]);
        assert!(server.last().headers.contains_key("authorization"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_told_changes_nothing_and_has_a_back_off_of_its_own() {
    let server = publishing(OAUTH, metadata());
    let (handle, told) = told(discover(&server, ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();
    server.answer(|url| match url {
        OAUTH => (503, String::new()),
        _ => (200, GRANTED.to_owned()),
    });

    tokio::time::advance(Duration::from_secs(3601)).await;
    handle.refresh_now().await.unwrap();
    handle.refresh_now().await.unwrap();
    tokio::time::advance(Duration::from_secs(11)).await;
    handle.refresh_now().await.unwrap();

    assert_eq!(*told.lock().unwrap(), [Kind::Server, Kind::Server]);
    assert_eq!(
        server.urls(),
        [OAUTH, TOKEN, OAUTH, TOKEN, TOKEN, OAUTH, TOKEN]
    );
}

#[tokio::test(start_paused = true)]
async fn the_back_off_of_renewals_grows_to_minutes() {
    let server = publishing(OAUTH, metadata());
    let (handle, told) = told(discover(&server, ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();
    publish(&server, "nowhere", Value::Null);
    tokio::time::advance(Duration::from_secs(3601)).await;
    for _ in 0..8 {
        handle.refresh_now().await.unwrap();
        tokio::time::advance(Duration::from_secs(601)).await;
    }
    handle.refresh_now().await.unwrap();

    tokio::time::advance(Duration::from_secs(290)).await;
    handle.refresh_now().await.unwrap();

    assert_eq!(*told.lock().unwrap(), [Kind::NoMetadata; 9]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_does_not_use_up_the_time_for_the_token() {
    let server = publishing(OAUTH, metadata());
    let (handle, told) = told(discover(&server, ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();
    server.answer(|url| match url {
        OAUTH => (0, String::new()),
        _ => (200, GRANTED.to_owned()),
    });

    tokio::time::advance(Duration::from_secs(3601)).await;
    handle.refresh_now().await.unwrap();

    assert_eq!(*told.lock().unwrap(), [Kind::Timeout]);
    assert_eq!(server.urls(), [OAUTH, TOKEN, OAUTH, TOKEN]);
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

#[tokio::test(start_paused = true)]
async fn a_token_that_is_bound_to_a_certificate_is_told() {
    // {"cnf":{"x5t#S256":"a"}}
    let bound = r#"{"access_token":"e30.eyJjbmYiOnsieDV0I1MyNTYiOiJhIn19.c2ln","expires_in":60}"#;
    let server = Server::answering(move |_| (200, bound.to_owned()));
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    let handle = layer(server.endpoint(ClientAuth::tls("id")))
        .on_event(move |event| {
            if matches!(event, TokenEvent::BoundToken { .. }) {
                *counter.lock().unwrap() += 1;
            }
        })
        .build()
        .handle();

    handle.token().await.unwrap();
    server.answer(|_| (200, GRANTED.to_owned()));
    handle.refresh_now().await.unwrap();

    assert_eq!(*count.lock().unwrap(), 1);
}

fn metadata() -> Value {
    json!({
        "issuer": ISSUER,
        "token_endpoint": TOKEN,
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    })
}

/// The document with another value for one member; `null` takes it out.
fn with(mut document: Value, member: &str, value: Value) -> Value {
    document[member] = value;
    document
}

fn publishing(place: &'static str, document: Value) -> Server {
    let server = Server::granting();
    publish(&server, place, document);
    server
}

/// The document at `place`, tokens at every URL that is not well known, and 404 elsewhere.
fn publish(server: &Server, place: &'static str, document: Value) {
    server.answer(move |url| match url {
        _ if url == place => (200, document.to_string()),
        _ if url.contains(".well-known") => (404, String::new()),
        _ => (200, GRANTED.to_owned()),
    });
}

fn discover(server: &Server, auth: ClientAuth) -> TokenEndpoint {
    TokenEndpoint::discover(ISSUER, auth).service(server.service())
}

async fn token(server: &Server, auth: ClientAuth) -> Result<(), TokenError> {
    let outcome = handle(discover(server, auth)).token().await;
    outcome.map(drop)
}

type Told = Arc<Mutex<Vec<Kind>>>;

/// With the reasons why metadata was not adopted.
fn told(endpoint: TokenEndpoint) -> (tower_m2m::client_credentials::TokenHandle, Told) {
    let told = Told::default();
    let log = Arc::clone(&told);
    let layer = layer(endpoint)
        .on_event(move |event| {
            if let TokenEvent::MetadataNotAdopted { error, .. } = event {
                log.lock().unwrap().push(error.kind());
            }
        })
        .build();
    (layer.handle(), told)
}

const METHODS: &str = "token_endpoint_auth_methods_supported";
#[cfg(feature = "jwt-aws-lc-rs")]
const ALGORITHMS: &str = "token_endpoint_auth_signing_alg_values_supported";
