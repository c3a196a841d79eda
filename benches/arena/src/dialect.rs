//! What a server announces about its quota, in which fields, and when.

use std::time::{Duration, UNIX_EPOCH};

use http::{Response, StatusCode, response::Builder};

use crate::model::{RejectionScope, Verdict};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// `X-RateLimit-*` with an epoch on every response, and `Retry-After` on a rejection.
    Full,
    /// The same, on rejections only.
    OnRefusal,
    /// `X-RateLimit-*` with an epoch on every response, and never `Retry-After`.
    NoRetryAfter,
    /// `Retry-After` in whole seconds on rejections.
    RetryAfter,
    /// `RateLimit` and `RateLimit-Policy` of the current IETF draft on every response.
    Ietf,
    /// No field.
    Silent,
    /// Announces that half of the quota remains, regardless of the truth, and `Retry-After: 1`.
    Misreporting,
    /// `X-RateLimit-*-{Requests,Tokens}` with durations, and both forms of `Retry-After` on a rejection.
    OpenAi,
    /// `RateLimit-Policy` with the concurrency limit, on every response.
    ConcurrencyPolicy,
    /// `X-Concurrency-Limit` on every response.
    ConcurrencyLimit,
}

/// The server's wall clock at the start, in seconds.
pub const EPOCH: f64 = 1_790_000_000.0;

/// The head of a response.
pub struct Head {
    pub fields: Builder,
    /// End of the wait that a rejection requests.
    pub until: Option<f64>,
}

impl Dialect {
    /// Returns the head of the response with this verdict on a request that arrived `at`.
    pub fn head(self, verdict: &Verdict, at: f64) -> Head {
        let date = UNIX_EPOCH + Duration::from_secs_f64(EPOCH + at + verdict.service);
        let mut fields = Response::builder()
            .status(StatusCode::from_u16(verdict.status).expect("a status"))
            .header("date", httpdate::fmt_http_date(date));
        if let Some(resource) = verdict.resource {
            fields = fields.header("x-ratelimit-resource", resource);
        }
        let head = Head {
            fields,
            until: None,
        };
        let head = self.quota(head, verdict, at);
        if verdict.status == 200 {
            return head;
        }
        self.retry_after(head, verdict, at)
    }

    /// Adds the fields that describe the quota, and the end of the wait that they request.
    fn quota(self, head: Head, verdict: &Verdict, at: f64) -> Head {
        let refused = verdict.status != 200;
        match self {
            _ if verdict.limit == 0 => head,
            Self::Full | Self::NoRetryAfter => x_rate_limit(head, verdict, verdict.remaining),
            Self::OnRefusal if refused => x_rate_limit(head, verdict, verdict.remaining),
            Self::Misreporting => {
                let until = head.until;
                let head = x_rate_limit(head, verdict, verdict.limit / 2);
                Head { until, ..head }
            }
            Self::Ietf => ietf(head, verdict, at),
            Self::OpenAi => open_ai(head, verdict, at),
            Self::ConcurrencyPolicy => {
                let policy = format!("\"conc\";q={};qu=\"concurrent-requests\"", verdict.limit);
                head.with("ratelimit-policy", policy)
            }
            Self::ConcurrencyLimit => head.with("x-concurrency-limit", verdict.limit.to_string()),
            Self::OnRefusal | Self::RetryAfter | Self::Silent => head,
        }
    }

    /// Adds the `Retry-After` of a rejection.
    fn retry_after(self, mut head: Head, verdict: &Verdict, at: f64) -> Head {
        let wait = (verdict.retry - at).max(0.0);
        let seconds = match self {
            Self::Full | Self::OnRefusal | Self::RetryAfter => wait.ceil(),
            Self::Misreporting => 1.0,
            Self::OpenAi => {
                let milliseconds = (wait * 1000.0).ceil();
                let mut head = head.with("retry-after-ms", format!("{milliseconds}"));
                head.until = Some(at + milliseconds / 1000.0);
                return head.with("retry-after", format!("{}", wait.ceil()));
            }
            Self::NoRetryAfter
            | Self::Ietf
            | Self::Silent
            | Self::ConcurrencyPolicy
            | Self::ConcurrencyLimit => return head,
        };
        head.until = Some(at + seconds);
        head.with("retry-after", format!("{seconds}"))
    }
}

impl Head {
    fn with(mut self, name: &str, value: String) -> Self {
        self.fields = self.fields.header(name, value);
        self
    }

    /// Sets the end of the wait for a rejection whose reset requests one. A reset does not do so if it means "full
    /// again", or if the rejection concerns only its request: then `Retry-After` is required.
    fn held_until(mut self, verdict: &Verdict, until: f64) -> Self {
        let requests_wait = verdict.status != 200
            && !verdict.full_again
            && matches!(verdict.rejection_scope, RejectionScope::Client);
        self.until = requests_wait.then_some(until);
        self
    }
}

fn x_rate_limit(head: Head, verdict: &Verdict, remaining: u64) -> Head {
    let reset = (EPOCH + verdict.reset).ceil();
    head.with("x-ratelimit-limit", verdict.limit.to_string())
        .with("x-ratelimit-remaining", remaining.to_string())
        .with("x-ratelimit-reset", format!("{reset}"))
        .held_until(verdict, reset - EPOCH)
}

fn ietf(head: Head, verdict: &Verdict, at: f64) -> Head {
    let (limit, window) = (verdict.limit, verdict.window.ceil());
    let (remaining, wait) = (verdict.remaining, (verdict.reset - at).max(0.0).ceil());
    head.with(
        "ratelimit-policy",
        format!("\"default\";q={limit};w={window}"),
    )
    .with("ratelimit", format!("\"default\";r={remaining};t={wait}"))
    .held_until(verdict, at + wait)
}

fn open_ai(mut head: Head, verdict: &Verdict, at: f64) -> Head {
    let mut quota = |unit: &str, limit: u64, remaining: u64, reset: f64| {
        let mut fields = std::mem::take(&mut head.fields);
        for (what, value) in [
            ("limit", limit.to_string()),
            ("remaining", remaining.to_string()),
            ("reset", go_duration(reset - at)),
        ] {
            fields = fields.header(format!("x-ratelimit-{what}-{unit}"), value);
        }
        head.fields = fields;
    };
    quota("requests", verdict.limit, verdict.remaining, verdict.reset);
    if let Some(tokens) = verdict.tokens {
        quota("tokens", tokens.limit, tokens.remaining, tokens.reset);
    }
    head
}

/// Formats a duration as Go does, in milliseconds: `120ms`, `1s`, `6m0s`, `4m12.172s`.
fn go_duration(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1000.0).ceil() as u64;
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (minutes, rest) = (milliseconds / 60_000, milliseconds % 60_000);
    let seconds = rest as f64 / 1000.0;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
