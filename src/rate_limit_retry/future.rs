//! The future of a response: polled by hand in the ordinary case, one linear `async fn` in the others.

use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::ServiceExt;
use tower_service::Service;

use super::{
    gate::{Admission, Ticket},
    limiter::{Call, Next, SharedLimiter},
    pass::Passes,
    quota::Learnt,
};
use crate::{
    BoxError,
    kept::{Kept, Outgoing, Retained},
    replay::ReplayableBody,
    sharded::Shard,
    two_speeds::{Slow, TwoSpeeds, Watch},
};

pin_project! {
    /// The future of a [`RateLimitRetry`](super::RateLimitRetry) service's response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends this request only: its place in the queue is given up, and others go on.
    ///
    /// # Examples
    ///
    /// To be named by a service of yours that returns it.
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
    ///     S: Service<Request<()>, Response = http::Response<RB>, Future: Send> + Clone + Send + 'static,
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
        speeds: TwoSpeeds<S::Future, UnderWay<S, B>, S::Response>,
    }
}

/// What is kept of a request while its first attempt is under way.
pub(super) struct UnderWay<S, B> {
    pub(super) passes: Arc<Shard<Passes>>,
    /// Taken at the end of the attempt.
    pub(super) attempt: Option<(Call, Ticket)>,
    pub(super) retained: Option<Retained<S, B>>,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn fast(future: S::Future, watched: UnderWay<S, B>) -> Self {
        let speeds = TwoSpeeds::fast(future, watched);
        Self { speeds }
    }

    pub(super) fn slow(
        future: impl Future<Output = Result<S::Response, BoxError>> + Send + 'static,
    ) -> Self {
        let speeds = TwoSpeeds::slow(future);
        Self { speeds }
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
        self.project().speeds.poll(cx)
    }
}

impl<S, B, RB> Watch<Response<RB>> for UnderWay<S, B>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    #[inline]
    fn is_over(&self, answer: &Response<RB>) -> bool {
        let attempt = self.attempt.as_ref();
        attempt.is_some_and(|(call, ticket)| self.passes.limiter.is_over(call, ticket, answer))
    }

    fn conclude(
        &mut self,
        outcome: Result<Response<RB>, BoxError>,
    ) -> ControlFlow<Result<Response<RB>, BoxError>, Slow<Response<RB>>> {
        let limiter = &self.passes.limiter;
        let Some((mut call, ticket)) = self.attempt.take() else {
            return ControlFlow::Break(outcome);
        };
        let mut retained = self.retained.take().filter(|r| r.is_intact());
        let next = limiter.conclude(&mut call, ticket, outcome, &mut retained);
        let (refused, wait, retained) = match next {
            Next::Return(outcome) => return ControlFlow::Break(outcome),
            Next::Again(refused, wait, retained) => (refused, wait, retained),
        };
        let Some((service, kept)) = retained.into_kept() else {
            return ControlFlow::Break(without_copy(refused));
        };
        let limiter = Arc::clone(limiter);
        ControlFlow::Continue(Box::pin(async move {
            limiter.drain_and_wait(refused, wait).await;
            send(limiter, call, None, service, Outgoing::Kept(kept)).await
        }))
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

/// The first attempt has to wait, or has a deadline.
pub(super) async fn send_when_allowed<S, B, RB>(
    limiter: SharedLimiter,
    call: Call,
    admission: Option<Admission>,
    service: S,
    request: Request<B>,
) -> Result<Response<RB>, BoxError>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    send(limiter, call, admission, service, Outgoing::First(request)).await
}

/// Wait for a ticket, become ready, send, look at the answer; and again.
async fn send<S, B, RB>(
    limiter: SharedLimiter,
    mut call: Call,
    mut admission: Option<Admission>,
    mut service: S,
    mut next: Outgoing<B>,
) -> Result<Response<RB>, BoxError>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    loop {
        let ticket = limiter.admit(&mut call, admission.take()).await?;
        limiter
            .in_time(&call, false, service.ready())
            .await?
            .map_err(Into::into)?;
        if limiter.is_overtaken(&mut call, &ticket) {
            ticket.settle(Learnt::NotSent, limiter.now());
            // Readiness is not kept over the wait that follows.
            service = service.clone();
            continue;
        }
        if let Err(late) = limiter.check_deadline(&call) {
            ticket.settle(Learnt::NotSent, limiter.now());
            return Err(late);
        }
        let (mut request, kept) = next.into_request();
        call.mark(&mut request);
        let outcome = limiter.in_time(&call, true, service.call(request)).await?;
        let outcome = outcome.map_err(Into::into);
        let mut kept = kept.filter(Kept::is_intact);
        match limiter.conclude(&mut call, ticket, outcome, &mut kept) {
            Next::Return(outcome) => return outcome,
            Next::Again(response, wait, kept) => {
                limiter.drain_and_wait(response, wait).await;
                next = Outgoing::Kept(kept);
            }
        }
    }
}

/// What is left to return if a copy cannot be read, which it always can.
pub(crate) fn without_copy<R>(refused: Option<R>) -> Result<R, BoxError> {
    refused.ok_or_else(|| "the copy of the request was lost".into())
}
