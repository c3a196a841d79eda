//! The slow path: the loop over the attempts of a call. Admits the call, waits for readiness, authorizes, sends, and
//! decides.
//!
//! One iteration of the loop:
//!
//! | step | waits for | holds meanwhile | on error or deadline |
//! |---|---|---|---|
//! | `Policy::admit` | a token, a permit | nothing of the inner service | the error; nothing was sent |
//! | `Policy::prove` | a signature, if the attempt needs one | the permit | the error; nothing was sent |
//! | `Service::ready` | the inner service | the permit | the permit is dropped, which releases it |
//! | `Policy::start` | | readiness and the permit | `None` releases both and starts again |
//! | `Service::call` | the response | the attempt | the outcome of the attempt counts as unknown |
//! | `between` | another token, the drained body, the back-off | the copy | the response, without another token |
//!
//! No step waits for a token, a permit or a signature while it holds readiness: an instance of tower's
//! `ConcurrencyLimit` or `Buffer` that is ready occupies a slot that other requests need. The number of iterations is
//! limited by the policy, not here.

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

/// Work between two attempts.
pub(super) enum Step<P: Policy, B, RB> {
    /// Drain the response, if there is one, and wait.
    Retry(Option<Response<RB>>, Duration, RequestCopy<B>),
    /// Obtain another credential, then drain the response.
    Reauthenticate(Response<RB>, P::Rejection, RequestCopy<B>),
}

/// Continues a call whose first attempt was made on the fast path.
///
/// # Errors
///
/// The error of the last attempt, or of the policy.
///
/// # Cancel safety
///
/// As for [`drive`].
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

/// Sends the request, and repeats it as the policy decides. `pending` is what [`Policy::begin`] found out.
///
/// # Errors
///
/// The error of the last attempt, or of the policy.
///
/// # Cancel safety
///
/// Dropping the future ends only this call: its permit is released, and a token request in flight continues for others.
///
/// The deadline covers every wait, and each wait is limited to the time that is left at its start. A deadline that
/// passes while the request is in flight drops the attempt, so its effect on the server is unknown.
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
        // The permit before readiness: a call that waits for its permit must not occupy the inner service.
        let permit = policy.admit(&mut call, pending.take()).await?;
        let (method, uri) = send.target();
        let proof = match policy.prove(&mut call, method, uri) {
            None => None,
            Some(signing) => {
                let signed = with_deadline(policy.time_left(&call), signing).await;
                Some(signed.ok_or_else(|| policy.deadline_exceeded(&call, false))??)
            }
        };
        let ready = with_deadline(policy.time_left(&call), service.ready()).await;
        ready
            .ok_or_else(|| policy.deadline_exceeded(&call, false))?
            .map_err(Into::into)?;
        let Some(started) = policy.start(&mut call, permit, proof.as_ref())? else {
            // The wait that follows must not hold readiness: a clone is not ready.
            service = service.clone();
            continue;
        };
        let Started {
            attempt,
            credential,
        } = started;
        // The copy is made before the credential is added: another attempt may use another one.
        let (mut request, copy) = send.into_request(policy.needs_copy(&call));
        policy.mark(&call, &mut request);
        policy.attach(&attempt, &mut request);
        if let Some(credential) = credential {
            policy.authorize(request.headers_mut(), credential);
        }
        if let Some(proof) = proof {
            policy.add_proof(request.headers_mut(), proof);
        }
        let outcome = with_deadline(policy.time_left(&call), service.call(request)).await;
        let outcome = outcome.ok_or_else(|| policy.deadline_exceeded(&call, true))?;
        let outcome = outcome.map_err(Into::into);
        // Checked after the attempt: a body that was read past the size limit cannot be sent again.
        let copy = copy.filter(RequestCopy::is_intact);
        let step = match policy.on_response(&mut call, attempt, outcome, copy) {
            Next::Return(outcome) => return outcome,
            Next::Retry(response, wait, copy) => Step::Retry(response, wait, copy),
            Next::Reauthenticate(response, rejection, copy) => {
                Step::Reauthenticate(response, rejection, copy)
            }
        };
        // Boxed, so that calls that wait for their first attempt reserve no memory for it.
        match Box::pin(between(policy, &mut call, step)).await {
            ControlFlow::Continue(copy) => send = NextSend::Copy(copy),
            ControlFlow::Break(outcome) => return outcome,
        }
    }
}

/// Does the work before the next attempt. Returns the copy to send, or the outcome of the call.
///
/// # Cancel safety
///
/// Dropping the future drops the response and the copy. A token request in flight continues for others.
///
/// The wait of a retry is counted from the decision and runs while the body is drained: draining does not add to it
/// unless it takes longer. The response of a replay is drained only after the other token has arrived, because it is
/// returned if there is none.
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
            // An upload that continued meanwhile may have exceeded the size limit. From here on it cannot.
            if !obtained || !copy.supersede() {
                return ControlFlow::Break(Ok(response));
            }
            (Some(response), Duration::ZERO, copy)
        }
    };
    // Created before the body is drained: the wait is counted from the decision.
    let timer = (!wait.is_zero()).then(|| sleep(wait));
    if let Some(response) = response {
        drain(response, policy.drain_limit()).await;
    }
    if let Some(timer) = timer {
        timer.await;
    }
    ControlFlow::Continue(copy)
}

/// Runs `future` for at most the time that is `left`. `None` if it takes longer.
///
/// Without a limit, or without a runtime and its timers, it runs to its end.
///
/// # Cancel safety
///
/// That of `future`, which is dropped when its time is over.
///
/// A limit of zero still polls `future` once: a future that is ready at once succeeds.
pub(crate) async fn with_deadline<F: Future>(
    left: Option<Duration>,
    future: F,
) -> Option<F::Output> {
    match left {
        Some(left) if Handle::try_current().is_ok() => timeout(left, future).await.ok(),
        _ => Some(future.await),
    }
}
