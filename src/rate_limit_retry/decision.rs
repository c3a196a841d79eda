//! What to do after an attempt: return, send again, or give up. Pure.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use super::headers::{Advice, Signals};
use crate::ErrorClass;

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended<'a> {
    Error(ErrorClass),
    Response(StatusCode, &'a Signals),
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) ended: Ended<'a>,
    /// The server has dropped the request because it gets more than it takes, and says so by other means than the status.
    pub(crate) shed: bool,
    /// The attempt that has just ended; 1 for the first.
    pub(crate) attempt: u32,
    pub(crate) method: MethodClass,
    /// A layer outside sends it again; this one does not.
    pub(crate) nested: bool,
    /// Why a layer below has given up.
    pub(crate) given_up: Option<GiveUpReason>,
    /// No wait helps.
    pub(crate) permanent: bool,
    /// A copy of the request is there and can be sent in full.
    pub(crate) replayable: bool,
    /// There are timers to wait with.
    pub(crate) has_runtime: bool,
    /// How long the partition is held, for a throttled request.
    pub(crate) held: Option<Duration>,
    /// The wait after a fault.
    pub(crate) backoff: Duration,
    /// How long it may take to drain the response.
    pub(crate) drained_for: Duration,
    /// What is left until the caller's deadline.
    pub(crate) left: Option<Duration>,
}

/// What the caller allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) max_retries: u32,
    pub(crate) max_wait: Duration,
    pub(crate) idempotent_only: bool,
}

/// Whether a second send of a request can do harm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MethodClass {
    /// RFC 9110 §9.2.2, or with an `Idempotency-Key` where that is honoured.
    Idempotent,
    Other,
}

impl MethodClass {
    pub(crate) fn of(method: &Method, headers: &HeaderMap, key_is_honoured: bool) -> Self {
        let keyed = key_is_honoured && headers.contains_key("idempotency-key");
        if method.is_idempotent() || keyed {
            Self::Idempotent
        } else {
            Self::Other
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// The outcome is the caller's.
    Return,
    /// The outcome is the caller's although another attempt might have helped.
    GiveUp(GiveUpReason),
    /// Send again, when the partition's hold is over.
    AfterHold,
    /// Send again, after a wait of its own. Charged to the budget for faults.
    AfterFault(Duration),
}

/// Why a request that failed in a way that might pass was not sent again.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use tower_m2m::rate_limit_retry::{GaveUp, GiveUpReason};
///
/// /// Whether it is worth while to come back later.
/// fn later<B>(response: &Response<B>) -> bool {
///     GaveUp::of(response).is_some_and(|gave_up| match gave_up.reason() {
///         GiveUpReason::Permanent | GiveUpReason::Refused => false,
///         GiveUpReason::Body | GiveUpReason::NotIdempotent => false,
///         _ => true,
///     })
/// }
/// # assert!(!later(&Response::new(())));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum GiveUpReason {
    /// The body cannot be sent a second time.
    Body,
    /// Too many requests in all were being retried after faults.
    Budget,
    /// The wait, or the time it may take to read the rest of the response, would have ended after the caller's deadline.
    Deadline,
    /// A retry layer outside this one sends the request again: one of them is enough.
    Nested,
    /// The call is not polled in a tokio runtime, so that there are no timers to wait with.
    NoRuntime,
    /// The request may have been processed, and its method is not idempotent.
    NotIdempotent,
    /// No wait restores the quota, by
    /// [`permanent_if`](super::RateLimitRetryLayerBuilder::permanent_if).
    Permanent,
    /// The server says that sending it again does not help.
    Refused,
    /// The most retries allowed have been made.
    Retries,
    /// The wait would have been longer than `max_wait`.
    Wait,
}

impl GiveUpReason {
    /// The reason in a few lower-case characters, for logs and labels.
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
            Self::Refused => "refused",
            Self::Retries => "retries",
            Self::Wait => "wait",
        }
    }

    /// Whether what a layer below has given up is given up for good: there are no more sends than it has allowed.
    fn binds_outer_layers(self) -> bool {
        matches!(
            self,
            Self::Budget | Self::Permanent | Self::Refused | Self::Retries
        )
    }
}

