//! hashicorp/go-retryablehttp: each request waits on its own, regardless of the responses that others received.
//!
//! From the released source: `Retry-After` of a 429 or 503 without a change, otherwise 1 s, doubling up to 30 s; no
//! jitter.

use std::sync::Arc;

use http::Response;

use super::{ATTEMPTS, Client, Sending, Setup, number, pause};
use crate::job::Job;

struct PerRequest(Setup);

impl Client for PerRequest {
    fn job<'a>(&'a self, job: &'a Job) -> Sending<'a> {
        Box::pin(async {
            for attempt in 0..ATTEMPTS {
                let reply = self.0.exchange(job).await;
                if reply.status().is_success() {
                    return true;
                }
                pause(wait(&reply, attempt)).await;
            }
            false
        })
    }
}

/// Returns the wait after the rejected `attempt` (from 0), in seconds.
pub fn wait(reply: &Response<()>, attempt: u32) -> f64 {
    let doubled = || f64::from(2_u32.saturating_pow(attempt)).min(30.0);
    number(reply, "retry-after").unwrap_or_else(doubled)
}

pub fn client(setup: Setup) -> Arc<dyn Client> {
    Arc::new(PerRequest(setup))
}
