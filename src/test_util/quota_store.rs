//! A quota store in memory.

use std::{
    collections::HashMap,
    fmt,
    future::{pending, poll_fn},
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::sleep;

use super::{script::lock, time::now};
use crate::rate_limit_retry::{
    CacheIdentity, ExactQuota, Ledger, QuotaReport, QuotaStore, QuotaView, Slot, StoreError,
    StoreFuture,
};

/// A [`QuotaStore`] in this process's memory, in tokio's time: for tests in which several layers stand for the processes
/// of a fleet. Clones share what is stored.
#[derive(Clone, Default)]
pub struct MemoryQuotaStore(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    quotas: HashMap<Vec<u8>, Kept>,
    fault: Option<StoreError>,
    latency: Duration,
    loss: f64,
    calls: u64,
}

#[derive(Default)]
struct Kept {
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
        lock(&self.0).fault = fault;
    }

    /// How long every call takes from now on, one half each way. Default: no time.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.0).latency = latency;
    }

    /// The share of calls that are never answered from now on, half of them lost on the way there, half on the way back;
    /// `0.0..=1.0`. Default: none.
    pub fn set_loss(&self, share: f64) {
        lock(&self.0).loss = share;
    }

    /// Forgets everything, as a restart would.
    pub fn clear(&self) {
        lock(&self.0).quotas.clear();
    }

    /// How often it was asked, whatever came of it.
    #[must_use]
    pub fn calls(&self) -> u64 {
        lock(&self.0).calls
    }

    async fn on<T>(
        &self,
        quota: &CacheIdentity,
        work: impl FnOnce(&mut Kept) -> T,
    ) -> Result<T, StoreError> {
        let (latency, lost_there, lost_back) = {
            let mut state = lock(&self.0);
            state.calls += 1;
            let lost = fastrand::f64();
            let (there, back) = (lost < state.loss / 2.0, lost < state.loss);
            (state.latency / 2, there, back)
        };
        if lost_there {
            return pending().await;
        }
        travel(latency).await;
        let answer = {
            let mut state = lock(&self.0);
            match state.fault.clone() {
                Some(fault) => Err(fault),
                None => {
                    let quota = quota.expose().to_vec();
                    Ok(work(state.quotas.entry(quota).or_default()))
                }
            }
        };
        if lost_back {
            return pending().await;
        }
        travel(latency).await;
        answer
    }

    /// How many holds have been told of, once they are more than `known`.
    async fn holds(&self, quota: &CacheIdentity, known: Option<u64>) -> u64 {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            let kept = state.quotas.entry(quota.expose().to_vec()).or_default();
            if known.is_none_or(|known| kept.holds != known) {
                return Poll::Ready(kept.holds);
            }
            if !kept.listening.iter().any(|w| w.will_wake(cx.waker())) {
                kept.listening.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl QuotaStore for MemoryQuotaStore {
    fn report<'a>(
        &'a self,
        quota: &'a CacheIdentity,
        report: &'a QuotaReport,
    ) -> StoreFuture<'a, QuotaView> {
        Box::pin(async move {
            let (view, listening) = self
                .on(quota, |kept| {
                    let (view, news) = kept.ledger.report(report, now());
                    let mut listening = Vec::new();
                    if news {
                        kept.holds += 1;
                        listening = std::mem::take(&mut kept.listening);
                    }
                    (view, listening)
                })
                .await?;
            listening.into_iter().for_each(Waker::wake);
            Ok(view)
        })
    }

    fn slot<'a>(
        &'a self,
        quota: &'a CacheIdentity,
        exact: ExactQuota,
        longest: Duration,
    ) -> StoreFuture<'a, Slot> {
        Box::pin(self.on(quota, move |kept| kept.ledger.slot(exact, longest, now())))
    }

    fn changed<'a>(&'a self, quota: &'a CacheIdentity) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let known = self.holds(quota, None).await;
            self.holds(quota, Some(known)).await;
            let latency = lock(&self.0).latency;
            travel(latency / 2).await;
            Ok(())
        })
    }
}

async fn travel(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

impl fmt::Debug for MemoryQuotaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQuotaStore").finish_non_exhaustive()
    }
}
