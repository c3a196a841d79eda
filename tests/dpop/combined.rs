//! Proofs below rate limits: `M2mLayer`, and a layer of retries outside.

use http::StatusCode;
use tower::Layer;
use tower_m2m::{M2mLayer, RateLimitRetryLayer, client_credentials::Dpop};

use crate::{
    support::{get, send},
    world::World,
};

/// The same service by the combined layer and by two layers.
fn both(world: &World) -> Vec<impl crate::support::Client + use<>> {
    use tower::util::BoxCloneService;

    let limits = || RateLimitRetryLayer::builder().clock(world.clock()).build();
    let combined = M2mLayer::new(limits(), world.layer(Dpop::generated()).build());
    let stacked = world.layer(Dpop::generated()).build().layer(world.api());
    vec![
        BoxCloneService::new(combined.layer(world.api())),
        BoxCloneService::new(limits().layer(stacked)),
    ]
}

#[tokio::test(start_paused = true)]
async fn each_retry_has_a_proof_of_its_own() {
    for index in 0..2 {
        let world = World::new();
        let service = &both(&world)[index];
        world.with(|state| state.statuses = vec![503, 502, 0, 504]);

        let response = send(service, get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK, "{index}");
        assert_eq!((world.sent(), world.issued()), (5, 1), "{index}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_proof_after_a_wait_has_the_time_after_it() {
    for index in 0..2 {
        let world = World::new();
        let service = &both(&world)[index];
        world.with(|state| state.statuses = vec![429]);

        let response = send(service, get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK, "{index}");
        world.with(|state| {
            let times = state.api_proofs.iter();
            let times: Vec<_> = times
                .map(|(proof, _)| proof.claims["iat"].as_u64().unwrap())
                .collect();
            assert!((30..40).contains(&(times[1] - times[0])), "{times:?}");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_nonce_costs_no_token_and_a_rejected_token_is_replaced() {
    for index in 0..2 {
        let world = World::new();
        let service = &both(&world)[index];
        send(service, get("/")).await.unwrap();
        world.with(|state| state.api_nonce = Some("n-1".into()));

        let response = send(service, get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{index}");
        assert_eq!((world.sent(), world.issued()), (3, 1), "{index}");

        world.with(|state| {
            state.revoked.insert("token-1".into());
            state.api_nonce = Some("n-2".into());
        });
        let response = send(service, get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{index}");
        assert_eq!((world.sent(), world.issued()), (6, 2), "{index}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_challenges_is_bounded() {
    for index in 0..2 {
        let world = World::new();
        let service = &both(&world)[index];
        world.with(|state| {
            state.api_nonce = Some("n".into());
            state.rotates = true;
        });

        let response = send(service, get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{index}");
        assert_eq!((world.sent(), world.issued()), (3, 1), "{index}");
    }
}
