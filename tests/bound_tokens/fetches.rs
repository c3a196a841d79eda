//! What a token is bound to, and what follows if that is not the certificate of the API's client.

use tower::service_fn;
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        BearerAnswer, CertificateBound, CertificateMismatch, CertificateThumbprint, TokenError,
        TokenErrorKind as Kind,
    },
};

use crate::{
    support::origin,
    world::{Binding, FIRST, SECOND, World, jwt},
};

/// As OpenSSL prints it.
const FIRST_THUMBPRINT: &str = "86:6A:09:D1:46:CF:0B:52:F7:E4:85:8F:10:E6:83:3D:81:BF:CD:9E:B4:AC:99:7D:10:4D:10:ED:4B:98:66:41";

#[tokio::test]
async fn a_token_is_bound_to_the_certificate_that_both_clients_present() {
    for binding in [Binding::Jwt, Binding::Opaque] {
        let world = World::start().await;
        world.state().binding = binding;
        let layer = world.bound(CertificateBound::new()).build();

        let status = world.send(&world.client(&layer)).await.unwrap();

        assert_eq!(status, 200, "{binding:?}");
        let token = layer.handle().token().await.unwrap();
        assert_eq!(token.certificate(), FIRST_THUMBPRINT.parse().ok());
        assert_eq!((world.statuses(), world.events()), (vec![200], vec![]));
    }
}

#[tokio::test]
async fn a_token_that_is_not_bound_is_refused_unless_it_is_accepted() {
    let world = World::start().await;
    world.state().binding = Binding::None;
    let accepting = CertificateBound::new().on_bearer_answer(BearerAnswer::Accept);

    let error = fetch(&world, CertificateBound::new()).await.unwrap_err();
    let accepted = world.bound(accepting).build();

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::InvalidResponse, false)
    );
    assert!(
        error
            .to_string()
            .contains("tls_client_certificate_bound_access_tokens"),
        "{error}"
    );
    assert_eq!(world.token_requests(), 1);
    let status = world.send(&world.client(&accepted)).await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(accepted.handle().token().await.unwrap().certificate(), None);
}

#[tokio::test]
async fn a_token_for_another_certificate_than_the_api_clients_is_not_requested() {
    let world = World::start().await;
    world.api.replace(SECOND.0);
    let bound = || CertificateBound::new().api_certificate(world.api.source());

    let error = fetch(&world, bound()).await.unwrap_err();

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Certificate, true)
    );
    assert!(error.to_string().contains("api_certificate"), "{error}");
    assert_eq!(world.token_requests(), 0);

    let layer = world
        .bound(bound().on_mismatch(CertificateMismatch::Warn))
        .build();
    let status = world.send(&world.client(&layer)).await.unwrap();
    assert_eq!(status, 401);
    assert!(world.events().contains(&"mismatch"));
}

#[tokio::test]
async fn an_opaque_token_for_another_certificate_is_reported() {
    let world = World::start().await;
    world.state().binding = Binding::Opaque;
    let other = CertificateThumbprint::of_certificate(SECOND.0).unwrap();
    let bound = CertificateBound::new()
        .api_thumbprint(other)
        .on_mismatch(CertificateMismatch::Warn);

    let token = fetch(&world, bound).await.unwrap();

    assert_eq!(token.certificate(), None);
    assert_eq!(world.events(), ["mismatch"]);
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_proxys_certificate_is_refused() {
    let world = World::start().await;
    world.state().binding = Binding::Proxy;

    let error = fetch(&world, CertificateBound::new()).await.unwrap_err();

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Certificate, false)
    );
    assert!(error.to_string().contains("proxy"), "{error}");
    assert_eq!(world.token_requests(), 1);
}

#[tokio::test]
async fn without_the_setting_a_bound_token_is_reported_and_sent() {
    let world = World::start().await;
    let layer = world.layer(world.endpoint(ClientAuth::tls("id"))).build();

    let status = world.send(&world.client(&layer)).await.unwrap();

    assert_eq!(status, 200);
    assert_eq!(world.events(), ["bound"]);
}

#[tokio::test]
async fn without_the_setting_a_token_for_another_certificate_is_bound_to_none() {
    let world = World::start().await;
    world.state().binding = Binding::Proxy;
    let layer = world.layer(world.endpoint(ClientAuth::tls("id"))).build();

    let token = layer.handle().token().await.unwrap();

    // A certificate of this client that is replaced says nothing about it.
    assert_eq!(token.certificate(), None);
    assert_eq!(world.events(), ["bound"]);
}

#[test]
fn a_certificate_in_pem_may_follow_a_zero() {
    let text = [b"0 s:CN=client\n", FIRST.0].concat();

    let thumbprint = CertificateThumbprint::of_certificate(text).unwrap();

    assert_eq!(thumbprint, FIRST_THUMBPRINT.parse().unwrap());
}

