//! cargo run --example from_env [URL]
//!
//! Sends one authorized request, configured by the environment: `OAUTH_CLIENT_ID`, `OAUTH_CLIENT_SECRET`,
//! `OAUTH_TOKEN_URL`, `OAUTH_SCOPE`, `OAUTH_ALLOWED_ORIGINS`, and the others of `client_credentials::Config`. If none of
//! them is set, it runs against an issuer and an API in the process, and prints the variables that it would read.

use std::collections::HashMap;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    BoxError, M2mLayer, RateLimitRetryLayer,
    client_credentials::Config,
    test_util::{Api, Issuer},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    if std::env::vars().any(|(name, _)| name.starts_with("OAUTH_")) {
        let url = std::env::args().nth(1);
        let url = url.ok_or("which URL? cargo run --example from_env https://api.example.com/")?;
        return send(&Config::from_env()?, &url).await;
    }
    let issuer = Issuer::builder()
        .client("from-env", "secret")
        .start()
        .await?;
    let api = Api::builder().tokens(issuer.tokens()).start().await?;
    let variables = HashMap::from([
        ("OAUTH_CLIENT_ID", "from-env".to_owned()),
        ("OAUTH_CLIENT_SECRET", "secret".to_owned()),
        ("OAUTH_TOKEN_URL", issuer.token_url()),
        ("OAUTH_SCOPE", "orders.read".to_owned()),
        ("OAUTH_ALLOWED_ORIGINS", api.origin()),
    ]);
    println!("no OAUTH_* variable is set; to reach the double, set:");
    for (name, value) in &variables {
        println!("  export {name}='{value}'");
    }
    let config = Config::from_vars("OAUTH_", |name| variables.get(name).cloned())?;
    send(&config, &api.url()).await
}

async fn send(config: &Config, url: &str) -> Result<(), BoxError> {
    let credentials = config.layer()?.build();
    let tokens = credentials.handle();
    let tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .build();
    let client = M2mLayer::new(RateLimitRetryLayer::new(), credentials)
        .layer(Client::builder(TokioExecutor::new()).build(tls));
    let request = Request::get(url).body(Full::<Bytes>::default())?;
    let response = client.oneshot(request).await?;
    let life = tokens.status().expires_in().unwrap_or_default();
    println!(
        "{url}: {}, token valid for {} s",
        response.status(),
        life.as_secs()
    );
    if !response.status().is_success() {
        return Err("the API did not return a success".into());
    }
    Ok(())
}
