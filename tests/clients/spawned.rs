//! Calls in a spawned block, with a double below the layers as the guide `testing` shows it.

use std::{convert::Infallible, io};

use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, ClientCredentialsLayer, M2mLayer, RateLimitRetryLayer,
    client_credentials::AccessToken,
};

use crate::support::{API, Body, get};

#[tokio::test]
async fn futures_of_each_layer_can_be_spawned() {
    let credentials =
        ClientCredentialsLayer::builder(AccessToken::new("key"), API.parse().unwrap()).build();
    let limits = RateLimitRetryLayer::new();
    let both = M2mLayer::new(limits.clone(), credentials.clone());
    let double = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::default()))
    });
    let broken = service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, _>(io::Error::other("reset"))
    });

    let (one, two, three) = (
        limits.layer(double),
        credentials.layer(double),
        both.layer(double),
    );
    let failing = both.layer(broken);
    let spawned = tokio::spawn(async move {
        one.oneshot(get("/")).await?;
        two.oneshot(get("/")).await?;
        let response = three.oneshot(get("/")).await?;
        assert!(failing.oneshot(get("/").map(|_| "".into())).await.is_err());
        Ok::<_, BoxError>(response.status())
    });

    assert_eq!(spawned.await.unwrap().unwrap(), StatusCode::OK);
}
