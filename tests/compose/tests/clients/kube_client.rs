//! kube's client on top of the layers.

use bytes::Bytes;
use compose::{credentials, issuer, limits};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::{client::legacy::Client as HyperClient, rt::TokioExecutor};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    client::{Body, ClientBuilder, ConfigExt},
};
use tower::{ServiceBuilder, buffer::BufferLayer};
use tower_m2m::{
    ErrorClass,
    replay::{CloneWith, RequestBodyReplayLayer},
    test_util::{Api as Double, ApiFault, Issuer},
};

use crate::deaf;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn pods_are_listed_and_created_through_a_custom_stack() {
    let (issuer, cluster) = world().await;
    let config = Config::new(cluster.url().parse().unwrap());
    let stack = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RequestBodyReplayLayer::new())
        .layer(limits())
        .layer(credentials(&issuer, &cluster.origin()).build())
        .service(HyperClient::builder(TokioExecutor::new()).build_http());

    check(&issuer, &cluster, Client::new(stack, "default")).await;
}

#[tokio::test]
async fn pods_are_listed_and_created_through_the_default_stack() {
    let (issuer, cluster) = world().await;
    let config = config(&cluster.url());

    let origin = cluster.origin();
    let credentials = credentials(&issuer, &origin).assume_origin(origin.parse().unwrap());
    let layers = ServiceBuilder::new()
        .map_request(|request: Request<Body>| {
            request.map(|body| CloneWith::new(body, Body::try_clone))
        })
        .layer(limits())
        .layer(credentials.build())
        .map_request(|request: Request<CloneWith<Body>>| request.map(CloneWith::into_inner))
        .layer(BufferLayer::new(1024)) // its service is not `Clone`
        .into_inner();
    let client = ClientBuilder::try_from(config)
        .unwrap()
        .with_layer(&layers)
        .build();

    check(&issuer, &cluster, client).await;
}

#[tokio::test]
async fn refused_connections_are_classified_as_not_sent() {
    let builder = ClientBuilder::try_from(config(&deaf().await)).unwrap();
    let client = builder.with_layer(&BufferLayer::new(1024)).build();
    let request = Request::post("/").body(Body::empty()).unwrap();

    let error = client.send(request).await.unwrap_err();

    assert_eq!(ErrorClass::of(&error), ErrorClass::NotSent);
}

/// An ordinary request, one whose token was revoked, and one that is throttled.
async fn check(issuer: &Issuer, cluster: &Double, client: Client) {
    let pods = Api::<Pod>::default_namespaced(client);

    let listed = pods.list(&ListParams::default()).await.unwrap();
    issuer.revoke_all();
    let pod = listed.items[0].clone();
    let created = pods.create(&PostParams::default(), &pod).await.unwrap();
    cluster.next(ApiFault::retry_after(StatusCode::TOO_MANY_REQUESTS, 0));
    pods.list(&ListParams::default()).await.unwrap();

    assert_eq!(listed.items[0].metadata.name.as_deref(), Some("one"));
    assert_eq!(created, pod);
    let requests = cluster.requests();
    let methods: Vec<_> = requests
        .iter()
        .map(|request| request.method.as_str())
        .collect();
    assert_eq!(methods, ["GET", "POST", "POST", "GET", "GET"]);
    assert!(
        requests
            .iter()
            .all(|request| request.authorization().is_some())
    );
    assert_eq!(requests[1].body_length, requests[2].body_length);
    assert_eq!(issuer.stats().issued, 2);
}

/// A cluster with one pod, to which any other can be added.
async fn world() -> (Issuer, Double) {
    let issuer = issuer().await;
    let cluster = Double::builder()
        .tokens(issuer.tokens())
        .route(Method::GET, PODS, |_| {
            let one = serde_json::json!({"metadata": {"name": "one"}});
            json(&serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [one]}))
        })
        .route(Method::POST, PODS, |request| {
            json(&serde_json::from_slice(request.body()).unwrap())
        });
    (issuer, cluster.start().await.unwrap())
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    Response::new(Full::from(value.to_string()))
}

/// With one layer that retries: ours.
fn config(url: &str) -> Config {
    let mut config = Config::new(url.parse().unwrap());
    config.default_retry = false;
    config
}
