//! The service: the ordinary path of a request, which neither waits nor boxes.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    authorize::Passage,
    future::{ResponseFuture, UnderWay, obtain_and_send},
    near::Near,
};
use crate::{
    BoxError, kept::Retained, readiness::give_back, replay::ReplayableBody, sharded::Sharded,
};

/// Sends requests with an access token. Made by a [`ClientCredentialsLayer`](super::ClientCredentialsLayer).
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
    inner: S,
    near: Sharded<Near>,
}

impl<S> ClientCredentials<S> {
    pub(crate) fn new(inner: S, near: Sharded<Near>) -> Self {
        Self { inner, near }
    }

    /// The service underneath.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service underneath.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service underneath.
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

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture<S, B> {
        let near = self.near.here();
        let exchange = &near.exchange;
        let origin = match exchange.authorizer.inspect(&mut request) {
            Ok(Passage::WithToken(origin)) => origin,
            Ok(Passage::AsItIs) => return ResponseFuture::fast(self.inner.call(request), None),
            Err(error) => return ResponseFuture::refused(error),
        };
        let now = exchange.tokens.clock.now();
        let Some((token, sent)) = near.token(now, origin) else {
            let service = give_back(&mut self.inner);
            let exchange = Arc::clone(exchange);
            return ResponseFuture::slow(obtain_and_send(exchange, service, request, origin));
        };
        let may_replay = exchange.may_replay(&request);
        let retained = may_replay
            .then(|| Retained::of(&request, &self.inner))
            .flatten();
        exchange.authorize(request.headers_mut(), token);
        let near = Arc::clone(near);
        // The instance that was polled ready is the one that is called; the copy holds a clone, which is not ready.
        let future = self.inner.call(request);
        let watched = UnderWay {
            near,
            sent,
            retained,
        };
        ResponseFuture::fast(future, Some(watched))
    }
}

impl<S: fmt::Debug> fmt::Debug for ClientCredentials<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
