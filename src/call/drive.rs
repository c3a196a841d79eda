//! The slow path: admit, become ready, authorize, send, settle; and again.

use std::{future::Future, ops::ControlFlow, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tower_service::Service;

use super::{
    copy::{NextSend, RequestCopy, Resend},
    drain::drain,
    policy::{Next, Policy, Started},
};
use crate::{BoxError, replay::ReplayableBody, sharded::Shard};

/// What comes between two attempts.
pub(super) enum Step<P: Policy, B, RB> {
    Retry(Option<Response<RB>>, Duration, RequestCopy<B>),
    Reauthenticate(Response<RB>, P::Rejection, RequestCopy<B>),
}

/// The first attempt was made on the fast path, and another one follows.
pub(super) async fn resume<P, S, B, RB>(
    policy: Arc<Shard<P>>,
    mut call: P::Call,
    service: S,
    step: Step<P, B, RB>,
) -> Result<Response<RB>, BoxError>
where
    P: Policy,
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    match between(&**policy, &mut call, step).await {
        ControlFlow::Continue(copy) => {
            drive(policy, call, None, service, NextSend::Copy(copy)).await
        }
        ControlFlow::Break(outcome) => outcome,
    }
}

/// Sends the request, as often as the policy says.
///
/// # Cancel safety
///
/// Dropping the future ends this call only: its permit is given back, and a token request in flight goes on for others.
pub(super) async fn drive<P, S, B, RB>(
    policy: Arc<Shard<P>>,
    mut call: P::Call,
    mut pending: Option<P::Pending>,
    mut service: S,
    mut send: NextSend<B>,
) -> Result<Response<RB>, BoxError>
where
    P: Policy,
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    let policy = &**policy;
    loop {
        let permit = policy.admit(&mut call, pending.take()).await?;
        let ready = in_time(policy.time_left(&call), service.ready()).await;
        ready
            .ok_or_else(|| policy.deadline_exceeded(&call, false))?
            .map_err(Into::into)?;
        let Some(started) = policy.start(&mut call, permit)? else {
            // Readiness is not kept over the wait that follows.
            service = service.clone();
            continue;
        };
        let Started {
            attempt,
            credential,
        } = started;
        let (mut request, copy) = send.into_request(policy.needs_copy(&call));
        policy.mark(&call, &mut request);
        if let Some(credential) = credential {
            policy.authorize(request.headers_mut(), credential);
        }
        let outcome = in_time(policy.time_left(&call), service.call(request)).await;
        let outcome = outcome.ok_or_else(|| policy.deadline_exceeded(&call, true))?;
        let outcome = outcome.map_err(Into::into);
        let copy = copy.filter(RequestCopy::is_intact);
        let step = match policy.on_response(&mut call, attempt, outcome, copy) {
            Next::Return(outcome) => return outcome,
            Next::Retry(response, wait, copy) => Step::Retry(response, wait, copy),
            Next::Reauthenticate(response, rejection, copy) => {
                Step::Reauthenticate(response, rejection, copy)
            }
        };
        // Boxed: calls that wait for their first attempt do not keep room for it.
        match Box::pin(between(policy, &mut call, step)).await {
            ControlFlow::Continue(copy) => send = NextSend::Copy(copy),
            ControlFlow::Break(outcome) => return outcome,
        }
    }
}

/// Waits for what the next attempt needs, or returns how the call ends.
async fn between<P, B, RB>(
    policy: &P,
    call: &mut P::Call,
    step: Step<P, B, RB>,
) -> ControlFlow<Result<Response<RB>, BoxError>, RequestCopy<B>>
where
    P: Policy,
    B: ReplayableBody + Send,
    RB: Body + Send,
{
    let (response, wait, copy) = match step {
        Step::Retry(response, wait, copy) => (response, wait, copy),
        Step::Reauthenticate(mut response, rejection, copy) => {
            let obtained = policy.reauthenticate(call, rejection, &mut response).await;
            // An upload that went on meanwhile may have passed the cap; from here on it does not.
            if !obtained || !copy.supersede() {
                return ControlFlow::Break(Ok(response));
            }
            (Some(response), Duration::ZERO, copy)
        }
    };
    // Before the body is drained: the wait is counted from the decision.
    let timer = (!wait.is_zero()).then(|| sleep(wait));
    if let Some(response) = response {
        drain(response, policy.drain_limit()).await;
    }
    if let Some(timer) = timer {
        timer.await;
    }
    ControlFlow::Continue(copy)
}

/// Ends `future` after the time that is left, if that is bounded. Without a runtime there are no timers, and nothing ends it.
pub(crate) async fn in_time<F: Future>(left: Option<Duration>, future: F) -> Option<F::Output> {
    match left {
        Some(left) if Handle::try_current().is_ok() => timeout(left, future).await.ok(),
        _ => Some(future.await),
    }
}
