//! The service, and its response future.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::policy::LimitPolicy;
use crate::{BoxError, call, replay::ReplayableBody, sharded::Sharded};

/// A service that sends requests as their quotas allow. Created by a
/// [`RateLimitRetryLayer`](super::RateLimitRetryLayer).
///
/// Fails with [`RateLimited`](super::RateLimited), [`QueueFull`](super::QueueFull),
/// [`CostTooHigh`](super::CostTooHigh) or [`DeadlineExceeded`](super::DeadlineExceeded), or with the error of the inner
/// service, boxed.
///
/// # Readiness
///
/// `poll_ready` reflects the inner service only. It is not delayed by a hold, because it does not know the partition of
/// the next request: a program that sends to several servers must not stop because of one of them. `call` uses the
/// readiness that `poll_ready` has obtained. If the request has to wait, it gives that readiness back by replacing
/// the inner service with a clone, and obtains it again right before the send.
///
/// # Requirements
///
/// The inner service must be `Clone`, because a retry calls it again. A request whose body cannot be sent twice is sent
/// once, and its rejection is returned with [`GiveUpReason::Body`](super::GiveUpReason::Body).
///
/// Waits and retries need the timers of a tokio runtime. Outside a runtime, requests are still admitted at once or
/// rejected.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use hyper_util::client::legacy::{Client, connect::HttpConnector};
/// use tower_m2m::rate_limit_retry::RateLimitRetry;
///
/// /// What the rest of the program uses. Cheap to clone.
/// #[derive(Clone)]
/// struct Orders {
///     http: RateLimitRetry<Client<HttpConnector, Full<Bytes>>>,
/// }
/// ```
#[derive(Clone)]
pub struct RateLimitRetry<S> {
    /// The inner service.
    inner: S,
    /// One policy per shard; all share one limiter.
    policies: Sharded<LimitPolicy>,
}

impl<S> RateLimitRetry<S> {
    /// Wraps `inner`.
    pub(super) fn new(inner: S, policies: Sharded<LimitPolicy>) -> Self {
        Self { inner, policies }
    }

    /// Returns a reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Calls to it bypass all limits and are not counted.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service. The quotas stay with the layer and its other services.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, RB> Service<Request<B>> for RateLimitRetry<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        let inner = call::call(&self.policies, &mut self.inner, request);
        ResponseFuture { inner }
    }
}

impl<S: fmt::Debug> fmt::Debug for RateLimitRetry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitRetry")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of a [`RateLimitRetry`](super::RateLimitRetry) service's response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends this request only: the request leaves the wait queue, and other requests continue. A request in
    /// flight counts as sent, because the server may have counted it.
    ///
    /// A future that is kept without being polled does not block others: its position in the queue is skipped until the
    /// next poll.
    ///
    /// # Examples
    ///
    /// Naming the future in a service that returns it:
    ///
    /// ```
    /// use http::Request;
    /// use tower::Service;
    /// use tower_m2m::{
    ///     BoxError,
    ///     rate_limit_retry::{RateLimitRetry, ResponseFuture},
    /// };
    ///
    /// fn get<S, RB>(client: &mut RateLimitRetry<S>) -> ResponseFuture<S, ()>
    /// where
    ///     S: Service<Request<()>, Response = http::Response<RB>, Future: Send>
///         + Clone
///         + Send
///         + 'static,
    ///     S::Error: Into<BoxError>,
    ///     RB: http_body::Body + Send + 'static,
    /// {
    ///     client.call(Request::new(()))
    /// }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        inner: call::ResponseFuture<LimitPolicy, S, B>,
    }
}

impl<S, B, RB> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx)
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
