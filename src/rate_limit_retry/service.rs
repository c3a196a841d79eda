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
    future::{ResponseFuture, UnderWay, send_when_allowed},
    gate::Ticket,
    pass::Passes,
};
use crate::{
    BoxError, kept::Retained, readiness::give_back, replay::ReplayableBody, sharded::Sharded,
};

/// Sends requests as their quotas allow. Made by a [`RateLimitRetryLayer`](super::RateLimitRetryLayer).
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
    inner: S,
    passes: Sharded<Passes>,
}

impl<S> RateLimitRetry<S> {
    pub(super) fn new(inner: S, passes: Sharded<Passes>) -> Self {
        Self { inner, passes }
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
        let passes = self.passes.here();
        let head = (&request).into();
        let (call, ticket) = match passes.pass(&head, false) {
            Some(call) => (call, Ticket::free()),
            None => match passes.admit(&head, None) {
                (call, Some(Ok(ticket))) => (call, ticket),
                (call, admission) => {
                    let limiter = Arc::clone(&passes.limiter);
                    let admission = admission.and_then(Result::err);
                    let service = give_back(&mut self.inner);
                    let sent = send_when_allowed(limiter, call, admission, service, request);
                    return ResponseFuture::slow(sent);
                }
            },
        };
        let retained = Retained::of(&request, &self.inner);
        let passes = Arc::clone(passes);
        // The instance that was polled ready is the one that is called.
        let future = self.inner.call(request);
        let watched = UnderWay {
            passes,
            attempt: Some((call, ticket)),
            retained,
        };
        ResponseFuture::fast(future, watched)
    }
}

impl<S: fmt::Debug> fmt::Debug for RateLimitRetry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitRetry")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
