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
        f.debug_struct("BoxTokenStore").finish_non_exhaustive()
    }
}

/// A boxed future with the result of a store call.
type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The object-safe counterpart of [`TokenStore`], implemented for every store. Each method boxes the future of the
/// method with the same name.
///
/// The boxed future is allocated once for each call, which is negligible beside the network access.
///
/// Futures borrow from the store and the arguments, so that erasing copies no token.
pub(super) trait Erased: Send + Sync {
    fn get<'a>(&'a self, cache_key: &'a CacheKey) -> Answer<'a, Option<StoredToken>>;

    fn put<'a>(
        &'a self,
        cache_key: &'a CacheKey,
        token: &'a StoredToken,
        lease_id: LeaseId,
    ) -> Answer<'a, bool>;

    fn remove<'a>(
        &'a self,
        cache_key: &'a CacheKey,
        rejected: TokenFingerprint,
    ) -> Answer<'a, bool>;

    fn lease<'a>(
        &'a self,
        cache_key: &'a CacheKey,
        lease_id: LeaseId,
        length: Duration,
    ) -> Answer<'a, Lease>;

    fn release<'a>(
        &'a self,
        cache_key: &'a CacheKey,
        lease_id: LeaseId,
        failed: Option<Duration>,
    ) -> Answer<'a, ()>;

    fn begin_cooldown<'a>(&'a self, cache_key: &'a CacheKey, length: Duration) -> Answer<'a, bool>;
}

impl<T: TokenStore> Erased for T {
    fn get<'a>(&'a self, cache_key: &'a CacheKey) -> Answer<'a, Option<StoredToken>> {
        Box::pin(TokenStore::get(self, cache_key))
    }

    fn put<'a>(
        &'a self,
        cache_key: &'a CacheKey,
        token: &'a StoredToken,
        lease_id: LeaseId,
    ) -> Answer<'a, bool> {
        Box::pin(TokenStore::put(self, cache_key, token, lease_id))
    }

    fn remove<'a>(
        &'a self,
        cache_key: &'a CacheKey,
        rejected: TokenFingerprint,
    ) -> Answer<'a, bool> {
        Box::pin(TokenStore::remove(self, cache_key, rejected))
    }

    fn lease<'a>(
        &'a self,
        cache_key: &'a CacheKey,
        lease_id: LeaseId,
        length: Duration,
    ) -> Answer<'a, Lease> {
        Box::pin(TokenStore::lease(self, cache_key, lease_id, length))
    }

    fn release<'a>(
        &'a self,
        cache_key: &'a CacheKey,
        lease_id: LeaseId,
        failed: Option<Duration>,
    ) -> Answer<'a, ()> {
        Box::pin(TokenStore::release(self, cache_key, lease_id, failed))
    }

    fn begin_cooldown<'a>(&'a self, cache_key: &'a CacheKey, length: Duration) -> Answer<'a, bool> {
        Box::pin(TokenStore::begin_cooldown(self, cache_key, length))
    }
}
