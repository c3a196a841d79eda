//! A handle to inspect and control the quotas of a layer.
//!
//! | method | effect |
//! |---|---|
//! | [`status`](QuotaHandle::status) | reads a snapshot |
//! | [`pause`](QuotaHandle::pause), [`resume`](QuotaHandle::resume) | hold one partition, for maintenance |
//! | [`bypass`](QuotaHandle::bypass), [`enforce`](QuotaHandle::enforce) | disable and enable the layer |
//! | [`forget`](QuotaHandle::forget) | discards what is known about a partition |
//! | [`release_reservations`](QuotaHandle::release_reservations) | releases reservations at the end of the program |
//!
//! All methods act on this process only, also with a store. They may be called from any thread and from event sinks,
//! because sinks run outside every lock.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{PartitionKey, limiter::SharedLimiter};
use crate::clock::add_capped;

/// A handle to the quotas of one [`RateLimitRetryLayer`](super::RateLimitRetryLayer). Cheap to clone.
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
/// let held_for = quotas.status()[0].held_for().unwrap_or_default();
/// assert!(held_for > Duration::from_secs(59));
/// ```
#[derive(Clone)]
pub struct QuotaHandle(SharedLimiter);

impl QuotaHandle {
    /// Creates a handle to the quotas of `limiter`.
    pub(crate) fn new(limiter: SharedLimiter) -> Self {
        Self(limiter)
    }

    /// Returns a snapshot of each partition, in no particular order. Partitions that are not in use may be missing once
    /// there are more than 10,000.
    ///
    /// Takes the gate's lock while it copies all partitions, and first collects what threads have counted on their own.
    /// Meant for health endpoints and metrics, not for every request.
    ///
    /// # Examples
    ///
    /// The partitions in which requests wait:
    ///
    /// ```
    /// use tower_m2m::RateLimitRetryLayer;
    ///
    /// let quotas = RateLimitRetryLayer::new().handle();
    ///
    /// for quota in quotas.status().iter().filter(|quota| quota.waiting() > 0) {
    ///     println!("{}: {} requests wait", quota.partition(), quota.waiting());
    /// }
    /// ```
    #[must_use]
    pub fn status(&self) -> Vec<QuotaStatus> {
        // Detects a suspension first, so that holds that ended meanwhile are not reported.
        let now = self.0.now_synced();
        // An origin-wide hold is applied to a partition at its next request; the snapshot must contain it earlier.
        self.0.gate.apply_origin_holds(now);
        self.0.gate.inspect(|key, quota, waiting| {
            let (limit, remaining, reset_at) = quota.announced_quota();
            let estimate = quota.estimate();
            let left = |at: tokio::time::Instant| at.saturating_duration_since(now);
            // All times are relative to the same `now`, so that they can be compared.
            QuotaStatus {
                partition: key.clone(),
                limit,
                remaining,
                reset: reset_at.map(left),
                held_for: quota.held_until(now).map(left),
                in_flight: quota.in_flight(),
                waiting,
                estimated_limit: estimate.limit,
                estimated_window: estimate.window,
                estimated_rate: estimate.rate,
                reserved: amounts(quota.reserved().amounts()),
                charged: amounts(quota.reserved().all_charged()),
            }
        })
    }

    /// Holds all requests of a partition for `length`, whatever its server announces. [`resume`](Self::resume) ends
    /// the pause early.
    ///
    /// Requests wait, or fail with [`RateLimited`](super::RateLimited), as during a hold by the server. Requests in
    /// flight are not affected. Replaces an earlier pause. Maximum: one year.
    ///
    /// The partition need not exist yet: its first request then finds it paused. A pause counts against `max_wait`, so
    /// a pause longer than that makes requests fail at once instead of filling the queue.
    pub fn pause(&self, partition: &PartitionKey, length: Duration) {
        let now = self.0.now_synced();
        self.0.gate.pause(partition, add_capped(now, length), now);
    }

