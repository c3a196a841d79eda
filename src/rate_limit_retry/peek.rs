//! Reads a bounded prefix of the body of a rejection.
//!
//! Some vendors report only in the body why a request was rejected. This layer makes the beginning of the body
//! available to [`is_permanent`](super::RateLimitRetryLayerBuilder::is_permanent), without consuming it.
//!
//! A layer of its own, because most programs do not need it: it delays the response until the beginning of the body has
//! arrived, and requires that the body and its errors can be sent between threads.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::peek::{Inspect, Inspecting, PeekedBody};

/// Reads the beginning of the body of a 403 or 429 and stores it in the response's extensions, as a [`BodyPrefix`].
///
/// Place it *below* the rate-limit layer, whose [`is_permanent`](super::RateLimitRetryLayerBuilder::is_permanent) can
/// then recognize a quota that no wait restores. The response keeps its complete body. Other responses are not
/// changed.
///
/// The response is returned once the prefix is complete, the body has ended or failed, or the time limit has passed; an
/// error of the body is returned when the body is read. Compressed bodies are not decompressed: place a decompression
/// layer below this one.
///
/// # Examples
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::PeekBodyLayer};
///
/// let limits = RateLimitRetryLayer::builder()
///     .is_permanent(|error| error.body().starts_with(b"no plan"))
///     .build();
/// let layers = tower::ServiceBuilder::new()
///     .layer(limits)
///     .layer(PeekBodyLayer::new());
/// # drop(layers);
/// ```
#[doc(alias("insufficient_quota"))]
#[derive(Clone, Copy, Debug)]
pub struct PeekBodyLayer {
    /// Maximum length of the prefix, in bytes.
    max_bytes: usize,
    /// Maximum time to read the prefix.
    max_time: Duration,
}

impl PeekBodyLayer {
    /// Creates a layer that reads at most 8 KiB, for at most 500 ms.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_bytes: 8 * 1024,
            max_time: Duration::from_millis(500),
        }
    }

    /// Sets the maximum length of the prefix, in bytes. Default: 8 KiB. With 0, nothing is read.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the maximum time to wait for the prefix. Default: 500 ms. It delays rejections only, and is part of the
    /// duration of the attempt. When it has passed, the prefix contains what has arrived.
    #[must_use]
    pub const fn max_time(mut self, duration: Duration) -> Self {
        self.max_time = duration;
        self
    }
}

impl Default for PeekBodyLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for PeekBodyLayer {
    type Service = PeekBody<S>;

    fn layer(&self, inner: S) -> PeekBody<S> {
        PeekBody {
            inner,
            settings: *self,
        }
    }
}

/// The service of a [`PeekBodyLayer`].
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::{PeekBody, RateLimitRetry};
///
/// /// A client that reads the beginning of each rejection's body.
/// struct Orders<C> {
///     http: RateLimitRetry<PeekBody<C>>,
/// }
/// # let _: Option<Orders<()>> = None;
/// ```
#[derive(Clone, Debug)]
pub struct PeekBody<S> {
    inner: S,
    settings: PeekBodyLayer,
}

impl<S, B, RB> Service<Request<B>> for PeekBody<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body + Send + 'static,
    RB::Data: Send,
    RB::Error: Send,
{
    type Response = Response<PeekedBody<RB>>;
    type Error = S::Error;
    type Future = PeekBodyFuture<S::Future, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inspecting = Inspecting::new(self.inner.call(request), self.settings);
        PeekBodyFuture { inspecting }
    }
}

pin_project! {
    /// The future of a [`PeekBody`]'s response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels this request only. A response whose prefix is being read is dropped with its connection.
    ///
    /// # Examples
    ///
    /// Naming the future in a service that returns it:
    ///
    /// ```
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use tower::{Layer, Service, service_fn};
    /// use tower_m2m::{BoxError, rate_limit_retry::{PeekBodyLayer, PeekBodyFuture}};
    ///
    /// type Body = Empty<&'static [u8]>;
    ///
    /// fn send<S, F>(client: &mut S) -> PeekBodyFuture<F, Body>
    /// where
    ///     S: Service<Request<()>, Future = PeekBodyFuture<F, Body>>,
    /// {
    ///     client.call(Request::new(()))
    /// }
    /// # let http = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Body::new())));
    /// # drop(send(&mut PeekBodyLayer::new().layer(http)));
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct PeekBodyFuture<F, RB: Body> {
        #[pin]
        inspecting: Inspecting<F, RB, PeekBodyLayer>,
    }
}

impl<F, E, RB> Future for PeekBodyFuture<F, RB>
where
    F: Future<Output = Result<Response<RB>, E>>,
    RB: Body + Send + 'static,
    RB::Data: Send,
    RB::Error: Send,
{
    type Output = Result<Response<PeekedBody<RB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inspecting.poll(cx)
    }
}

impl<F, RB: Body> fmt::Debug for PeekBodyFuture<F, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekBodyFuture").finish_non_exhaustive()
    }
}

impl<RB> Inspect<RB> for PeekBodyLayer
where
    RB: Body + Send + 'static,
    RB::Data: Send,
    RB::Error: Send,
{
    fn should_read(&self, response: &mut Response<RB>) -> bool {
        matches!(
            response.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::FORBIDDEN
        )
    }

    async fn inspect(self, response: Response<RB>) -> Response<PeekedBody<RB>> {
        let (mut parts, body) = response.into_parts();
        let mut start = BytesMut::new();
        let body = if self.max_bytes == 0 {
            PeekedBody::whole(body)
        } else {
            // Copies the data: the frames themselves stay in the body.
            let more = |frame: &Frame<Bytes>| {
                if let Some(data) = frame.data_ref() {
                    // Cannot underflow: the reading ends when the prefix is complete.
                    let left = self.max_bytes - start.len();
                    start.extend_from_slice(&data[..data.len().min(left)]);
                }
                start.len() < self.max_bytes
            };
            PeekedBody::read_ahead(body, self.max_time, more).await
        };
        parts.extensions.insert(BodyPrefix(start.freeze()));
        Response::from_parts(parts, body)
    }
}

/// The beginning of a rejection's body, stored in the extensions of its response by a [`PeekBodyLayer`].
///
/// Present in each 403 and 429 that has passed such a layer in a tokio runtime; empty if nothing arrived in time. At
/// most [`max_bytes`](PeekBodyLayer::max_bytes) long. Do not log it without care: it may contain personal data.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use tower_m2m::rate_limit_retry::BodyPrefix;
///
/// /// The text of a rejection, for the log.
/// fn text<B>(response: &Response<B>) -> Option<&str> {
///     let start = response.extensions().get::<BodyPrefix>()?;
///     str::from_utf8(start.as_bytes()).ok()
/// }
/// # assert_eq!(text(&Response::new(())), None);
/// ```
#[derive(Clone)]
pub struct BodyPrefix(Bytes);

impl BodyPrefix {
    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Shows the number of bytes, but not the bytes, which may be confidential.
impl fmt::Debug for BodyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyPrefix({} bytes)", self.0.len())
    }
}
