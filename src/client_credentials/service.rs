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

use super::policy::AuthPolicy;
use crate::{BoxError, call, replay::ReplayableBody, sharded::Sharded};

/// Service that sends requests with an access token. Created by a
/// [`ClientCredentialsLayer`](super::ClientCredentialsLayer).
///
/// It is ready when the inner service is. A call that has to wait for a token gives that readiness back, and waits for
/// it again when the token is there, so that a limited inner service is not blocked by waiting requests.
///
/// Clones share the tokens. `Clone` is as cheap as that of the inner service.
///
/// # Errors
///
/// [`TokenError`](super::TokenError), [`OriginNotAllowed`](super::OriginNotAllowed),
/// [`CredentialAlreadyPresent`](super::CredentialAlreadyPresent), and the errors of the inner service.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use hyper_util::client::legacy::{Client, connect::HttpConnector};
/// use tower_m2m::client_credentials::ClientCredentials;
///
/// /// What the rest of the program uses. Cheap to clone.
/// #[derive(Clone)]
/// struct Orders {
///     http: ClientCredentials<Client<HttpConnector, Full<Bytes>>>,
/// }
/// ```
#[derive(Clone)]
pub struct ClientCredentials<S> {
    /// The inner service.
    inner: S,
    /// One policy per thread. All share one token cache.
    policies: Sharded<AuthPolicy>,
}

impl<S> ClientCredentials<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, policies: Sharded<AuthPolicy>) -> Self {
        Self { inner, policies }
    }

    /// Returns a reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, RB> Service<Request<B>> for ClientCredentials<S>
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

impl<S: fmt::Debug> fmt::Debug for ClientCredentials<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of a [`ClientCredentials`](super::ClientCredentials) service's response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends only this request. A fetch that it started or waits for continues for other callers.
    ///
    /// # Examples
    ///
    /// A service of your own with this one as its inner service can name this type as its future.
    ///
    /// ```
    /// use std::task::{Context, Poll};
    ///
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use tower::Service;
    /// use tower_m2m::{
    ///     BoxError,
    ///     client_credentials::{ClientCredentials, ResponseFuture},
    /// };
    ///
    /// /// Adds a header.
    /// struct Versioned<S>(ClientCredentials<S>);
    ///
    /// impl<S, RB> Service<Request<Empty<&'static [u8]>>> for Versioned<S>
    /// where
    ///     S: Service<Request<Empty<&'static [u8]>>, Response = Response<RB>>
    ///         + Clone
    ///         + Send
    ///         + 'static,
    ///     S::Future: Send,
    ///     S::Error: Into<BoxError>,
    ///     RB: http_body::Body + Send + 'static,
    /// {
    ///     type Response = Response<RB>;
    ///     type Error = BoxError;
    ///     type Future = ResponseFuture<S, Empty<&'static [u8]>>;
    ///
    ///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
    ///         self.0.poll_ready(cx)
    ///     }
    ///
    ///     fn call(&mut self, mut request: Request<Empty<&'static [u8]>>) -> Self::Future {
    ///         request.headers_mut().insert("api-version", 3.into());
    ///         self.0.call(request)
    ///     }
    /// }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        inner: call::ResponseFuture<AuthPolicy, S, B>,
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
