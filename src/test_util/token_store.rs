//! A token store in memory.
//!
//! It implements the contract of [`TokenStore`] in the simplest way, under one lock.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{memory_store::MemoryStore, time::now};
use crate::{
    client_credentials::{Lease, LeaseId, StoredToken, TokenFingerprint, TokenStore},
    store::{CacheKey, StoreError},
};

/// A [`TokenStore`] in this process's memory, on tokio's clock: for tests in which several layers represent the processes
/// of a fleet. Clones share the entries.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
///     test_util::{Issuer, MemoryTokenStore},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let issuer = Issuer::builder().client("id", "secret").in_process();
/// let store = MemoryTokenStore::new();
/// for _process in 0..2 {
///     let endpoint =
///         TokenEndpoint::new(issuer.token_url().parse()?, ClientAuth::basic("id", "secret"));
///     let endpoint = endpoint.service(issuer.service());
///     let layer =
///         ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?)
///             .store(store.clone())
///             .build();
///     layer.handle().prefetch().await?;
/// }
///
/// assert_eq!(issuer.stats().issued, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryTokenStore(MemoryStore<Entry>);

/// The entry of one credential.
#[derive(Default)]
struct Entry {
    /// The token, and when it expires.
    token: Option<(StoredToken, Instant)>,
    /// The holder of the lease, and when it ends. No holder: the fetch failed, and the lease is a back-off.
    lease: Option<(Option<LeaseId>, Instant)>,
    /// When the cooldown ends.
    cooldown_began: Option<Instant>,
}

impl MemoryTokenStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every call fail with `fault` from now on. Default: `None`.
    ///
    /// The layers then report the failure once, and fetch their own tokens until the store works again.
    pub fn fail_with(&self, fault: Option<StoreError>) {
        self.0.settings().fault = fault;
    }

    /// Sets how long every call takes from now on, half of it in each direction. Default: zero.
    pub fn set_latency(&self, latency: Duration) {
        self.0.settings().latency = latency;
    }

    /// Removes all entries, as a restart would.
    pub fn clear(&self) {
        self.0.clear();
    }

    /// Returns the number of calls, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.calls()
    }

    /// Runs `work` on an entry, with latency and faults.
    async fn with_token_entry<T>(
        &self,
        cache_key: &CacheKey,
        work: impl FnOnce(&mut Entry, Instant) -> T,
    ) -> Result<T, StoreError> {
        self.0.call(cache_key, |entry| work(entry, now())).await
    }
}

impl Entry {
    /// Returns the holder of the current lease; `Some(None)` during the back-off after a failed fetch.
    fn leased(&self, now: Instant) -> Option<Option<LeaseId>> {
        let (lease_id, until) = self.lease?;
        (now < until).then_some(lease_id)
    }
}

impl TokenStore for MemoryTokenStore {
    async fn get(&self, cache_key: &CacheKey) -> Result<Option<StoredToken>, StoreError> {
        self.with_token_entry(cache_key, |entry, now| {
            let (token, until) = entry.token.as_ref()?;
            // An expired token is not returned; it stays until another one replaces it.
            let left = until.saturating_duration_since(now);
            (!left.is_zero()).then(|| token.clone().with_left(left))
        })
        .await
    }

    async fn put(
        &self,
        cache_key: &CacheKey,
        token: &StoredToken,
        lease_id: LeaseId,
    ) -> Result<bool, StoreError> {
        self.with_token_entry(cache_key, |entry, now| {
            // Only during a lease: the holder's, or one that failed in the meantime.
            let may = matches!(entry.leased(now), Some(of) if of.is_none_or(|of| of == lease_id));
            if may {
                entry.token = Some((token.clone(), now + token.left()));
                // The stored token ends the lease: the other processes can use it now.
                entry.lease = None;
            }
            may
        })
        .await
    }

    async fn remove(
        &self,
        cache_key: &CacheKey,
        rejected: TokenFingerprint,
    ) -> Result<bool, StoreError> {
        self.with_token_entry(cache_key, |entry, _| {
            let found = entry
                .token
                .take_if(|(token, _)| token.token().fingerprint() == rejected);
            found.is_some()
        })
        .await
    }

    async fn lease(
        &self,
        cache_key: &CacheKey,
        lease_id: LeaseId,
        length: Duration,
    ) -> Result<Lease, StoreError> {
        self.with_token_entry(cache_key, |entry, now| match entry.leased(now) {
            // The back-off after a failed fetch holds for every process, its own included.
            Some(None) => Lease::Failed,
            Some(Some(other)) if other != lease_id => Lease::Busy,
            _ => {
                entry.lease = Some((Some(lease_id), now + length));
                Lease::Held
            }
        })
        .await
    }

    async fn release(
        &self,
        cache_key: &CacheKey,
        lease_id: LeaseId,
        failed: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.with_token_entry(cache_key, |entry, now| {
            // A lease that has ended, or that another process holds, is not changed.
            if entry.leased(now) == Some(Some(lease_id)) {
                entry.lease = failed.map(|length| (None, now + length));
            }
        })
        .await
    }

    async fn begin_cooldown(
        &self,
        cache_key: &CacheKey,
        length: Duration,
    ) -> Result<bool, StoreError> {
        self.with_token_entry(cache_key, |entry, now| {
            // The first caller starts the cooldown; the others must wait for its end.
            let cooled = entry.cooldown_began.is_none_or(|until| now >= until);
            if cooled {
                entry.cooldown_began = Some(now + length);
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
