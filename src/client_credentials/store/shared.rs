//! A type-erased [`TokenStore`].
//!
//! The layer holds a store as a trait object, so that the store's type does not appear in the layer's type.

use std::{fmt, sync::Arc, time::Duration};

use super::{CacheKey, Lease, LeaseId, StoreError, StoredToken, TokenStore};
use crate::{boxed::BoxFuture, client_credentials::TokenFingerprint};

/// Any [`TokenStore`], type-erased. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BoxTokenStore(pub(super) Arc<dyn Erased>);

impl BoxTokenStore {
    /// Erases the type of `store`.
    pub(crate) fn new(store: impl TokenStore) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for BoxTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTokenStore").finish_non_exhaustive()
    }
}

/// A boxed future with the result of a store call.
type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The object-safe counterpart of [`TokenStore`], implemented for every store. Each method boxes the future of the
/// method with the same name.
///
/// The boxed future is allocated once for each call, which is negligible beside the network access.
pub(super) trait Erased: Send + Sync {
    fn get<'a>(&'a self, identity: &'a CacheKey) -> Answer<'a, Option<StoredToken>>;

    fn put<'a>(
        &'a self,
        identity: &'a CacheKey,
        token: &'a StoredToken,
        holder: LeaseId,
    ) -> Answer<'a, bool>;

    fn remove<'a>(
        &'a self,
        identity: &'a CacheKey,
        refused: TokenFingerprint,
    ) -> Answer<'a, bool>;

    fn lease<'a>(
        &'a self,
        identity: &'a CacheKey,
        holder: LeaseId,
        length: Duration,
    ) -> Answer<'a, Lease>;

    fn release<'a>(
        &'a self,
        identity: &'a CacheKey,
        holder: LeaseId,
        failed: Option<Duration>,
    ) -> Answer<'a, ()>;

    fn begin_cooldown<'a>(&'a self, identity: &'a CacheKey, length: Duration) -> Answer<'a, bool>;
}

impl<T: TokenStore> Erased for T {
    fn get<'a>(&'a self, identity: &'a CacheKey) -> Answer<'a, Option<StoredToken>> {
        Box::pin(TokenStore::get(self, identity))
    }

    fn put<'a>(
        &'a self,
        identity: &'a CacheKey,
        token: &'a StoredToken,
        holder: LeaseId,
    ) -> Answer<'a, bool> {
        Box::pin(TokenStore::put(self, identity, token, holder))
    }

    fn remove<'a>(
        &'a self,
        identity: &'a CacheKey,
        refused: TokenFingerprint,
    ) -> Answer<'a, bool> {
        Box::pin(TokenStore::remove(self, identity, refused))
    }

    fn lease<'a>(
        &'a self,
        identity: &'a CacheKey,
        holder: LeaseId,
        length: Duration,
    ) -> Answer<'a, Lease> {
        Box::pin(TokenStore::lease(self, identity, holder, length))
    }

    fn release<'a>(
        &'a self,
        identity: &'a CacheKey,
        holder: LeaseId,
        failed: Option<Duration>,
    ) -> Answer<'a, ()> {
        Box::pin(TokenStore::release(self, identity, holder, failed))
    }

    fn begin_cooldown<'a>(&'a self, identity: &'a CacheKey, length: Duration) -> Answer<'a, bool> {
        Box::pin(TokenStore::begin_cooldown(self, identity, length))
    }
}
