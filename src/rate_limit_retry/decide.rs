//! Decides what follows an attempt: return, retry, or give up. A pure function, without clock or state.
//!
//! Two questions are separate. [`RetryContext::classify`] determines whether the outcome is temporary, and whether the
//! server has certainly not processed the request. [`decide`] then checks whether a retry is allowed and possible:
//!
//! | check | otherwise |
//! |---|---|
//! | a wait helps, according to the user | [`GiveUpReason::Permanent`] |
//! | the server does not advise against a retry | [`GiveUpReason::DoNotRetry`] |
//! | no inner layer has given up for a reason that also binds this layer | that reason |
//! | no outer layer retries | [`GiveUpReason::Nested`] |
//! | the method is idempotent, or the request was not processed | [`GiveUpReason::NotIdempotent`] |
//! | a copy of the request is available | [`GiveUpReason::Body`] |
//! | fewer than `max_retries` retries | [`GiveUpReason::Retries`] |
//! | a runtime is available | [`GiveUpReason::NoRuntime`] |
//! | the wait is at most `max_wait` | [`GiveUpReason::Wait`] |
//! | the wait ends before the deadline | [`GiveUpReason::Deadline`] |
//!
//! The first check that fails determines the reason: what makes a retry pointless comes before what makes it impossible
//! at the moment. The retry budget is checked by the caller, because it has state.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use super::headers::{RateLimitInfo, RetryAdvice};
use crate::ErrorClass;

/// Outcome of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AttemptResult<'a> {
    /// The inner service failed with an error of this class.
    Error(ErrorClass),
    /// A response arrived, with this status and these rate-limit fields.
    Response(StatusCode, &'a RateLimitInfo),
}

/// Inputs of a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryContext<'a> {
    /// Outcome of the attempt.
    pub(crate) result: AttemptResult<'a>,
    /// Whether the server rejected the request because of overload, and reported that by other means than the status:
    /// by a field of Envoy's, or by resetting the HTTP/2 stream with `ENHANCE_YOUR_CALM`.
    pub(crate) shed: bool,
    /// Number of the attempt that has just ended; 1 for the first.
    pub(crate) attempt: u32,
    /// Whether the method is idempotent.
    pub(crate) method: MethodClass,
    /// Whether an outer layer retries the request. If so, this layer does not.
    pub(crate) nested: bool,
    /// Reason why an inner layer gave up, if it did.
    pub(crate) inner_reason: Option<GiveUpReason>,
    /// Whether no wait helps, according to `is_permanent`.
    pub(crate) permanent: bool,
    /// Whether a complete copy of the request is available. `false` if its body cannot be sent twice, or is too large
    /// to be kept.
    pub(crate) replayable: bool,
    /// Whether the call runs in a tokio runtime, which provides the timers.
    pub(crate) has_runtime: bool,
    /// Remaining hold of the partition, for a throttled request.
    pub(crate) held: Option<Duration>,
    /// Backoff after a transient failure.
    pub(crate) backoff: Duration,
    /// Upper bound on the time that draining the response takes. Zero if its body has ended.
    pub(crate) max_drain: Duration,
    /// Time left until the caller's deadline; `None` without a deadline.
    pub(crate) time_left: Option<Duration>,
}

/// Limits that the caller sets on retries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryConfig {
    /// Maximum number of retries of one request.
    pub(crate) max_retries: u32,
    /// Maximum length of a single wait.
    pub(crate) max_wait: Duration,
    /// Whether only idempotent requests are retried after a response.
    pub(crate) idempotent_only: bool,
}

/// Whether a repeated request can have an additional effect on the server. Computed once per call, because the request
/// is no longer available when its response arrives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MethodClass {
    /// An idempotent method (RFC 9110 §9.2.2), or any method with an `Idempotency-Key` where the server honors that
    /// field.
    Idempotent,
    /// Any other method: a second send may take effect twice.
    Other,
}

impl MethodClass {
    /// Returns the class of a request. `key_is_honoured`: whether the server honors `Idempotency-Key`.
    pub(crate) fn of(method: &Method, headers: &HeaderMap, key_is_honoured: bool) -> Self {
        let keyed = key_is_honoured && headers.contains_key("idempotency-key");
        if method.is_idempotent() || keyed {
            Self::Idempotent
        } else {
            Self::Other
        }
    }
}

/// What the layer does after an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// Return the outcome to the caller.
    Return,
    /// Return the outcome to the caller although a retry might have helped.
    GiveUp(GiveUpReason),
    /// Retry when the partition's hold ends. The request waits in the gate's queue, like a new one, and is not charged
    /// to the retry budget.
    RetryAfterHold,
    /// Retry after this wait. Charged to the retry budget (`RetryBudget`).
    RetryAfterBackoff(Duration),
}

