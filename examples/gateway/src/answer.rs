//! What the caller is answered, and under which name that is counted.

use std::{error::Error, time::Duration};

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use hyper::body::Incoming;
use tower_m2m::{
    BoxError, ErrorClass,
    client_credentials::TokenError,
    rate_limit_retry::{DeadlineExceeded, GaveUp, QueueFull, RateLimited},
};

use crate::strip;

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The upstream's answer was passed on.
    Passed,
    /// The gateway itself is the recipient: `Max-Forwards: 0`.
    Answered,
    /// The wait for the upstream's quota would have been too long; nothing was sent.
    Held,
    /// The upstream said 429, and the wait was too long, or the request may not be sent again.
    Limited,
    /// There is no token now.
    NoToken,
    /// There is no token until the configuration is changed.
    CredentialRejected,
    /// The upstream does not accept our token.
    Unauthorized,
    /// The time for the call is over.
    Deadline,
    /// No connection to the upstream could be made.
    Unreachable,
    /// The connection to the upstream broke before the answer.
    ConnectionLost,
    /// The upstream's answer is none to this request.
    InvalidAnswer,
    /// The gateway failed or rejected the request itself.
    Internal,
    /// There are as many requests as there may be.
    Overloaded,
    BadRequest,
    /// The caller's body broke off, or is malformed.
    UploadBroken,
    /// The caller did not send its body in time.
    UploadTimeout,
    /// The caller did not wait for the answer.
    CallerLeft,
    /// The gateway shut down before the response.
    Shutdown,
}

impl Outcome {
    pub(crate) const ALL: [Self; 18] = [
        Self::Passed,
        Self::Answered,
        Self::Held,
        Self::Limited,
        Self::NoToken,
        Self::CredentialRejected,
        Self::Unauthorized,
        Self::Deadline,
        Self::Unreachable,
        Self::ConnectionLost,
        Self::InvalidAnswer,
        Self::Internal,
        Self::Overloaded,
        Self::BadRequest,
        Self::UploadBroken,
        Self::UploadTimeout,
        Self::CallerLeft,
        Self::Shutdown,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Answered => "answered",
            Self::Held => "held",
            Self::Limited => "limited",
            Self::NoToken => "no_token",
            Self::CredentialRejected => "credential_rejected",
            Self::Unauthorized => "unauthorized",
            Self::Deadline => "deadline",
            Self::Unreachable => "unreachable",
            Self::ConnectionLost => "connection_lost",
            Self::InvalidAnswer => "invalid_answer",
            Self::Internal => "internal",
            Self::Overloaded => "overloaded",
            Self::BadRequest => "bad_request",
            Self::UploadBroken => "upload_broken",
            Self::UploadTimeout => "upload_timeout",
            Self::CallerLeft => "caller_left",
            Self::Shutdown => "shutdown",
        }
    }

    /// The gateway's own answer.
    fn status(self) -> (StatusCode, &'static str) {
        match self {
            Self::Held | Self::Limited => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the upstream's quota is exhausted",
            ),
            Self::NoToken => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the gateway currently has no credential for the upstream",
            ),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "the gateway is overloaded"),
            Self::Shutdown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the gateway is shutting down",
            ),
            Self::CredentialRejected | Self::Unauthorized => (
                StatusCode::BAD_GATEWAY,
                "the upstream rejected the gateway's credential",
            ),
            Self::Deadline => (
                StatusCode::GATEWAY_TIMEOUT,
                "the upstream did not respond in time",
            ),
            Self::Unreachable => (StatusCode::BAD_GATEWAY, "the upstream could not be reached"),
            Self::ConnectionLost => (
                StatusCode::BAD_GATEWAY,
                "the connection to the upstream broke",
            ),
            Self::InvalidAnswer => (
                StatusCode::BAD_GATEWAY,
                "the upstream's response is invalid",
            ),
            Self::Passed | Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the gateway could not forward the request",
            ),
            Self::Answered => (StatusCode::OK, "the request is addressed to the gateway"),
            Self::BadRequest => (
                StatusCode::BAD_REQUEST,
                "the gateway does not forward such requests",
            ),
            Self::UploadBroken | Self::CallerLeft => (
                StatusCode::BAD_REQUEST,
                "the request body is truncated or malformed",
            ),
            Self::UploadTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "the request body did not arrive in time",
            ),
        }
    }
}

/// The gateway's own answer to a request, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    /// For the log only: it names the issuer and the credential.
    pub(crate) cause: String,
    retry_after: Option<HeaderValue>,
}

