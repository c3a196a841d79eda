//! A type-erased [`QuotaStore`].
//!
//! [`QuotaStore`] returns opaque futures, so it is not object-safe. [`Erased`] boxes them: one allocation per call,
//! off the request path except with a [`FleetQuota`].

use std::{future::Future, pin::Pin, time::Duration};

use super::{FleetQuota, QuotaReport, QuotaSnapshot, QuotaStore, Reservation};
use crate::store::{CacheKey, StoreError};

/// A boxed future of a store call.
type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The object-safe form of [`QuotaStore`], whose methods return opaque futures. Implemented for every store.
///
/// Keeps the type of the store out of the layer's type, so that adding a store does not change the type of a service.
pub(super) trait Erased: Send + Sync {
    /// See [`QuotaStore::report`].
    fn report<'a>(
        &'a self,
        quota: &'a CacheKey,
        report: &'a QuotaReport,
    ) -> Answer<'a, QuotaSnapshot>;

    /// See [`QuotaStore::reserve`].
    fn slot<'a>(
        &'a self,
        quota: &'a CacheKey,
        exact: FleetQuota,
        longest: Duration,
    ) -> Answer<'a, Reservation>;

    /// See [`QuotaStore::changed`].
    fn changed<'a>(&'a self, quota: &'a CacheKey) -> Answer<'a, ()>;
}

impl<T: QuotaStore> Erased for T {
    fn report<'a>(
        &'a self,
        quota: &'a CacheKey,
        report: &'a QuotaReport,
    ) -> Answer<'a, QuotaSnapshot> {
        Box::pin(QuotaStore::report(self, quota, report))
    }

    fn slot<'a>(
        &'a self,
        quota: &'a CacheKey,
        exact: FleetQuota,
        longest: Duration,
    ) -> Answer<'a, Reservation> {
        Box::pin(QuotaStore::reserve(self, quota, exact, longest))
    }

    fn changed<'a>(&'a self, quota: &'a CacheKey) -> Answer<'a, ()> {
        Box::pin(QuotaStore::changed(self, quota))
    }
}
