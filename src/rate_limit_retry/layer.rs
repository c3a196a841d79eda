//! The rate-limit and retry layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{
    QuotaHandle, RateLimitRetry,
    limiter::{Limiter, SharedLimiter},
    policy::LimitPolicy,
};
use crate::{inner_service::InnerService, sharded::Sharded};

/// Holds requests while their quota is exhausted, and retries requests that were rejected because of it.
///
/// All services that a layer and its clones create share their quotas. See the [module](super) for its guarantees.
///
/// # Placement
///
/// Place it above layers that act on a single attempt, such as timeouts and tracing of attempts, and below layers that
/// act on the whole call. Do not place another retry layer around it: each of the two would retry what the other
/// returns. A nested rate-limit layer is reported once as [`Misused`](super::RateLimitEvent::Misused); the inner layer
/// then does not retry what is a retry of the outer one already. Use one layer per program and credential, and clone
/// it: two layers for the same API do not know of each other's requests.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::RateLimitRetryLayer;
///
/// let layer = RateLimitRetryLayer::builder()
///     .max_wait(Duration::from_secs(30))
///     .build();
/// # drop(layer);
/// ```
#[doc(alias(
    "429",
    "Retry-After",
    "rate limit",
    "throttle",
    "throttling",
    "backoff"
))]
#[derive(Clone, Debug)]
pub struct RateLimitRetryLayer {
    /// One policy per shard. All of them point to the same limiter; only their fast-path caches differ.
    policies: Sharded<LimitPolicy>,
}

impl RateLimitRetryLayer {
    /// Creates a layer around `limiter`, with one policy per shard.
    pub(super) fn from_limiter(limiter: Limiter) -> Self {
        let limiter = Arc::new(limiter);
        Self {
            policies: Sharded::new(|| LimitPolicy::new(Arc::clone(&limiter))),
        }
    }

    /// Returns a handle to the layer's quotas, to inspect, pause or bypass them. Handles stay valid after the layer has
    /// been moved into a service.
    #[must_use]
    pub fn handle(&self) -> QuotaHandle {
        QuotaHandle::new(Arc::clone(&self.policies.local().limiter))
    }

    /// Returns the shared limiter, for a layer that combines limits with something else, such as a token.
    pub(crate) fn into_limiter(self) -> SharedLimiter {
        Arc::clone(&self.policies.local().limiter)
    }
}

impl<S: InnerService> Layer<S> for RateLimitRetryLayer {
    type Service = RateLimitRetry<S>;

    fn layer(&self, inner: S) -> Self::Service {
        // Reports a nested rate-limit layer in `S`. Type-erased services are not recognized.
        let limiter = &self.policies.local().limiter;
        limiter.emit_misuse(limiter.usage.limits_around::<S>());
        RateLimitRetry::new(inner, self.policies.clone())
    }
}
