//! cargo run --example yoid
//!
//! YoID (DIDx): a Keycloak realm with tokens of 300 s and no refresh token. The token is cached, refreshed 30 s early, and
//! replaced when the API rejects it. Runs against a test double that responds as the realm does. With `YOID_CLIENT_ID`,
//! `YOID_CLIENT_SECRET` and `YOID_URL` (the host of the realm), it fetches a token from the real realm.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt};
use tower_m2m::{
    Attempts, BoxError, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer, TokenEndpoint,
    test_util::{Answer, Api, Issuer},
};

const REALM: &str = "/iam/realms/product-hub/protocol/openid-connect/token";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    if let Ok(id) = std::env::var("YOID_CLIENT_ID") {
        return real(id).await;
    }
    let realm = Issuer::builder()
        .client("yoid-client", "yoid-secret")
        .path(REALM)
        .answer(Answer::keycloak())
        .start()
        .await?;
    let api = Api::builder().tokens(realm.tokens()).start().await?;

    let auth = ClientAuth::post("yoid-client", "yoid-secret");
    let endpoint = TokenEndpoint::new(realm.token_url().parse()?, auth)
        .service(Client::builder(TokioExecutor::new()).build_http());
    let credentials = ClientCredentialsLayer::builder(endpoint, api.origin().parse()?)
        .name("yoid")
        .build();
    let tokens = credentials.handle();
    let client = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(credentials)
        .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
    let get = || Request::get(api.url()).body(Full::default());

    for _ in 0..10 {
        let response = client.clone().oneshot(get()?).await?;
        assert!(response.status().is_success());
    }
    let life = tokens.status().expires_in().unwrap_or_default();
    println!(
        "10 requests, {} token request, {} s left",
        realm.stats().requests,
        life.as_secs()
    );

    realm.revoke_all();
    let response = client.clone().oneshot(get()?).await?;
    println!(
        "revoked: {} after {} sends, {} token requests",
        response.status(),
        Attempts::of(&response),
        realm.stats().requests,
    );
    assert!(response.status().is_success());
    tokens.shutdown().await;
    Ok(())
}

/// Fetches a token from the real realm, and reads it once more from the cache.
async fn real(id: String) -> Result<(), BoxError> {
    let variable = |name| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let secret = variable("YOID_CLIENT_SECRET")?;
    let url = variable("YOID_URL")?;
    let endpoint = TokenEndpoint::new(
        format!("{}{REALM}", url.trim_end_matches('/')).parse()?,
        ClientAuth::post(id, secret),
    );
    let credentials = ClientCredentialsLayer::builder(endpoint, url.parse()?)
        .name("yoid")
        .build();
    let tokens = credentials.handle();
    for _ in 0..2 {
        tokens.token().await?;
        let life = tokens.status().expires_in().unwrap_or_default();
        println!("token of the realm, {} s left", life.as_secs());
    }
    Ok(())
}