impl Failure {
    pub(crate) fn new(outcome: Outcome, cause: impl Into<String>) -> Self {
        Self {
            outcome,
            cause: cause.into(),
            retry_after: None,
        }
    }

    /// Rounded up to whole seconds.
    pub(crate) fn retry_after(mut self, wait: Option<Duration>) -> Self {
        if let Some(wait) = wait {
            let seconds = wait
                .as_secs()
                .saturating_add(u64::from(wait.subsec_nanos() > 0));
            self.retry_after = Some(seconds.max(1).into());
        }
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.outcome.status().0
    }

    pub(crate) fn response(self) -> Response<Body> {
        let (status, title) = self.outcome.status();
        let mut response = problem(status, title);
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, wait);
        }
        if self.outcome == Outcome::BadRequest {
            close(&mut response);
        }
        response
    }
}

/// The upstream's answer if it can be passed on. A 401 is about the gateway's credential, and a 429 about its quota:
/// neither is the caller's.
pub(crate) fn of(response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            let cause = format!("the upstream responded with {}", response.status().as_u16());
            Err(Failure::new(Outcome::Unauthorized, cause))
        }
        StatusCode::TOO_MANY_REQUESTS => {
            let wait = GaveUp::of(&response).and_then(|gave_up| gave_up.retry_after());
            let failure = Failure::new(Outcome::Limited, "the upstream responded with 429");
            let mut failure = failure.retry_after(wait);
            if wait.is_none() {
                failure.retry_after = response.headers().get(RETRY_AFTER).cloned();
            }
            Err(failure)
        }
        // The caller's `Upgrade` is not forwarded, so the upstream cannot switch protocols.
        status if status.is_informational() => {
            let cause = format!(
                "the upstream responded with an unexpected {}",
                status.as_u16()
            );
            Err(Failure::new(Outcome::InvalidAnswer, cause))
        }
        _ if strip::has_other_coding(response.headers()) => {
            let cause = "the upstream's response has a transfer coding other than `chunked`";
            Err(Failure::new(Outcome::InvalidAnswer, cause))
        }
        _ => Ok(response),
    }
}

/// Why there is no answer.
pub(crate) fn of_error(error: &BoxError) -> Failure {
    let cause = chain(&**error);
    if let Some(hold) = error.downcast_ref::<RateLimited>() {
        return Failure::new(Outcome::Held, cause).retry_after(Some(hold.retry_after()));
    }
    if error.is::<QueueFull>() {
        return Failure::new(Outcome::Held, cause);
    }
    if error.is::<DeadlineExceeded>() {
        return Failure::new(Outcome::Deadline, cause);
    }
    if let Some(error) = error.downcast_ref::<TokenError>() {
        return if error.is_transient() {
            Failure::new(Outcome::NoToken, cause).retry_after(error.retry_after())
        } else {
            Failure::new(Outcome::CredentialRejected, cause)
        };
    }
    let client = error.downcast_ref::<hyper_util::client::legacy::Error>();
    let outcome = match ErrorClass::of(&**error) {
        // An error of one of the gateway's layers.
        ErrorClass::Final => Outcome::Internal,
        _ if client.is_some_and(hyper_util::client::legacy::Error::is_connect) => {
            Outcome::Unreachable
        }
        // What the upstream sent was no HTTP.
        _ if find::<hyper::Error>(&**error).is_some_and(hyper::Error::is_parse) => {
            Outcome::InvalidAnswer
        }
        _ if client.is_none() => Outcome::Internal,
        _ => Outcome::ConnectionLost,
    };
    Failure::new(outcome, cause)
}

/// The answer to a request whose way ends here (RFC 9110 §7.6.2).
pub(crate) fn final_recipient() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(ALLOW, methods);
    response
}

/// The answer to a request that no tenant's can be.
pub(crate) fn malformed(why: &str) -> Response<Body> {
    let mut response = problem(StatusCode::BAD_REQUEST, why);
    close(&mut response);
    response
}

/// What follows a request that may be read in two ways may be read in two ways as well.
fn close(response: &mut Response<Body>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// The answer to a caller who is not known: the only one with a challenge, which is the gateway's own.
pub(crate) fn unknown_caller() -> Response<Body> {
    let mut response = problem(StatusCode::UNAUTHORIZED, "the caller is unknown");
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

/// An error and what caused it.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let words = source.to_string();
        // Some errors show their sources themselves.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = source.source();
    }
    text
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(link) = next {
        if let Some(found) = link.downcast_ref::<E>() {
            return Some(found);
        }
        next = link.source();
    }
    None
}
