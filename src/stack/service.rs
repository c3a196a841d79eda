//! The service and its response future.

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

use super::policy::M2mPolicy;
use crate::{BoxError, call, replay::ReplayableBody, sharded::Sharded};

/// Service that sends requests with an access token, as their quotas allow. Created by an
/// [`M2mLayer`](super::M2mLayer).
///
/// `poll_ready` is the inner service's: it waits neither for a token nor for a quota, so a caller learns nothing from
/// readiness about either. Clones share the token and the quotas; the inner service is cloned with them.
///
/// # Errors
///
/// Those of both layers and of the inner service, as [`BoxError`](crate::BoxError); see the [module](super).
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use hyper_util::client::legacy::{Client, connect::HttpConnector};
/// use tower_m2m::stack::M2m;
///
/// /// What the rest of the program uses. Cheap to clone.
/// #[derive(Clone)]
/// struct Orders {
///     http: M2m<Client<HttpConnector, Full<Bytes>>>,
/// }
/// ```
#[derive(Clone)]
pub struct M2m<S> {
    /// The inner service.
    inner: S,
    /// One policy per thread. All share one token cache and one limiter.
    policies: Sharded<M2mPolicy>,
}

impl<S> M2m<S> {
    /// Wraps `inner`.
    pub(super) fn new(inner: S, policies: Sharded<M2mPolicy>) -> Self {
        Self { inner, policies }
    }

    /// Returns a reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    ///
    /// A change applies to this clone only. Requests in flight keep the clone that they were sent with.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, RB> Service<Request<B>> for M2m<S>
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

impl<S: fmt::Debug> fmt::Debug for M2m<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("M2m")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of an [`M2m`](super::M2m) service's response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends only this request. Its place in the queue is released. A fetch continues for other callers.
    ///
    /// # Examples
    ///
    /// A service or a function of your own that returns it can name this type.
    ///
    /// ```
    /// use http::Request;
    /// use tower::Service;
    /// use tower_m2m::{
    ///     BoxError,
    ///     stack::{M2m, ResponseFuture},
    /// };
    ///
    /// fn get<S, RB>(client: &mut M2m<S>) -> ResponseFuture<S, ()>
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
        inner: call::ResponseFuture<M2mPolicy, S, B>,
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
    S::Response: Send + 'static,
{
    /// Creates a future that returns `error`, for a request that is not sent.
    pub(crate) fn not_sent(error: BoxError) -> Self {
        let inner = call::ResponseFuture::not_sent(error);
        Self { inner }
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
