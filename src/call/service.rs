//! The fast path: a request that may be sent at once is not boxed.
//!
//! A request that has to wait first takes the slow path, in [`drive`].
//!
//! | result of `begin` | allocations | copy | response inspected |
//! |---|---|---|---|
//! | `Passthrough` | none | no | no |
//! | `Ready` | one, for the copy, if the body can be copied | yes | yes |
//! | `Wait` | one, for the boxed call; further ones as it proceeds | made by [`drive`] | yes |
//! | error | the boxed error and its future | no | no |

use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    copy::{NextSend, StoredCopy},
    drive::drive,
    future::{InFlight, ResponseFuture},
    policy::{Begin, Policy, Started},
};
use crate::{BoxError, replay::ReplayableBody, sharded::Sharded};

/// Sends a request through `inner`, which is ready, as the policy of this thread decides.
///
/// The caller must have polled `inner` ready, and must do so again before the next call, as tower's contract demands. A
/// request that is not sent leaves `inner` ready; one that waits replaces it by a clone, which is not.
#[inline]
pub(crate) fn call<P, S, B, RB>(
    policies: &Sharded<P>,
    inner: &mut S,
    mut request: Request<B>,
) -> ResponseFuture<P, S, B>
where
    P: Policy,
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayableBody + Send + 'static,
    RB: Body + Send + 'static,
{
    let policy = policies.local();
    let (call, started) = match policy.begin(&mut request) {
        Ok(Begin::Ready(call, started)) => (call, started),
        Ok(Begin::Passthrough) => {
            // The policy does not see the response, and nothing is sent again.
            let in_flight = InFlight::new(Arc::clone(policy), None, None);
            return ResponseFuture::fast(inner.call(request), in_flight);
        }
        Ok(Begin::Wait(call, pending)) => {
            let service = release_readiness(inner);
            let send = NextSend::Original(request);
            let policy = Arc::clone(policy);
            return ResponseFuture::slow(drive(policy, call, pending, service, send));
        }
        Err(error) => return ResponseFuture::not_sent(error),
    };
    // The copy is made before the credential is added: another attempt may use another one.
    let needs_copy = policy.needs_copy(&call);
    let copy = needs_copy
        .then(|| StoredCopy::of(&request, inner))
        .flatten();
    let Started {
        attempt,
        credential,
    } = started;
    policy.attach(&attempt, &mut request);
    if let Some(credential) = credential {
        policy.authorize(request.headers_mut(), credential);
    }
    let policy = Arc::clone(policy);
    // The instance that was polled ready is called. The copy holds a clone, which is not ready.
    let future = inner.call(request);
    ResponseFuture::fast(future, InFlight::new(policy, Some((call, attempt)), copy))
}

/// Returns a clone of `service` for later, and replaces `service` by another clone.
///
/// The readiness of the original is released: a permit that is held while waiting could be the one that another request
/// needs.
fn release_readiness<S: Clone>(service: &mut S) -> S {
    let fresh = service.clone();
    // Clones are not ready (see the docs of `tower::Service`): dropping the original releases its permit.
    drop(std::mem::replace(service, fresh));
    service.clone()
}