impl Facts<'_> {
    /// Whether the attempt may have been processed.
    pub(crate) fn is_perhaps_processed(&self) -> bool {
        self.consequence().is_some_and(|c| !c.unprocessed)
    }

    /// `None` if nothing follows.
    fn consequence(&self) -> Option<Consequence> {
        let (throttled, unprocessed) = match self.ended {
            Ended::Error(ErrorClass::Final) => return None,
            Ended::Error(class) => (self.shed, class == ErrorClass::NotSent),
            // About a credential, which would be the same again, whatever else the server says.
            Ended::Response(
                StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                _,
            ) => return None,
            Ended::Response(..) if self.shed => (true, true),
            Ended::Response(status, signals) if signals.is_throttle(status) => {
                (true, is_refusal(status) || is_asked_for(signals))
            }
            Ended::Response(status, signals) if is_error(status) && is_asked_for(signals) => {
                (false, true)
            }
            // Temporary, if there is a `Retry-After` (RFC 9110 §15.5.14); nothing was processed.
            Ended::Response(StatusCode::PAYLOAD_TOO_LARGE, signals)
                if signals.retry_after.is_some() =>
            {
                (false, true)
            }
            Ended::Response(status, _) if is_fault(status) => (false, false),
            Ended::Response(..) => return None,
        };
        Some(Consequence {
            throttled,
            unprocessed,
        })
    }
}

/// What the end of an attempt means.
#[derive(Clone, Copy, Debug)]
struct Consequence {
    /// It is to be sent when the partition's hold is over.
    throttled: bool,
    /// It has not been processed: every method may be sent again.
    unprocessed: bool,
}

pub(crate) fn decide(facts: &Facts<'_>, policy: &Policy) -> Decision {
    let Some(Consequence {
        throttled,
        unprocessed,
    }) = facts.consequence()
    else {
        return Decision::Return;
    };
    let idempotent = facts.method == MethodClass::Idempotent;
    // What has not left the process was not sent once.
    let not_sent = matches!(facts.ended, Ended::Error(_));
    let allowed = idempotent || unprocessed && (not_sent || !policy.idempotent_only);
    let (asked, refused) = match facts.ended {
        Ended::Response(_, signals) => (
            signals.retry_after,
            signals.advice == Some(Advice::DoNotRetry),
        ),
        Ended::Error(_) => (None, false),
    };
    let wait = if throttled {
        facts.held.max(asked).unwrap_or_default()
    } else {
        asked.unwrap_or_default().max(facts.backoff)
    };
    let bound = facts.given_up.filter(|reason| reason.binds_outer_layers());
    let reason = if facts.permanent {
        GiveUpReason::Permanent
    } else if refused {
        GiveUpReason::Refused
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
    } else if wait > policy.max_wait.min(LONGEST_WAIT) {
        GiveUpReason::Wait
    } else if facts
        .left
        .is_some_and(|left| wait.max(facts.drained_for) >= left)
    {
        GiveUpReason::Deadline
    } else if throttled {
        return Decision::AfterHold;
    } else {
        return Decision::AfterFault(wait);
    };
    Decision::GiveUp(reason)
}

fn is_asked_for(signals: &Signals) -> bool {
    signals.advice == Some(Advice::Retry)
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// Whether a status that throttles says by itself that nothing was processed. The others are repeated as faults are: some
/// servers send them in the midst of processing.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::FORBIDDEN | StatusCode::IM_A_TEAPOT
    )
}

/// A server's trouble that may pass by itself.
///
/// Not 409: its conflict is the caller's to resolve (RFC 9110 §15.5.10). Not 421: it may be repeated over another
/// connection only (§15.5.20), which a service over a pool of connections cannot ask for.
fn is_fault(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    ) || status == OVERLOADED
}

/// "Site is overloaded": not registered, but used by several APIs.
const OVERLOADED: u16 = 529;

/// Nobody is held for longer than this, whatever the caller allows.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
