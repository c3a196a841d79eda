//! Sharing of tokens between the processes of a fleet: a store behind the token cache (`TokenCache`), which is read
//! only when a token is due for refresh.
//!
//! - `lease`: one fetch through the store.
//! - `reuse`: whether a token from the store is used.
//! - `entry`: the stored form of a token.
//! - `stored_tokens`: settings and state of a layer.
//! - `boxed`: type erasure.
//! - `redis`: the implementation for Redis.
//!
//! # One fetch through a store
//!
//! ```text
//! read ─ usable? ── yes ─▶ use it
//!  │ no
//! lease ─┬─ Busy ───▶ wait 20 to 250 ms, read again … until half of the time is over
//!        ├─ Failed ─▶ fetch without the lease
//!        └─ Held ───▶ read again ─▶ rejected, and in the cooldown? ── yes ─▶ keep the current token
//!                                        │ no
//!                                  fetch, renewing the lease ─▶ store it, which ends the lease
//! ```
//!
//! Any failure of the store leads to a fetch without it. So a failing store affects how many token requests are made,
//! and not whether a request gets a token.

mod boxed;
mod entry;
mod lease;
#[cfg(feature = "redis")]
mod redis;
mod reuse;
mod stored_tokens;

use std::{fmt, future::Future, time::Duration};

pub use self::entry::StoredToken;
#[cfg(feature = "redis")]
pub use self::redis::RedisTokenStore;
pub(crate) use self::{
    boxed::BoxTokenStore,
    stored_tokens::{SharingSettings, TokenSharing},
};
use super::TokenFingerprint;
use crate::random::unique;
use crate::store::{CacheKey, StoreError, StoreErrorKind};

