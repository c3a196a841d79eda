//! A token store in memory.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{memory::Memory, time::now};
use crate::client_credentials::{
    CacheIdentity, Lease, LeaseHolder, StoreError, StoredToken, TokenIdentity, TokenStore,
};

/// A [`TokenStore`] in this process's memory, in tokio's time: for tests in which several layers stand for the processes
/// of a fleet. Clones share what is stored.
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
///     let endpoint = TokenEndpoint::new(issuer.token_url().parse()?, ClientAuth::basic("id", "secret"));
///     let endpoint = endpoint.service(issuer.service());
///     let layer = ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?)
///         .store(store.clone())
///         .build();
///     layer.handle().warm().await?;
/// }
///
/// assert_eq!(issuer.seen().issued, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryTokenStore(Memory<Entry>);

#[derive(Default)]
struct Entry {
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
        self.0.settings().fault = fault;
    }

    /// How long every call takes from now on, one half each way. Default: no time.
    pub fn set_latency(&self, latency: Duration) {
        self.0.settings().latency = latency;
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

    async fn on<T>(
        &self,
        identity: &CacheIdentity,
        work: impl FnOnce(&mut Entry, Instant) -> T,
    ) -> Result<T, StoreError> {
        self.0.call(identity, |entry| work(entry, now())).await
    }
}

impl Entry {
    /// Who holds the lease now; `Some(None)` if whoever did has failed.
    fn leased(&self, now: Instant) -> Option<Option<LeaseHolder>> {
        let (holder, until) = self.lease?;
        (now < until).then_some(holder)
    }
}

impl TokenStore for MemoryTokenStore {
    async fn get(&self, identity: &CacheIdentity) -> Result<Option<StoredToken>, StoreError> {
        self.on(identity, |entry, now| {
            let (token, until) = entry.token.as_ref()?;
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
        self.on(identity, |entry, now| {
            let may = matches!(entry.leased(now), Some(of) if of.is_none_or(|of| of == holder));
            if may {
                entry.token = Some((token.clone(), now + token.left()));
                entry.lease = None;
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
        self.on(identity, |entry, _| {
            let found = entry
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
        self.on(identity, |entry, now| match entry.leased(now) {
            Some(None) => Lease::Failed,
            Some(Some(other)) if other != holder => Lease::Busy,
            _ => {
                entry.lease = Some((Some(holder), now + length));
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
        self.on(identity, |entry, now| {
            if entry.leased(now) == Some(Some(holder)) {
                entry.lease = failed.map(|length| (None, now + length));
            }
        })
        .await
    }

    async fn cool_down(
        &self,
        identity: &CacheIdentity,
        length: Duration,
    ) -> Result<bool, StoreError> {
        self.on(identity, |entry, now| {
            let cooled = entry.cooled_at.is_none_or(|until| now >= until);
            if cooled {
                entry.cooled_at = Some(now + length);
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
