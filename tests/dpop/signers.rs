//! Proofs by a signer outside the process: slow, throttled, failing.

use http::Request;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    Clock, SystemClock,
    client_credentials::{
        Dpop, DpopKey, KeyAlgorithm, SigningKey, TokenError, TokenErrorKind as Kind,
    },
    test_util::{FaultySigner, Probe, SignerFault},
};

use crate::{
    support::{Body, SECOND, get, send, spawn},
    world::World,
};

const EC: &str = include_str!("../keys/ec.jwk");

type Kms = FaultySigner<SigningKey>;

fn kms() -> (Kms, Dpop) {
    let kms = FaultySigner::new(SigningKey::jwk(KeyAlgorithm::Es256, EC).unwrap());
    let dpop = Dpop::key(DpopKey::signer(kms.clone(), EC).unwrap());
    (kms, dpop)
}

fn now() -> Instant {
    SystemClock::default().now()
}

#[tokio::test(start_paused = true)]
async fn a_kms_signs_the_proofs_of_token_requests_and_of_the_api() {
    let world = World::new();
    let (kms, dpop) = kms();
    let service = world.layer(dpop).build().layer(world.api());

    for _ in 0..3 {
        send(&service, get("/")).await.unwrap();
    }

    // One for the token, and one for each request.
    assert_eq!((kms.calls(), world.issued(), world.sent()), (4, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_slow_signature_holds_no_readiness() {
    let world = World::new();
    let (kms, dpop) = kms();
    let api = world.api();
    let probe = Probe::new(move |request: Request<Body>| api.clone().oneshot(request)).permits(1);
    let service = world.layer(dpop).build().layer(probe);
    send(&service, get("/")).await.unwrap();
    kms.next(SignerFault::Delayed(20 * SECOND));
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
    let (kms, dpop) = kms();
    let service = world.layer(dpop).build().layer(world.api());
    send(&service, get("/")).await.unwrap();
    for (fault, transient, says) in [
        (
            SignerFault::Throttled(SECOND),
            true,
            "the signer is throttled",
        ),
        (SignerFault::Denied, false, "the signer may not use the key"),
        (SignerFault::Panics, true, "the signer panicked"),
        (
            SignerFault::Unreachable,
            true,
            "the signer could not be reached",
        ),
        (
            SignerFault::Malformed,
            false,
            "returned 8 bytes that are not a valid ES256 signature",
        ),
        (
            SignerFault::Hangs,
            true,
            "the signer did not respond within 30s",
        ),
    ] {
        let sent = world.sent();
        kms.next(fault);

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
    let (kms, dpop) = kms();
    let limits = RateLimitRetryLayer::builder().deadline(5 * SECOND);
    let limits = limits.clock(world.clock()).build();
    let layer = M2mLayer::new(limits, world.layer(dpop).build());
    let service = layer.layer(world.api());
    send(&service, get("/")).await.unwrap();
    kms.next(SignerFault::Hangs);
    let began = now();

    send(&service, get("/")).await.unwrap_err();

    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(world.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_fails_at_the_token_endpoint_is_retried_within_the_fetch() {
    let world = World::new();
    let (kms, dpop) = kms();
    kms.next(SignerFault::Panics);
    kms.next(SignerFault::Hangs);
    let handle = world.layer(dpop).build().handle();
    let began = now();

    handle.token().await.unwrap();

    assert_eq!((kms.calls(), world.issued()), (3, 1));
    // The second call was given up after 10 s.
    assert!(began.elapsed() < 13 * SECOND, "{:?}", began.elapsed());
}
