//! `private_key_jwt` by a signer that is elsewhere, such as a KMS: slow, throttled, failing.
#![cfg(feature = "jwt")]

mod support;

use std::{
    borrow::Cow,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use support::{
    SECOND,
    server::{GRANTED, RETRY_AFTER, Server, TOKEN_URL, handle, layer},
};
use tokio::time::sleep;
use tower_m2m::{
    ClientAuth, Clock, SystemClock, TokenEndpoint,
    client_credentials::{
        AssertionClaims, Grant, KeyAlgorithm, SignError, Signer, TokenError,
        TokenErrorKind as Kind, TokenEvent, TokenSource,
    },
    store::CacheKey,
    test_util::{FaultySigner, SignerFault},
};

const ISSUER: &str = "https://id.example";
/// The private key, which no error may show.
const KEY: &str = "canary-4f1c";

/// What a call of the signer comes to.
#[derive(Clone, Debug)]
enum Call {
    Signature(Vec<u8>),
    Slow(Duration),
    Never,
    Throttled(Duration),
    Unreachable,
    Denied,
    Panics,
}

/// A KMS of which each call comes to what is next in a list, and in the end to a signature.
#[derive(Clone, Default)]
struct Kms(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    messages: Vec<String>,
    changed: bool,
    name: Option<&'static str>,
}

impl Kms {
    fn calls(calls: &[Call]) -> Self {
        let kms = Self::default();
        kms.0.lock().unwrap().calls = calls.to_vec();
        kms
    }

    fn named(self, name: &'static str) -> Self {
        self.0.lock().unwrap().name = Some(name);
        self
    }

    /// The messages that it was asked to sign.
    fn messages(&self) -> Vec<String> {
        self.0.lock().unwrap().messages.clone()
    }
}

impl Signer for Kms {
    fn algorithm(&self) -> KeyAlgorithm {
        KeyAlgorithm::Es256
    }

    fn key_id(&self) -> Option<Cow<'_, str>> {
        Some("2026-11".into())
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let call = {
            let mut state = self.0.lock().unwrap();
            let text = String::from_utf8(message.to_vec()).unwrap();
            state.messages.push(text);
            match state.calls.is_empty() {
                true => Call::Signature(signature()),
                false => state.calls.remove(0),
            }
        };
        match call {
            Call::Signature(signature) => Ok(signature),
            Call::Slow(time) => {
                sleep(time).await;
                Ok(signature())
            }
            Call::Never => std::future::pending().await,
            Call::Throttled(wait) => {
                Err(SignError::transient("is throttled").with_retry_after(wait))
            }
            Call::Unreachable => {
                let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                Err(SignError::transient("could not be reached").with_source(cause))
            }
            Call::Denied => Err(SignError::permanent("may not use the key")),
            Call::Panics => panic!("{KEY}"),
        }
    }

    async fn changed(&self) -> bool {
        self.0.lock().unwrap().changed
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        let name = self.0.lock().unwrap().name?;
        Some(CacheKey::new("kms").field("key", name))
    }
}

fn signature() -> Vec<u8> {
    (1..=64).collect()
}

fn endpoint(server: &Server, kms: &Kms) -> TokenEndpoint {
    let auth = ClientAuth::private_key_jwt("id", kms.clone());
    server.endpoint(auth).issuer(ISSUER)
}

#[tokio::test(start_paused = true)]
async fn a_signer_signs_the_assertion_that_is_sent() {
    // The same two numbers in DER.
    let der = [
        &[0x30, 68, 2, 32][..],
        &signature()[..32],
        &[2, 32],
        &signature()[32..],
    ]
    .concat();
    for returned in [signature(), der] {
        let kms = Kms::calls(&[Call::Signature(returned)]);
        let server = Server::granting();

        handle(endpoint(&server, &kms)).token().await.unwrap();

        let message = kms.messages().pop().unwrap();
        let asked = server.last_request();
        assert_eq!(
            asked.form_value("client_assertion").unwrap(),
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature()))
        );
        assert_eq!(asked.form_value("client_id"), Some("id"));
        let mut parts = message.split('.').map(|part| {
            let part = URL_SAFE_NO_PAD.decode(part).unwrap();
            serde_json::from_slice::<Value>(&part).unwrap()
        });
        let expected =
            json!({ "alg": "ES256", "kid": "2026-11", "typ": "client-authentication+jwt" });
        assert_eq!(parts.next(), Some(expected));
        assert_eq!(parts.next().unwrap()["aud"], ISSUER);
    }
}

