//! Redirects, compressed responses and refused connections below the layers.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header::LOCATION};
use http_body_util::{BodyExt, Empty};
use tokio::net::TcpListener;
use tower::{
    ServiceBuilder, ServiceExt, buffer::BufferLayer, load_shed::LoadShedLayer,
    timeout::TimeoutLayer, util::BoxCloneSyncService,
};
use tower_http::{
    decompression::DecompressionLayer, follow_redirect::FollowRedirectLayer, trace::TraceLayer,
};
use tower_m2m::{BoxError, ErrorClass, M2mLayer, replay::Once, test_util::ApiFault};

use crate::world::{Chunks, DATA, World, full, http1, limits};

#[tokio::test]
async fn a_non_replayable_body_reaches_the_api() {
    let world = World::start().await;
    let ours = M2mLayer::new(limits(), world.credentials());
    let client = ServiceBuilder::new().layer(ours).service(http1());
    let request = Request::post(&world.origin).body(Once::new(Chunks::new()));

    let response = client.oneshot(request.unwrap()).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(world.lengths(), [DATA.len()]);
}

#[tokio::test]
async fn each_hop_of_a_redirect_carries_a_token() {
    let world = World::start().await;
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer((limits(), world.credentials()))
        .service(http1());
    let found = HeaderMap::from_iter([(LOCATION, "/there".parse().unwrap())]);
    world.api.next(ApiFault::Status {
        code: StatusCode::TEMPORARY_REDIRECT,
        headers: found,
        body: Bytes::new(),
    });
    let request = Request::get(&world.origin).body(Empty::<Bytes>::new());

    let response = client.oneshot(request.unwrap()).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    let requests = world.api.requests();
    let paths: Vec<_> = requests.iter().map(|request| &*request.path).collect();
    assert_eq!(paths, ["/", "/there"]);
    assert!(
        requests
            .iter()
            .all(|request| request.authorization().is_some())
    );
}

#[tokio::test]
async fn a_refused_connection_is_recognized_through_other_layers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = ServiceBuilder::new()
        .layer(BoxCloneSyncService::layer())
        .layer(TraceLayer::new_for_http())
        .layer(TimeoutLayer::new(std::time::Duration::from_secs(60)))
        .layer(LoadShedLayer::new())
        .layer(BufferLayer::new(8))
        .service(http1());
    let request = Request::post(format!("http://{address}/")).body(full());

    let error: BoxError = client
        .oneshot(request.unwrap())
        .await
        .map(drop)
        .unwrap_err();

    assert_eq!(ErrorClass::of(&*error), ErrorClass::NotSent);
}

#[tokio::test]
async fn a_compressed_response_is_decompressed_above_and_below() {
    let world = World::start().await;
    let ours = M2mLayer::new(limits(), world.credentials());
    let request = || {
        let request = Request::get(format!("{}/gzip", world.origin));
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    let above = ServiceBuilder::new()
        .layer(DecompressionLayer::new())
        .layer(ours.clone())
        .service(http1());
    let below = ServiceBuilder::new()
        .layer(ours)
        .layer(DecompressionLayer::new())
        .service(http1());

    let above = above
        .oneshot(request())
        .await
        .unwrap()
        .into_body()
        .collect()
        .await;
    let below = below
        .oneshot(request())
        .await
        .unwrap()
        .into_body()
        .collect()
        .await;

    assert_eq!(above.unwrap().to_bytes(), DATA);
    assert_eq!(below.unwrap().to_bytes(), DATA);
}
