//! A quota store in memory.
//!
//! The arithmetic is that of [`MemoryQuota`], which does the same as the scripts of the Redis store. This module adds
//! the entries and the notifications.

use std::{
    fmt,
    future::poll_fn,
    mem::take,
    task::{Poll, Waker},
    time::Duration,
};

use super::{memory_store::MemoryStore, time::now};
use crate::{
    rate_limit_retry::{
        FleetQuota, MemoryQuota, QuotaReport, QuotaSnapshot, QuotaStore, Reservation,
    },
    store::{CacheKey, StoreError},
};

/// A [`QuotaStore`] in this process's memory, on tokio's clock: for tests in which several layers represent the processes
/// of a fleet. Clones share the entries.
///
/// Faults and losses apply to reports and reservations. Waiting for a hold of another process is only subject to the
/// latency.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     RateLimitRetryLayer, rate_limit_retry::StoredQuotas, store::StoreError,
///     test_util::MemoryQuotaStore,
/// };
///
/// let store = MemoryQuotaStore::new();
/// // Two processes of a fleet.
/// let [one, other] = ["a", "b"].map(|_| {
///     let quotas = StoredQuotas::new("application-1", store.clone());
///     RateLimitRetryLayer::builder().store(quotas).build()
/// });
/// store.fail_with(Some(StoreError::unavailable("is down")));
/// # drop((one, other));
/// ```
#[derive(Clone, Default)]
pub struct MemoryQuotaStore(MemoryStore<Entry>);

/// The entry of one quota.
#[derive(Default)]
struct Entry {
    /// The state of the quota.
    quota: MemoryQuota,
    /// Number of holds that were reported.
    holds: u64,
    /// Wakers of the tasks that wait for a hold.
    listening: Vec<Waker>,
}

impl MemoryQuotaStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every call fail with `fault` from now on. Default: `None`.
    ///
    /// The layers then report the failure once, and continue with the limits that each of them knows.
    pub fn fail_with(&self, fault: Option<StoreError>) {
        self.0.settings().fault = fault;
    }

    /// Sets how long every call takes from now on, half of it in each direction. Default: zero.
    pub fn set_latency(&self, latency: Duration) {
        self.0.settings().latency = latency;
    }

    /// Sets the fraction of calls that never complete from now on, in `0.0..=1.0`. Half of them are lost on the way to the
    /// store, half on the way back. Default: 0.
    pub fn set_loss(&self, share: f64) {
        self.0.settings().loss = share;
    }

    /// Sets the seed of the random numbers that decide which calls are lost. Default: 0, so that a test loses the same calls
    /// each time.
    pub fn set_seed(&self, seed: u64) {
        self.0.settings().random = fastrand::Rng::with_seed(seed);
    }

    /// Removes all entries, as a restart would. Listeners are woken, as by a lost connection.
    pub fn clear(&self) {
        let entries = self.0.clear();
        // Woken without the lock: wakers run foreign code.
        let listening = entries.into_iter().flat_map(|entry| entry.listening);
        listening.for_each(Waker::wake);
    }

    /// Returns the number of calls, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.calls()
    }

    /// Waits until the number of reported holds differs from `known`, and returns it. `None` does not wait.
    async fn holds(&self, quota: &CacheKey, known: Option<u64>) -> u64 {
        poll_fn(|cx| {
            self.0.with_entry(quota, |entry| {
                if known.is_none_or(|known| entry.holds != known) {
                    return Poll::Ready(entry.holds);
                }
                if !entry.listening.iter().any(|w| w.will_wake(cx.waker())) {
                    entry.listening.push(cx.waker().clone());
                }
                Poll::Pending
            })
        })
        .await
    }
}

impl QuotaStore for MemoryQuotaStore {
    async fn report(
        &self,
        quota: &CacheKey,
        report: &QuotaReport,
    ) -> Result<QuotaSnapshot, StoreError> {
        let report = |entry: &mut Entry| {
            let (view, news) = entry.quota.report(report, now());
            let mut listening = Vec::new();
            if news {
                // Only holds wake the listeners: other changes arrive with the next report.
                entry.holds += 1;
                listening = take(&mut entry.listening);
            }
            (view, listening)
        };
        let (view, listening) = self.0.call(quota, report).await?;
        // Woken without the lock: wakers run foreign code.
        listening.into_iter().for_each(Waker::wake);
        Ok(view)
    }

    async fn reserve(
        &self,
        quota: &CacheKey,
        exact: FleetQuota,
        longest: Duration,
    ) -> Result<Reservation, StoreError> {
        let slot = move |entry: &mut Entry| entry.quota.reserve(exact, longest, now());
        self.0.call(quota, slot).await
    }

    async fn changed(&self, quota: &CacheKey) -> Result<(), StoreError> {
        let known = self.holds(quota, None).await;
        self.holds(quota, Some(known)).await;
        self.0.half_latency().await;
        Ok(())
    }
}

impl fmt::Debug for MemoryQuotaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQuotaStore").finish_non_exhaustive()
    }
}
