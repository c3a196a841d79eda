//! An API that streams its responses, controlled by the test.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, RateLimitRetryLayer,
    rate_limit_retry::{
        Cost, QuotaHandle, QuotaStatus, RateLimitRetryLayerBuilder, ReadUsageLayer, UsageBody,
    },
};

use crate::support::API;

/// The estimate of [`builder`]'s layers for requests without a cost in their extensions.
pub(crate) const ESTIMATE: u64 = 1_200;

pub(crate) type Inner = BoxCloneSyncService<Request<()>, Response<Stream>, BoxError>;
/// Boxed, so that its futures can be spawned from other futures.
pub(crate) type Service = BoxCloneSyncService<Request<()>, TestResponse, BoxError>;
pub(crate) type TestResponse = Response<UsageBody<Stream>>;

/// The sender of a response's frames.
pub(crate) type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

/// A body with the frames that the test sends.
pub(crate) struct Stream(mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>);

impl Body for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

/// Returns a body without frames, and the sender of its frames.
pub(crate) fn stream() -> (Frames, Stream) {
    let (frames, body) = mpsc::unbounded_channel();
    (frames, Stream(body))
}

/// Returns a body with `data` in chunks of this length.
pub(crate) fn chunks(data: &[u8], length: usize) -> Stream {
    let (frames, body) = stream();
    for chunk in data.chunks(length) {
        let chunk = Bytes::copy_from_slice(chunk);
        frames.send(Ok(Frame::data(chunk))).unwrap();
    }
    body
}

/// Returns a builder of a layer whose requests cost [`ESTIMATE`] tokens, or the cost in their extensions.
pub(crate) fn builder() -> RateLimitRetryLayerBuilder {
    RateLimitRetryLayer::builder().seed(7).cost(|head| {
        let cost = head.extensions.get::<Cost>().cloned();
        cost.unwrap_or_else(|| Cost::new().with("tokens", ESTIMATE))
    })
}

pub(crate) fn inner<F>(respond: impl Fn(Request<()>) -> F + Clone + Send + Sync + 'static) -> Inner
where
    F: Future<Output = Result<Response<Stream>, BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(service_fn(respond))
}

/// Returns the layer and a [`ReadUsageLayer`] above an API.
pub(crate) fn service<F>(
    layer: &RateLimitRetryLayer,
    respond: impl Fn(Request<()>) -> F + Clone + Send + Sync + 'static,
) -> Service
where
    F: Future<Output = Result<Response<Stream>, BoxError>> + Send + 'static,
{
    let service = tower::ServiceBuilder::new()
        .layer(layer.clone())
        .layer(ReadUsageLayer::new())
        .service(inner(respond));
    BoxCloneSyncService::new(service)
}

pub(crate) fn request() -> Request<()> {
    Request::get(format!("{API}/")).body(()).unwrap()
}

pub(crate) fn send(
    service: &Service,
) -> impl Future<Output = Result<TestResponse, BoxError>> + Send + use<> {
    service.clone().oneshot(request())
}

/// Returns the status of the only partition.
pub(crate) fn quota(handle: &QuotaHandle) -> QuotaStatus {
    let mut all = handle.status();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Asserts that nothing is reserved, and what was charged.
#[track_caller]
pub(crate) fn assert_charged(handle: &QuotaHandle, tokens: u64) {
    let quota = quota(handle);
    assert_eq!(quota.reserved("tokens"), 0, "reserved");
    assert_eq!(quota.charged("tokens"), tokens, "charged");
    assert_eq!(quota.in_flight(), 0);
}

/// Asserts what is reserved, and that nothing was charged.
#[track_caller]
pub(crate) fn assert_reserved(handle: &QuotaHandle, tokens: u64) {
    let quota = quota(handle);
    assert_eq!(quota.reserved("tokens"), tokens, "reserved");
    assert_eq!(quota.charged("tokens"), 0, "charged");
}