    /// Ends a [`pause`](Self::pause). Waiting requests are admitted gradually, as far as their quota allows. A hold
    /// by the server stays in effect. Has no effect on a partition that is not paused.
    pub fn resume(&self, partition: &PartitionKey) {
        self.0.gate.resume(partition, self.0.now_synced());
    }

    /// Disables the layer until [`enforce`](Self::enforce): every request is sent immediately and once, regardless of
    /// limits. For incidents in which holding requests does more harm than rejections.
    ///
    /// Waiting requests are sent now. Rejections and errors are returned to the caller; only the layer that adds
    /// tokens still replays a request after a 401. [Pauses](Self::pause), configured limits and `max_waiting` do not
    /// apply either. Responses are still recorded while bypassed, so limits are up to date when enforcement resumes.
    pub fn bypass(&self) {
        self.0.gate.set_bypassed(true);
    }

    /// Ends a [`bypass`](Self::bypass). Holds and windows that responses have reported in the meantime apply at once.
    pub fn enforce(&self) {
        self.0.gate.set_bypassed(false);
    }

    /// Returns whether a [`bypass`](Self::bypass) is active.
    #[must_use]
    pub fn is_bypassed(&self) -> bool {
        self.0.gate.is_bypassed()
    }

    /// Releases the quota that the store has reserved for this process, so that other processes of the fleet can use
    /// it. Without this call, the reservation expires after 1 s.
    ///
    /// Call it at the end of a program with a [`store`](super::RateLimitRetryLayerBuilder::store), after the last
    /// request. Does nothing without a store. Sends one request to the store per partition, one after the other.
    /// Stops at the first failure, which [`StoreFailed`](super::RateLimitEvent::StoreFailed) reports.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the remaining reservations expire after 1 s.
    pub async fn release_reservations(&self) {
        if let Some(fleet_sync) = &self.0.fleet_sync {
            fleet_sync.release_reservations().await;
        }
    }

    /// Removes everything known about a partition, including holds and the clock skew of its server, except a
    /// [`pause`](Self::pause). Waiting requests are admitted as for a new partition.
    ///
    /// Use it after the quota has been changed on the server, such as after an upgrade of the plan, so that an old hold
    /// or estimate does not delay requests. With a store, other processes keep what they know, and this process
    /// receives it again with its next report.
    pub fn forget(&self, partition: &PartitionKey) {
        let now = self.0.now_synced();
        // Held routes and named quotas of the partition are partitions of their own.
        let resources = self.0.resources.forget(partition);
        for part in self.0.routes.forget(partition).into_iter().chain(resources) {
            self.0.gate.forget(&part, now);
        }
        self.0.gate.forget(partition, now);
        self.0.header_reader.forget(partition);
    }
}

impl fmt::Debug for QuotaHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QuotaHandle").field(&self.status()).finish()
    }
}

/// Copies amounts out of a quota.
fn amounts<'a>(amounts: impl Iterator<Item = (&'a str, u64)>) -> BTreeMap<Box<str>, u64> {
    amounts
        .map(|(unit, amount)| (unit.into(), amount))
        .collect()
}

