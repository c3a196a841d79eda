//! Proofs of requests to an API.

use std::time::Duration;

use http::{Request, StatusCode};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};
use tower_m2m::{
    Attempts,
    client_credentials::{AccessToken, BearerAnswer, Dpop, DpopKey},
    test_util::Probe,
};

use crate::{
    support::{API, Body, SECOND, get, post, send},
    world::World,
};

#[tokio::test(start_paused = true)]
async fn each_request_has_the_scheme_dpop_and_a_proof_for_its_method_and_url() {
    let world = World::new();
    let service = world.layer(Dpop::generated()).build().layer(world.api());

    send(&service, get("/orders?page=2&token=x")).await.unwrap();
    send(&service, post("/orders/%7E7")).await.unwrap();
    send(&service, get("")).await.unwrap();

    world.with(|state| {
        let urls: Vec<_> = state
            .api_proofs
            .iter()
            .map(|(proof, accepted)| {
                assert!(accepted);
                (proof.claim("htm").unwrap(), proof.claim("htu").unwrap())
            })
            .collect();
        assert_eq!(
            urls,
            [
                ("GET", format!("{API}/orders").as_str()),
                ("POST", &format!("{API}/orders/%7E7")),
                ("GET", &format!("{API}/")),
            ]
        );
        assert_eq!(state.tokens.len(), 1);
        for headers in &state.api_headers {
            assert!(headers["dpop"].is_sensitive());
            assert!(headers["authorization"].is_sensitive());
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_nonce_costs_one_more_request_and_no_token() {
    let world = World::new();
    let service = world.layer(Dpop::generated()).build().layer(world.api());
    world.with(|state| state.api_nonce = Some("n-1".into()));

    let response = send(&service, post("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(Attempts::of(&response), 2);
    send(&service, post("/")).await.unwrap();

    assert_eq!((world.sent(), world.issued()), (3, 1));
    // Renewed by any response.
    world.with(|state| {
        state.api_announces = true;
        state.api_nonce = Some("n-1".into());
    });
    send(&service, post("/")).await.unwrap();
    world.with(|state| state.api_nonce = Some("n-2".into()));
    send(&service, post("/")).await.unwrap();
    send(&service, post("/")).await.unwrap();
    assert_eq!((world.sent(), world.issued()), (7, 1));
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_challenges_ends_after_three_requests_and_costs_no_token() {
    let world = World::new();
    let service = world.layer(Dpop::generated()).build().layer(world.api());
    world.with(|state| {
        state.api_nonce = Some("n".into());
        state.rotates = true;
    });

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(Attempts::of(&response), 3);
    assert_eq!((world.sent(), world.issued()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_nonce_is_not_answered() {
    let world = World::new();
    let service = world.layer(Dpop::generated()).build().layer(world.api());
    world.with(|state| state.api_nonce = Some("a b".into()));

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((world.sent(), world.issued()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_replaced_together_with_its_nonce() {
    let world = World::new();
    let service = world.layer(Dpop::generated()).build().layer(world.api());
    send(&service, get("/")).await.unwrap();
    world.with(|state| {
        state.revoked.insert("token-1".into());
        state.api_nonce = Some("n-1".into());
    });

    let response = send(&service, get("/")).await.unwrap();

    // Nonce, token: three requests, of which the last is accepted.
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(Attempts::of(&response), 3);
    assert_eq!((world.sent(), world.issued()), (4, 2));
    world.with(|state| {
        let last = &state.api_proofs.last().unwrap().0;
        assert_eq!(last.thumbprint, state.tokens["token-2"]);
        assert_ne!(state.tokens["token-1"], state.tokens["token-2"]);
    });
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_proof_follows_the_apis_clock() {
    let world = World::new();
    let service = world.layer(Dpop::generated()).build().layer(world.api());
    send(&service, get("/")).await.unwrap();
    world.with(|state| (state.ahead, state.dated) = (-400, true));

    let response = send(&service, get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    send(&service, get("/")).await.unwrap();

    assert_eq!((world.sent(), world.issued()), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_again_gets_the_challenge() {
    use http_body_util::combinators::UnsyncBoxBody;
    use tower::service_fn;
    use tower_m2m::{BoxError, replay::ReplayableBody};

    let world = World::new();
    let api = world.api();
    let inner = service_fn(move |request: Request<Once>| {
        let api = api.clone();
        async move { api.oneshot(request.map(|_| Body::default())).await }
    });
    /// A body without copies.
    #[derive(Debug)]
    struct Once(UnsyncBoxBody<bytes::Bytes, BoxError>);
    impl ReplayableBody for Once {
        fn try_clone(&self) -> Option<Self> {
            let _ = &self.0;
            None
        }
    }
    let service = world.layer(Dpop::generated()).build().layer(inner);
    world.with(|state| state.api_nonce = Some("n-1".into()));
    let body = || {
        use http_body_util::BodyExt;
        Once(
            Body::default()
                .map_err(|never| match never {})
                .boxed_unsync(),
        )
    };

    let request = || Request::get(API).body(body()).unwrap();
    let first = service.clone().oneshot(request()).await.unwrap();
    let second = service.oneshot(request()).await.unwrap();

    // The next request has the nonce.
    assert_eq!(first.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(second.status(), StatusCode::OK);
    assert_eq!(world.issued(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bearer_token_that_is_accepted_is_sent_without_a_proof() {
    let world = World::new();
    world.with(|state| state.token_type = Some("Bearer"));
    let dpop = Dpop::generated().on_bearer_answer(BearerAnswer::Accept);
    let service = world.layer(dpop).build().layer(world.api());

    send(&service, get("/")).await.unwrap();

    world.with(|state| {
        assert_eq!(state.api_headers[0]["authorization"], "Bearer token-1");
        assert!(!state.api_headers[0].contains_key("dpop"));
    });
}

#[tokio::test(start_paused = true)]
async fn a_source_of_the_programs_own_binds_its_tokens() {
    let world = World::new();
    let key = DpopKey::generate().unwrap();
    let token = AccessToken::new("own").bound_to(key.clone());
    world.with(|state| state.tokens.insert("own".into(), key.thumbprint().into()));
    let layer = tower_m2m::ClientCredentialsLayer::builder(token, API.parse().unwrap());
    let service = layer.clock(world.clock()).build().layer(world.api());

    send(&service, get("/")).await.unwrap();

    assert_eq!(world.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proof_of_a_caller_is_replaced() {
    let world = World::new();
    let service = world.layer(Dpop::generated()).build().layer(world.api());
    let mut request = get("/");
    request
        .headers_mut()
        .insert("dpop", "of a caller".parse().unwrap());

    send(&service, request).await.unwrap();

    assert_eq!(world.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proof_is_made_again_if_the_inner_service_was_slow() {
    let world = World::new();
    let api = world.api();
    let probe = Probe::new(move |request: Request<Body>| api.clone().oneshot(request));
    let service = world.layer(Dpop::generated()).build().layer(probe.clone());
    send(&service, get("/")).await.unwrap();
    // Ready for the call, and not again for the attempt after the signature.
    let mut ready = service.clone();
    ready.ready().await.unwrap();
    probe.block();
    let call = tokio::spawn(ready.call(get("/")));

    sleep(30 * SECOND).await;
    probe.unblock();
    call.await.unwrap().unwrap();

    world.with(|state| {
        let times: Vec<_> = state
            .api_proofs
            .iter()
            .map(|(proof, _)| proof.claims["iat"].as_u64().unwrap())
            .collect();
        assert_eq!(times[1] - times[0], 30);
    });
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_replaced_while_the_inner_service_was_slow_gets_another_proof() {
    let world = World::new();
    let api = world.api();
    let probe = Probe::new(move |request: Request<Body>| api.clone().oneshot(request));
    let layer = world.layer(Dpop::generated()).build();
    let service = layer.layer(probe.clone());
    send(&service, get("/")).await.unwrap();
    // Ready for the call, and not again for the attempt after the signature.
    let mut ready = service.clone();
    ready.ready().await.unwrap();
    probe.block();
    let call = tokio::spawn(ready.call(get("/")));
    sleep(SECOND).await;

    layer.handle().refresh_now().await.unwrap();
    probe.unblock();
    call.await.unwrap().unwrap();

    world.with(|state| {
        let last = &state.api_proofs.last().unwrap().0;
        assert_eq!(last.thumbprint, state.tokens["token-2"]);
        assert_eq!(
            state.api_headers.last().unwrap()["authorization"],
            "DPoP token-2"
        );
    });
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_replaced_before_it_is_sent() {
    let world = World::new();
    let service = world.layer(Dpop::generated()).build().layer(world.api());
    for _ in 0..10 {
        send(&service, get("/")).await.unwrap();
        sleep(Duration::from_secs(100)).await;
    }

    world.with(|state| assert!(state.api_proofs.iter().all(|(_, accepted)| *accepted)));
    assert!((4..=5).contains(&world.issued()), "{}", world.issued());
}
