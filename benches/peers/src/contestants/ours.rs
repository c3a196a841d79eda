//! tower-m2m, in the ways in which it can be put together.

use std::time::Duration;

use tower::Layer;
use tower_m2m::{
    ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    client_credentials::{
        AccessToken, ClientCredentialsLayerBuilder, FetchContext, TokenError, TokenSource,
    },
};

use super::{
    AUTHORIZATION, BOTH_OF_TOWER, COMBINED, Contestant, LIMITS, RETRY, STACKED, TOKEN,
    TOKEN_REPLAY, Tower,
};
use crate::{
    announced::origin,
    inner::{Inner, Plain, token},
};

/// A source that returns a token immediately.
struct Issuer;

impl TokenSource for Issuer {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        Ok(AccessToken::new(token()).expires_in(Duration::from_secs(24 * 3600)))
    }
}

/// A layer with a token for `origin`.
pub async fn prefetch_for(origin: &str) -> ClientCredentialsLayer {
    prefetch(credentials(origin)).await
}

/// The layer for limits alone, and both in one, each over a service of its own, for `origins` origins.
pub async fn retrying<S: Inner<Plain>>(inner: impl Fn() -> S, origins: usize) -> [Contestant; 2] {
    let builder = (1..origins).fold(credentials(&origin(0, origins)), |builder, number| {
        builder.allow_origin(origin(number, origins).parse().expect("an origin"))
    });
    let limited = RateLimitRetryLayer::new().layer(inner());
    let combined = M2mLayer::new(RateLimitRetryLayer::new(), prefetch(builder).await);
    let combined = combined.layer(inner());
    [
        Contestant::new(LIMITS, RETRY, Tower(limited)),
        Contestant::new(COMBINED, BOTH_OF_TOWER, Tower(combined)),
    ]
}

fn credentials(origin: &str) -> ClientCredentialsLayerBuilder {
    ClientCredentialsLayer::builder(Issuer, origin.parse().expect("an origin"))
}

async fn prefetch(builder: ClientCredentialsLayerBuilder) -> ClientCredentialsLayer {
    let layer = builder.build();
    layer.handle().prefetch().await.expect("a token");
    layer
}

pub async fn contestants(inner: &impl Inner<Plain>) -> Vec<Contestant> {
    let limits = RateLimitRetryLayer::new;
    let token = prefetch(credentials(API).replay(false)).await;
    let token = token.layer(inner.clone());
    let replay = prefetch_for(API).await.layer(inner.clone());
    let limited = limits().layer(inner.clone());
    let stacked = limits().layer(prefetch_for(API).await.layer(inner.clone()));
    let combined = M2mLayer::new(limits(), prefetch_for(API).await);
    let combined = combined.layer(inner.clone());
    vec![
        Contestant::new(TOKEN, AUTHORIZATION, Tower(token)),
        Contestant::new(TOKEN_REPLAY, BOTH_OF_TOWER, Tower(replay)),
        Contestant::new(LIMITS, RETRY, Tower(limited)),
        Contestant::new(STACKED, BOTH_OF_TOWER, Tower(stacked)),
        Contestant::new(COMBINED, BOTH_OF_TOWER, Tower(combined)),
    ]
}

const API: &str = "https://api.example.com";
