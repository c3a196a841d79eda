//! What a layer knows about quotas.

use std::{fmt, time::Duration};

use super::{PartitionKey, limiter::SharedLimiter};
use crate::clock::after;

/// The quotas of one [`RateLimitRetryLayer`](super::RateLimitRetryLayer). Cheap to clone.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::RateLimitRetryLayer;
///
/// let layer = RateLimitRetryLayer::new();
/// let quotas = layer.handle();
///
/// quotas.pause(&"https://api.example.com".into(), Duration::from_secs(60));
///
/// let held = quotas.status()[0].held_for.is_some_and(|time| time > Duration::from_secs(59));
/// assert!(held);
/// ```
#[derive(Clone)]
pub struct QuotaHandle(SharedLimiter);

impl QuotaHandle {
    pub(crate) fn new(limiter: SharedLimiter) -> Self {
        Self(limiter)
    }

    /// What is known about each partition now.
    #[must_use]
    pub fn status(&self) -> Vec<QuotaStatus> {
        let now = self.0.now_compared();
        self.0.gate.apply_bans(now);
        self.0.gate.inspect(|key, quota, waiting| {
            let (limit, remaining, reset_at) = quota.known();
            let lesson = quota.lesson();
            let left = |at: tokio::time::Instant| at.saturating_duration_since(now);
            QuotaStatus {
                partition: key.clone(),
                limit,
                remaining,
                reset: reset_at.map(left),
                held_for: quota.held_until(now).map(left),
                in_flight: quota.in_flight(),
                waiting,
                allowance: lesson.allowance,
                period: lesson.period,
                rate: lesson.rate,
            }
        })
    }

    /// Keeps all requests of a partition for so long, whatever its server says; [`resume`](Self::resume) ends it sooner.
    ///
    /// They wait, or fail with [`HoldTooLong`](super::HoldTooLong), as with a hold of the server's. Those under way are
    /// not touched. Takes the place of an earlier pause; at most a year.
    pub fn pause(&self, partition: &PartitionKey, length: Duration) {
        let now = self.0.now_compared();
        self.0.gate.pause(partition, after(now, length), now);
    }

    /// Ends a [`pause`](Self::pause). Requests that wait are let go by and by, as far as their quota allows; a hold that
    /// the server has asked for goes on.
    pub fn resume(&self, partition: &PartitionKey) {
        self.0.gate.resume(partition, self.0.now_compared());
    }

    /// Takes the layer out of the way: every request goes at once and is sent once, whatever is known about limits, until
    /// [`enforce`](Self::enforce). For an incident in which holding requests back does more harm than being refused.
    ///
    /// Those that wait go now. Refusals and faults are the caller's as they come; only a 401 is still replayed, by the
    /// layer that puts tokens on. [Pauses](Self::pause), own limits and `max_waiting` do not apply either. What answers
    /// say is learnt as ever, so that the end of it finds what holds then.
    pub fn bypass(&self) {
        self.0.gate.bypass(true);
    }

    /// Ends a [`bypass`](Self::bypass).
    pub fn enforce(&self) {
        self.0.gate.bypass(false);
    }

    /// Whether a [`bypass`](Self::bypass) is going on.
    #[must_use]
    pub fn is_bypassed(&self) -> bool {
        self.0.gate.is_bypassed()
    }

    /// Gives the other processes of the fleet what is reserved for this one, which otherwise comes back after a second.
    ///
    /// For the end of a program with a [`store`](super::RateLimitRetryLayerBuilder::store), after its last request; does
    /// nothing without one. Takes as long as the store for an answer for each partition, and ends at the first that fails:
    /// `StoreFailed` tells.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the rest comes back after a second.
    pub async fn give_back(&self) {
        if let Some(sharing) = &self.0.sharing {
            sharing.give_back().await;
        }
    }

    /// Forgets what is known about a partition, holds and the difference to its server's clock included, except a
    /// [`pause`](Self::pause). Requests that wait are let go as if it were new.
    pub fn forget(&self, partition: &PartitionKey) {
        let now = self.0.now_compared();
        for part in self.0.routes.forget(partition) {
            self.0.gate.forget(&part, now);
        }
        self.0.gate.forget(partition, now);
        self.0.reader.forget(partition);
    }
}

impl fmt::Debug for QuotaHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QuotaHandle").field(&self.status()).finish()
    }
}

/// What is known about one partition.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::{QuotaHandle, QuotaStatus};
///
/// /// How many requests could go now, as far as the API has said so.
/// fn room(quotas: &QuotaHandle) -> Option<u64> {
///     let all: Vec<QuotaStatus> = quotas.status();
///     let open = all.iter().filter(|quota| quota.held_for.is_none());
///     open.filter_map(|quota| quota.remaining).min()
/// }
/// # let _: fn(&QuotaHandle) -> Option<u64> = room;
/// ```
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
    /// How long nobody may go, because the server has refused a request or because of a
    /// [`pause`](QuotaHandle::pause).
    pub held_for: Option<Duration>,
    /// How many requests are under way.
    pub in_flight: u32,
    /// How many requests this partition keeps waiting.
    pub waiting: usize,
    /// How many requests a window takes, as refusals have taught: for servers that do not say.
    pub allowance: Option<u64>,
    /// How long such a window lasts at most.
    pub period: Option<Duration>,
    /// How many requests a second the server gives out, as refusals have taught: for those that give out by and by.
    pub rate: Option<f64>,
}
