//! An API that streams its answers, under the control of the test.

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

/// What the cost function of [`layer`] returns for requests without a cost of their own.
pub(crate) const ESTIMATE: u64 = 1_200;

pub(crate) type Inner = BoxCloneSyncService<Request<()>, Response<Stream>, BoxError>;
/// Boxed, so that its futures can be spawned from other futures.
pub(crate) type Service = BoxCloneSyncService<Request<()>, Answer, BoxError>;
pub(crate) type Answer = Response<UsageBody<Stream>>;

/// The frames of an answer, as the test sends them.
pub(crate) type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

/// A body of the frames that the test sends.
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

/// A body without frames yet, and their sender.
pub(crate) fn stream() -> (Frames, Stream) {
    let (frames, body) = mpsc::unbounded_channel();
    (frames, Stream(body))
}

/// A body of these chunks.
pub(crate) fn chunks(data: &[u8], length: usize) -> Stream {
    let (frames, body) = stream();
    for chunk in data.chunks(length) {
        let chunk = Bytes::copy_from_slice(chunk);
        frames.send(Ok(Frame::data(chunk))).unwrap();
    }
    body
}

/// A layer whose requests cost [`ESTIMATE`] tokens, or what their extensions say.
pub(crate) fn builder() -> RateLimitRetryLayerBuilder {
    RateLimitRetryLayer::builder().seed(7).cost(|head| {
        let cost = head.extensions.get::<Cost>().cloned();
        cost.unwrap_or_else(|| Cost::new().with("tokens", ESTIMATE))
    })
}

pub(crate) fn inner<F>(answer: impl Fn(Request<()>) -> F + Clone + Send + Sync + 'static) -> Inner
where
    F: Future<Output = Result<Response<Stream>, BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(service_fn(answer))
}

/// The layer and the adaptor above an API.
pub(crate) fn service<F>(
    layer: &RateLimitRetryLayer,
    answer: impl Fn(Request<()>) -> F + Clone + Send + Sync + 'static,
) -> Service
where
    F: Future<Output = Result<Response<Stream>, BoxError>> + Send + 'static,
{
    let service = tower::ServiceBuilder::new()
        .layer(layer.clone())
        .layer(ReadUsageLayer::new())
        .service(inner(answer));
    BoxCloneSyncService::new(service)
}

pub(crate) fn request() -> Request<()> {
    Request::get(format!("{API}/")).body(()).unwrap()
}

pub(crate) fn send(
    service: &Service,
) -> impl Future<Output = Result<Answer, BoxError>> + Send + use<> {
    service.clone().oneshot(request())
}

/// The only partition.
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
