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
