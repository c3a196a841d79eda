//! The future of a response: polled by hand in the ordinary case, one linear `async fn` in the others.

use std::{
    fmt,
    future::{Future, ready},
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::ServiceExt;
use tower_service::Service;

use super::protocol::{Attempt, Protocol, Spot, Then};
use crate::{
    BoxError,
    client_credentials::Sent,
    kept::{Kept, Outgoing, Resendable, Retained},
    rate_limit_retry::{Admission, Call, Learnt, without_copy},
    replay::ReplayableBody,
    sharded::Shard,
    two_speeds::{Slow, TwoSpeeds, Watch},
};

pin_project! {
    /// The future of an [`M2m`](super::M2m) service's response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends this request only: its place in the queue is given up, a fetch goes on for the others.
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
    ///     stack::{M2m, ResponseFuture},
    /// };
    ///
    /// fn get<S, RB>(client: &mut M2m<S>) -> ResponseFuture<S, ()>
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
    pub(super) spot: Arc<Shard<Spot>>,
    /// Taken at the end of the attempt.
    pub(super) attempt: Option<(Call, Attempt)>,
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

    /// Not sent.
    pub(crate) fn refused(error: BoxError) -> Self
    where
        S::Response: Send + 'static,
    {
        Self::slow(ready(Err(error)))
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
        let under_way = self.attempt.as_ref();
        under_way.is_some_and(|(call, attempt)| self.spot.protocol.is_over(call, attempt, answer))
    }

    fn conclude(
        &mut self,
        outcome: Result<Response<RB>, BoxError>,
    ) -> ControlFlow<Result<Response<RB>, BoxError>, Slow<Response<RB>>> {
        let protocol = &self.spot.protocol;
        let Some((mut call, attempt)) = self.attempt.take() else {
            return ControlFlow::Break(outcome);
        };
        let origin = attempt.sent.map(|sent| sent.origin);
        let retained = self.retained.take().filter(|r| r.is_intact());
        let (service, then) = match protocol.conclude(&mut call, attempt, outcome, retained) {
            Then::Return(outcome) => return ControlFlow::Break(outcome),
            Then::Again(response, wait, retained) => match retained.into_kept() {
                Some((service, kept)) => (service, Then::Again(response, wait, kept)),
                None => return ControlFlow::Break(without_copy(response)),
            },
            Then::Replace(response, refusal, retained) => match retained.into_kept() {
                Some((service, kept)) => (service, Then::Replace(response, refusal, kept)),
                None => return ControlFlow::Break(Ok(response)),
            },
        };
        let protocol = Arc::clone(protocol);
        ControlFlow::Continue(Box::pin(resume(protocol, call, service, then, origin)))
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

/// What the next attempt is sent from, and how.
pub(super) struct Unsent<B> {
    pub(super) outgoing: Outgoing<B>,
    /// Where the token goes; `None` without our token.
    pub(super) origin: Option<usize>,
    /// The attempt before was answered 401.
    pub(super) replay: bool,
}

/// The first attempt is over, and another one follows.
async fn resume<S, B, RB>(
    protocol: Arc<Protocol>,
    call: Call,
    service: S,
    then: Then<RB, Kept<B>>,
    origin: Option<usize>,
) -> Result<Response<RB>, BoxError>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    match prepare(&protocol, &call, then, origin).await {
        ControlFlow::Continue(unsent) => drive(protocol, call, None, service, unsent).await,
        ControlFlow::Break(outcome) => outcome,
    }
}

/// Get a token, wait for a ticket, become ready, send, look at the answer; and again.
pub(super) async fn drive<S, B, RB>(
    protocol: Arc<Protocol>,
    mut call: Call,
    mut admission: Option<Admission>,
    mut service: S,
    mut unsent: Unsent<B>,
) -> Result<Response<RB>, BoxError>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    let Protocol { limiter, exchange } = &*protocol;
    loop {
        // The token before the ticket: who waits for a token keeps nobody else waiting.
        if unsent.origin.is_some()
            && exchange
                .tokens
                .warm(limiter.by_tokio(limiter.now()))
                .is_none()
        {
            drop(admission.take());
            limiter
                .in_time(&call, false, exchange.tokens.obtain())
                .await??;
        }
        let ticket = limiter.admit(&mut call, admission.take()).await?;
        limiter
            .in_time(&call, false, service.ready())
            .await?
            .map_err(Into::into)?;
        let now = limiter.now();
        let by_tokio = limiter.by_tokio(now);
        let token = unsent.origin.and_then(|_| exchange.tokens.warm(by_tokio));
        let token = token.map(|(token, _)| token);
        if limiter.is_overtaken(&mut call, &ticket) || token.is_some() != unsent.origin.is_some() {
            // Another hold has begun, or the wait has outlived the token.
            ticket.settle(Learnt::NotSent, now);
            // Readiness is not kept over the wait that follows.
            service = service.clone();
            continue;
        }
        if let Err(late) = limiter.check_deadline(&call) {
            ticket.settle(Learnt::NotSent, limiter.now());
            return Err(late);
        }
        let (mut request, kept) = unsent.outgoing.into_request();
        call.mark(&mut request);
        let sent = token.zip(unsent.origin).map(|(token, origin)| {
            let header = token.header.clone();
            exchange.authorize(request.headers_mut(), header);
            let replay = unsent.replay;
            let sent = Sent::new(token.identity, origin, by_tokio);
            Sent { replay, ..sent }
        });
        let attempt = Attempt { ticket, sent };
        let outcome = limiter.in_time(&call, true, service.call(request)).await?;
        let outcome = outcome.map_err(Into::into);
        let kept = kept.filter(Kept::is_intact);
        let then = protocol.conclude(&mut call, attempt, outcome, kept);
        match prepare(&protocol, &call, then, unsent.origin).await {
            ControlFlow::Continue(next) => unsent = next,
            ControlFlow::Break(outcome) => return outcome,
        }
    }
}

/// Waits for what another attempt needs, or says how the call ends.
async fn prepare<B, RB>(
    protocol: &Protocol,
    call: &Call,
    then: Then<RB, Kept<B>>,
    origin: Option<usize>,
) -> ControlFlow<Result<Response<RB>, BoxError>, Unsent<B>>
where
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    let (kept, replay) = match then {
        Then::Return(outcome) => return ControlFlow::Break(outcome),
        Then::Again(response, wait, kept) => {
            protocol.limiter.drain_and_wait(response, wait).await;
            (kept, false)
        }
        Then::Replace(response, refusal, kept) => {
            let limiter = &protocol.limiter;
            let token = protocol.exchange.replacement(refusal);
            let token = limiter.in_time(call, false, token).await;
            // Without another token, without time to use it, or if an upload that went on meanwhile has passed the cap, the
            // server's 401 is the answer.
            let goes = matches!(token, Ok(Some(_)))
                && limiter.can_drain(call, &response)
                && kept.supersede();
            if !goes {
                return ControlFlow::Break(Ok(response));
            }
            limiter.drain_and_wait(Some(response), Duration::ZERO).await;
            (kept, true)
        }
    };
    ControlFlow::Continue(Unsent {
        outgoing: Outgoing::Kept(kept),
        origin,
        replay,
    })
}
