//! Properties of proofs over random histories of requests, challenges, failures and replaced tokens.
//!
//! The servers of `world` check each proof: no proof without `ath` at the API, none with it at the authorization server, no
//! `jti` twice, and `htu` without query. Here the histories are random.

use http::{Method, Request};
use proptest::{collection::vec, prelude::*};
use tower::Layer;
use tower_m2m::{M2mLayer, RateLimitRetryLayer, client_credentials::Dpop};

use crate::{
    support::{API, Body, send},
    world::World,
};

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Request(usize, String),
    ApiNonce(Option<u8>),
    IdNonce(Option<u8>),
    Statuses(Vec<u16>),
    Revoke,
    Wait(u64),
    Clock(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = "[a-zA-Z0-9%7E/._~-]{0,20}(\\?[a-z=&%20]{0,10})?";
    let path = path.prop_map(|path| format!("/{}", path.replace('%', "%7")));
    vec(
        prop_oneof![
            6 => (0_usize..4, path).prop_map(|(method, path)| Step::Request(method, path)),
            1 => any::<Option<u8>>().prop_map(Step::ApiNonce),
            1 => any::<Option<u8>>().prop_map(Step::IdNonce),
            1 => vec(prop_oneof![Just(503_u16), Just(500), Just(200), Just(0)], 0..4)
                .prop_map(Step::Statuses),
            1 => Just(Step::Revoke),
            1 => (0_u64..400).prop_map(Step::Wait),
            1 => (-500_i64..500).prop_map(Step::Clock),
        ],
        1..30,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_proof_is_wrong_in_any_history(steps in steps(), combined in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps, combined));
    }
}

async fn run(steps: Vec<Step>, combined: bool) {
    use tower::util::BoxCloneService;

    let world = World::new();
    world.with(|state| state.dated = true);
    let layer = world.layer(Dpop::generated()).build();
    let service = if combined {
        let limits = RateLimitRetryLayer::builder().clock(world.clock()).build();
        BoxCloneService::new(M2mLayer::new(limits, layer).layer(world.api()))
    } else {
        BoxCloneService::new(layer.layer(world.api()))
    };
    for step in steps {
        match step {
            Step::Request(method, path) => {
                let methods = [Method::GET, Method::POST, Method::DELETE, Method::PATCH];
                let request = Request::builder()
                    .method(methods[method].clone())
                    .uri(format!("{API}{path}"))
                    .body(Body::default());
                // A path that is no path is not sent.
                if let Ok(request) = request {
                    // The servers panic if a proof is wrong.
                    let _ = send(&service, request).await;
                }
            }
            Step::ApiNonce(nonce) => {
                world.with(|state| state.api_nonce = nonce.map(|nonce| format!("a-{nonce}")));
            }
            Step::IdNonce(nonce) => {
                world.with(|state| state.id_nonce = nonce.map(|nonce| format!("i-{nonce}")));
            }
            Step::Statuses(statuses) => world.with(|state| state.statuses = statuses),
            Step::Revoke => world.with(|state| {
                let tokens: Vec<_> = state.tokens.keys().cloned().collect();
                state.revoked.extend(tokens);
            }),
            Step::Wait(seconds) => {
                tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
            }
            Step::Clock(ahead) => world.with(|state| state.ahead = ahead),
        }
    }
}
