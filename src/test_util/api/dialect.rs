//! How a server tells of its quotas: several vendors' headers and drafts of the IETF's.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};

use super::super::{meter::Decision, quota::Quota};

/// The headers in which an [`Api`](super::Api) tells of its quotas. All numbers are rounded up to whole seconds.
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
    /// The same headers, but on a 429 only.
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
    /// Nothing.
    None,
}

/// What one quota says about the request at hand.
pub(super) struct Verdict<'a> {
    pub(super) name: &'a str,
    pub(super) quota: Quota,
    pub(super) decision: Decision,
}

impl Dialect {
    /// Writes what `verdicts` say at the civil time `wall`.
    pub(super) fn write(self, headers: &mut HeaderMap, verdicts: &[Verdict<'_>], wall: SystemTime) {
        let Some(binding) = verdicts.iter().max_by_key(|verdict| urgency(verdict)) else {
            return;
        };
        let decision = binding.decision;
        let refused = !decision.allowed;
        let reset_after = seconds(decision.reset_after);
        match self {
            Self::Didit => classic(headers, X_RATELIMIT, decision, epoch(wall, decision)),
            Self::DiditOnlyOn429 if refused => {
                classic(headers, X_RATELIMIT, decision, epoch(wall, decision));
            }
            Self::Draft3 => classic(headers, RATELIMIT, decision, reset_after),
            Self::Draft8 => structured(headers, verdicts),
            Self::DiditOnlyOn429 | Self::RetryAfterOnly | Self::None => {}
        }
        if refused && self != Self::None {
            let wait = seconds(decision.retry_after).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
    }
}

/// The verdict to tell of is the refusal that lasts longest, else the one with the fewest requests left.
fn urgency(verdict: &Verdict<'_>) -> (bool, Duration, std::cmp::Reverse<u32>) {
    let Decision {
        allowed,
        remaining,
        retry_after,
        ..
    } = verdict.decision;
    let wait = if allowed { Duration::ZERO } else { retry_after };
    (!allowed, wait, std::cmp::Reverse(remaining))
}

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

fn structured(headers: &mut HeaderMap, verdicts: &[Verdict<'_>]) {
    let list = |item: &dyn Fn(&Verdict<'_>) -> String| {
        let items: Vec<String> = verdicts.iter().map(item).collect();
        HeaderValue::try_from(items.join(", ")).ok()
    };
    let policies = list(&|verdict| {
        format!(
            "\"{}\";q={};w={}",
            quotable(verdict.name),
            verdict.decision.limit,
            seconds(verdict.quota.window())
        )
    });
    let limits = list(&|verdict| {
        format!(
            "\"{}\";r={};t={}",
            quotable(verdict.name),
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

/// What of a name may stand in a string of RFC 9651 §3.3.3 without escapes.
fn quotable(name: &str) -> String {
    name.chars()
        .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'))
        .collect()
}

fn epoch(wall: SystemTime, decision: Decision) -> u64 {
    seconds(
        wall.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .saturating_add(decision.reset_after),
    )
}

/// Whole seconds, rounded up: whoever comes then does not come too early.
fn seconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0))
}

const X_RATELIMIT: [&str; 3] = [
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];
const RATELIMIT: [&str; 3] = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
