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
use crate::inner::{Inner, Plain, token};

/// Has a token at once.
struct Issuer;

impl TokenSource for Issuer {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        Ok(AccessToken::new(token()).expires_in(Duration::from_secs(24 * 3600)))
    }
}

/// A layer that has its token.
async fn warm(
    settings: impl Fn(ClientCredentialsLayerBuilder) -> ClientCredentialsLayerBuilder,
) -> ClientCredentialsLayer {
    let origin = "https://api.example.com".parse().expect("an origin");
    let layer = settings(ClientCredentialsLayer::builder(Issuer, origin)).build();
    layer.handle().warm().await.expect("a token");
    layer
}

pub async fn contestants(inner: &impl Inner<Plain>) -> Vec<Contestant> {
    let limits = RateLimitRetryLayer::new;
    let token = warm(|builder| builder.replay(false)).await;
    let token = token.layer(inner.clone());
    let replay = warm(|builder| builder).await.layer(inner.clone());
    let limited = limits().layer(inner.clone());
    let stacked = limits().layer(warm(|builder| builder).await.layer(inner.clone()));
    let combined = M2mLayer::new(limits(), warm(|builder| builder).await);
    let combined = combined.layer(inner.clone());
    vec![
        Contestant::new(TOKEN, AUTHORIZATION, Tower(token)),
        Contestant::new(TOKEN_REPLAY, BOTH_OF_TOWER, Tower(replay)),
        Contestant::new(LIMITS, RETRY, Tower(limited)),
        Contestant::new(STACKED, BOTH_OF_TOWER, Tower(stacked)),
        Contestant::new(COMBINED, BOTH_OF_TOWER, Tower(combined)),
    ]
}
