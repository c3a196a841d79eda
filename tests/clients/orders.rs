//! The layers above and below those of tower and tower-http, with every kind of body; once as two layers and once as one.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{
    ServiceBuilder, buffer::BufferLayer, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer,
    retry::RetryLayer, timeout::TimeoutLayer, util::BoxCloneSyncService,
};
use tower_http::{
    decompression::DecompressionLayer, follow_redirect::FollowRedirectLayer, trace::TraceLayer,
};
use tower_m2m::{
    M2mLayer,
    replay::{CloneWith, RequestBodyReplayLayer},
};

use crate::{
    retries::RetryOnce,
    world::{Chunks, World, full, http1, limits},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Two tests of one stack: `$ours` is the pair of layers, then the combined one.
macro_rules! composes {
    ($name:ident: $body:expr, |$ours:ident| $stack:expr) => {
        mod $name {
            use super::*;

            #[tokio::test]
            async fn with_two_layers() {
                let world = World::start().await;
                let $ours = (limits(), world.credentials());
                world.check($stack, || $body).await;
            }

            #[tokio::test]
            async fn with_both_as_one() {
                let world = World::start().await;
                let $ours = M2mLayer::new(limits(), world.credentials());
                world.check($stack, || $body).await;
            }
        }
    };
}

composes!(an_empty_body: Empty::<Bytes>::new(), |ours| {
    ServiceBuilder::new().layer(ours).service(http1())
});

composes!(a_full_body: full(), |ours| ServiceBuilder::new().layer(ours).service(http1()));

composes!(a_boxed_body: BoxBody::new(full()), |ours| {
    ServiceBuilder::new().layer(RequestBodyReplayLayer::new()).layer(ours).service(http1())
});

composes!(an_unsync_boxed_body: full().boxed_unsync(), |ours| {
    ServiceBuilder::new().layer(RequestBodyReplayLayer::new()).layer(ours).service(http1())
});

composes!(a_streaming_body: Chunks::new(), |ours| {
    ServiceBuilder::new().layer(RequestBodyReplayLayer::new()).layer(ours).service(http1())
});

composes!(a_body_that_can_copy_itself: Chunks::new(), |ours| {
    ServiceBuilder::new()
        .map_request(|request: Request<Chunks>| {
            request.map(|body| CloneWith::new(body, Chunks::try_clone))
        })
        .layer(ours)
        .map_request(|request: Request<CloneWith<Chunks>>| request.map(CloneWith::into_inner))
        .service(http1())
});

composes!(a_client_that_speaks_http2: Chunks::new(), |ours| {
    let http = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    ServiceBuilder::new().layer(RequestBodyReplayLayer::new()).layer(ours).service(http)
});

composes!(a_buffer_above: full(), |ours| {
    ServiceBuilder::new().layer(BufferLayer::new(8)).layer(ours).service(http1())
});

composes!(a_buffer_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(BufferLayer::new(8)).service(http1())
});

// One permit: a second send in one call needs the permit of the first.
composes!(a_concurrency_limit_above: full(), |ours| {
    ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).layer(ours).service(http1())
});

composes!(a_concurrency_limit_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(ConcurrencyLimitLayer::new(1)).service(http1())
});

composes!(a_timeout_above: full(), |ours| {
    ServiceBuilder::new().layer(TimeoutLayer::new(MINUTE)).layer(ours).service(http1())
});

composes!(a_timeout_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(TimeoutLayer::new(MINUTE)).service(http1())
});

composes!(a_load_shed_above: full(), |ours| {
    ServiceBuilder::new().layer(LoadShedLayer::new()).layer(ours).service(http1())
});

composes!(a_load_shed_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(LoadShedLayer::new()).service(http1())
});

composes!(a_retry_above: full(), |ours| {
    ServiceBuilder::new().layer(RetryLayer::new(RetryOnce(1))).layer(ours).service(http1())
});

composes!(a_retry_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(RetryLayer::new(RetryOnce(1))).service(http1())
});

composes!(a_box_above: full(), |ours| {
    ServiceBuilder::new().layer(BoxCloneSyncService::layer()).layer(ours).service(http1())
});

composes!(a_box_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(BoxCloneSyncService::layer()).service(http1())
});

composes!(a_trace_above: full(), |ours| {
    ServiceBuilder::new().layer(TraceLayer::new_for_http()).layer(ours).service(http1())
});

composes!(a_trace_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(TraceLayer::new_for_http()).service(http1())
});

composes!(a_decompression_above: full(), |ours| {
    ServiceBuilder::new().layer(DecompressionLayer::new()).layer(ours).service(http1())
});

composes!(a_decompression_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(DecompressionLayer::new()).service(http1())
});

composes!(a_redirect_follower_above: full(), |ours| {
    ServiceBuilder::new().layer(FollowRedirectLayer::new()).layer(ours).service(http1())
});

composes!(a_redirect_follower_below: full(), |ours| {
    ServiceBuilder::new().layer(ours).layer(FollowRedirectLayer::new()).service(http1())
});

composes!(every_layer_in_the_order_that_the_guide_names: Chunks::new(), |ours| {
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(MINUTE))
        .layer(RequestBodyReplayLayer::new())
        .layer(BoxCloneSyncService::layer())
        .layer(ours)
        .layer(TraceLayer::new_for_http())
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(TimeoutLayer::new(MINUTE))
        .layer(BufferLayer::new(8))
        .service(http1())
});
