//! Response future: polled in place on the fast path, boxed on the slow path.
//!
//! Nearly all calls end with their first attempt, without an allocation for the future. If another attempt follows, the
//! rest of the call is boxed and replaces the first attempt in the same future.
//!
//! | state | on | next |
//! |---|---|---|
//! | `Fast` | a final response | completes, with the response unchanged |
//! | `Fast` | any other outcome that the policy returns | completes |
//! | `Fast` | a retry or a replay | `Slow`, with the rest of the call boxed |
//! | `Fast` | the call's deadline | `Slow`, with the error |
//! | `Slow` | the outcome of the call | completes |
//!
//! A call that has to wait before its first attempt starts in `Slow`. There is no way back to `Fast`.

use std::{
    future::{Future, ready},
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    copy::StoredCopy,
    drive::{Step, resume},
    policy::{Next, Policy},
};
use crate::{BoxError, boxed::BoxFuture, replay::ReplayableBody, sharded::Shard};

pin_project! {
    /// Response future of a call by a policy.
    pub(crate) struct ResponseFuture<P, S, B>
    where
        P: Policy,
        S: Service<Request<B>>,
    {
        // The current path. Changes at most once, from fast to slow.
        #[pin]
        state: State<S::Future, InFlight<P, S, B>, S::Response>,
    }
}

pin_project! {
    /// Path of a call.
    #[project = Project]
    enum State<F, I, R> {
        // The first attempt is in flight. The common case.
        Fast { #[pin] future: F, in_flight: I },
        // The call waits, or sends again.
        Slow { future: BoxFuture<'static, Result<R, BoxError>> },
    }
}

/// State of a call while its first attempt is in flight. Each request holds one: it is kept small.
pub(crate) struct InFlight<P: Policy, S, B> {
    /// Policy of the thread that started the call.
    policy: Arc<Shard<P>>,
    /// Taken when the attempt ends. `None` from the start if the policy does not apply to the request.
    attempt: Option<(P::Call, P::Attempt)>,
    /// Copy for another attempt, if the request can be sent again.
    copy: Option<StoredCopy<S, B>>,
}

impl<P: Policy, S, B> InFlight<P, S, B> {
    /// Collects the state of an attempt that is about to be sent.
    pub(super) fn new(
        policy: Arc<Shard<P>>,
        attempt: Option<(P::Call, P::Attempt)>,
        copy: Option<StoredCopy<S, B>>,
    ) -> Self {
        Self {
            policy,
            attempt,
            copy,
        }
    }
}

impl<P, S, B> ResponseFuture<P, S, B>
where
    P: Policy,
    S: Service<Request<B>>,
{
    /// Creates the future of a call whose first attempt is in flight.
    pub(super) fn fast(future: S::Future, in_flight: InFlight<P, S, B>) -> Self {
        let state = State::Fast { future, in_flight };
        Self { state }
    }

    /// Creates the future of a call that waits before its first attempt.
    ///
    /// Boxed at once: a call that waits is rare, and its future is much larger than that of an attempt.
    pub(super) fn slow(
        future: impl Future<Output = Result<S::Response, BoxError>> + Send + 'static,
    ) -> Self {
        let future = Box::pin(future);
        let state = State::Slow { future };
        Self { state }
    }

    /// Creates a future that returns `error`, for a request that is not sent.
    pub(crate) fn not_sent(error: BoxError) -> Self
    where
        S::Response: Send + 'static,
    {
        Self::slow(ready(Err(error)))
    }
}

impl<P, S, B, RB> Future for ResponseFuture<P, S, B>
where
    P: Policy,
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    type Output = Result<Response<RB>, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let slow = match state.as_mut().project() {
                Project::Slow { future } => return future.as_mut().poll(cx),
                Project::Fast { future, in_flight } => {
                    let Poll::Ready(outcome) = future.poll(cx) else {
                        // The attempt is dropped, as by every timeout.
                        let expired = ready!(in_flight.expire(cx));
                        state.set(State::Slow { future: expired });
                        continue;
                    };
                    // Checked in place, which saves one move of the response.
                    if let Ok(response) = &outcome
                        && in_flight.finish(response)
                    {
                        return Poll::Ready(outcome.map_err(Into::into));
                    }
                    match in_flight.end(outcome.map_err(Into::into)) {
                        ControlFlow::Break(outcome) => return Poll::Ready(outcome),
                        ControlFlow::Continue(slow) => slow,
                    }
                }
            };
            // Drops the future of the first attempt, which has completed.
            state.set(State::Slow { future: slow });
        }
    }
}

impl<P, S, B, RB> InFlight<P, S, B>
where
    P: Policy,
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    /// Returns whether the response is returned unchanged, and records it if so.
    ///
    /// Also `true` for a request that the policy does not apply to: its response is never inspected.
    #[inline]
    fn finish(&mut self, response: &Response<RB>) -> bool {
        let Some((call, attempt)) = &mut self.attempt else {
            return true;
        };
        self.policy.finish(call, attempt, response)
    }

    /// Returns the error of a call whose deadline has passed, as soon as it has.
    #[inline(never)]
    fn expire(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<BoxFuture<'static, Result<Response<RB>, BoxError>>> {
        let Some((call, _)) = &mut self.attempt else {
            return Poll::Pending;
        };
        ready!(self.policy.poll_deadline(call, cx));
        let error = self.policy.deadline_exceeded(call, true);
        Poll::Ready(Box::pin(ready(Err(error))))
    }

    /// Returns the outcome of the call, or the future of its next attempt.
    fn end(
        &mut self,
        outcome: Result<Response<RB>, BoxError>,
    ) -> ControlFlow<
        Result<Response<RB>, BoxError>,
        BoxFuture<'static, Result<Response<RB>, BoxError>>,
    > {
        // The policy does not apply to this request.
        let Some((mut call, attempt)) = self.attempt.take() else {
            return ControlFlow::Break(outcome);
        };
        let policy = &self.policy;
        // A body that was read past its size limit cannot be sent again.
        let copy = self.copy.take().filter(StoredCopy::is_intact);
        let (service, step) = match policy.on_response(&mut call, attempt, outcome, copy) {
            Next::Return(outcome) => return ControlFlow::Break(outcome),
            Next::Retry(response, wait, copy) => match copy.into_copy() {
                Some((service, copy)) => (service, Step::Retry(response, wait, copy)),
                None => return ControlFlow::Break(copy_lost(response)),
            },
            Next::Reauthenticate(response, rejection, copy) => match copy.into_copy() {
                Some((service, copy)) => (service, Step::Reauthenticate(response, rejection, copy)),
                None => return ControlFlow::Break(Ok(response)),
            },
        };
        let policy = Arc::clone(policy);
        ControlFlow::Continue(Box::pin(resume(policy, call, service, step)))
    }
}

/// Returns the response if a copy cannot be decoded, which does not happen.
fn copy_lost<R>(response: Option<R>) -> Result<R, BoxError> {
    response.ok_or_else(|| "the copy of the request was lost".into())
}
