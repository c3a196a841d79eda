//! The future of a response: polled by hand in the ordinary case, one linear `async fn` in the others.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::sleep;
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
    drain::drain,
    kept::{Kept, Outgoing, Retained},
    replay::ReplayableBody,
    sharded::Place,
};

pin_project! {
    /// The future of a [`RateLimitRetry`](super::RateLimitRetry) service's response.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends this request only: its place in the queue is given up, and others go on.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, S::Future, S::Response>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, F, R> {
        /// The first attempt is under way. The ordinary case.
        Sent {
            #[pin] future: F,
            passes: Arc<Place<Passes>>,
            attempt: Option<(Call, Ticket)>,
            retained: Option<Retained<S, B>>,
        },
        /// Waiting, or sending again.
        Slow { future: Slow<R> },
    }
}

type Slow<R> = Pin<Box<dyn Future<Output = Result<R, BoxError>> + Send>>;

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn sent(
        future: S::Future,
        passes: Arc<Place<Passes>>,
        call: Call,
        ticket: Ticket,
        retained: Option<Retained<S, B>>,
    ) -> Self {
        let state = State::Sent {
            future,
            passes,
            attempt: Some((call, ticket)),
            retained,
        };
        Self { state }
    }

    pub(super) fn slow(
        future: impl Future<Output = Result<S::Response, BoxError>> + Send + 'static,
    ) -> Self {
        let future: Slow<S::Response> = Box::pin(future);
        let state = State::Slow { future };
        Self { state }
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
        let mut state = self.project().state;
        loop {
            let slow: Slow<Response<RB>> = match state.as_mut().project() {
                StateProj::Slow { future } => return future.as_mut().poll(cx),
                StateProj::Sent {
                    future,
                    passes,
                    attempt,
                    retained,
                } => {
                    let limiter = &passes.limiter;
                    let outcome = ready!(future.poll(cx));
                    // Looked at where it is: every response is moved once less.
                    if let (Ok(response), Some((call, ticket))) = (&outcome, &*attempt)
                        && limiter.is_over(call, ticket, response)
                    {
                        return Poll::Ready(outcome.map_err(Into::into));
                    }
                    let outcome = outcome.map_err(Into::into);
                    let Some((mut call, ticket)) = attempt.take() else {
                        return Poll::Ready(outcome);
                    };
                    let retained = retained.take().filter(|r| r.is_intact());
                    let next = limiter.conclude(&mut call, ticket, outcome, retained.is_some());
                    let (refused, wait) = match next {
                        Next::Return(outcome) => return Poll::Ready(outcome),
                        Next::Again(refused, wait) => (refused, wait),
                    };
                    match retained.and_then(Retained::into_kept) {
                        Some((service, kept)) => {
                            let limiter = Arc::clone(limiter);
                            Box::pin(async move {
                                if let Some(response) = refused {
                                    drain(response).await;
                                }
                                if !wait.is_zero() {
                                    sleep(wait).await;
                                }
                                send(limiter, call, None, service, Outgoing::Kept(kept)).await
                            })
                        }
                        // Not decided without a copy.
                        None => {
                            let lost = || POLLED_AGAIN.into();
                            return Poll::Ready(refused.ok_or_else(lost));
                        }
                    }
                }
            };
            state.set(State::Slow { future: slow });
        }
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
        if limiter.is_overtaken(&ticket) {
            ticket.settle(Learnt::NotSent, limiter.now());
            // Readiness is not kept over the wait that follows.
            service = service.clone();
            continue;
        }
        let (mut request, kept) = next.into_request();
        call.mark(&mut request);
        let outcome = limiter.in_time(&call, true, service.call(request)).await?;
        let outcome = outcome.map_err(Into::into);
        let kept = kept.filter(Kept::is_intact);
        match (
            limiter.conclude(&mut call, ticket, outcome, kept.is_some()),
            kept,
        ) {
            (Next::Return(outcome), _) => return outcome,
            (Next::Again(response, wait), Some(kept)) => {
                if let Some(response) = response {
                    drain(response).await;
                }
                if !wait.is_zero() {
                    sleep(wait).await;
                }
                next = Outgoing::Kept(kept);
            }
            // Not decided without a copy.
            (Next::Again(response, _), None) => {
                return response.ok_or_else(|| POLLED_AGAIN.into());
            }
        }
    }
}

const POLLED_AGAIN: &str = "response future polled after it was ready";
