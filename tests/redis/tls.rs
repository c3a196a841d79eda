//! `rediss://`, to a redis-server with a certificate of the tests' own authority.

use std::time::Duration;

use tokio_rustls::rustls::crypto::ring::default_provider;
use tower_m2m::{
    client_credentials::RedisTokenStore,
    rate_limit_retry::{RedisQuotaStore, StoredQuotas},
    store::StoreErrorKind,
    test_util::{Api, Dialect, Quota},
};

use crate::{
    fleet::Fleet,
    server::Server,
    world::{World, keys},
};

const CA: &[u8] = include_bytes!("../certificates/ca.pem");

/// The server, and its URL.
fn start() -> (Server, String) {
    // Another test may have been first.
    drop(default_provider().install_default());
    let port = Server::absent().port();
    let file = |name| format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"));
    let server = Server::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    (server, format!("rediss://127.0.0.1:{port}"))
}

#[tokio::test]
async fn tokens_are_shared_over_tls_with_a_trusted_server() {
    let (server, url) = start();
    let world = World::with(server);
    // Patient, so that a busy machine is not taken for a store that does not respond.
    let store = || {
        let store = RedisTokenStore::new(&url, keys()).unwrap();
        store.timeout(Duration::from_secs(10))
    };
    let trusting = || world.process_with(store().root_certificate(CA).unwrap());

    let (one, other) = (trusting(), trusting());
    assert_eq!(one.token().await, other.token().await);

    // The system does not know the authority.
    let doubting = world.process_with(store());
    doubting.token().await;
    assert_eq!(world.token_requests(), 2);
    let events = doubting.take_events();
    assert!(
        events[0].starts_with("the store cannot be reached"),
        "{events:?}"
    );
}

#[tokio::test]
async fn quotas_are_shared_over_tls() {
    let (server, url) = start();
    let api = Api::builder()
        .quota(Quota::fixed_window(1000, Duration::from_secs(60)))
        .dialect(Dialect::Draft8);
    let fleet = Fleet::with(server, api);
    let store = RedisQuotaStore::new(&url, keys()).unwrap();
    let store = store.root_certificate(CA).unwrap();
    let process = fleet.process_with(StoredQuotas::new("fleet", store));

    while fleet.redis.keys().is_empty() || fleet.redis.channels().is_empty() {
        process.ok().await;
    }

    assert!(process.take_events().is_empty());
}

#[test]
fn a_root_certificate_needs_tls() {
    let store = RedisTokenStore::new("redis://127.0.0.1:1", keys()).unwrap();
    let error = store.root_certificate(CA).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration);
}
