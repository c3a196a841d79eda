//! What becomes of the token on shutdown (RFC 7009).
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use http::header;
use support::{
    HOUR, SECOND, origin,
    server::{GRANTED, Server, TOKEN_URL, layer},
};
use tokio::time::{Instant, sleep};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        AccessToken, ClientCredentialsLayerBuilder, Config, FetchContext, RevocationEndpoint,
        RevokeContext, TokenError, TokenErrorKind as Kind, TokenEvent, TokenHandle, TokenSource,
    },
};

const REVOKE_URL: &str = "https://id.example/revoke";
const METADATA_URL: &str = "https://id.example/.well-known/oauth-authorization-server";

#[tokio::test(start_paused = true)]
async fn the_token_is_revoked_in_the_way_in_which_it_was_asked_for() {
    for auth in [
        ClientAuth::basic("id", "secret"),
        ClientAuth::post("id", "secret"),
        ClientAuth::assertion("id", "assertion"),
        ClientAuth::tls("id"),
    ] {
        let server = Server::granting();
        let (handle, told) = handle(server.endpoint(auth).revoke_on_shutdown(revocation()));
        handle.token().await.unwrap();

        handle.shutdown().await;

        assert_eq!(server.urls(), [TOKEN_URL, REVOKE_URL]);
        let [asked, revoked] = &server.asked()[..] else {
            unreachable!("two requests");
        };
        assert_eq!(revoked.one("token"), Some("token"));
        assert_eq!(revoked.one("token_type_hint"), Some("access_token"));
        assert_eq!(revoked.one("grant_type"), None);
        for name in ["client_id", "client_secret", "client_assertion"] {
            assert_eq!(revoked.one(name), asked.one(name), "{name}");
        }
        let authorization = |asked: &support::server::Asked| {
            let value = asked.headers.get(header::AUTHORIZATION);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(authorization(revoked), authorization(asked));
        assert_eq!(*told.lock().unwrap(), ["revoked"]);
        assert!(!handle.status().is_usable());
        let error = handle.token().await.unwrap_err();
        assert_eq!(error.kind(), Kind::ShutDown);
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_the_token_is_left_to_expire() {
    let server = Server::granting();
    let (handle, told) = handle(server.endpoint(ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();

    handle.shutdown().await;

    assert_eq!(server.urls(), [TOKEN_URL]);
    assert!(told.lock().unwrap().is_empty());
    assert!(handle.token().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_endpoint_that_the_metadata_names_is_used() {
    let server = Server::answering(|url| match url {
        METADATA_URL => (
            200,
            metadata(&format!(r#","revocation_endpoint":"{REVOKE_URL}""#)),
        ),
        _ => (200, GRANTED.to_owned()),
    });
    let (handle, told) = handle(discovering(&server));
    handle.token().await.unwrap();

    handle.shutdown().await;

    assert_eq!(server.urls(), [METADATA_URL, TOKEN_URL, REVOKE_URL]);
    assert_eq!(*told.lock().unwrap(), ["revoked"]);
}

#[tokio::test(start_paused = true)]
async fn metadata_without_such_an_endpoint_is_an_event_that_says_what_to_do() {
    for member in ["", r#","revocation_endpoint":"http://id.example/revoke""#] {
        let server = Server::answering(move |url| match url {
            METADATA_URL => (200, metadata(member)),
            _ => (200, GRANTED.to_owned()),
        });
        let (handle, told) = handle(discovering(&server));
        handle.token().await.unwrap();

        handle.shutdown().await;

        assert_eq!(server.urls(), [METADATA_URL, TOKEN_URL]);
        let told = told.lock().unwrap();
        assert!(told[0].starts_with("Configuration"), "{told:?}");
        assert!(told[0].contains("revoke_on_shutdown(uri)"), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewed_document_does_not_lead_the_token_and_the_secret_elsewhere() {
    for (moved, used) in [
        ("https://evil.example/revoke", REVOKE_URL),
        (
            "https://id.example/v2/revoke",
            "https://id.example/v2/revoke",
        ),
    ] {
        let at = |url: &str| metadata(&format!(r#","revocation_endpoint":"{url}""#));
        let server = Server::answering(move |url| match url {
            METADATA_URL => (200, at(REVOKE_URL)),
            _ => (200, GRANTED.to_owned()),
        });
        let (handle, _) = handle(discovering(&server));
        handle.token().await.unwrap();
        server.answer(move |url| match url {
            METADATA_URL => (200, at(moved)),
            _ => (200, GRANTED.to_owned()),
        });
        sleep(2 * HOUR).await;
        handle.token().await.unwrap();

        handle.shutdown().await;

        assert_eq!(
            server.urls(),
            [METADATA_URL, TOKEN_URL, METADATA_URL, TOKEN_URL, used]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_an_event_and_takes_five_seconds_at_most() {
    let refused = r#"{"error":"unsupported_token_type","error_description":"no canary of token"}"#;
    for (status, body, told_as, seconds) in [
        (503, "", "Server", 0),
        (429, "", "Throttled", 0),
        (302, "", "Redirected", 0),
        (
            401,
            r#"{"error":"invalid_client"}"#,
            "CredentialsRefused",
            0,
        ),
        (400, refused, "Refused", 0),
        (0, "", "Timeout", 5),
    ] {
        let server = Server::answering(move |url| match url {
            REVOKE_URL => (status, body.to_owned()),
            _ => (200, GRANTED.to_owned()),
        });
        let auth = ClientAuth::basic("id", "canary");
        let (handle, told) = handle(server.endpoint(auth).revoke_on_shutdown(revocation()));
        handle.token().await.unwrap();
        let began = Instant::now();

        handle.shutdown().await;

        assert_eq!(began.elapsed(), seconds * SECOND, "{told_as}");
        assert_eq!(server.urls(), [TOKEN_URL, REVOKE_URL], "one attempt");
        let told = told.lock().unwrap().clone();
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with(told_as), "{told:?}");
        assert!(!told[0].contains("canary"), "{told:?}");
        assert_eq!(handle.token().await.unwrap_err().kind(), Kind::ShutDown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_is_a_success_whatever_its_body_says() {
    let server = Server::answering(|url| match url {
        REVOKE_URL => (200, r#"{"error":"invalid_token"}"#.to_owned()),
        _ => (200, GRANTED.to_owned()),
    });
    let auth = ClientAuth::basic("id", "secret");
    let (handle, told) = handle(server.endpoint(auth).revoke_on_shutdown(revocation()));
    handle.token().await.unwrap();

    handle.shutdown().await;

    assert_eq!(*told.lock().unwrap(), ["revoked"]);
}

#[tokio::test(start_paused = true)]
async fn there_is_nothing_to_revoke_without_a_valid_token_or_a_second_time() {
    let server = Server::granting();
    let endpoint = || {
        let auth = ClientAuth::basic("id", "secret");
        server.endpoint(auth).revoke_on_shutdown(revocation())
    };
    let ((cold, _), (expired, _), (twice, _)) =
        (handle(endpoint()), handle(endpoint()), handle(endpoint()));
    expired.token().await.unwrap();
    sleep(301 * SECOND).await;
    twice.token().await.unwrap();

    cold.shutdown().await;
    expired.shutdown().await;
    assert_eq!(server.urls(), [TOKEN_URL, TOKEN_URL]);
    tokio::join!(twice.shutdown(), twice.shutdown());
    twice.shutdown().await;

    assert_eq!(server.urls(), [TOKEN_URL, TOKEN_URL, REVOKE_URL]);
}

#[tokio::test(start_paused = true)]
async fn a_source_of_ones_own_may_revoke_and_even_panic() {
    struct Panics;

    impl TokenSource for Panics {
        async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
            Ok(AccessToken::new("mine"))
        }

        fn revoke<'a>(
            &'a self,
            token: &'a AccessToken,
            cx: RevokeContext<'a>,
        ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
            assert_eq!(token.expose(), Some("mine"));
            assert_eq!(cx.deadline() - cx.clock().now(), 5 * SECOND);
            Some(async { panic!("a source of the user's") })
        }
    }

    let (handle, told) = watched(ClientCredentialsLayer::builder(Panics, origin()));
    handle.token().await.unwrap();

    handle.shutdown().await;

    assert!(told.lock().unwrap()[0].starts_with("Panicked"));
}

#[test]
fn what_cannot_be_is_told_before_anything_is_sent() {
    let auth = || ClientAuth::basic("id", "secret");
    let known = || TokenEndpoint::new(TOKEN_URL.parse().unwrap(), auth());
    let plain: http::Uri = "http://id.example/revoke".parse().unwrap();
    for (endpoint, named) in [
        (
            known().revoke_on_shutdown(RevocationEndpoint::Discovered),
            "TokenEndpoint::discover",
        ),
        (known().revoke_on_shutdown(plain), "dangerously_allow_http"),
    ] {
        let error = endpoint.check().unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_configuration_says_where_tokens_are_revoked() {
    let given = |revoked: &str, place: &str| {
        let text = format!(
            r#"{{"client_id":"id","client_secret":"secret",{place},"revoke_on_shutdown":"{revoked}"}}"#
        );
        serde_json::from_str::<Config>(&text).unwrap().endpoint()
    };
    let issuer = r#""issuer":"https://id.example""#;
    let token_url = format!(r#""token_url":"{TOKEN_URL}""#);
    for (endpoint, urls) in [
        (given(REVOKE_URL, &token_url), &[TOKEN_URL, REVOKE_URL][..]),
        (
            given("discovered", issuer),
            &[METADATA_URL, TOKEN_URL, REVOKE_URL],
        ),
    ] {
        let server = Server::answering(|url| match url {
            METADATA_URL => (
                200,
                metadata(&format!(r#","revocation_endpoint":"{REVOKE_URL}""#)),
            ),
            _ => (200, GRANTED.to_owned()),
        });
        let (handle, _) = handle(endpoint.unwrap().service(server.service()));
        handle.token().await.unwrap();

        handle.shutdown().await;

        assert_eq!(server.urls(), urls);
    }
    for (wrong, named) in [
        (given("discovered", &token_url), "needs issuer"),
        (given("http://id.example/revoke", issuer), "plain http"),
        (given("no", issuer), "no scheme or no host"),
    ] {
        let error = wrong.unwrap_err().to_string();
        assert!(error.starts_with("revoke_on_shutdown"), "{error}");
        assert!(error.contains(named), "{error}");
    }
}

fn revocation() -> http::Uri {
    REVOKE_URL.parse().unwrap()
}

fn discovering(server: &Server) -> TokenEndpoint {
    TokenEndpoint::discover("https://id.example", ClientAuth::basic("id", "secret"))
        .service(server.service())
        .revoke_on_shutdown(RevocationEndpoint::Discovered)
}

fn metadata(more: &str) -> String {
    format!(r#"{{"issuer":"https://id.example","token_endpoint":"{TOKEN_URL}"{more}}}"#)
}

type Told = Arc<Mutex<Vec<String>>>;

fn handle(endpoint: TokenEndpoint) -> (TokenHandle, Told) {
    watched(layer(endpoint))
}

/// A handle, and what its layer tells of revocations.
fn watched(layer: ClientCredentialsLayerBuilder) -> (TokenHandle, Told) {
    let told = Told::default();
    let log = Arc::clone(&told);
    let layer = layer.on_event(move |event: &TokenEvent<'_>| match event {
        TokenEvent::Revoked { .. } => log.lock().unwrap().push("revoked".to_owned()),
        TokenEvent::RevocationFailed { error, .. } => {
            let description = error.description();
            let text = format!("{:?}: {error} {description:?}", error.kind());
            log.lock().unwrap().push(text);
        }
        _ => {}
    });
    (layer.build().handle(), told)
}
