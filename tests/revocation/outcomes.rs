//! What comes of it.

use std::future::Future;

use tokio::time::{Instant, sleep};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer,
    client_credentials::{
        AccessToken, FetchContext, RevokeContext, TokenError, TokenErrorKind as Kind, TokenSource,
    },
};

use crate::{
    support::{
        SECOND, origin,
        server::{GRANTED, Server, TOKEN_URL},
    },
    world::{REVOKE_URL, handle, revocation, with_events},
};

#[tokio::test(start_paused = true)]
async fn a_revocation_failure_is_reported_within_five_seconds() {
    let refused = r#"{"error":"unsupported_token_type","error_description":"no canary of token"}"#;
    for (status, body, told_as, seconds) in [
        (503, "", "Server", 0),
        (429, "", "Throttled", 0),
        (302, "", "InvalidResponse", 0),
        (401, r#"{"error":"invalid_client"}"#, "InvalidClient", 0),
        (400, refused, "Rejected", 0),
        (0, "", "Timeout", 5),
    ] {
        let server = Server::serving(move |url| match url {
            REVOKE_URL => (status, body.to_owned()),
            _ => (200, GRANTED.to_owned()),
        });
        let auth = ClientAuth::basic("id", "canary");
        let (handle, events) = handle(server.endpoint(auth).revoke_on_shutdown(revocation()));
        handle.token().await.unwrap();
        let began = Instant::now();

        handle.shutdown().await;

        assert_eq!(began.elapsed(), seconds * SECOND, "{told_as}");
        assert_eq!(server.urls(), [TOKEN_URL, REVOKE_URL], "one attempt");
        let events = events.lock().unwrap().clone();
        assert_eq!(events.len(), 1);
        assert!(events[0].starts_with(told_as), "{events:?}");
        assert!(!events[0].contains("canary"), "{events:?}");
        assert_eq!(handle.token().await.unwrap_err().kind(), Kind::ShutDown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_successful_status_is_a_success_with_any_body() {
    let server = Server::serving(|url| match url {
        REVOKE_URL => (200, r#"{"error":"invalid_token"}"#.to_owned()),
        _ => (200, GRANTED.to_owned()),
    });
    let auth = ClientAuth::basic("id", "secret");
    let (handle, events) = handle(server.endpoint(auth).revoke_on_shutdown(revocation()));
    handle.token().await.unwrap();

    handle.shutdown().await;

    assert_eq!(*events.lock().unwrap(), ["revoked"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_revoked_without_a_valid_token_or_twice() {
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
async fn a_custom_source_may_revoke_and_panic() {
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

    let (handle, events) = with_events(ClientCredentialsLayer::builder(Panics, origin()));
    handle.token().await.unwrap();

    handle.shutdown().await;

    assert!(events.lock().unwrap()[0].starts_with("Aborted"));
}
