//! A quota store in memory.

use std::{
    fmt,
    future::poll_fn,
    mem::take,
    task::{Poll, Waker},
    time::Duration,
};

use super::{memory::Memory, time::now};
use crate::rate_limit_retry::{
    CacheIdentity, ExactQuota, Ledger, QuotaReport, QuotaStore, QuotaView, Slot, StoreError,
};

/// A [`QuotaStore`] in this process's memory, in tokio's time: for tests in which several layers stand for the processes
/// of a fleet. Clones share what is stored.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     RateLimitRetryLayer,
///     rate_limit_retry::{StoreError, StoredQuotas},
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
pub struct MemoryQuotaStore(Memory<Entry>);

#[derive(Default)]
struct Entry {
    ledger: Ledger,
    /// How many holds have been told of.
    holds: u64,
    listening: Vec<Waker>,
}

impl MemoryQuotaStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every call fails with `fault` from now on. Default: none.
    pub fn fail_with(&self, fault: Option<StoreError>) {
        self.0.settings().fault = fault;
    }

    /// How long every call takes from now on, one half each way. Default: no time.
    pub fn set_latency(&self, latency: Duration) {
        self.0.settings().latency = latency;
    }

    /// The share of calls that are never answered from now on, half of them lost on the way there, half on the way back;
    /// `0.0..=1.0`. Default: none.
    pub fn set_loss(&self, share: f64) {
        self.0.settings().loss = share;
    }

    /// Forgets everything, as a restart would.
    pub fn clear(&self) {
        self.0.clear();
    }

    /// How often it was asked, whatever came of it.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.calls()
    }

    /// How many holds have been told of, once they are more than `known`.
    async fn holds(&self, quota: &CacheIdentity, known: Option<u64>) -> u64 {
        poll_fn(|cx| {
            self.0.look(quota, |entry| {
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
        quota: &CacheIdentity,
        report: &QuotaReport,
    ) -> Result<QuotaView, StoreError> {
        let report = |entry: &mut Entry| {
            let (view, news) = entry.ledger.report(report, now());
            let mut listening = Vec::new();
            if news {
                entry.holds += 1;
                listening = take(&mut entry.listening);
            }
            (view, listening)
        };
        let (view, listening) = self.0.call(quota, report).await?;
        listening.into_iter().for_each(Waker::wake);
        Ok(view)
    }

    async fn slot(
        &self,
        quota: &CacheIdentity,
        exact: ExactQuota,
        longest: Duration,
    ) -> Result<Slot, StoreError> {
        let slot = move |entry: &mut Entry| entry.ledger.slot(exact, longest, now());
        self.0.call(quota, slot).await
    }

    async fn changed(&self, quota: &CacheIdentity) -> Result<(), StoreError> {
        let known = self.holds(quota, None).await;
        self.holds(quota, Some(known)).await;
        self.0.half_way().await;
        Ok(())
    }
}

impl fmt::Debug for MemoryQuotaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQuotaStore").finish_non_exhaustive()
    }
}
