//! What the issuer publishes, and what it revokes.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use serde_json::Value;
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::RevocationEndpoint,
    test_util::{AcceptedAuth, Fault, FaultTarget, Issuer},
};

use crate::client::{Body, POSTED, json, send, token_request};

#[tokio::test]
async fn metadata_is_at_the_three_places_of_its_identifier() {
    let issuer = Issuer::builder()
        .identifier_path("/realms/m2m")
        .path("/token")
        .accept([AcceptedAuth::Post])
        .metadata("grant_types_supported", Value::Null)
        .metadata("scopes_supported", serde_json::json!(["orders.read"]))
        .in_process();
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::default()).unwrap();
        send(issuer.service(), request).await
    };

    for path in [
        "/.well-known/oauth-authorization-server/realms/m2m",
        "/.well-known/openid-configuration/realms/m2m",
        "/realms/m2m/.well-known/openid-configuration",
    ] {
        let document = json(get(path).await).await;
        assert_eq!(document["issuer"], "https://issuer.test/realms/m2m");
        assert_eq!(document["token_endpoint"], "https://issuer.test/token");
        assert_eq!(document["revocation_endpoint"], issuer.revocation_url());
        let methods = &document["token_endpoint_auth_methods_supported"];
        assert_eq!(*methods, serde_json::json!(["client_secret_post"]));
        assert_eq!(document["scopes_supported"][0], "orders.read");
        assert!(document.get("grant_types_supported").is_none());
    }
    let elsewhere = get("/.well-known/oauth-authorization-server").await;
    assert_eq!(elsewhere.status(), StatusCode::NOT_FOUND);
    assert_eq!(issuer.stats().metadata_requests, 3);
    assert_eq!(issuer.stats().requests, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_discovers_the_issuer_and_revokes_its_token() {
    let issuer = Issuer::builder()
        .client("id", "secret")
        .identifier_path("/realms/m2m")
        .in_process();
    // Only the document of OpenID.
    let oauth = FaultTarget::any().path("/.well-known/*");
    issuer.always_for(oauth, Some(Fault::status(StatusCode::NOT_FOUND)));
    // For the token endpoint, not for the metadata.
    issuer.next(Fault::Delay(Duration::from_secs(1)));
    let endpoint = TokenEndpoint::discover(issuer.identifier(), ClientAuth::basic("id", "secret"))
        .service(issuer.service())
        .revoke_on_shutdown(RevocationEndpoint::Discovered);
    let origin = "https://api.test".parse().unwrap();
    let layer = ClientCredentialsLayer::builder(endpoint, origin).build();

    let token = layer.handle().token().await.unwrap();
    let token = token.expose().unwrap();
    assert!(issuer.is_valid(token));
    layer.handle().shutdown().await;

    assert!(!issuer.is_valid(token));
    let seen = issuer.stats();
    assert_eq!((seen.requests, seen.revoked, seen.rejected), (1, 1, 0));
    assert_eq!(seen.metadata_requests, 2);
}

#[tokio::test]
async fn a_token_is_revoked_only_for_its_client() {
    let issuer = Issuer::builder()
        .client("id", "s+e c")
        .client("other", "secret")
        .in_process();
    let answer = send(issuer.service(), token_request("/oauth/token", POSTED)).await;
    let answer = json(answer).await;
    let token = answer["access_token"].as_str().unwrap();
    let revoke = async |token: &str, client: &str| {
        let form = format!("token={token}&{client}");
        let mut request = token_request("/oauth/revoke", "");
        *request.body_mut() = Body::from(form);
        send(issuer.service(), request).await
    };
    let (other, own) = (
        "client_id=other&client_secret=secret",
        "client_id=id&client_secret=s%2Be%20c",
    );

    let refused = revoke(token, other).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json(refused).await["error"], "unauthorized_client");
    let unknown = revoke(token, "client_id=id&client_secret=wrong").await;
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    assert!(issuer.is_valid(token));

    assert_eq!(revoke("unknown", own).await.status(), StatusCode::OK);
    assert_eq!(revoke(token, own).await.status(), StatusCode::OK);
    assert!(!issuer.is_valid(token));
    assert_eq!(issuer.stats().revoked, 1);
    let mut get = token_request("/oauth/revoke", "");
    *get.method_mut() = Method::GET;
    let get = send(issuer.service(), get).await;
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(get.headers()["allow"], "POST");
}
