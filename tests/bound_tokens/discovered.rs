//! What the metadata says about bound tokens (RFC 8705 §3.3, §5).

use serde_json::json;
use tower_m2m::{
    ClientAuth,
    client_credentials::{BearerAnswer, CertificateBound, TokenErrorKind},
};

use crate::world::World;

fn basic() -> ClientAuth {
    ClientAuth::basic("id", "secret")
}

async fn offering(offers: bool) -> World {
    let world = World::start().await;
    world.state().metadata = json!({ "tls_client_certificate_bound_access_tokens": offers });
    world
}

#[tokio::test]
async fn bound_tokens_are_requested_at_the_alias_with_any_authentication() {
    for auth in [basic(), ClientAuth::tls("id")] {
        let world = offering(true).await;
        let endpoint = world.discovered(auth);
        let layer = world
            .layer(endpoint.certificate_bound(CertificateBound::new()))
            .build();

        let status = world.send(&world.client(&layer)).await.unwrap();

        assert_eq!(status, 200);
        assert_eq!(world.state().paths[1..], ["/mtls/token"]);
    }
}

#[tokio::test]
async fn a_certificate_without_the_setting_is_presented_at_the_alias_if_tokens_are_bound() {
    for (offers, path) in [(true, "/mtls/token"), (false, "/token")] {
        let world = offering(offers).await;
        let layer = world.layer(world.discovered(basic())).build();

        layer.handle().token().await.unwrap();

        assert_eq!(world.state().paths[1..], [path]);
    }
}

#[tokio::test]
async fn a_server_that_does_not_offer_bound_tokens_is_sent_no_request() {
    let world = offering(false).await;
    let bound = |bound| {
        let endpoint = world.discovered(ClientAuth::tls("id"));
        let layer = world.layer(endpoint.certificate_bound(bound)).build();
        async move { layer.handle().token().await }
    };

    let error = bound(CertificateBound::new()).await.unwrap_err();

    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    assert!(
        error
            .to_string()
            .contains("tls_client_certificate_bound_access_tokens"),
        "{error}"
    );
    assert_eq!(world.token_requests(), 0);
    let accepting = CertificateBound::new().on_bearer_answer(BearerAnswer::Accept);
    bound(accepting).await.unwrap();
}
