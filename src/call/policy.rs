//! What a layer adds to the path of a request.

use std::{future::Future, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;

use super::copy::Resend;
use crate::BoxError;

/// What a layer decides about a request, at each point of its path. Each thread has a value of its own.
pub(crate) trait Policy: Send + Sync + 'static {
    /// One call, over all its attempts.
    type Call: Send;
    /// What was found out in [`begin`](Self::begin) about what has to be waited for.
    type Pending: Send;
    /// What [`admit`](Self::admit) waited for. Dropped, it is given back.
    type Permit: Send;
    /// One attempt in flight. Dropped, its outcome counts as unknown.
    type Attempt: Send;
    /// A response that rejects the credential of its request.
    type Rejection: Send;

    /// A call begins: whether it may be sent, and whether at once. Never waits.
    ///
    /// # Errors
    ///
    /// The request must not be sent.
    fn begin<B>(&self, request: &mut Request<B>) -> Result<Begin<Self>, BoxError>;

    /// Whether a copy of the request is needed after the next attempt.
    fn needs_copy(&self, call: &Self::Call) -> bool;

    /// Waits until the call may be sent, apart from the inner service's readiness.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives back what was obtained.
    fn admit(
        &self,
        call: &mut Self::Call,
        pending: Option<Self::Pending>,
    ) -> impl Future<Output = Result<Self::Permit, BoxError>> + Send;

    /// The inner service is ready: an attempt starts, unless what was waited for is no longer valid (`None`).
    ///
    /// # Errors
    ///
    /// The request must not be sent any more.
    fn start(
        &self,
        call: &mut Self::Call,
        permit: Self::Permit,
    ) -> Result<Option<Started<Self>>, BoxError>;

    /// Adds the credential to the request.
    fn authorize(&self, _headers: &mut HeaderMap, _credential: HeaderValue) {}

    /// Marks an attempt that is not the first one, for layers inside.
    fn mark<B>(&self, _call: &Self::Call, _request: &mut Request<B>) {}

    /// Whether the response is returned as it is, as nearly all are. Has no side effect.
    fn is_final<RB>(
        &self,
        call: &Self::Call,
        attempt: &Self::Attempt,
        response: &Response<RB>,
    ) -> bool;

    /// Records a final response.
    fn on_final<RB>(&self, call: &Self::Call, attempt: &Self::Attempt, response: &Response<RB>);

    /// Records the outcome of an attempt, and decides what follows. `copy` is `None` if the request cannot be sent again.
    fn on_response<RB: Body, C: Resend>(
        &self,
        call: &mut Self::Call,
        attempt: Self::Attempt,
        outcome: Result<Response<RB>, BoxError>,
        copy: Option<C>,
    ) -> Next<Self, RB, C>;

    /// Obtains another credential. Returns whether there is one, and the request may be sent with it once `response` is
    /// drained.
    fn reauthenticate<RB: Body + Send>(
        &self,
        call: &mut Self::Call,
        rejection: Self::Rejection,
        response: &mut Response<RB>,
    ) -> impl Future<Output = bool> + Send;

    /// Time left until the call's deadline. `None` without a deadline.
    fn time_left(&self, _call: &Self::Call) -> Option<Duration> {
        None
    }

    /// The deadline has passed while the request was `in_flight`, or before it was sent.
    fn deadline_exceeded(&self, _call: &Self::Call, _in_flight: bool) -> BoxError {
        "deadline exceeded".into()
    }

    /// Upper bound on the time that draining a response takes.
    fn drain_limit(&self) -> Duration {
        super::drain::LIMIT
    }
}

/// How a call begins.
pub(crate) enum Begin<P: Policy + ?Sized> {
    /// The layer does not concern this request: it is sent as it is.
    Passthrough,
    /// It is sent at once.
    Ready(P::Call, Started<P>),
    /// Something has to be waited for.
    Wait(P::Call, Option<P::Pending>),
}

/// An attempt, and the credential that it is sent with.
pub(crate) struct Started<P: Policy + ?Sized> {
    pub(crate) attempt: P::Attempt,
    pub(crate) credential: Option<HeaderValue>,
}

/// What follows an attempt. `C` is the copy that is sent again.
pub(crate) enum Next<P: Policy + ?Sized, RB, C> {
    Return(Result<Response<RB>, BoxError>),
    /// Send again after this wait; the response, if there is one, is drained first.
    Retry(Option<Response<RB>>, Duration, C),
    /// Send again with another credential, if there is one; otherwise return the response.
    Reauthenticate(Response<RB>, P::Rejection, C),
}
