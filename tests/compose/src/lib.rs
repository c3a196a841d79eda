//! What the tests share: an issuer on loopback, and layers that get their tokens from it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower_m2m::{
    Backoff, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer, TokenEndpoint,
    client_credentials::ClientCredentialsLayerBuilder, test_util::Issuer,
};

/// An issuer on loopback that knows the client `id` by the secret `secret`.
///
/// # Panics
///
/// If no port can be bound.
pub async fn issuer() -> Issuer {
    let issuer = Issuer::builder().client("id", "secret").start().await;
    issuer.expect("a port of 127.0.0.1")
}

/// The endpoint of `issuer`, reached through hyper-util's client.
///
/// # Panics
///
/// Never: the issuer's URL is one.
#[must_use]
pub fn endpoint(issuer: &Issuer) -> TokenEndpoint {
    let url = issuer.token_url().parse().expect("a URL");
    TokenEndpoint::new(url, ClientAuth::basic("id", "secret")).service(http())
}

/// A layer with tokens of `issuer`, for the API at `origin`.
///
/// # Panics
///
/// If `origin` is none.
pub fn credentials(issuer: &Issuer, origin: &str) -> ClientCredentialsLayerBuilder {
    let origin = origin.parse().expect("an origin");
    ClientCredentialsLayer::builder(endpoint(issuer), origin)
}

/// A layer with short waits: the time here is real.
#[must_use]
pub fn limits() -> RateLimitRetryLayer {
    let moment = Duration::from_millis(1);
    RateLimitRetryLayer::builder()
        .backoff(Backoff::new(moment, moment))
        .build()
}

/// hyper-util's client.
#[must_use]
pub fn http() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// The guide's examples with clients that the crate does not depend on.
#[cfg(doctest)]
#[doc = include_str!("../../../src/docs/composing.md")]
pub struct Guide;
