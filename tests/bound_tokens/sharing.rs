//! Bound tokens in a store.

use std::time::Duration;

use tower_m2m::{ClientAuth, client_credentials::CertificateBound, test_util::MemoryTokenStore};

use crate::world::{FIRST, SECOND, World};

#[tokio::test]
async fn processes_share_a_token_by_the_thumbprint_of_their_certificate() {
    let world = World::start().await;
    let store = MemoryTokenStore::new();
    let text = String::from_utf8(FIRST.0.to_vec()).unwrap();
    for content in [
        text.clone(),
        format!("# ours\n{}", text.replace('\n', "\r\n")),
    ] {
        world.endpoint.replace(content);
        let layer = world.bound(CertificateBound::new()).store(store.clone());
        let layer = layer.build();

        assert_eq!(world.send(&world.client(&layer)).await.unwrap(), 200);

        let token = layer.handle().token().await.unwrap();
        assert!(token.certificate().is_some());
    }
    assert_eq!(world.token_requests(), 1);

    world.renew(SECOND);
    let layer = world.bound(CertificateBound::new()).store(store).build();
    assert_eq!(world.send(&world.client(&layer)).await.unwrap(), 200);
    assert_eq!(world.token_requests(), 2);
}

#[tokio::test]
async fn a_token_from_the_store_is_dropped_with_its_certificate() {
    let world = World::start().await;
    let store = MemoryTokenStore::new();
    let process = || {
        let layer = world.bound(CertificateBound::new()).store(store.clone());
        world.client(&layer.build())
    };
    world.send(&process()).await.unwrap();
    let second = process();
    world.send(&second).await.unwrap();
    assert_eq!(world.token_requests(), 1);

    world.renew(SECOND);
    for _ in 0..100 {
        world.advance(Duration::from_secs(6));
        world.send(&second).await.unwrap();
        if world.events().contains(&"changed") {
            break;
        }
    }

    assert_eq!(world.events(), ["changed"]);
    assert_eq!(world.token_requests(), 2);
}

#[tokio::test]
async fn a_process_that_requires_binding_does_not_use_tokens_of_one_that_does_not() {
    let world = World::start().await;
    let store = MemoryTokenStore::new();
    let endpoint = || world.endpoint(ClientAuth::tls("id"));
    for endpoint in [
        endpoint(),
        endpoint().certificate_bound(CertificateBound::new()),
    ] {
        let layer = world.layer(endpoint).store(store.clone()).build();
        layer.handle().token().await.unwrap();
    }

    assert_eq!(world.token_requests(), 2);
}
