//! What `{:?}` prints: names, and nothing of a request; and that `poll_ready` reaches the inner service.

use std::{
    future::Ready,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body::{Body as HttpBody, Frame};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, M2mLayer, RateLimitRetryLayer,
    grpc::GrpcStatusLayer,
    rate_limit_retry::{BodyPrefix, PartitionKey, PeekBodyLayer},
};

use crate::support::{Body, Inner, Source, get, layer, serving, status_only};

#[tokio::test(start_paused = true)]
async fn debug_output_names_layers_services_and_futures() {
    let limits = RateLimitRetryLayer::builder()
        .partition_by(|_| PartitionKey::new("one"))
        .is_permanent(|_| false)
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
        ("PeekBodyFuture", future(&PeekBodyLayer::new())),
    ] {
        assert!(shown.starts_with(name), "{name}: {shown}");
        assert!(!shown.contains("s3cret"), "{name}: {shown}");
    }
    assert_eq!(PartitionKey::new("one").to_string(), "one");
}

#[tokio::test(start_paused = true)]
async fn draining_an_endless_ready_body_stops() {
    let http = service_fn(|_: Request<Body>| {
        let mut response = Response::new(Endless);
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        std::future::ready(Ok::<_, BoxError>(response))
    });

    let response = PeekBodyLayer::new().layer(http).oneshot(get("/")).await;

    let start = response.unwrap().extensions().get::<BodyPrefix>().cloned();
    assert_eq!(start.unwrap().as_bytes(), b"");
}

/// Frames without a byte, one after the other.
struct Endless;

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
    }
}

fn future<L>(layer: &L) -> String
where
    L: Layer<Inner>,
    L::Service: Service<Request<Body>, Future: std::fmt::Debug>,
{
    let mut request = get("/s3cret");
    let secret = "s3cret".parse().unwrap();
    request.headers_mut().insert(AUTHORIZATION, secret);
    format!("{:?}", layer.layer(silent()).call(request))
}

fn silent() -> Inner {
    serving(|_| std::future::ready(status_only(StatusCode::OK))).0
}

/// Never ready.
#[derive(Clone, Debug)]
struct Busy;

impl Service<Request<Body>> for Busy {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Pending
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        unreachable!("it is not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn no_layer_is_ready_before_the_inner_service() {
    let limits = RateLimitRetryLayer::new();
    let credentials = layer(&Source::default()).build();

    assert!(!is_ready(limits.layer(Busy)));
    assert!(!is_ready(credentials.layer(Busy)));
    assert!(!is_ready(M2mLayer::new(limits, credentials).layer(Busy)));
    assert!(!is_ready(GrpcStatusLayer::new().layer(Busy)));
    assert!(!is_ready(PeekBodyLayer::new().layer(Busy)));
}

fn is_ready(mut service: impl Service<Request<Body>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    service.poll_ready(&mut context).is_ready()
}
