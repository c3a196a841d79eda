//! The token that requests read, and the generation counter of its changes.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use http::HeaderValue;

use crate::{
    client_credentials::{AccessToken, TokenFingerprint, freshness::Lifetime, token::Provenance},
    sync::{
        RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
        write,
    },
};

/// A cached token, with what a request needs of it.
///
/// Immutable, and shared by reference. The header value is built once, when the token is published, so that no request
/// can fail because of it.
#[derive(Debug)]
pub(crate) struct CachedToken {
    /// The token itself.
    pub(crate) token: AccessToken,
    /// Value of the header that carries the token, marked sensitive.
    pub(crate) header: HeaderValue,
    /// Hash by which a rejected token is recognized.
    pub(crate) fingerprint: TokenFingerprint,
    /// When the token turns stale and when it expires.
    pub(crate) lifetime: Lifetime,
    /// Sequence number of this publication.
    pub(crate) generation: TokenGeneration,
    /// How this process obtained the token.
    pub(crate) provenance: Provenance,
}

/// Sequence number of a token published in this process. Two equal tokens from two fetches have different generations.
///
/// Compare two generations to find out whether the token was replaced in between, for example around a connection that
/// authenticates only once. Generations of different layers, and of different processes, are unrelated.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     BoxError, ClientCredentialsLayer,
///     client_credentials::{AccessToken, TokenGeneration},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let origin = "https://api.example.com".parse()?;
/// let tokens = ClientCredentialsLayer::builder(AccessToken::new("key"), origin)
///     .build()
///     .handle();
/// tokens.prefetch().await?;
/// let seen: Option<TokenGeneration> = tokens.status().generation();
///
/// tokens.refresh_now().await?;
///
/// assert!(tokens.status().generation() > seen);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TokenGeneration(pub(super) u64);

/// State that requests read.
///
/// Small, so that it is locked only while a reference is copied or exchanged.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Generation of the snapshot: the number of published tokens; 0 before the first.
    pub(super) generation: u64,
    /// The cached token, which may have expired.
    pub(super) current: Option<Arc<CachedToken>>,
    /// Whether the token was rejected and a refresh is in flight. No request uses the token until the refresh ends.
    pub(super) rejected: bool,
}

/// Generation of the snapshot. Local copies compare it to detect that they are out of date.
///
/// Every request reads it: it has a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Generation(pub(super) AtomicU64);

/// Write guard of the snapshot. Increments the generation before the lock is released.
///
/// The increment happens on drop, so that no path can change the snapshot and forget it. A guard that is dropped
/// without a change costs each thread one copy.
pub(super) struct SnapshotWriteGuard<'a> {
    /// The locked snapshot.
    snapshot: RwLockWriteGuard<'a, Snapshot>,
    /// The generation to increment.
    changes: &'a Generation,
}

impl<'a> SnapshotWriteGuard<'a> {
    /// Locks the snapshot for writing.
    pub(super) fn new(snapshot: &'a RwLock<Snapshot>, changes: &'a Generation) -> Self {
        Self {
            snapshot: write(snapshot),
            changes,
        }
    }
}

impl Deref for SnapshotWriteGuard<'_> {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl DerefMut for SnapshotWriteGuard<'_> {
    fn deref_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }
}

impl Drop for SnapshotWriteGuard<'_> {
    fn drop(&mut self) {
        // Runs before the field `snapshot` is dropped, which releases the lock: a reader that sees this generation, and
        // then locks the snapshot, sees the change. Pairs with the `Acquire` load in `TokenCache::generation`.
        self.changes.0.fetch_add(1, Ordering::Release);
    }
}