/// Reason why a request was not retried although its failure might be temporary.
///
/// What a user can do:
///
/// | reason | remedy |
/// |---|---|
/// | `Body` | use a body that can be cloned, or a [`ReplayBody`](crate::replay::ReplayBody) |
/// | `Budget`, `Retries` | find out why so many requests fail; more retries would increase the load |
/// | `Wait`, `Deadline` | try again later, or raise `max_wait` or `deadline` |
/// | `NotIdempotent` | send an `Idempotency-Key`, if the server honors it |
/// | `Nested` | remove one of the retry layers |
/// | `NoRuntime` | call the service in a tokio runtime |
/// | `Permanent`, `DoNotRetry` | none: the server does not accept the request |
///
/// # Examples
///
/// ```
/// use http::Response;
/// use tower_m2m::rate_limit_retry::{GaveUp, GiveUpReason};
///
/// /// Whether a later attempt can succeed.
/// fn later<B>(response: &Response<B>) -> bool {
///     GaveUp::of(response).is_some_and(|gave_up| match gave_up.reason() {
///         GiveUpReason::Permanent | GiveUpReason::DoNotRetry => false,
///         GiveUpReason::Body | GiveUpReason::NotIdempotent => false,
///         _ => true,
///     })
/// }
/// # assert!(!later(&Response::new(())));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum GiveUpReason {
    /// The body cannot be sent a second time: it cannot be cloned, or exceeds the limits of its replay buffer.
    Body,
    /// The retry budget for transient failures is used up: too many requests of the partition failed at the same
    /// time.
    Budget,
    /// The wait, or the time to drain the response, would have ended after the caller's deadline.
    Deadline,
    /// An outer retry layer retries the request. One retrying layer is enough.
    Nested,
    /// The call is not polled in a tokio runtime, so no timers are available.
    NoRuntime,
    /// The request may have been processed, and its method is not idempotent.
    NotIdempotent,
    /// No wait restores the quota, according to [`is_permanent`](super::RateLimitRetryLayerBuilder::is_permanent).
    Permanent,
    /// The server advises against a retry.
    DoNotRetry,
    /// The request was already retried [`max_retries`](super::RateLimitRetryLayerBuilder::max_retries) times.
    Retries,
    /// The wait would have exceeded [`max_wait`](super::RateLimitRetryLayerBuilder::max_wait), or 24 h.
    Wait,
}

impl GiveUpReason {
    /// Returns the reason as a short lower-case label: the label `reason` in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::Nested => "nested",
            Self::NoRuntime => "no_runtime",
            Self::NotIdempotent => "not_idempotent",
            Self::Permanent => "permanent",
            Self::DoNotRetry => "do_not_retry",
            Self::Retries => "retries",
            Self::Wait => "wait",
        }
    }

    /// Returns whether an outer layer gives up as well: a further send cannot help, or would exceed what this layer
    /// allows.
    fn binds_outer_layers(self) -> bool {
        matches!(
            self,
            Self::Budget | Self::Permanent | Self::DoNotRetry | Self::Retries
        )
    }
}

impl RetryContext<'_> {
    /// Returns whether the server may have processed the attempt; `false` if the outcome is final.
    pub(crate) fn is_possibly_processed(&self) -> bool {
        self.classify().is_some_and(|c| !c.unprocessed)
    }

    /// Classifies the outcome. Returns `None` if the outcome is final.
    ///
    /// | outcome | throttled | unprocessed |
    /// |---|---|---|
    /// | error that is [`ErrorClass::Final`] | final | |
    /// | other error | if shed | if [`ErrorClass::NotSent`] |
    /// | 401, 407 | final | |
    /// | shed by the server or a proxy | yes | yes |
    /// | [throttling](RateLimitInfo::is_throttle) status | yes | 403, 418, 429, or with advice to retry |
    /// | other 4xx or 5xx with advice to retry | no | yes |
    /// | 413 with a wait | no | yes |
    /// | 502, 503, 504, 529 | no | no |
    /// | any other response | final | |
    fn classify(&self) -> Option<Classification> {
        let (throttled, unprocessed) = match self.result {
            AttemptResult::Error(ErrorClass::Final) => return None,
            // `ENHANCE_YOUR_CALM` (RFC 9113 §7) throttles like a 429.
            AttemptResult::Error(class) => (self.shed, class == ErrorClass::NotSent),
            // A retry with the same credential would fail the same way, whatever the other fields are.
            AttemptResult::Response(
                StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                _,
            ) => return None,
            // A server sheds load before it processes the request.
            AttemptResult::Response(..) if self.shed => (true, true),
            // Throttled. Not every throttling status guarantees that nothing was processed.
            AttemptResult::Response(status, info) if info.is_throttle(status) => {
                (true, is_rejection(status) || is_retry_advised(info))
            }
            // The server's advice takes precedence over the status.
            AttemptResult::Response(status, info)
                if is_error_status(status) && is_retry_advised(info) =>
            {
                (false, true)
            }
            // Temporary if there is a `Retry-After` (RFC 9110 §15.5.14); the request was not processed.
            AttemptResult::Response(StatusCode::PAYLOAD_TOO_LARGE, info)
                if info.retry_after.is_some() =>
            {
                (false, true)
            }
            // A transient failure: the request may have been processed.
            AttemptResult::Response(status, _) if is_transient(status) => (false, false),
            AttemptResult::Response(..) => return None,
        };
        Some(Classification {
            throttled,
            unprocessed,
        })
    }
}

