//! Trait for what a layer adds to the request path.
//!
//! The methods are called in this order: `begin`; on the slow path `admit`, `prove` and `start`; `needs_copy`, `mark`,
//! `attach`, `authorize` and `add_proof` before the request is sent; `finish`, and `on_response` unless it has returned
//! `true`, after it. `reauthenticate` follows if `on_response` returns [`Next::Reauthenticate`]. See the
//! [module](super) for the whole path.
//!
//! | method | called | may wait | side effects |
//! |---|---|---|---|
//! | `begin` | once per call | no | may change the request; takes a permit if one is free |
//! | `needs_copy` | before each attempt | no | none |
//! | `admit` | before each attempt of the slow path | yes | takes a permit, may start a token request |
//! | `prove` | after `admit` | yes | may sign a proof |
//! | `start` | when the inner service is ready | no | turns the permit into an attempt, or returns it |
//! | `mark`, `attach`, `authorize` | before each attempt, after the copy | no | change the request |
//! | `finish` | after the first attempt of the fast path | no | records a response that needs no decision |
//! | `on_response` | if `finish` returned `false`, and after every other attempt | no | records the outcome, may report events |
//! | `reauthenticate` | once per call at most | yes | invalidates the token, waits for another |
//!
//! | policy | `Call` | `Permit` | `Proof` | `Rejection` |
//! |---|---|---|---|---|
//! | token | destination and replay state | none: a token is not used up | of possession, for a token that is bound to a key | the rejected token and its challenge |
//! | limits | partitions, attempts, deadline | a permit of the gate | none | none: the limits never replay |
//! | both ([`stack`](crate::stack)) | both of the above | a permit of the gate | as for the token | the rejected token and its challenge |