#[test]
fn debug_output_shows_the_reactions_of_a_binding() {
    let bound = CertificateBound::new().on_bearer_answer(BearerAnswer::Accept);

    assert!(format!("{bound:?}").contains("Accept"));
}

#[tokio::test]
async fn a_connection_that_names_another_certificate_is_reported_after_a_401() {
    let world = World::start().await;
    world.state().names_certificate = true;
    let layer = world.bound(CertificateBound::new()).build();
    let client = world.client(&layer);
    assert_eq!(world.send(&client).await.unwrap(), 200);
    assert!(world.events().is_empty());
    world.api.replace(SECOND.0);

    assert_eq!(world.send(&client).await.unwrap(), 401);

    assert!(world.events().contains(&"mismatch"));
}

#[tokio::test]
async fn an_unreadable_certificate_of_the_api_client_is_named() {
    let world = World::start().await;
    for content in ["", "half of a cert", "-----BEGIN CERTIFICATE-----\nMII"] {
        world.api.replace(content);
        let bound = CertificateBound::new().api_certificate(world.api.source());

        let error = fetch(&world, bound).await.unwrap_err();

        assert!(error.is_transient());
        assert!(error.to_string().contains("api_certificate"), "{error}");
    }
    assert_eq!(world.token_requests(), 0);
}

#[test]
fn a_binding_without_a_certificate_is_a_configuration_error() {
    let endpoint = || {
        let url = "https://id.example/token".parse().unwrap();
        TokenEndpoint::new(url, ClientAuth::basic("id", "secret"))
            .certificate_bound(CertificateBound::new())
    };
    let error = endpoint().validate().unwrap_err();

    assert_eq!(error.kind(), Kind::Configuration);
    assert!(error.to_string().contains("client_certificate"), "{error}");
    let service = service_fn(
        |_: http::Request<http_body_util::Full<bytes::Bytes>>| async {
            Ok::<_, BoxError>(http::Response::new(String::new()))
        },
    );
    assert!(endpoint().service(service).validate().is_ok());
    let pem = |pem| std::str::from_utf8(pem).unwrap();
    let with_certificate = endpoint().client_certificate(pem(FIRST.0), pem(FIRST.1));
    assert!(with_certificate.validate().is_ok());
    #[cfg(feature = "dpop")]
    {
        use tower_m2m::client_credentials::{Dpop, DpopKey, KeyAlgorithm, SigningKey};

        let jwk = include_str!("../keys/ec.jwk");
        let key = SigningKey::jwk(KeyAlgorithm::Es256, jwk).unwrap();
        let dpop = Dpop::key(DpopKey::new(key).unwrap());
        let error = with_certificate.dpop(dpop).validate().unwrap_err();
        assert!(error.to_string().contains("or to a certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_service_with_a_certificate_of_its_own_may_name_it() {
    let issued = |token: &'static str| {
        service_fn(
            move |_: http::Request<http_body_util::Full<bytes::Bytes>>| async move {
                let body = format!(
                    r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":60}}"#
                );
                Ok::<_, BoxError>(http::Response::new(body))
            },
        )
    };
    let named: CertificateThumbprint = FIRST_THUMBPRINT.parse().unwrap();
    for (bound, certificate) in [
        (CertificateBound::new(), None),
        (CertificateBound::new().api_thumbprint(named), Some(named)),
    ] {
        let url = "https://id.example/token".parse().unwrap();
        let endpoint = TokenEndpoint::new(url, ClientAuth::tls("id"))
            .service(issued("opaque"))
            .certificate_bound(bound);
        let layer = ClientCredentialsLayer::builder(endpoint, origin()).build();

        let token = layer.handle().token().await.unwrap();

        assert_eq!(token.certificate(), certificate);
    }
}

#[tokio::test]
async fn a_mismatch_of_a_service_may_be_that_of_a_renewal() {
    let second = CertificateThumbprint::of_certificate(SECOND.0).unwrap();
    let body = format!(
        r#"{{"access_token":"{}","token_type":"Bearer","expires_in":60}}"#,
        jwt(1, Some(second))
    );
    let service = service_fn(
        move |_: http::Request<http_body_util::Full<bytes::Bytes>>| {
            let body = body.clone();
            async move { Ok::<_, BoxError>(http::Response::new(body)) }
        },
    );
    let first: CertificateThumbprint = FIRST_THUMBPRINT.parse().unwrap();
    let url = "https://id.example/token".parse().unwrap();
    let endpoint = TokenEndpoint::new(url, ClientAuth::tls("id"))
        .service(service)
        .certificate_bound(CertificateBound::new().api_thumbprint(first));
    let layer = ClientCredentialsLayer::builder(endpoint, origin()).build();

    let error = layer.handle().token().await.unwrap_err();

    // The service may present the new certificate later than the API's client does.
    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Certificate, true)
    );
}

async fn fetch(
    world: &World,
    bound: CertificateBound,
) -> Result<tower_m2m::client_credentials::AccessToken, TokenError> {
    world.bound(bound).build().handle().token().await
}