/// Classification of an outcome that is not final.
#[derive(Clone, Copy, Debug)]
struct Classification {
    /// Whether the request was throttled: a retry waits for the partition's hold, not for a backoff.
    throttled: bool,
    /// Whether the server certainly did not process the request, so that every method may be retried.
    unprocessed: bool,
}

/// Decides what follows an attempt.
///
/// A throttled request waits for the hold of its partition. After a transient failure, a request waits for its own
/// backoff, or for the wait that the server requested if that is longer.
///
/// If several reasons to give up apply, the first in the order of the code is reported.
pub(crate) fn decide(facts: &RetryContext<'_>, policy: &RetryConfig) -> Decision {
    let Some(Classification {
        throttled,
        unprocessed,
    }) = facts.classify()
    else {
        return Decision::Return;
    };
    let idempotent = facts.method == MethodClass::Idempotent;
    // With an error, "unprocessed" means that the request never left the process. Sending it is then the first send,
    // which `idempotent_only` allows.
    let not_sent = matches!(facts.result, AttemptResult::Error(_));
    let allowed = idempotent || unprocessed && (not_sent || !policy.idempotent_only);
    let (delay, do_not_retry) = match facts.result {
        AttemptResult::Response(_, info) => (
            info.retry_after,
            info.advice == Some(RetryAdvice::DoNotRetry),
        ),
        AttemptResult::Error(_) => (None, false),
    };
    // The wait that the server requested is a lower bound in both cases.
    let wait = if throttled {
        facts.held.max(delay).unwrap_or_default()
    } else {
        delay.unwrap_or_default().max(facts.backoff)
    };
    let bound = facts
        .inner_reason
        .filter(|reason| reason.binds_outer_layers());
    // First the reasons for which a retry is pointless, then those for which it is not allowed, then those for which
    // it is not possible in time. A retry by two nested layers would multiply the number of sends. The response is
    // drained during the wait, so the longer of the two has to end before the deadline.
    let reason = if facts.permanent {
        GiveUpReason::Permanent
    } else if do_not_retry {
        GiveUpReason::DoNotRetry
    } else if let Some(reason) = bound {
        reason
    } else if facts.nested {
        GiveUpReason::Nested
    } else if !allowed {
        GiveUpReason::NotIdempotent
    } else if !facts.replayable {
        GiveUpReason::Body
    } else if facts.attempt > policy.max_retries {
        GiveUpReason::Retries
    } else if !facts.has_runtime {
        GiveUpReason::NoRuntime
    } else if wait > policy.max_wait.min(MAX_WAIT) {
        GiveUpReason::Wait
    } else if facts
        .time_left
        .is_some_and(|left| wait.max(facts.max_drain) >= left)
    {
        GiveUpReason::Deadline
    } else if throttled {
        return Decision::RetryAfterHold;
    } else {
        return Decision::RetryAfterBackoff(wait);
    };
    Decision::GiveUp(reason)
}

/// Returns whether the server advises a retry.
fn is_retry_advised(info: &RateLimitInfo) -> bool {
    info.advice == Some(RetryAdvice::Retry)
}

/// Returns whether the status is 4xx or 5xx.
fn is_error_status(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// Returns whether a throttling status by itself means that the request was not processed.
///
/// After other statuses, retries follow the rules for transient failures: some servers send them while processing.
fn is_rejection(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::FORBIDDEN | StatusCode::IM_A_TEAPOT
    )
}

/// Returns whether the status reports a transient failure of the server.
///
/// Excludes 409, because the caller has to resolve the conflict (RFC 9110 §15.5.10). Excludes 421, which may be
/// retried over another connection only (§15.5.20): a service over a connection pool cannot request that.
fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    ) || status == OVERLOADED
}

/// Status "Site is overloaded": not registered, but used by several APIs.
const OVERLOADED: u16 = 529;

/// Maximum length of a single wait, even if `max_wait` is longer.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
