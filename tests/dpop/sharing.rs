//! Bound tokens in a store.

use tower::Layer;
use tower_m2m::{
    client_credentials::{BearerAnswer, Dpop, DpopKey, KeyAlgorithm, SigningKey, TokenSource},
    test_util::MemoryTokenStore,
};

use crate::{
    support::{get, send},
    world::World,
};

fn key() -> DpopKey {
    let jwk = include_str!("../keys/ec.jwk");
    DpopKey::new(SigningKey::jwk(KeyAlgorithm::Es256, jwk).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn processes_with_the_same_key_share_a_token_and_prove_it() {
    let world = World::new();
    let store = MemoryTokenStore::new();
    for _ in 0..3 {
        let layer = world.layer(Dpop::key(key())).store(store.clone()).build();

        send(&layer.layer(world.api()), get("/")).await.unwrap();
    }

    assert_eq!((world.sent(), world.issued()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn processes_with_other_keys_do_not_share() {
    let world = World::new();
    let store = MemoryTokenStore::new();
    let other = DpopKey::generate().unwrap();
    for dpop in [
        Dpop::key(key()),
        Dpop::key(other),
        Dpop::generated(),
        Dpop::generated(),
    ] {
        let layer = world.layer(dpop).store(store.clone()).build();

        send(&layer.layer(world.api()), get("/")).await.unwrap();
    }

    assert_eq!(world.issued(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_bearer_token_of_a_dpop_client_is_not_shared() {
    let world = World::new();
    world.with(|state| state.token_type = Some("Bearer"));
    let store = MemoryTokenStore::new();
    for _ in 0..2 {
        let dpop = Dpop::key(key()).on_bearer_answer(BearerAnswer::Accept);
        let layer = world.layer(dpop).store(store.clone()).build();

        send(&layer.layer(world.api()), get("/")).await.unwrap();
    }

    assert_eq!(world.issued(), 2);
}

#[tokio::test]
async fn the_cache_key_contains_the_thumbprint() {
    let world = World::new();
    let of = async |dpop| world.endpoint(dpop).cache_key().await;

    let one = of(Dpop::key(key())).await;

    assert!(one.is_some());
    assert_eq!(one, of(Dpop::key(key())).await);
    assert_ne!(one, of(Dpop::key(DpopKey::generate().unwrap())).await);
    assert_eq!(of(Dpop::generated()).await, None);
}
