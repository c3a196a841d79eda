//! Headers that announce quotas: those of several vendors, and of the IETF drafts.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};

use super::super::{meter::Decision, quota::Quota};

/// The headers in which an [`Api`](super::Api) announces its quotas. All times are rounded up to whole seconds.
///
/// If several quotas apply, the dialects with one set of headers announce the one with the longest rejection, or else the
/// fewest remaining requests.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_m2m::{BoxError, test_util::{Api, Dialect, Quota}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let quota = Quota::fixed_window(300, std::time::Duration::from_secs(60));
/// let api = Api::builder().quota(quota).dialect(Dialect::Didit).in_process();
///
/// let response = api.service().oneshot(Request::get("/").body(String::new())?).await?;
///
/// assert_eq!(response.headers()["x-ratelimit-remaining"], "299");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Dialect {
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds since 1970) on every response; `Retry-After` on a 429.
    Didit,
    /// The headers of `Didit`, but on a 429 only.
    DiditOnlyOn429,
    /// `RateLimit-Limit`, `-Remaining` and `-Reset` (seconds from now) on every response
    /// (draft-ietf-httpapi-ratelimit-headers-03); `Retry-After` on a 429.
    Draft3,
    /// `RateLimit` and `RateLimit-Policy` as structured fields on every response
    /// (draft-ietf-httpapi-ratelimit-headers-08); `Retry-After` on a 429.
    Draft8,
    /// `Retry-After` on a 429 (RFC 6585 §4). The default.
    #[default]
    RetryAfterOnly,
    /// No headers.
    None,
}

/// The decision of one quota on a request.
pub(super) struct QuotaDecision<'a> {
    /// Name of the quota.
    pub(super) name: &'a str,
    /// The quota.
    pub(super) quota: Quota,
    /// Its decision.
    pub(super) decision: Decision,
}

impl Dialect {
    /// Writes the headers for `verdicts` at the wall-clock time `wall`.
    pub(super) fn write(
        self,
        headers: &mut HeaderMap,
        verdicts: &[QuotaDecision<'_>],
        wall: SystemTime,
    ) {
        let Some(binding) = verdicts.iter().max_by_key(|verdict| urgency(verdict)) else {
            return;
        };
        let decision = binding.decision;
        let refused = !decision.allowed;
        let reset_after = seconds(decision.reset_after);
        match self {
            Self::Didit => classic(headers, X_RATELIMIT, decision, epoch(wall, decision)),
            // The headers describe one quota: the one that binds most.
            Self::DiditOnlyOn429 if refused => {
                classic(headers, X_RATELIMIT, decision, epoch(wall, decision));
            }
            Self::Draft3 => classic(headers, RATELIMIT, decision, reset_after),
            // Structured fields list all quotas.
            Self::Draft8 => structured(headers, verdicts),
            Self::DiditOnlyOn429 | Self::RetryAfterOnly | Self::None => {}
        }
        // At least 1: a wait of 0 s would make clients retry at once.
        if refused && self != Self::None {
            let wait = seconds(decision.retry_after).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
    }
}

/// Orders verdicts by what to announce: the rejection with the longest wait, otherwise the fewest remaining requests.
fn urgency(verdict: &QuotaDecision<'_>) -> (bool, Duration, std::cmp::Reverse<u32>) {
    let Decision {
        allowed,
        remaining,
        retry_after,
        ..
    } = verdict.decision;
    let wait = if allowed { Duration::ZERO } else { retry_after };
    (!allowed, wait, std::cmp::Reverse(remaining))
}

/// Writes limit, remaining and reset as three headers.
fn classic(headers: &mut HeaderMap, names: [&'static str; 3], decision: Decision, reset: u64) {
    let values = [
        u64::from(decision.limit),
        u64::from(decision.remaining),
        reset,
    ];
    for (name, value) in names.into_iter().zip(values) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
}

/// Writes all quotas as structured fields (draft-ietf-httpapi-ratelimit-headers-08).
fn structured(headers: &mut HeaderMap, verdicts: &[QuotaDecision<'_>]) {
    let list = |item: &dyn Fn(&QuotaDecision<'_>) -> String| {
        let items: Vec<String> = verdicts.iter().map(item).collect();
        HeaderValue::try_from(items.join(", ")).ok()
    };
    let policies = list(&|verdict| {
        format!(
            "\"{}\";q={};w={}",
            policy_name(verdict.name),
            verdict.decision.limit,
            seconds(verdict.quota.window())
        )
    });
    let limits = list(&|verdict| {
        format!(
            "\"{}\";r={};t={}",
            policy_name(verdict.name),
            verdict.decision.remaining,
            seconds(verdict.decision.reset_after)
        )
    });
    for (name, value) in [("ratelimit-policy", policies), ("ratelimit", limits)] {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Returns the characters of `name` that need no escape in a string of RFC 9651 §3.3.3.
fn policy_name(name: &str) -> String {
    name.chars()
        .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'))
        .collect()
}

/// Returns the reset time in seconds since 1970.
fn epoch(wall: SystemTime, decision: Decision) -> u64 {
    seconds(
        wall.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .saturating_add(decision.reset_after),
    )
}

/// Returns whole seconds, rounded up, so that a client that waits this long is not too early.
fn seconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// Headers for limit, remaining and reset, with the `X-` prefix.
const X_RATELIMIT: [&str; 3] = [
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];
/// Headers for limit, remaining and reset (draft-ietf-httpapi-ratelimit-headers-03).
const RATELIMIT: [&str; 3] = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
