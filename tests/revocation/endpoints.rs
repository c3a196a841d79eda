//! Where and how a token is revoked, and what is wrong with where.

use http::header;
use tokio::time::sleep;
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{Config, RevocationEndpoint, TokenErrorKind as Kind},
};

use crate::{
    support::{
        HOUR,
        server::{GRANTED, RecordedRequest, Server, TOKEN_URL},
    },
    world::{METADATA_URL, REVOKE_URL, discovered_endpoint, handle, metadata, revocation},
};

#[tokio::test(start_paused = true)]
async fn revocation_authenticates_like_the_token_request() {
    for auth in [
        ClientAuth::basic("id", "secret"),
        ClientAuth::post("id", "secret"),
        ClientAuth::assertion("id", "assertion"),
        ClientAuth::tls("id"),
    ] {
        let server = Server::granting();
        let (handle, events) = handle(server.endpoint(auth).revoke_on_shutdown(revocation()));
        handle.token().await.unwrap();

        handle.shutdown().await;

        assert_eq!(server.urls(), [TOKEN_URL, REVOKE_URL]);
        let [asked, revoked] = &server.requests()[..] else {
            unreachable!("two requests");
        };
        assert_eq!(revoked.form_value("token"), Some("token"));
        assert_eq!(revoked.form_value("token_type_hint"), Some("access_token"));
        assert_eq!(revoked.form_value("grant_type"), None);
        for name in ["client_id", "client_secret", "client_assertion"] {
            assert_eq!(revoked.form_value(name), asked.form_value(name), "{name}");
        }
        let authorization = |asked: &RecordedRequest| {
            let value = asked.headers.get(header::AUTHORIZATION);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(authorization(revoked), authorization(asked));
        assert_eq!(*events.lock().unwrap(), ["revoked"]);
        assert!(!handle.status().is_usable());
        let error = handle.token().await.unwrap_err();
        assert_eq!(error.kind(), Kind::ShutDown);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_not_revoked_by_default() {
    let server = Server::granting();
    let (handle, events) = handle(server.endpoint(ClientAuth::basic("id", "secret")));
    handle.token().await.unwrap();

    handle.shutdown().await;

    assert_eq!(server.urls(), [TOKEN_URL]);
    assert!(events.lock().unwrap().is_empty());
    assert!(handle.token().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_revocation_endpoint_is_discovered() {
    let server = Server::serving(|url| match url {
        METADATA_URL => (
            200,
            metadata(&format!(r#","revocation_endpoint":"{REVOKE_URL}""#)),
        ),
        _ => (200, GRANTED.to_owned()),
    });
    let (handle, events) = handle(discovered_endpoint(&server));
    handle.token().await.unwrap();

    handle.shutdown().await;

    assert_eq!(server.urls(), [METADATA_URL, TOKEN_URL, REVOKE_URL]);
    assert_eq!(*events.lock().unwrap(), ["revoked"]);
}

#[tokio::test(start_paused = true)]
async fn metadata_without_a_revocation_endpoint_is_reported_with_the_remedy() {
    for member in ["", r#","revocation_endpoint":"http://id.example/revoke""#] {
        let server = Server::serving(move |url| match url {
            METADATA_URL => (200, metadata(member)),
            _ => (200, GRANTED.to_owned()),
        });
        let (handle, events) = handle(discovered_endpoint(&server));
        handle.token().await.unwrap();

        handle.shutdown().await;

        assert_eq!(server.urls(), [METADATA_URL, TOKEN_URL]);
        let events = events.lock().unwrap();
        assert!(events[0].starts_with("Configuration"), "{events:?}");
        assert!(events[0].contains("revoke_on_shutdown(uri)"), "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn refreshed_metadata_cannot_move_the_revocation_endpoint() {
    for (moved, used) in [
        ("https://evil.example/revoke", REVOKE_URL),
        (
            "https://id.example/v2/revoke",
            "https://id.example/v2/revoke",
        ),
    ] {
        let at = |url: &str| metadata(&format!(r#","revocation_endpoint":"{url}""#));
        let server = Server::serving(move |url| match url {
            METADATA_URL => (200, at(REVOKE_URL)),
            _ => (200, GRANTED.to_owned()),
        });
        let (handle, _) = handle(discovered_endpoint(&server));
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

#[test]
fn invalid_revocation_settings_fail_before_sending() {
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
        let error = endpoint.validate().unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_revocation_endpoint_can_be_configured() {
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
        let server = Server::serving(|url| match url {
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
        (given("discovered", &token_url), "requires issuer"),
        (given("http://id.example/revoke", issuer), "plain http"),
        (given("no", issuer), "no scheme or no host"),
    ] {
        let error = wrong.unwrap_err().to_string();
        assert!(error.starts_with("revoke_on_shutdown"), "{error}");
        assert!(error.contains(named), "{error}");
    }
}

#[cfg(feature = "jwt-rust-crypto")]
#[tokio::test(start_paused = true)]
async fn the_revocation_audience_is_a_setting() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use tower_m2m::client_credentials::AssertionAudience;

    let auth = || ClientAuth::client_secret_jwt("id", "0123456789abcdef0123456789abcdef");
    let audience = |asked: &RecordedRequest| {
        let claims = asked
            .form_value("client_assertion")
            .unwrap()
            .split('.')
            .nth(1)
            .unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        claims["aud"].as_str().unwrap().to_owned()
    };
    let issuer = "https://id.example";
    for (set, of_token, of_revocation) in [
        (None, issuer, issuer),
        (
            Some(AssertionAudience::RequestedEndpoint),
            issuer,
            REVOKE_URL,
        ),
        (Some(AssertionAudience::TokenEndpoint), issuer, TOKEN_URL),
        (Some("other".into()), issuer, "other"),
    ] {
        let server = Server::granting();
        let mut endpoint = server
            .endpoint(auth())
            .issuer(issuer)
            .revoke_on_shutdown(revocation());
        if let Some(set) = set {
            endpoint = endpoint.revocation_audience(set);
        }
        let (handle, _) = handle(endpoint);
        handle.token().await.unwrap();

        handle.shutdown().await;

        let audiences: Vec<_> = server.requests().iter().map(audience).collect();
        assert_eq!(audiences, [of_token, of_revocation]);
    }
    let both = AssertionAudience::RequestedEndpoint;
    let server = Server::granting();
    let endpoint = server.endpoint(auth()).assertion_audience(both);
    let (handle, _) = handle(endpoint.revoke_on_shutdown(revocation()));
    handle.token().await.unwrap();
    handle.shutdown().await;
    let audiences: Vec<_> = server.requests().iter().map(audience).collect();
    assert_eq!(audiences, [TOKEN_URL, REVOKE_URL]);
}

#[cfg(feature = "jwt-rust-crypto")]
#[tokio::test(start_paused = true)]
async fn a_rejected_revocation_assertion_names_the_setting() {
    for (status, body) in [(401, r#"{"error":"invalid_client"}"#), (403, "")] {
        let server = Server::serving(move |url| match url {
            REVOKE_URL => (status, body.to_owned()),
            _ => (200, GRANTED.to_owned()),
        });
        let auth = ClientAuth::client_secret_jwt("id", "0123456789abcdef0123456789abcdef");
        let endpoint = server.endpoint(auth).issuer("https://id.example");
        let (handle, events) = handle(endpoint.revoke_on_shutdown(revocation()));
        handle.token().await.unwrap();

        handle.shutdown().await;

        let events = events.lock().unwrap();
        assert!(
            events[0].contains("`.revocation_audience(AssertionAudience::RequestedEndpoint)`"),
            "{events:?}"
        );
    }
}
