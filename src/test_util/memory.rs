//! What the stores in memory have in common: entries, and a way to them that takes its time and may fail.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::sleep;

use super::script::lock;
use crate::store::{CacheIdentity, StoreError};

/// Entries of type `E`, shared by all clones.
pub(super) struct Memory<E>(Arc<Mutex<State<E>>>);

pub(super) struct State<E> {
    entries: HashMap<Vec<u8>, E>,
    pub(super) fault: Option<StoreError>,
    pub(super) latency: Duration,
    /// The share of calls that are never answered.
    pub(super) loss: f64,
    calls: u64,
}

impl<E: Default> Memory<E> {
    pub(super) fn settings(&self) -> MutexGuard<'_, State<E>> {
        lock(&self.0)
    }

    pub(super) fn clear(&self) {
        lock(&self.0).entries.clear();
    }

    pub(super) fn calls(&self) -> u64 {
        lock(&self.0).calls
    }

    /// Works on an entry after half of the latency, and answers after the other.
    pub(super) async fn call<T>(
        &self,
        identity: &CacheIdentity,
        work: impl FnOnce(&mut E) -> T,
    ) -> Result<T, StoreError> {
        let (lost_there, lost_back) = {
            let mut state = lock(&self.0);
            state.calls += 1;
            let lost = fastrand::f64();
            (lost < state.loss / 2.0, lost < state.loss)
        };
        if lost_there {
            return pending().await;
        }
        self.half_way().await;
        let fault = lock(&self.0).fault.clone();
        let answer = match fault {
            Some(fault) => Err(fault),
            None => Ok(self.look(identity, work)),
        };
        if lost_back {
            return pending().await;
        }
        self.half_way().await;
        answer
    }

    /// The same at once, whatever the settings say.
    pub(super) fn look<T>(&self, identity: &CacheIdentity, work: impl FnOnce(&mut E) -> T) -> T {
        let mut state = lock(&self.0);
        let identity = identity.expose().to_vec();
        work(state.entries.entry(identity).or_default())
    }

    /// The time that half of a call takes.
    pub(super) async fn half_way(&self) {
        let latency = lock(&self.0).latency;
        if !latency.is_zero() {
            sleep(latency / 2).await;
        }
    }
}

impl<E> Clone for Memory<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Default for Memory<E> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            entries: HashMap::new(),
            fault: None,
            latency: Duration::ZERO,
            loss: 0.0,
            calls: 0,
        })))
    }
}