/// A store in which the processes of a fleet share their tokens. Used through
/// [`ClientCredentialsLayerBuilder::store`](super::ClientCredentialsLayerBuilder::store).
///
/// A failing store costs at most a token request of this process. A call that takes longer than
/// [`store_timeout`](super::ClientCredentialsLayerBuilder::store_timeout) is cancelled and counts as failed.
///
/// # Cancel safety
///
/// Each returned future may be dropped at any time, for example when the timeout elapses.
///
/// # Implementing a store
///
/// - Expiry is the store's task: remove a token, a lease and a cooldown when its time has passed by the store's own
///   clock. Count down [`StoredToken::left`] by that clock, too.
/// - `put`, `remove`, `lease` and `begin_cooldown` read and write in one atomic step.
/// - Encrypt what [`StoredToken::to_bytes`] returns, and use only a keyed hash of the [`CacheKey`] as a name.
/// - Retry only within the caller's time limit. A failed call costs at most one token request.
///
/// # Examples
///
/// The minimum that a store must do. Without leases, several processes may fetch at the same time:
///
/// ```
/// use std::{
///     collections::HashMap,
///     sync::Mutex,
///     time::{Duration, Instant},
/// };
///
/// use tower_m2m::{
///     client_credentials::{Lease, LeaseId, StoredToken, TokenFingerprint, TokenStore},
///     store::{CacheKey, StoreError},
/// };
///
/// #[derive(Default)]
/// struct InMemory(Mutex<HashMap<Vec<u8>, (StoredToken, Instant)>>);
///
/// impl TokenStore for InMemory {
///     async fn get(&self, identity: &CacheKey) -> Result<Option<StoredToken>, StoreError> {
///         let tokens = self.0.lock().unwrap();
///         Ok(tokens.get(identity.expose()).and_then(|(token, stored)| {
///             let left = token.left().checked_sub(stored.elapsed())?;
///             Some(token.clone().with_left(left))
///         }))
///     }
///
///     async fn put(
///         &self,
///         identity: &CacheKey,
///         token: &StoredToken,
///         _: LeaseId,
///     ) -> Result<bool, StoreError> {
///         let stored = (token.clone(), Instant::now());
///         self.0.lock().unwrap().insert(identity.expose().to_vec(), stored);
///         Ok(true)
///     }
///
///     async fn remove(
///         &self,
///         identity: &CacheKey,
///         rejected: TokenFingerprint,
///     ) -> Result<bool, StoreError> {
///         let mut tokens = self.0.lock().unwrap();
///         let found = tokens
///             .get(identity.expose())
///             .is_some_and(|(token, _)| token.token().fingerprint() == rejected);
///         Ok(found && tokens.remove(identity.expose()).is_some())
///     }
///
///     /// No lease: each process fetches on its own.
///     async fn lease(
///         &self,
///         _: &CacheKey,
///         _: LeaseId,
///         _: Duration,
///     ) -> Result<Lease, StoreError> {
///         Ok(Lease::Failed)
///     }
///
///     async fn release(
///         &self,
///         _: &CacheKey,
///         _: LeaseId,
///         _: Option<Duration>,
///     ) -> Result<(), StoreError> {
///         Ok(())
///     }
///
///     async fn begin_cooldown(&self, _: &CacheKey, _: Duration) -> Result<bool, StoreError> {
///         Ok(true)
///     }
/// }
/// ```
pub trait TokenStore: Send + Sync + 'static {
    /// Returns the token stored for `cache_key`, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::unreadable`] for an entry that this crate did not write, [`StoreError::unavailable`] for any other
    /// failure.
    fn get(
        &self,
        cache_key: &CacheKey,
    ) -> impl Future<Output = Result<Option<StoredToken>, StoreError>> + Send;

    /// Stores `token` and ends the lease, atomically, if `lease_id` holds the lease or the lease is marked
    /// [`Failed`](Lease::Failed). Otherwise changes nothing and returns `false`.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`], if the store fails.
    fn put(
        &self,
        cache_key: &CacheKey,
        token: &StoredToken,
        lease_id: LeaseId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes the stored token if it is `rejected`, atomically. Returns `false` if there is none or it is a different
    /// one.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`], if the store fails.
    fn remove(
        &self,
        cache_key: &CacheKey,
        rejected: TokenFingerprint,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Acquires the lease for `length` if it is free, or renews it if `lease_id` holds it. The lease expires by itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`], if the store fails.
    fn lease(
        &self,
        cache_key: &CacheKey,
        lease_id: LeaseId,
        length: Duration,
    ) -> impl Future<Output = Result<Lease, StoreError>> + Send;

    /// Ends the lease if `lease_id` holds it. With `failed`, marks it [`Failed`](Lease::Failed) for that duration
    /// instead.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`], if the store fails.
    fn release(
        &self,
        cache_key: &CacheKey,
        lease_id: LeaseId,
        failed: Option<Duration>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Begins a cooldown of `length`, atomically. Returns `false` if one is in progress.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`], if the store fails.
    fn begin_cooldown(
        &self,
        cache_key: &CacheKey,
        length: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Result of a request for the lease: which process may fetch.
///
/// The lease only reduces the number of token requests. Correctness does not depend on it: if it expires too early, two
/// processes fetch.
///
/// A caller that finds the lease `Busy` polls until the token is there, the lease is free, or half of its time is over.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{Lease, LeaseId};
///
/// /// What a store returns, given the current holder of the lease.
/// fn lease(holder: Option<LeaseId>, caller: LeaseId) -> Lease {
///     match holder {
///         Some(other) if other != caller => Lease::Busy,
///         _ => Lease::Held,
///     }
/// }
/// # assert_eq!(lease(None, LeaseId::random()), Lease::Held);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Lease {
    /// The caller holds the lease and fetches.
    Held,
    /// Another caller holds the lease.
    Busy,
    /// The previous holder failed. Until the mark expires, each process fetches on its own.
    Failed,
}

/// Identifies one fetch of one process as the holder of a lease. Random.
///
/// A process that fetches twice has two ids, so that a late `put` of the first fetch cannot end the lease of the
/// second.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::LeaseId;
///
/// let (one, other) = (LeaseId::random(), LeaseId::random());
///
/// assert_ne!(one, other);
/// assert_ne!(one.to_bytes(), [0; 16]); // which a store may use for "no holder"
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct LeaseId(u128);

impl LeaseId {
    /// Creates a new random id.
    #[must_use]
    pub fn random() -> Self {
        // Never 0, which a store may use for "no holder".
        Self(unique())
    }

    /// Returns the id as big-endian bytes, never all zeros.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// Does not print the id: a process that knows it could end the lease.
impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseId(..)")
    }
}
