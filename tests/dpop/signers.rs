//! Proofs by a signer outside the process: slow, throttled, failing.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::Request;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    Clock, SystemClock,
    client_credentials::{
        Dpop, DpopKey, KeyAlgorithm, SignError, Signer, SigningKey, TokenError,
        TokenErrorKind as Kind,
    },
    test_util::Probe,
};

use crate::{
    support::{Body, SECOND, get, send, spawn},
    world::World,
};

const EC: &str = include_str!("../keys/ec.jwk");

/// What a call of the signer comes to.
#[derive(Clone, Copy, Debug)]
enum Call {
    Slow(u32),
    Never,
    Throttled,
    Denied,
    Panics,
}

/// A key in a KMS.
#[derive(Clone, Default)]
struct Kms(Arc<(Mutex<Vec<Call>>, AtomicUsize)>);

impl Kms {
    fn then(&self, calls: &[Call]) {
        *self.0.0.lock().unwrap() = calls.to_vec();
    }

    fn calls(&self) -> usize {
        self.0.1.load(SeqCst)
    }

    fn dpop(&self) -> Dpop {
        Dpop::key(DpopKey::signer(self.clone(), EC).unwrap())
    }
}

impl Signer for Kms {
    fn algorithm(&self) -> KeyAlgorithm {
        KeyAlgorithm::Es256
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.0.1.fetch_add(1, SeqCst);
        let call = {
            let mut calls = self.0.0.lock().unwrap();
            (!calls.is_empty()).then(|| calls.remove(0))
        };
        match call {
            None => {}
            Some(Call::Slow(seconds)) => sleep(seconds * SECOND).await,
            Some(Call::Never) => std::future::pending().await,
            Some(Call::Throttled) => {
                return Err(SignError::transient("is throttled").with_retry_after(2 * SECOND));
            }
            Some(Call::Denied) => return Err(SignError::permanent("may not use the key")),
            Some(Call::Panics) => panic!("canary"),
        }
        let key = SigningKey::jwk(KeyAlgorithm::Es256, EC).unwrap();
        key.sign(message).await
    }
}

fn now() -> Instant {
    SystemClock::default().now()
}

#[tokio::test(start_paused = true)]
async fn a_kms_signs_the_proofs_of_token_requests_and_of_the_api() {
    let world = World::new();
    let kms = Kms::default();
    let service = world.layer(kms.dpop()).build().layer(world.api());

    for _ in 0..3 {
        send(&service, get("/")).await.unwrap();
    }

    // One for the token, and one for each request.
    assert_eq!((kms.calls(), world.issued(), world.sent()), (4, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_slow_signature_holds_no_readiness() {
    let world = World::new();
    let kms = Kms::default();
    let api = world.api();
    let probe = Probe::new(move |request: Request<Body>| api.clone().oneshot(request)).permits(1);
    let service = world.layer(kms.dpop()).build().layer(probe);
    send(&service, get("/")).await.unwrap();
    kms.then(&[Call::Slow(20)]);
    let slow = spawn(&service, get("/slow"));
    sleep(SECOND).await;

    // The only place of the inner service is free meanwhile.
    let fast = timeout(SECOND, send(&service, get("/fast"))).await;

    fast.unwrap().unwrap();
    slow.await.unwrap().unwrap();
    world.with(|state| {
        let last = &state.api_proofs.last().unwrap().0;
        assert!(last.claim("htu").unwrap().ends_with("/slow"));
    });
}

#[tokio::test(start_paused = true)]
async fn a_failed_signature_is_the_error_of_its_request_only() {
    let world = World::new();
    let kms = Kms::default();
    let service = world.layer(kms.dpop()).build().layer(world.api());
    send(&service, get("/")).await.unwrap();
    for (call, transient, says) in [
        (Call::Throttled, true, "the signer is throttled"),
        (Call::Denied, false, "the signer may not use the key"),
        (Call::Panics, true, "the signer panicked"),
        (Call::Never, true, "the signer did not respond within 30s"),
    ] {
        let sent = world.sent();
        kms.then(&[call]);

        let error = send(&service, get("/")).await.unwrap_err();

        let error = error.downcast_ref::<TokenError>().unwrap();
        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::SigningFailed, transient)
        );
        let text = error.to_string();
        assert!(text.starts_with("DPoP proof was not sent: "), "{text}");
        assert!(text.contains(says), "{text}");
        assert!(!format!("{error:?}").contains("canary"));
        // Nothing was sent, and the next request is.
        assert_eq!(world.sent(), sent);
        send(&service, get("/")).await.unwrap();
    }
    assert_eq!(world.issued(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_signature_counts_against_the_deadline_of_the_call() {
    use tower_m2m::{M2mLayer, RateLimitRetryLayer};

    let world = World::new();
    let kms = Kms::default();
    let limits = RateLimitRetryLayer::builder().deadline(5 * SECOND);
    let limits = limits.clock(world.clock()).build();
    let layer = M2mLayer::new(limits, world.layer(kms.dpop()).build());
    let service = layer.layer(world.api());
    send(&service, get("/")).await.unwrap();
    kms.then(&[Call::Never]);
    let began = now();

    send(&service, get("/")).await.unwrap_err();

    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(world.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_fails_at_the_token_endpoint_is_retried_within_the_fetch() {
    let world = World::new();
    let kms = Kms::default();
    kms.then(&[Call::Panics, Call::Never]);
    let handle = world.layer(kms.dpop()).build().handle();
    let began = now();

    handle.token().await.unwrap();

    assert_eq!((kms.calls(), world.issued()), (3, 1));
    // The second call was given up after 10 s.
    assert!(began.elapsed() < 13 * SECOND, "{:?}", began.elapsed());
}
