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
    limiter::SharedLimiter,
};
use crate::{BoxError, kept::Retained, replay::ReplayableBody};

/// Sends requests as their quotas allow. Made by a [`RateLimitRetryLayer`](super::RateLimitRetryLayer).
#[derive(Clone)]
pub struct RateLimitRetry<S> {
    inner: S,
    limiter: SharedLimiter,
}

impl<S> RateLimitRetry<S> {
    pub(super) fn new(inner: S, limiter: SharedLimiter) -> Self {
        Self { inner, limiter }
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
        let limiter = &self.limiter;
        let now = limiter.now();
        let mut call = limiter.begin(&(&request).into(), None, now);
        let admission = if limiter.has_deadline() {
            None
        } else {
            match limiter.try_admit(&mut call, now) {
                Ok(ticket) => {
                    let retained = Retained::of(&request, &self.inner);
                    let limiter = Arc::clone(limiter);
                    // The instance that was polled ready is the one that is called.
                    let future = self.inner.call(request);
                    return ResponseFuture::sent(future, limiter, call, ticket, retained);
                }
                Err(admission) => Some(admission),
            }
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