#[tokio::test(start_paused = true)]
async fn a_signature_has_the_length_of_its_curve() {
    /// Returns a signature of this length.
    struct Fixed(KeyAlgorithm, usize);
    impl Signer for Fixed {
        fn algorithm(&self) -> KeyAlgorithm {
            self.0
        }
        async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
            Ok(vec![7; self.1])
        }
    }
    for (algorithm, length) in [
        (KeyAlgorithm::Es256, 64),
        (KeyAlgorithm::Es384, 96),
        (KeyAlgorithm::Es512, 132),
        (KeyAlgorithm::EdDsa, 64),
    ] {
        for (returned, is_accepted) in [(length, true), (length - 1, false), (length + 1, false)] {
            let server = Server::granting();
            let auth = ClientAuth::private_key_jwt("id", Fixed(algorithm, returned));

            let token = handle(server.endpoint(auth).issuer(ISSUER)).token().await;

            assert_eq!(token.is_ok(), is_accepted, "{algorithm:?}: {returned}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_signer_serves_several_clients() {
    let kms = Arc::new(Kms::default());
    for id in ["a", "b"] {
        let server = Server::granting();
        let auth = ClientAuth::private_key_jwt(id, Arc::clone(&kms));

        handle(server.endpoint(auth).issuer(ISSUER))
            .token()
            .await
            .unwrap();

        assert_eq!(server.last_request().form_value("client_id"), Some(id));
    }
    assert_eq!(kms.messages().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_signer_is_waited_for_and_one_that_takes_too_long_is_asked_again() {
    for (first, calls, took) in [(14, 1, 14), (16, 2, 15)] {
        let kms = Kms::calls(&[Call::Slow(first * SECOND)]);
        let server = Server::granting();
        let began = SystemClock::default().now();

        handle(endpoint(&server, &kms)).token().await.unwrap();

        assert_eq!(
            (kms.messages().len(), began.elapsed().as_secs()),
            (calls, took)
        );
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_does_not_answer_is_given_up_with_the_fetch() {
    for (retries, calls) in [(2, 2), (0, 1)] {
        let kms = Kms::calls(&vec![Call::Never; calls]);
        let server = Server::granting();
        let handle = handle(endpoint(&server, &kms).retries(retries));
        let began = SystemClock::default().now();

        let error = handle.token().await.unwrap_err();

        assert_eq!(began.elapsed(), 30 * SECOND);
        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::SigningFailed, true)
        );
        let text = error.to_string();
        assert!(text.contains("the signer did not respond within"), "{text}");
        assert_eq!(kms.messages().len(), calls);
        assert!(server.requests().is_empty());

        sleep(60 * SECOND).await;
        handle.token().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_does_not_answer_holds_up_no_shutdown() {
    let kms = Kms::calls(&[Call::Signature(signature()), Call::Never]);
    let server = Server::granting();
    let at = "https://id.example/revoke".parse::<http::Uri>().unwrap();
    let handle = handle(endpoint(&server, &kms).revoke_on_shutdown(at));
    handle.token().await.unwrap();
    let began = SystemClock::default().now();

    handle.shutdown().await;

    assert_eq!((kms.messages().len(), began.elapsed()), (2, 5 * SECOND));
    assert_eq!(server.urls(), [TOKEN_URL]);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_signer_is_left_alone_for_as_long_as_it_says() {
    let kms = Kms::calls(&[Call::Throttled(RETRY_AFTER)]);
    let server = Server::granting();
    let handle = handle(endpoint(&server, &kms));

    let error = handle.token().await.unwrap_err();

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::SigningFailed, true)
    );
    assert_eq!(error.retry_after(), Some(RETRY_AFTER));
    assert!(
        error
            .to_string()
            .contains("was not sent: the signer is throttled"),
        "{error}"
    );
    for _ in 0..100 {
        handle.token().await.unwrap_err();
        sleep(SECOND).await;
    }
    assert_eq!(kms.messages().len(), 1);
    sleep(RETRY_AFTER).await;
    handle.token().await.unwrap();
    assert_eq!((kms.messages().len(), server.requests().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_of_the_signer_is_retried_within_the_fetch() {
    let kms = Kms::calls(&[Call::Unreachable, Call::Panics]);
    let server = Server::granting();
    let retried = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&retried);
    let layer = layer(endpoint(&server, &kms)).on_event(move |event: &TokenEvent<'_>| {
        if let TokenEvent::FetchRetrying { error, .. } = event {
            seen.lock().unwrap().push(error.to_string());
        }
    });

    layer.build().handle().token().await.unwrap();

    let retried = retried.lock().unwrap().join("\n");
    assert!(
        retried.contains("the signer could not be reached\n"),
        "{retried}"
    );
    assert!(
        retried.ends_with("the signer panicked; its message went to stderr"),
        "{retried}"
    );
    assert_eq!((kms.messages().len(), server.requests().len()), (3, 1));
    // Each attempt signs an assertion of its own.
    let mut messages = kms.messages();
    messages.dedup();
    assert_eq!(messages.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_of_the_signer_lasts_until_its_key_changes() {
    let kms = Kms::calls(&[Call::Denied]);
    let server = Server::granting();
    let handle = handle(endpoint(&server, &kms));

    let error = handle.token().await.unwrap_err();

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::SigningFailed, false)
    );
    sleep(6 * SECOND).await;
    handle.token().await.unwrap_err();
    assert_eq!(kms.messages().len(), 1);
    kms.0.lock().unwrap().changed = true;
    sleep(6 * SECOND).await;
    handle.token().await.unwrap();
    assert_eq!(kms.messages().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_signature_of_the_algorithm_is_not_sent() {
    for wrong in [Vec::new(), vec![7; 63], vec![7; 256]] {
        let kms = Kms::calls(&[Call::Signature(wrong.clone())]);
        let server = Server::granting();

        let error = handle(endpoint(&server, &kms)).token().await.unwrap_err();

        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::SigningFailed, false)
        );
        let text = format!(
            "returned {} bytes that are not a valid ES256 signature",
            wrong.len()
        );
        assert!(error.to_string().contains(&text), "{error}");
        assert!(server.requests().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn no_error_shows_the_key_or_what_the_signer_returned() {
    for call in [
        Call::Signature(KEY.as_bytes().to_vec()),
        Call::Never,
        Call::Throttled(SECOND),
        Call::Unreachable,
        Call::Denied,
        Call::Panics,
    ] {
        let kms = Kms::calls(&[call.clone(), call.clone(), call.clone()]);
        let server = Server::granting();

        let error = handle(endpoint(&server, &kms)).token().await.unwrap_err();

        let mut shown = format!("{error} {error:?}");
        let mut next = error.source();
        while let Some(cause) = next {
            shown = format!("{shown} {cause} {cause:?}");
            next = cause.source();
        }
        assert!(!shown.contains(KEY), "{shown}");
        for message in kms.messages() {
            assert!(!shown.contains(&message), "{shown}");
        }
        let refused = matches!(call, Call::Unreachable);
        assert_eq!(shown.contains("ConnectionRefused"), refused, "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_that_the_server_does_not_take_is_an_error_before_anything_is_signed() {
    let kms = Kms::default();
    let metadata = json!({
        "issuer": ISSUER,
        "token_endpoint": TOKEN_URL,
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256"],
    });
    let server = Server::serving(move |url| match url {
        TOKEN_URL => (200, GRANTED.to_owned()),
        _ => (200, metadata.to_string()),
    });
    let auth = ClientAuth::private_key_jwt("id", kms.clone());

    let endpoint = TokenEndpoint::discover(ISSUER, auth).service(server.service());
    let error = handle(endpoint).token().await.unwrap_err();

    assert!(error.to_string().contains("ES256"), "{error}");
    assert!(kms.messages().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_assertion_of_a_grant_is_signed_elsewhere_as_well() {
    for (fault, calls, kind) in [
        (None, 1, None),
        (Some(SignerFault::Delayed(14 * SECOND)), 1, None),
        (Some(SignerFault::Hangs), 2, None),
        (Some(SignerFault::Unreachable), 2, None),
        (Some(SignerFault::Panics), 2, None),
        (Some(SignerFault::Throttled(SECOND)), 1, Some(true)),
        (Some(SignerFault::Denied), 1, Some(false)),
        (Some(SignerFault::Malformed), 1, Some(false)),
    ] {
        let kms = FaultySigner::new(Kms::default());
        if let Some(fault) = fault {
            kms.next(fault);
        }
        let server = Server::granting();
        let claims = AssertionClaims::new("id").audience(ISSUER);
        let endpoint = server
            .endpoint(ClientAuth::anonymous())
            .grant(Grant::signed_jwt(kms.clone(), claims));

        let result = handle(endpoint).token().await;

        assert_eq!(kms.calls(), calls, "{fault:?}");
        let error = result.err().map(|error| {
            assert_eq!(error.kind(), Kind::SigningFailed);
            error.is_transient()
        });
        assert_eq!(error, kind, "{fault:?}");
        let sent = usize::from(kind.is_none());
        assert_eq!(server.requests().len(), sent, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_double_can_fail_every_time() {
    let kms = FaultySigner::new(Kms::default());
    kms.always(Some(SignerFault::Throttled(SECOND)));
    for _ in 0..3 {
        assert!(kms.sign(b"").await.is_err());
    }
    kms.always(None);

    assert!(kms.sign(b"").await.is_ok());
    assert_eq!(kms.calls(), 4);
    assert_eq!(format!("{kms:?}"), "FaultySigner { .. }");
    assert_eq!(kms.key_id().as_deref(), Some("2026-11"));
    assert!(kms.certificate().is_none());
}

#[tokio::test]
async fn tokens_are_shared_only_among_signers_with_the_same_name() {
    let server = Server::granting();
    let identity = async |kms: &Kms| endpoint(&server, kms).cache_key().await;

    let [unnamed, one, same, other] = [
        identity(&Kms::default()).await,
        identity(&Kms::default().named("orders/1")).await,
        identity(&Kms::default().named("orders/1")).await,
        identity(&Kms::default().named("orders/2")).await,
    ];

    assert!(unnamed.is_none() && one.is_some());
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[test]
fn an_error_of_a_signer_becomes_one_of_the_token() {
    let error = TokenError::from(SignError::permanent("has no such key"));

    assert_eq!(error.kind(), Kind::SigningFailed);
    assert_eq!(
        error.to_string(),
        "token request was not sent: the signer has no such key"
    );
}
