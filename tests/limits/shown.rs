//! What `{:?}` shows: names, and nothing of a request.

use http::{StatusCode, header::AUTHORIZATION};
use tower::{Layer, Service};
use tower_m2m::{
    M2mLayer, RateLimitRetryLayer,
    grpc::GrpcStatusLayer,
    rate_limit_retry::{PartitionKey, PeekBodyLayer},
};

use crate::support::{Inner, Source, answering, get, layer, status_only};

#[tokio::test(start_paused = true)]
async fn layers_services_and_futures_show_their_names() {
    let limits = RateLimitRetryLayer::builder()
        .partition_by(|_| PartitionKey::new("one"))
        .permanent_if(|_| false)
        .build();
    let both = M2mLayer::new(limits.clone(), layer(&Source::default()).build());
    for (name, shown) in [
        ("RateLimitRetryLayer", format!("{limits:?}")),
        ("RateLimitRetry", format!("{:?}", limits.layer(silent()))),
        ("M2mLayer", format!("{both:?}")),
        ("M2m", format!("{:?}", both.layer(silent()))),
        ("ResponseFuture", future(&limits)),
        ("ResponseFuture", future(&both)),
        ("GrpcStatusFuture", future(&GrpcStatusLayer::new())),
        ("PeekFuture", future(&PeekBodyLayer::new())),
    ] {
        assert!(shown.starts_with(name), "{name}: {shown}");
        assert!(!shown.contains("s3cret"), "{name}: {shown}");
    }
    assert_eq!(PartitionKey::new("one").to_string(), "one");
}

fn future<L>(layer: &L) -> String
where
    L: Layer<Inner>,
    L::Service: Service<http::Request<crate::support::Body>, Future: std::fmt::Debug>,
{
    let mut request = get("/s3cret");
    let secret = "s3cret".parse().unwrap();
    request.headers_mut().insert(AUTHORIZATION, secret);
    format!("{:?}", layer.layer(silent()).call(request))
}

fn silent() -> Inner {
    answering(|_| std::future::ready(status_only(StatusCode::OK))).0
}
