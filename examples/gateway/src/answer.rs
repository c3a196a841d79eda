//! What the caller is answered, and under which name that is counted.

use std::time::Duration;

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use hyper::body::Incoming;
use tower_m2m::{
    BoxError,
    client_credentials::TokenError,
    rate_limit_retry::{GaveUp, HoldTooLong, TooManyWaiting},
};

use crate::strip;

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The upstream's answer was passed on.
    Passed,
    /// The wait for the upstream's quota would have been too long; nothing was sent.
    Held,
    /// The upstream said 429, and the wait was too long, or the request may not be sent again.
    Limited,
    /// There is no token now.
    NoToken,
    /// There will be no token before somebody changes something.
    CredentialRefused,
    /// The upstream does not accept our token.
    Unauthorized,
    Deadline,
    Unreachable,
    BadRequest,
}

impl Outcome {
    pub(crate) const ALL: [Self; 9] = [
        Self::Passed,
        Self::Held,
        Self::Limited,
        Self::NoToken,
        Self::CredentialRefused,
        Self::Unauthorized,
        Self::Deadline,
        Self::Unreachable,
        Self::BadRequest,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Held => "held",
            Self::Limited => "limited",
            Self::NoToken => "no_token",
            Self::CredentialRefused => "credential_refused",
            Self::Unauthorized => "unauthorized",
            Self::Deadline => "deadline",
            Self::Unreachable => "unreachable",
            Self::BadRequest => "bad_request",
        }
    }

    /// The gateway's own answer; `retry_after` is rounded up to whole seconds.
    fn answer(self, retry_after: Option<Duration>) -> (Self, Response<Body>) {
        let (status, title) = match self {
            Self::Held | Self::Limited => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the upstream's quota is used up",
            ),
            Self::NoToken => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the gateway has no credential for the upstream now",
            ),
            Self::CredentialRefused | Self::Unauthorized => (
                StatusCode::BAD_GATEWAY,
                "the gateway's credential for the upstream was refused",
            ),
            Self::Deadline => (
                StatusCode::GATEWAY_TIMEOUT,
                "the upstream did not answer in time",
            ),
            Self::Passed | Self::Unreachable => (
                StatusCode::BAD_GATEWAY,
                "the upstream could not be reached, or its connection broke",
            ),
            Self::BadRequest => (
                StatusCode::BAD_REQUEST,
                "the gateway does not pass on such a request",
            ),
        };
        let mut response = problem(status, title);
        if let Some(wait) = retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, seconds.max(1).into());
        }
        (self, response)
    }
}

/// The answer to what the stack returned. A 401 is about the gateway's credential, and a 429 about its quota: neither is
/// the caller's.
pub(crate) fn of(outcome: Result<Response<Incoming>, BoxError>) -> (Outcome, Response<Body>) {
    let response = match outcome {
        Ok(response) => response,
        Err(error) => return of_error(&error),
    };
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Outcome::Unauthorized.answer(None)
        }
        StatusCode::TOO_MANY_REQUESTS => {
            let wait = GaveUp::of(&response).and_then(|gave_up| gave_up.retry_after());
            let (outcome, mut answer) = Outcome::Limited.answer(wait);
            if let (None, Some(asked)) = (wait, response.headers().get(RETRY_AFTER)) {
                answer.headers_mut().insert(RETRY_AFTER, asked.clone());
            }
            (outcome, answer)
        }
        _ => (Outcome::Passed, strip::response(response).map(Body::new)),
    }
}

fn of_error(error: &BoxError) -> (Outcome, Response<Body>) {
    // For the log only: an error names the issuer and the credential.
    tracing::warn!(%error, "request failed");
    if let Some(hold) = error.downcast_ref::<HoldTooLong>() {
        return Outcome::Held.answer(Some(hold.wait()));
    }
    if error.is::<TooManyWaiting>() {
        return Outcome::Held.answer(None);
    }
    if let Some(error) = error.downcast_ref::<TokenError>() {
        return if error.is_transient() {
            Outcome::NoToken.answer(error.retry_after())
        } else {
            Outcome::CredentialRefused.answer(None)
        };
    }
    Outcome::Unreachable.answer(None)
}

/// The answer to a call whose time is over.
pub(crate) fn timed_out() -> (Outcome, Response<Body>) {
    Outcome::Deadline.answer(None)
}

/// The answer to a request that cannot be passed on.
pub(crate) fn bad_request() -> (Outcome, Response<Body>) {
    Outcome::BadRequest.answer(None)
}

/// The answer to a caller who is not known: the only one with a challenge, which is the gateway's own.
pub(crate) fn unknown_caller() -> Response<Body> {
    let mut response = problem(StatusCode::UNAUTHORIZED, "the caller is not known");
    let challenge = HeaderValue::from_static("Bearer realm=\"gateway\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

/// RFC 9457.
fn problem(status: StatusCode, title: &str) -> Response<Body> {
    let body = serde_json::json!({ "status": status.as_u16(), "title": title });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let problem = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, problem);
    response
}
