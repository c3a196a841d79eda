//! What a layer knows about quotas.

use std::{fmt, time::Duration};

use super::{PartitionKey, limiter::SharedLimiter};

/// The quotas of one [`RateLimitRetryLayer`](super::RateLimitRetryLayer). Cheap to clone.
#[derive(Clone)]
pub struct QuotaHandle(SharedLimiter);

impl QuotaHandle {
    pub(crate) fn new(limiter: SharedLimiter) -> Self {
        Self(limiter)
    }

    /// What is known about each partition now.
    #[must_use]
    pub fn status(&self) -> Vec<QuotaStatus> {
        let now = self.0.now();
        self.0.gate.inspect(|key, quota, waiting| {
            let (limit, remaining, reset_at) = quota.known();
            let left = |at: tokio::time::Instant| at.saturating_duration_since(now);
            QuotaStatus {
                partition: key.clone(),
                limit,
                remaining,
                reset: reset_at.map(left),
                held_for: quota.held_until(now).map(left),
                in_flight: quota.in_flight(),
                waiting,
            }
        })
    }

    /// Forgets what is known about a partition, a hold included. Requests that wait are let go as if it were new.
    pub fn forget(&self, partition: &PartitionKey) {
        self.0.gate.forget(partition, self.0.now());
    }
}

impl fmt::Debug for QuotaHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QuotaHandle").field(&self.status()).finish()
    }
}

/// What is known about one partition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuotaStatus {
    /// Which one.
    pub partition: PartitionKey,
    /// How many requests a window allows, if the server said so.
    pub limit: Option<u64>,
    /// How many of them remained at the last answer.
    pub remaining: Option<u64>,
    /// How long until the server resets the quota.
    pub reset: Option<Duration>,
    /// How long nobody may go.
    pub held_for: Option<Duration>,
    /// How many requests are under way.
    pub in_flight: u32,
    /// How many requests wait.
    pub waiting: usize,
}
