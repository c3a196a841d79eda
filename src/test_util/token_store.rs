//! A token store in memory.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{script::lock, time::now};
use crate::client_credentials::{
    CacheIdentity, Lease, LeaseHolder, StoreError, StoredToken, TokenIdentity, TokenStore,
};

/// A [`TokenStore`] in this process's memory, in tokio's time: for tests in which several layers stand for the processes
/// of a fleet. Clones share what is stored.
#[derive(Clone, Default)]
pub struct MemoryTokenStore(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    slots: HashMap<Vec<u8>, Slot>,
    fault: Option<StoreError>,
    latency: Duration,
    calls: u64,
}

#[derive(Default)]
struct Slot {
    token: Option<(StoredToken, Instant)>,
    /// Nobody holds a lease that is marked as failed.
    lease: Option<(Option<LeaseHolder>, Instant)>,
    cooled_at: Option<Instant>,
}

impl MemoryTokenStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every call fails with `fault` from now on. Default: none.
    pub fn fail_with(&self, fault: Option<StoreError>) {
        lock(&self.0).fault = fault;
    }

    /// How long every call takes from now on. Default: no time.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.0).latency = latency;
    }

    /// Forgets everything, as a restart would.
    pub fn clear(&self) {
        lock(&self.0).slots.clear();
    }

    /// How often it was asked, whatever came of it.
    #[must_use]
    pub fn calls(&self) -> u64 {
        lock(&self.0).calls
    }

    async fn on<T>(
        &self,
        identity: &CacheIdentity,
        work: impl FnOnce(&mut Slot, Instant) -> T,
    ) -> Result<T, StoreError> {
        let latency = {
            let mut state = lock(&self.0);
            state.calls += 1;
            state.latency
        };
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let mut state = lock(&self.0);
        match state.fault.clone() {
            Some(fault) => Err(fault),
            None => Ok(work(
                state.slots.entry(identity.expose().to_vec()).or_default(),
                now(),
            )),
        }
    }
}

impl Slot {
    /// Who holds the lease now; `Some(None)` if whoever did has failed.
    fn leased(&self, now: Instant) -> Option<Option<LeaseHolder>> {
        let (holder, until) = self.lease?;
        (now < until).then_some(holder)
    }
}

impl TokenStore for MemoryTokenStore {
    async fn get(&self, identity: &CacheIdentity) -> Result<Option<StoredToken>, StoreError> {
        self.on(identity, |slot, now| {
            let (token, until) = slot.token.as_ref()?;
            let left = until.saturating_duration_since(now);
            (!left.is_zero()).then(|| token.clone().with_left(left))
        })
        .await
    }

    async fn put(
        &self,
        identity: &CacheIdentity,
        token: &StoredToken,
        holder: LeaseHolder,
    ) -> Result<bool, StoreError> {
        self.on(identity, |slot, now| {
            let may = matches!(slot.leased(now), Some(of) if of.is_none_or(|of| of == holder));
            if may {
                slot.token = Some((token.clone(), now + token.left()));
                slot.lease = None;
            }
            may
        })
        .await
    }

    async fn remove(
        &self,
        identity: &CacheIdentity,
        refused: TokenIdentity,
    ) -> Result<bool, StoreError> {
        self.on(identity, |slot, _| {
            let found = slot
                .token
                .take_if(|(token, _)| token.token().identity() == refused);
            found.is_some()
        })
        .await
    }

    async fn lease(
        &self,
        identity: &CacheIdentity,
        holder: LeaseHolder,
        length: Duration,
    ) -> Result<Lease, StoreError> {
        self.on(identity, |slot, now| match slot.leased(now) {
            Some(None) => Lease::Failed,
            Some(Some(other)) if other != holder => Lease::Busy,
            _ => {
                slot.lease = Some((Some(holder), now + length));
                Lease::Held
            }
        })
        .await
    }

    async fn release(
        &self,
        identity: &CacheIdentity,
        holder: LeaseHolder,
        failed: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.on(identity, |slot, now| {
            if slot.leased(now) == Some(Some(holder)) {
                slot.lease = failed.map(|length| (None, now + length));
            }
        })
        .await
    }

    async fn cool_down(
        &self,
        identity: &CacheIdentity,
        length: Duration,
    ) -> Result<bool, StoreError> {
        self.on(identity, |slot, now| {
            let cooled = slot.cooled_at.is_none_or(|until| now >= until);
            if cooled {
                slot.cooled_at = Some(now + length);
            }
            cooled
        })
        .await
    }
}

impl fmt::Debug for MemoryTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTokenStore").finish_non_exhaustive()
    }
}
