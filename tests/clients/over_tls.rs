//! hyper-util's client over rustls, by HTTP/1.1 and by HTTP/2.

use bytes::Bytes;
use http::{Request, Version};
use http_body::Body;
use http_body_util::{Empty, combinators::BoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{ServiceBuilder, ServiceExt};
use tower_m2m::{M2mLayer, replay::RequestBodyReplayLayer};

use crate::{
    support::tls::{CA, CLIENT, Forwarder, SERVER, presenting},
    world::{Chunks, World, full, limits},
};

#[tokio::test]
async fn every_kind_of_body_is_sent_by_http1() {
    every_kind_of_body_is_sent(Version::HTTP_11).await;
}

#[tokio::test]
async fn every_kind_of_body_is_sent_by_http2() {
    every_kind_of_body_is_sent(Version::HTTP_2).await;
}

async fn every_kind_of_body_is_sent(version: Version) {
    let (world, _tls, ours) = world_of(version).await;
    let client = ServiceBuilder::new().layer(ours).service(https(version));
    world.check(client, Empty::<Bytes>::new).await;

    let (world, _tls, ours) = world_of(version).await;
    let client = ServiceBuilder::new().layer(ours).service(https(version));
    world.check(client, full).await;

    let (world, _tls, ours) = world_of(version).await;
    let client = ServiceBuilder::new()
        .layer(RequestBodyReplayLayer::new())
        .layer(ours)
        .service(https(version));
    world.check(client, || BoxBody::new(full())).await;

    let (world, _tls, ours) = world_of(version).await;
    let client = ServiceBuilder::new()
        .layer(RequestBodyReplayLayer::new())
        .layer(ours.clone())
        .service(https(version));
    world.check(client.clone(), Chunks::new).await;

    let request = Request::get(&world.origin).body(Chunks::new()).unwrap();
    let response = client.oneshot(request).await.unwrap();
    assert_eq!(response.version(), version);
}

/// A world whose API is behind TLS, and layers for it.
async fn world_of(version: Version) -> (World, Forwarder, M2mLayer) {
    let mut world = World::start().await;
    let plain = world.origin.rsplit(':').next().unwrap().parse().unwrap();
    let tls = Forwarder::start(SERVER, protocol(version), plain).await;
    world.origin = format!("https://127.0.0.1:{}", tls.port);
    let ours = M2mLayer::new(limits(), world.credentials());
    (world, tls, ours)
}

fn https<B>(version: Version) -> Client<HttpsConnector<HttpConnector>, B>
where
    B: Body + Send,
    B::Data: Send,
{
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(presenting(CA, Some(CLIENT)))
        .https_only();
    let connector = match version {
        Version::HTTP_2 => connector.enable_http2().build(),
        _ => connector.enable_http1().build(),
    };
    Client::builder(TokioExecutor::new()).build(connector)
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_2 => b"h2",
        _ => b"http/1.1",
    }
}
