//! The common part of the stores in memory: entries, and calls that have a latency and may fail.
//!
//! The order of a call is that of a network: half of the latency, the work at the store, and the other half. A call that is
//! canceled in the second half has taken effect.
//!
//! | call | takes effect | completes |
//! |---|---|---|
//! | normal | after half of the latency | after all of it |
//! | with a fault | no | after all of the latency, with the error |
//! | lost on the way there | no | never |
//! | lost on the way back | after half of the latency | never |

use std::{
    collections::HashMap,
    future::pending,
    mem::take,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::sleep;

use super::script::lock;
use crate::store::{CacheKey, StoreError};

/// A map of entries of type `E`, shared by all clones.
pub(super) struct MemoryStore<E>(Arc<Mutex<State<E>>>);

/// The entries and the settings.
pub(super) struct State<E> {
    /// The entries by their encoded key.
    entries: HashMap<Vec<u8>, E>,
    /// Error of every call.
    pub(super) fault: Option<StoreError>,
    /// Duration of a call.
    pub(super) latency: Duration,
    /// Fraction of calls that never complete.
    pub(super) loss: f64,
    /// Decides which calls are lost.
    pub(super) random: fastrand::Rng,
    /// Number of calls.
    calls: u64,
}

impl<E: Default> MemoryStore<E> {
    /// Locks the settings.
    pub(super) fn settings(&self) -> MutexGuard<'_, State<E>> {
        lock(&self.0)
    }

    /// Removes and returns all entries.
    pub(super) fn clear(&self) -> Vec<E> {
        take(&mut lock(&self.0).entries).into_values().collect()
    }

    /// Returns the number of calls, failed ones included.
    pub(super) fn calls(&self) -> u64 {
        lock(&self.0).calls
    }

    /// Calls `work` with an entry after half of the latency, and returns its result after the other half.
    ///
    /// Half of the lost calls are lost before `work` runs, and half of them after it.
    pub(super) async fn call<T>(
        &self,
        cache_key: &CacheKey,
        work: impl FnOnce(&mut E) -> T,
    ) -> Result<T, StoreError> {
        // One random number for both directions: a call is lost at most once.
        let (lost_there, lost_back) = {
            let mut state = lock(&self.0);
            state.calls += 1;
            let lost = state.random.f64();
            (lost < state.loss / 2.0, lost < state.loss)
        };
        if lost_there {
            return pending().await;
        }
        self.half_latency().await;
        // Read when the call reaches the store: a fault that was set or removed on the way counts.
        let fault = lock(&self.0).fault.clone();
        let answer = match fault {
            Some(fault) => Err(fault),
            None => Ok(self.with_entry(cache_key, work)),
        };
        if lost_back {
            return pending().await;
        }
        self.half_latency().await;
        answer
    }

    /// Calls `work` with an entry at once, without latency, loss or errors.
    pub(super) fn with_entry<T>(&self, cache_key: &CacheKey, work: impl FnOnce(&mut E) -> T) -> T {
        let mut state = lock(&self.0);
        // Every access creates the entry, with its default.
        let cache_key = cache_key.expose().to_vec();
        work(state.entries.entry(cache_key).or_default())
    }

    /// Waits for half of the latency.
    pub(super) async fn half_latency(&self) {
        let latency = lock(&self.0).latency;
        if !latency.is_zero() {
            sleep(latency / 2).await;
        }
    }
}

impl<E> Clone for MemoryStore<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Default for MemoryStore<E> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            entries: HashMap::new(),
            fault: None,
            latency: Duration::ZERO,
            loss: 0.0,
            random: fastrand::Rng::with_seed(0),
            calls: 0,
        })))
    }
}
