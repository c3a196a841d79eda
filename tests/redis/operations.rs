//! What a store on Redis does when all is well.

use std::time::Duration;

use tower_m2m::{
    client_credentials::{AccessToken, Lease, LeaseId, RedisTokenStore, TokenSource, TokenStore},
    store::{CacheKey, StoreErrorKind, StoreKeyring},
};

use crate::{
    server::Server,
    world::{World, all_tokens, key, keys},
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn fifty_processes_that_start_cold_cost_one_token_request() {
    let world = World::new();
    let fleet = world.fleet(50);

    let tokens = all_tokens(&fleet).await;

    assert!(tokens.iter().all(|token| token.is_ok()));
    assert_eq!(world.token_requests(), 1);
    for process in &fleet {
        assert_eq!(process.take_events().len(), 1);
    }
}

#[tokio::test]
async fn refresh_now_replaces_the_stored_token() {
    let world = World::new();
    let process = world.process();
    let first = process.token().await;

    let second = process.handle.refresh_now().await.unwrap();

    assert_ne!(second.expose(), Some(first.as_str()));
    assert_eq!(world.process().token().await, second.expose().unwrap());
    assert_eq!(world.token_requests(), 2);
}

#[tokio::test]
async fn a_lease_has_one_owner_who_alone_can_release_it() {
    let world = World::new();
    let identity = world.endpoint().cache_key().await.unwrap();
    let (store, other) = (world.store(), world.store());
    let [a, b, c] = holders();

    assert_eq!(
        store.lease(&identity, a, MINUTE).await.unwrap(),
        Lease::Held
    );
    assert_eq!(
        other.lease(&identity, b, MINUTE).await.unwrap(),
        Lease::Busy
    );
    other.release(&identity, b, None).await.unwrap();
    assert_eq!(
        other.lease(&identity, b, MINUTE).await.unwrap(),
        Lease::Busy
    );
    assert_eq!(
        store.lease(&identity, a, MINUTE).await.unwrap(),
        Lease::Held
    );
    store.release(&identity, a, None).await.unwrap();
    assert_eq!(
        other.lease(&identity, b, MINUTE).await.unwrap(),
        Lease::Held
    );
    other.release(&identity, b, Some(MINUTE)).await.unwrap();
    assert_eq!(
        store.lease(&identity, c, MINUTE).await.unwrap(),
        Lease::Failed
    );
}

#[tokio::test]
async fn leases_and_cooldowns_expire() {
    let world = World::new();
    let identity = world.endpoint().cache_key().await.unwrap();
    let store = world.store();
    let [a, b, _] = holders();
    let short = Duration::from_millis(30);
    assert_eq!(store.lease(&identity, a, short).await.unwrap(), Lease::Held);
    assert!(store.begin_cooldown(&identity, short).await.unwrap());

    while store.lease(&identity, b, short).await.unwrap() != Lease::Held {}
    while !store.begin_cooldown(&identity, MINUTE).await.unwrap() {}

    assert!(!store.begin_cooldown(&identity, MINUTE).await.unwrap());
}

#[tokio::test]
async fn leases_and_cooldowns_are_capped_at_a_day() {
    let world = World::new();
    let store = world.store();
    for (name, length) in [
        ("a", 11 * MINUTE),
        ("b", 1440 * MINUTE),
        ("c", Duration::MAX),
    ] {
        let identity = CacheKey::new("test").field("name", name);
        let [a, b, _] = holders();

        let lease = async |holder| store.lease(&identity, holder, length).await.unwrap();
        assert_eq!(lease(a).await, Lease::Held, "{name}");
        assert_eq!(lease(b).await, Lease::Busy, "{name}");
        store.release(&identity, a, Some(length)).await.unwrap();
        assert_eq!(lease(b).await, Lease::Failed, "{name}");
        let cool_down = async || store.begin_cooldown(&identity, length).await.unwrap();
        assert!(cool_down().await, "{name}");
        assert!(!cool_down().await, "{name}");
    }
}

#[tokio::test]
async fn only_the_lease_owner_stores_a_token_and_only_the_rejected_one_is_removed() {
    let world = World::new();
    world.process().token().await;
    let identity = world.endpoint().cache_key().await.unwrap();
    let store = world.store();
    let token = store.get(&identity).await.unwrap().unwrap();
    let refused = token.token().fingerprint();
    let [a, b, _] = holders();
    assert!(!store.put(&identity, &token, a).await.unwrap());

    let other = AccessToken::new("other").fingerprint();
    assert!(!store.remove(&identity, other).await.unwrap());
    assert!(store.remove(&identity, refused).await.unwrap());
    assert!(store.get(&identity).await.unwrap().is_none());

    assert_eq!(
        store.lease(&identity, a, MINUTE).await.unwrap(),
        Lease::Held
    );
    assert!(!store.put(&identity, &token, b).await.unwrap());
    assert!(store.put(&identity, &token, a).await.unwrap());
    let found = store.get(&identity).await.unwrap().unwrap();
    assert!(found.left() <= token.left() && found.lifetime() == token.lifetime());
    // That was the end of the lease.
    assert_eq!(
        store.lease(&identity, b, MINUTE).await.unwrap(),
        Lease::Held
    );
}

#[tokio::test]
async fn keys_share_a_hash_tag_and_all_expire() {
    let world = World::new();
    let process = world.process();
    let token = process.token().await;
    let identity = world.endpoint().cache_key().await.unwrap();
    let store = world.store();
    let [a, ..] = holders();
    store.lease(&identity, a, MINUTE).await.unwrap();
    store.begin_cooldown(&identity, MINUTE).await.unwrap();

    let keys = world.redis.keys();

    assert_eq!(keys.len(), 3);
    let tag = |key: &str| key[key.find('{').unwrap()..=key.find('}').unwrap()].to_owned();
    for key in &keys {
        assert!(key.starts_with("m2m:1:{"), "{key}");
        assert_eq!(tag(key), tag(&keys[0]));
        let left = world.redis.command(&[b"PTTL", key.as_bytes()]);
        assert!(!left.starts_with(b":-"), "{key}");
    }
    let stored = world
        .redis
        .command(&[b"GET", world.redis.key(":token").as_bytes()]);
    for secret in [token.as_bytes(), b"secret"] {
        assert!(!stored.windows(secret.len()).any(|window| window == secret));
    }
}

#[tokio::test]
async fn keys_are_rotated_without_losing_the_token() {
    let world = World::new();
    let store = |keys| RedisTokenStore::new(world.redis.url(), keys).unwrap();
    let both = |first, second: (&'static str, u8)| {
        let (id, byte): (&'static str, u8) = first;
        let keys = StoreKeyring::new(id, key(byte)).unwrap();
        keys.with_key(second.0, key(second.1)).unwrap()
    };
    let (old, new) = (("a", 1), ("b", 2));

    let token = world.process_with(store(keys())).token().await;
    assert_eq!(
        world.process_with(store(both(old, new))).token().await,
        token
    );
    let renewing = world.process_with(store(both(new, old)));
    assert_eq!(renewing.token().await, token);
    let token = renewing.handle.refresh_now().await.unwrap();
    let token = token.expose().unwrap();
    let alone = store(StoreKeyring::new("b", key(2)).unwrap());
    assert_eq!(world.process_with(alone).token().await, token);
    assert_eq!(world.token_requests(), 2);

    // Another key does not find it at all.
    let stranger = store(StoreKeyring::new("a", key(3)).unwrap());
    assert_ne!(world.process_with(stranger).token().await, token);
}

#[tokio::test]
async fn the_acl_in_the_guide_is_sufficient() {
    let world = World::new();
    world.redis.create_user_of_the_guide("fleet");
    let url = world.redis.url_as("fleet", "password");
    let store = || RedisTokenStore::new(&url, keys()).unwrap();
    let first = world.process_with(store());

    first.token().await;
    first.handle.refresh_now().await.unwrap();

    let second = world.process_with(store());
    second.token().await;
    assert_eq!(first.take_events(), ["fetched", "fetched"]);
    assert_eq!(second.take_events(), ["adopted"]);
}

#[test]
fn a_store_requires_a_key_and_a_valid_url() {
    for error in [
        StoreKeyring::parse("").unwrap_err(),
        RedisTokenStore::new("http://user:canary@localhost", keys()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Configuration);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    let server = Server::absent();
    let store = RedisTokenStore::new(server.url_as("user", "canary"), keys()).unwrap();
    assert!(!format!("{store:?}").contains("canary"));
}

fn holders() -> [LeaseId; 3] {
    std::array::from_fn(|_| LeaseId::random())
}
