//! Two rules by which each request waits on its own, regardless of the responses that others received.

use std::sync::Arc;

use super::{ATTEMPTS, Client, Sending, Setup, number, pause};
use crate::world::Reply;

/// How long to wait before the next attempt, after the rejected `attempt` (from 0).
type Rule = fn(&Setup, &Reply, attempt: u32) -> f64;

struct PerRequest {
    setup: Setup,
    rule: Rule,
}

impl Client for PerRequest {
    fn job(&self) -> Sending<'_> {
        Box::pin(async {
            for attempt in 0..ATTEMPTS {
                let reply = self.setup.request().await;
                if reply.status().is_success() {
                    return true;
                }
                pause((self.rule)(&self.setup, &reply, attempt)).await;
            }
            false
        })
    }
}

/// hashicorp/go-retryablehttp: `Retry-After` of a 429 or 503 as it is, otherwise 1 s, doubling up to 30 s; no jitter.
pub fn go_retryablehttp(setup: Setup) -> Arc<dyn Client> {
    let rule: Rule = |_, reply, attempt| {
        let doubled = || f64::from(2_u32.saturating_pow(attempt)).min(30.0);
        number(reply, "retry-after").unwrap_or_else(doubled)
    };
    Arc::new(PerRequest { setup, rule })
}

/// octokit's throttling plugin: with no quota left until the reset by the local clock, rounded up, and a second more;
/// else `Retry-After`, or a minute. Other errors as in its retry plugin: the square of the attempt, in seconds.
///
/// Its own queue of at most 10 requests is left out: it would count the waiting ones as well.
pub fn octokit(setup: Setup) -> Arc<dyn Client> {
    let rule: Rule = |setup, reply, attempt| {
        let hint = number(reply, "retry-after");
        let remaining = number(reply, "x-ratelimit-remaining");
        match number(reply, "x-ratelimit-reset") {
            _ if reply.status().is_server_error() => {
                hint.unwrap_or_else(|| f64::from(attempt + 1).powi(2))
            }
            Some(reset) if remaining == Some(0.0) => (reset - setup.wall()).ceil() + 1.0,
            _ => hint.unwrap_or(60.0),
        }
    };
    Arc::new(PerRequest { setup, rule })
}
