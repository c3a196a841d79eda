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
    future::{ResponseFuture, send_when_allowed},
    pass::Passes,
};
use crate::{BoxError, kept::Retained, replay::ReplayableBody, sharded::Sharded};

/// Sends requests as their quotas allow. Made by a [`RateLimitRetryLayer`](super::RateLimitRetryLayer).
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
        let limiter = &passes.limiter;
        let (call, admission) = match passes.admit(&(&request).into(), None) {
            (call, Some(Ok(ticket))) => {
                let retained = Retained::of(&request, &self.inner);
                let passes = Arc::clone(passes);
                // The instance that was polled ready is the one that is called.
                let future = self.inner.call(request);
                return ResponseFuture::sent(future, passes, call, ticket, retained);
            }
            (call, admission) => (call, admission.and_then(Result::err)),
        };
        // Readiness is given back before waiting: a permit held here could be the one that another request needs.
        let fresh = self.inner.clone();
        drop(std::mem::replace(&mut self.inner, fresh));
        ResponseFuture::slow(send_when_allowed(
            Arc::clone(limiter),
            call,
            admission,
            self.inner.clone(),
            request,
        ))
    }
}

impl<S: fmt::Debug> fmt::Debug for RateLimitRetry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitRetry")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