/// A snapshot of one partition. All durations count from the call of [`QuotaHandle::status`].
///
/// `limit`, `remaining` and `reset` come from responses. If a partition has several quotas, they are those of the quota
/// with the fewest remaining requests; quotas of other units are not shown. Named quotas that count different routes
/// have partitions of their own, such as `https://api.github.com search`. The `estimated_` fields are the layer's own
/// conclusions. A server that announces its quota usually has no estimate. The guide [`limits`](crate::docs::limits)
/// explains what delays requests.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::{QuotaHandle, QuotaStatus};
///
/// /// How many requests can be sent now, as far as the API announces it.
/// fn headroom(quotas: &QuotaHandle) -> Option<u64> {
///     let all: Vec<QuotaStatus> = quotas.status();
///     let open = all.iter().filter(|quota| quota.held_for().is_none());
///     open.filter_map(QuotaStatus::remaining).min()
/// }
/// # let _: fn(&QuotaHandle) -> Option<u64> = headroom;
/// ```
#[derive(Clone, Debug)]
pub struct QuotaStatus {
    /// The partition.
    partition: PartitionKey,
    /// Number of requests per window; `None` if the server does not announce it.
    limit: Option<u64>,
    /// Number of requests that remained at the last response; `None` if the server does not announce it.
    remaining: Option<u64>,
    /// Time until the server resets the quota; `None` if the server does not announce it.
    reset: Option<Duration>,
    /// How long the partition is held, because the server rejected a request, because the estimated limit is reached,
    /// or because of a [`pause`](QuotaHandle::pause); `None` if it is not held.
    held_for: Option<Duration>,
    /// Number of requests in flight. Does not contain requests on the fast path and requests sent during a
    /// [`bypass`](QuotaHandle::bypass), which are not counted.
    in_flight: u32,
    /// Number of requests that wait for this partition.
    waiting: usize,
    /// Estimated number of requests per window, for servers that do not announce it. Derived from rejected requests.
    estimated_limit: Option<u64>,
    /// Upper bound on the length of an estimated window.
    estimated_window: Option<Duration>,
    /// Estimated requests per second, for servers that refill the quota continuously. Derived from rejected requests.
    estimated_rate: Option<f64>,
    /// Sum of what requests have reserved of each unit and not settled.
    reserved: BTreeMap<Box<str>, u64>,
    /// Sum of what settled requests were charged of each unit.
    charged: BTreeMap<Box<str>, u64>,
}

impl QuotaStatus {
    /// Returns the partition.
    #[must_use]
    pub fn partition(&self) -> &PartitionKey {
        &self.partition
    }

    /// Returns the number of requests per window; `None` if the server does not announce it.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Returns the number of requests that remained at the last response; `None` if the server does not announce it.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// Returns the time until the server resets the quota; `None` if the server does not announce it.
    #[must_use]
    pub fn reset(&self) -> Option<Duration> {
        self.reset
    }

    /// Returns how long the partition is held, because the server rejected a request, because the estimated limit is
    /// reached, or because of a [`pause`](QuotaHandle::pause); `None` if it is not held. An exhausted announced quota
    /// is not a hold.
    #[must_use]
    pub fn held_for(&self) -> Option<Duration> {
        self.held_for
    }

    /// Returns the number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Returns the number of requests that wait for this partition.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the estimated number of requests per window, for servers that do not announce it. Derived from rejected
    /// requests.
    #[must_use]
    pub fn estimated_limit(&self) -> Option<u64> {
        self.estimated_limit
    }

    /// Returns how much of a unit, such as `tokens`, requests have reserved and not settled. 0 for unknown units; see
    /// [`cost`](super::RateLimitRetryLayerBuilder::cost).
    ///
    /// A request settles when its response has arrived, or later, if a layer below measures the response.
    #[must_use]
    pub fn reserved(&self, unit: &str) -> u64 {
        self.reserved.get(unit).copied().unwrap_or_default()
    }

    /// Returns how much of a unit settled requests were charged since the partition was created: the reported cost, or
    /// the estimate if none was reported. 0 for unknown units, and for all but the first 64 units.
    #[must_use]
    pub fn charged(&self, unit: &str) -> u64 {
        self.charged.get(unit).copied().unwrap_or_default()
    }

    /// Returns the upper bound on the length of an estimated window.
    #[must_use]
    pub fn estimated_window(&self) -> Option<Duration> {
        self.estimated_window
    }

    /// Returns the estimated number of requests per second, for servers that refill the quota continuously. Derived
    /// from rejected requests.
    #[must_use]
    pub fn estimated_rate(&self) -> Option<f64> {
        self.estimated_rate
    }
}
