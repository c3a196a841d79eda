//! What requests read, and the count of its changes.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use http::HeaderValue;

use crate::{
    client_credentials::{AccessToken, TokenIdentity, freshness::Lifetime, token::Provenance},
    sync::{
        RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
        write,
    },
};

/// A token as requests use it.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) token: AccessToken,
    pub(crate) header: HeaderValue,
    pub(crate) identity: TokenIdentity,
    pub(crate) lifetime: Lifetime,
    pub(crate) version: TokenVersion,
    pub(crate) provenance: Provenance,
}

/// Counts publications in this process: two equal tokens that were fetched twice have two versions.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     BoxError, ClientCredentialsLayer,
///     client_credentials::{AccessToken, TokenVersion},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let origin = "https://api.example.com".parse()?;
/// let tokens = ClientCredentialsLayer::builder(AccessToken::new("key"), origin).build().handle();
/// tokens.warm().await?;
/// let seen: Option<TokenVersion> = tokens.status().version();
///
/// tokens.refresh_now().await?;
///
/// assert!(tokens.status().version() > seen);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TokenVersion(pub(super) u64);

/// What requests read.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) current: Option<Arc<Published>>,
    /// The token was refused, and a refresh is under way: nobody uses it until that has ended.
    pub(super) suspended: bool,
}

/// Counts what happens to the snapshot, so that copies of it know that they are out of date. On a cache line of its own,
/// which every request reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Changes(pub(super) AtomicU64);

/// The snapshot, to be changed; counted when that is done, and before anybody else can read it.
pub(super) struct Change<'a> {
    snapshot: RwLockWriteGuard<'a, Snapshot>,
    changes: &'a Changes,
}

impl<'a> Change<'a> {
    pub(super) fn new(snapshot: &'a RwLock<Snapshot>, changes: &'a Changes) -> Self {
        Self {
            snapshot: write(snapshot),
            changes,
        }
    }
}

impl Deref for Change<'_> {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.changes.0.fetch_add(1, Ordering::Release);
    }
}
