//! The service, and the future that inspects a response.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    Changed,
    status::{self, PUSHBACK, STATUS},
};
use crate::peek::{Inspect, Inspecting, PeekedBody};

/// The service of a [`GrpcStatusLayer`](super::GrpcStatusLayer).
///
/// It is ready when the inner service is, and returns the inner service's errors only.
///
/// The response body becomes a [`PeekedBody`], which yields what the channel's body would. Requests are not changed.
///
/// # Examples
///
/// ```
/// use tower_m2m::{client_credentials::ClientCredentials, grpc::GrpcStatus};
///
/// /// What a generated client of tonic is made of:
/// /// `OrdersClient<Channel<tonic::transport::Channel>>`.
/// type Channel<S> = ClientCredentials<GrpcStatus<S>>;
/// # let _: Option<Channel<()>> = None;
/// ```
#[derive(Clone, Debug)]
pub struct GrpcStatus<S> {
    inner: S,
    settings: Settings,
}

/// The settings of the layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Maximum wait for the first message or the trailers.
    pub(super) max_time: Duration,
    /// Whether `RESOURCE_EXHAUSTED` without a wait is a 429.
    pub(super) any_exhaustion: bool,
}

impl<S> GrpcStatus<S> {
    /// Wraps `inner`.
    pub(super) const fn new(inner: S, settings: Settings) -> Self {
        Self { inner, settings }
    }
}

impl<S, B, RB> Service<Request<B>> for GrpcStatus<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body + Send + 'static,
    RB::Data: Send,
    RB::Error: Send,
{
    type Response = Response<PeekedBody<RB>>;
    type Error = S::Error;
    type Future = GrpcStatusFuture<S::Future, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inspecting = Inspecting::new(self.inner.call(request), self.settings);
        GrpcStatusFuture { inspecting }
    }
}

pin_project! {
    /// The response future of a [`GrpcStatus`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the call, as dropping the inner future does.
    ///
    /// # Examples
    ///
    /// As the return type of a function that calls it:
    ///
    /// ```
    /// use http::Request;
    /// use http_body_util::Empty;
    /// use tower::{Layer, Service, service_fn};
    /// use tower_m2m::{BoxError, grpc::{GrpcStatusFuture, GrpcStatusLayer}};
    ///
    /// type Body = Empty<&'static [u8]>;
    ///
    /// fn send<S, F>(channel: &mut S) -> GrpcStatusFuture<F, Body>
    /// where
    ///     S: Service<Request<Body>, Future = GrpcStatusFuture<F, Body>>,
    /// {
    ///     channel.call(Request::new(Body::new()))
    /// }
    /// # let channel = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(http::Response::new(Body::new())));
    /// # drop(send(&mut GrpcStatusLayer::new().layer(channel)));
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct GrpcStatusFuture<F, RB: Body> {
        #[pin]
        inspecting: Inspecting<F, RB, Settings>,
    }
}

impl<F, E, RB> Future for GrpcStatusFuture<F, RB>
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

impl<F, RB: Body> fmt::Debug for GrpcStatusFuture<F, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcStatusFuture").finish_non_exhaustive()
    }
}

impl<RB> Inspect<RB> for Settings
where
    RB: Body + Send + 'static,
    RB::Data: Send,
    RB::Error: Send,
{
    /// Applies a status in the head at once. The body is read only if the head has none.
    fn should_read(&self, response: &mut Response<RB>) -> bool {
        if !is_grpc(response) {
            return false;
        }
        // Trailers-only: the status is in the head, and nothing follows.
        if response.headers().contains_key(STATUS) {
            let fields = response.headers().clone();
            self.apply_status(&fields, response);
            return false;
        }
        !response.body().is_end_stream()
    }

    /// Waits for the first frame, and applies the status if that frame is the trailers. A message means that the call was
    /// not rejected before it began.
    async fn inspect(self, response: Response<RB>) -> Response<PeekedBody<RB>> {
        let (parts, body) = response.into_parts();
        let mut trailers = None;
        let body = PeekedBody::read_ahead(body, self.max_time, |first| {
            // One frame decides: trailers have the status, and a message means that the call was accepted.
            trailers = first.trailers_ref().cloned();
            false
        });
        let mut response = Response::from_parts(parts, body.await);
        if let Some(trailers) = trailers {
            self.apply_status(&trailers, &mut response);
        }
        response
    }
}

/// Returns whether this is a gRPC response with HTTP status 200, so that its result is in `grpc-status`.
fn is_grpc<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    let grpc = b"application/grpc";
    response.status() == StatusCode::OK
        && kind.is_some_and(|kind| {
            // A prefix: `application/grpc+proto` and others follow it.
            let start = kind.as_bytes().get(..grpc.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(grpc))
        })
}

impl Settings {
    /// Changes the status, and adds the wait to the head, where the layers above read it. Marks the response, so that
    /// [`restore`](super::restore) can undo it.
    fn apply_status<B>(&self, fields: &HeaderMap, response: &mut Response<B>) {
        let Some(meaning) = status::translate(fields, self.any_exhaustion) else {
            return;
        };
        *response.status_mut() = meaning.status;
        let mut changed = Changed {
            pushback_added: false,
        };
        // A wait that the server has put into the head itself wins.
        if let Some(pushback) = meaning.pushback
            && !response.headers().contains_key(PUSHBACK)
        {
            changed.pushback_added = true;
            response.headers_mut().insert(PUSHBACK, pushback);
        }
        response.extensions_mut().insert(changed);
    }
}
