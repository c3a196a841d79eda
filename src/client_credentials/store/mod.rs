//! Tokens that the processes of a fleet share: a store beside the cell, asked only when a token is due.

mod adoption;
mod entry;
#[cfg(feature = "redis")]
mod redis;
mod shared;
mod sharing;
mod visit;

use std::{fmt, future::Future, time::Duration};

pub use self::entry::StoredToken;
#[cfg(feature = "redis")]
pub use self::redis::RedisTokenStore;
pub(crate) use self::{
    shared::SharedTokenStore,
    sharing::{SharingSettings, TokenSharing},
};
use super::TokenIdentity;
use crate::random::unique;
#[cfg(feature = "redis")]
pub use crate::store::StoreKeys;
pub use crate::store::{CacheIdentity, StoreError, StoreErrorKind};

/// Where the processes of a fleet keep the token that they share. Used through
/// [`ClientCredentialsLayerBuilder::store`](super::ClientCredentialsLayerBuilder::store).
///
/// Whatever fails here costs at most a token request of this process. Each call is given up after
/// [`store_timeout`](super::ClientCredentialsLayerBuilder::store_timeout).
///
/// # Cancel safety
///
/// Each future may be dropped at any time, when the time limit is over for example.
///
/// # Examples
///
/// The least that a store must do. Without leases, several processes may fetch at the same time:
///
/// ```
/// use std::{collections::HashMap, sync::Mutex, time::{Duration, Instant}};
///
/// use tower_m2m::client_credentials::{
///     CacheIdentity, Lease, LeaseHolder, StoreError, StoredToken, TokenIdentity, TokenStore,
/// };
///
/// #[derive(Default)]
/// struct InMemory(Mutex<HashMap<Vec<u8>, (StoredToken, Instant)>>);
///
/// impl TokenStore for InMemory {
///     async fn get(&self, identity: &CacheIdentity) -> Result<Option<StoredToken>, StoreError> {
///         let tokens = self.0.lock().unwrap();
///         Ok(tokens.get(identity.expose()).and_then(|(token, stored)| {
///             let left = token.left().checked_sub(stored.elapsed())?;
///             Some(token.clone().with_left(left))
///         }))
///     }
///
///     async fn put(&self, identity: &CacheIdentity, token: &StoredToken, _: LeaseHolder) -> Result<bool, StoreError> {
///         let stored = (token.clone(), Instant::now());
///         self.0.lock().unwrap().insert(identity.expose().to_vec(), stored);
///         Ok(true)
///     }
///
///     async fn remove(&self, identity: &CacheIdentity, refused: TokenIdentity) -> Result<bool, StoreError> {
///         let mut tokens = self.0.lock().unwrap();
///         let found = tokens.get(identity.expose()).is_some_and(|(token, _)| token.token().identity() == refused);
///         Ok(found && tokens.remove(identity.expose()).is_some())
///     }
///
///     /// Everybody fetches on their own.
///     async fn lease(&self, _: &CacheIdentity, _: LeaseHolder, _: Duration) -> Result<Lease, StoreError> {
///         Ok(Lease::Failed)
///     }
///
///     async fn release(&self, _: &CacheIdentity, _: LeaseHolder, _: Option<Duration>) -> Result<(), StoreError> {
///         Ok(())
///     }
///
///     async fn cool_down(&self, _: &CacheIdentity, _: Duration) -> Result<bool, StoreError> {
///         Ok(true)
///     }
/// }
/// ```
pub trait TokenStore: Send + Sync + 'static {
    /// The token granted for `identity`, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::unreadable`] for an entry that is none of ours, [`StoreError::unavailable`] for everything else.
    fn get(
        &self,
        identity: &CacheIdentity,
    ) -> impl Future<Output = Result<Option<StoredToken>, StoreError>> + Send;

    /// Stores `token` and ends the lease, in one step, if `holder` has the lease or it is marked
    /// [`Failed`](Lease::Failed); otherwise does nothing, which `false` tells.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`].
    fn put(
        &self,
        identity: &CacheIdentity,
        token: &StoredToken,
        holder: LeaseHolder,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes the token if it is `refused`, in one step. `false` if it is another, or there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`].
    fn remove(
        &self,
        identity: &CacheIdentity,
        refused: TokenIdentity,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Takes the lease for `length`, if nobody has it; renews it, if `holder` has it. It ends by itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`].
    fn lease(
        &self,
        identity: &CacheIdentity,
        holder: LeaseHolder,
        length: Duration,
    ) -> impl Future<Output = Result<Lease, StoreError>> + Send;

    /// Ends the lease, if `holder` has it. With `failed`, it is marked [`Failed`](Lease::Failed) for that long.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`].
    fn release(
        &self,
        identity: &CacheIdentity,
        holder: LeaseHolder,
        failed: Option<Duration>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Begins a cooldown of `length`, in one step. `false` if there is one already.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`].
    fn cool_down(
        &self,
        identity: &CacheIdentity,
        length: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Who may fetch.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{Lease, LeaseHolder};
///
/// /// What a store answers, given who has the lease now.
/// fn answer(holder: Option<LeaseHolder>, asked_by: LeaseHolder) -> Lease {
///     match holder {
///         Some(other) if other != asked_by => Lease::Busy,
///         _ => Lease::Held,
///     }
/// }
/// # assert_eq!(answer(None, LeaseHolder::random()), Lease::Held);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Lease {
    /// The one who asked.
    Held,
    /// Another.
    Busy,
    /// Another did, and failed: everybody fetches on their own.
    Failed,
}

/// One attempt of one process to get a token: who holds a lease. At random.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::LeaseHolder;
///
/// let (one, other) = (LeaseHolder::random(), LeaseHolder::random());
///
/// assert_ne!(one, other);
/// assert_ne!(one.to_bytes(), [0; 16]); // which may stand for nobody
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct LeaseHolder(u128);

impl LeaseHolder {
    /// Another than all before it.
    #[must_use]
    pub fn random() -> Self {
        // Never 0, which stands for nobody.
        Self(unique())
    }

    /// The number, never all zeros.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for LeaseHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseHolder(..)")
    }
}
