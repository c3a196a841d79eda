//! `cf-gears-toolkit-auth` and `-http`: layers that work with their own error and body types only.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use toolkit_auth::{
    BearerAuthAutoRefreshLayer, BearerAuthLayer, OAuthClientConfig, SecretString, TokenProvider,
};
use toolkit_http::{HttpClientConfig, HttpError, ResponseBody, RetryConfig, RetryLayer};
use tower::Layer;

use super::{AUTHORIZATION, BOTH_OF_TOWER, CF_GEARS, Contestant, Tower};
use crate::inner::{Inner, Kind};

/// What their layers want to be answered with.
pub struct Boxed;

impl Kind for Boxed {
    type Body = ResponseBody;
    type Error = HttpError;

    fn body() -> ResponseBody {
        Empty::<Bytes>::new()
            .map_err(|never| match never {})
            .boxed()
    }
}

pub async fn contestants(issuer: &str, inner: &impl Inner<Boxed>) -> Vec<Contestant> {
    let token = TokenProvider::new(OAuthClientConfig {
        token_endpoint: Some(issuer.parse().expect("a URL")),
        client_id: "id".into(),
        client_secret: SecretString::new("secret"),
        http_config: Some(HttpClientConfig::for_testing()),
        ..OAuthClientConfig::default()
    });
    let token = token.expect("a configuration");
    drop(token.get().await.expect("a token"));
    let bearer = BearerAuthLayer::new(token.clone()).layer(inner.clone());
    let refresh = BearerAuthAutoRefreshLayer::new(token).layer(inner.clone());
    let both = RetryLayer::new(RetryConfig::default()).layer(refresh.clone());
    let all = vec![
        Contestant::new(BARE, BARE, Tower(inner.clone())),
        Contestant::new("cf-gears BearerAuth", AUTHORIZATION, Tower(bearer)),
        Contestant::new("cf-gears AutoRefresh", BOTH_OF_TOWER, Tower(refresh)),
        Contestant::new(CF_GEARS, BOTH_OF_TOWER, Tower(both)),
    ];
    all.into_iter().map(|c| c.above(BARE)).collect()
}

const BARE: &str = "bare service, cf-gears' types";