use std::{
    future::Future,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::Body;

use super::copy::Resend;
use crate::{BoxError, boxed::BoxFuture};

/// Decisions of a layer about a request, at each point of its path. Each thread has its own value.
///
/// Methods are generic over the bodies, so that a policy is one type whatever is sent. They run on the task of the
/// caller.
pub(crate) trait Policy: Send + Sync + 'static {
    /// State of one call, over all its attempts.
    type Call: Send;
    /// Result of [`begin`](Self::begin) about what [`admit`](Self::admit) has to wait for.
    type Pending: Send;
    /// Result of [`admit`](Self::admit). Dropping it releases it.
    type Permit: Send;
    /// What is signed for one attempt. Never used for another one.
    type Proof: Send;
    /// One attempt in flight. If it is dropped, its outcome counts as unknown.
    type Attempt: Send;
    /// A response that rejects the credential of its request.
    type Rejection: Send;

    /// Begins a call: decides whether the request may be sent, and whether at once. Never waits.
    ///
    /// # Errors
    ///
    /// The request must not be sent.
    fn begin<B>(&self, request: &mut Request<B>) -> Result<Begin<Self>, BoxError>;

    /// Returns whether a copy of the request may be needed after the next attempt.
    fn needs_copy(&self, call: &Self::Call) -> bool;

    /// Waits until the call may be sent, apart from the readiness of the inner service.
    ///
    /// # Errors
    ///
    /// The request must not be sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases what was obtained.
    fn admit(
        &self,
        call: &mut Self::Call,
        pending: Option<Self::Pending>,
    ) -> impl Future<Output = Result<Self::Permit, BoxError>> + Send;

    /// Signs a proof for the next attempt of the slow path. `None` if it needs none. Default: `None`.
    ///
    /// Called after [`admit`](Self::admit), so that the credential is known, and before the inner service is polled
    /// ready, because a signer may be slow. A policy without proofs costs this call only.
    ///
    /// # Errors
    ///
    /// The future fails if the request must not be sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the proof, which is not sent.
    fn prove(
        &self,
        _call: &mut Self::Call,
        _method: &Method,
        _uri: &Uri,
    ) -> Option<BoxFuture<'static, Result<Self::Proof, BoxError>>> {
        None
    }

    /// Starts an attempt, once the inner service is ready. `None` if what was waited for is no longer valid, or `proof`
    /// does not belong to the credential.
    ///
    /// # Errors
    ///
    /// The request must not be sent any more.
    ///
    /// A token may have expired and a hold may have begun while the inner service became ready. `None` returns the
    /// permit, and the call is admitted again.
    fn start(
        &self,
        call: &mut Self::Call,
        permit: Self::Permit,
        proof: Option<&Self::Proof>,
    ) -> Result<Option<Started<Self>>, BoxError>;

    /// Adds the credential to the request. Default: does nothing.
    fn authorize(&self, _headers: &mut HeaderMap, _credential: HeaderValue) {}

    /// Adds the proof to the request. Default: does nothing.
    fn add_proof(&self, _headers: &mut HeaderMap, _proof: Self::Proof) {}

    /// Marks an attempt that is not the first one, for inner layers. Default: does nothing.
    fn mark<B>(&self, _call: &Self::Call, _request: &mut Request<B>) {}

    /// Adds the handle by which layers below report about an attempt. Default: does nothing.
    ///
    /// Called after the copy is made, so that the copy does not contain the handle.
    fn attach<B>(&self, _attempt: &Self::Attempt, _request: &mut Request<B>) {}

    /// Ends an attempt whose response is returned unchanged, as nearly all are: records it and returns `true`.
    ///
    /// Otherwise it has no effect, and [`on_response`](Self::on_response) follows.
    fn finish<RB>(
        &self,
        call: &Self::Call,
        attempt: &mut Self::Attempt,
        response: &Response<RB>,
    ) -> bool;

    /// Records the outcome of an attempt and decides what follows. `copy` is `None` if the request cannot be sent
    /// again.
    fn on_response<RB: Body, C: Resend>(
        &self,
        call: &mut Self::Call,
        attempt: Self::Attempt,
        outcome: Result<Response<RB>, BoxError>,
        copy: Option<C>,
    ) -> Next<Self, RB, C>;

    /// Obtains another credential. Returns `true` if there is one and the request may be sent with it once `response`
    /// is drained.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends only this call. A token request in flight continues for others.
    fn reauthenticate<RB: Body + Send>(
        &self,
        call: &mut Self::Call,
        rejection: Self::Rejection,
        response: &mut Response<RB>,
    ) -> impl Future<Output = bool> + Send;

    /// Returns the time left until the call's deadline. Default: `None`, no deadline.
    fn time_left(&self, _call: &Self::Call) -> Option<Duration> {
        None
    }

    /// Polls the timer of the call's deadline while the attempt of the fast path is in flight. Default: pending, no
    /// deadline.
    fn poll_deadline(&self, _call: &mut Self::Call, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Creates the error of a call whose deadline has passed while the request was `in_flight`, or before it was sent.
    fn deadline_exceeded(&self, _call: &Self::Call, _in_flight: bool) -> BoxError {
        "deadline exceeded".into()
    }

    /// Upper bound on the time that draining a response takes. Default: 500 ms.
    fn drain_limit(&self) -> Duration {
        super::drain::LIMIT
    }
}

/// Result of [`Policy::begin`].
pub(crate) enum Begin<P: Policy + ?Sized> {
    /// The policy does not apply to this request, which is sent unchanged.
    Passthrough,
    /// The request is sent at once, on the fast path.
    Ready(P::Call, Started<P>),
    /// The call waits first, on the slow path.
    Wait(P::Call, Option<P::Pending>),
}

/// An attempt, and the credential that it is sent with.
pub(crate) struct Started<P: Policy + ?Sized> {
    /// The attempt.
    pub(crate) attempt: P::Attempt,
    /// Value for [`Policy::authorize`]; `None` sends the request without a credential.
    pub(crate) credential: Option<HeaderValue>,
}

/// Action after an attempt. `C` is the copy to send again.
pub(crate) enum Next<P: Policy + ?Sized, RB, C> {
    /// Return this outcome.
    Return(Result<Response<RB>, BoxError>),
    /// Send again after this wait. The response, if there is one, is drained first.
    Retry(Option<Response<RB>>, Duration, C),
    /// Send again with another credential, if there is one. Otherwise return the response.
    Reauthenticate(Response<RB>, P::Rejection, C),
}
