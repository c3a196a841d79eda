//! A certificate that is replaced while its token is in use (RFC 8705 §6.2).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tower::service_fn;
use tower_m2m::{
    BoxError, ClientAuth, TokenEndpoint,
    client_credentials::{CertificateBound, CertificateThumbprint},
};

use crate::{
    support::Inner,
    world::{FIRST, SECOND, World},
};

const CHECK: Duration = Duration::from_secs(6);

#[tokio::test]
async fn the_token_is_dropped_when_the_certificate_changes() {
    let world = World::start().await;
    let layer = world.bound(CertificateBound::new()).build();
    let client = world.client(&layer);
    world.send(&client).await.unwrap();
    let first = layer.handle().status().generation();

    world.renew(SECOND);
    until_changed(&world, &client).await;
    world.send(&client).await.unwrap();

    let token = layer.handle().token().await.unwrap();
    assert_eq!(
        token.certificate(),
        CertificateThumbprint::of_certificate(SECOND.0).ok()
    );
    assert!(layer.handle().status().generation() > first);
    assert_eq!(world.events(), ["changed"]);
    assert_eq!(world.token_requests(), 2);
    assert_eq!(world.statuses().last(), Some(&200));
}

#[tokio::test]
async fn a_401_for_the_old_certificate_leads_to_a_token_for_the_new_one() {
    let world = World::start().await;
    let layer = world.bound(CertificateBound::new()).build();
    let client = world.client(&layer);
    world.send(&client).await.unwrap();

    world.renew(SECOND);
    let status = world.send(&client).await.unwrap();

    assert_eq!(status, 200);
    assert_eq!(world.statuses(), [200, 401, 200]);
    assert_eq!(world.token_requests(), 2);
}

#[tokio::test]
async fn a_token_stays_in_use_while_its_certificate_does() {
    let world = World::start().await;
    let layer = world.bound(CertificateBound::new()).build();
    let client = world.client(&layer);
    // The same certificate in another notation, and one that is half written.
    let text = String::from_utf8(FIRST.0.to_vec()).unwrap();
    for content in [
        text.clone(),
        format!("# ours\n{text}"),
        text[..text.len() / 2].to_owned(),
        String::new(),
    ] {
        world.endpoint.replace(content);
        world.send(&client).await.unwrap();
        checked(&world, &client).await;
    }

    assert_eq!(world.token_requests(), 1);
    assert!(world.events().is_empty());
}

#[tokio::test]
async fn a_certificate_that_does_not_match_its_key_yet_is_not_a_change() {
    let world = World::start().await;
    let layer = world.bound(CertificateBound::new()).build();
    let client = world.client(&layer);
    world.send(&client).await.unwrap();

    // Its key is another one.
    world
        .endpoint
        .replace(include_bytes!("../certificates/server.pem"));
    checked(&world, &client).await;

    assert_eq!(world.token_requests(), 1);
}

#[tokio::test]
async fn the_token_is_kept_until_both_clients_have_the_new_certificate() {
    let world = World::start().await;
    let bound = CertificateBound::new().api_certificate(world.api.source());
    let layer = world.bound(bound).build();
    let client = world.client(&layer);
    world.send(&client).await.unwrap();

    // Requested now, a token would be bound to the old certificate.
    world.endpoint.replace(SECOND.0);
    checked(&world, &client).await;
    assert_eq!((world.token_requests(), world.events()), (1, vec![]));

    world.api.replace(SECOND.0);
    until_changed(&world, &client).await;

    assert_eq!(world.token_requests(), 2);
}

#[tokio::test]
async fn a_token_stays_in_use_while_both_certificates_do() {
    let world = World::start().await;
    let bound = CertificateBound::new().api_certificate(world.api.source());
    let layer = world.bound(bound).build();
    let client = world.client(&layer);
    world.send(&client).await.unwrap();

    checked(&world, &client).await;

    assert_eq!((world.token_requests(), world.events()), (1, vec![]));
}

#[tokio::test]
async fn the_certificate_of_the_api_client_decides_for_a_service_of_the_program() {
    let world = World::start().await;
    let issue = service_fn(|_: http::Request<Full<Bytes>>| async {
        let body = r#"{"access_token":"opaque","token_type":"Bearer","expires_in":3600}"#;
        Ok::<_, BoxError>(http::Response::new(body.to_owned()))
    });
    let url = "https://id.example/token".parse().unwrap();
    let endpoint = TokenEndpoint::new(url, ClientAuth::tls("id"))
        .service(issue)
        .certificate_bound(CertificateBound::new().api_certificate(world.api.source()));
    let layer = world.layer(endpoint).build();
    let client = world.client(&layer);
    world.send(&client).await.unwrap();
    checked(&world, &client).await;
    assert!(world.events().is_empty());

    world.api.replace(SECOND.0);

    until_changed(&world, &client).await;
}

#[tokio::test]
async fn the_token_is_not_dropped_while_only_the_api_client_has_the_new_certificate() {
    let world = World::start().await;
    let bound = CertificateBound::new().api_certificate(world.api.source());
    let layer = world.bound(bound).build();
    let client = world.client(&layer);
    world.send(&client).await.unwrap();

    world.api.replace(SECOND.0);
    checked(&world, &client).await;

    // The API rejects it, and no token is requested that it would reject as well.
    assert_eq!(world.statuses()[1..], [401; 3]);
    assert_eq!((world.token_requests(), world.events()), (1, vec![]));
    world.endpoint.replace(SECOND.0);
    until_changed(&world, &client).await;
    assert_eq!(world.send(&client).await.unwrap(), 200);
}

#[tokio::test]
async fn a_reported_token_is_dropped_with_its_certificate_too() {
    let world = World::start().await;
    let layer = world.layer(world.endpoint(ClientAuth::tls("id"))).build();
    let client = world.client(&layer);
    world.send(&client).await.unwrap();

    world.renew(SECOND);
    until_changed(&world, &client).await;

    assert_eq!(world.events()[..2], ["bound", "changed"]);
}

/// Sends requests until the change was noticed.
async fn until_changed(world: &World, client: &Inner) {
    for _ in 0..100 {
        world.advance(CHECK);
        world.send(client).await.unwrap();
        if world.events().contains(&"changed") {
            return;
        }
    }
    panic!("not noticed: {:?}", world.events());
}

/// Sends enough requests for two checks. Each is a handshake, during which a check ends.
async fn checked(world: &World, client: &Inner) {
    for _ in 0..3 {
        world.advance(CHECK);
        world.send(client).await.unwrap();
    }
}
