//! A [`QuotaStore`], erased.

use std::{future::Future, pin::Pin, time::Duration};

use super::{ExactQuota, QuotaReport, QuotaStore, QuotaView, Slot};
use crate::store::{CacheIdentity, StoreError};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

pub(super) trait Erased: Send + Sync {
    fn report<'a>(
        &'a self,
        quota: &'a CacheIdentity,
        report: &'a QuotaReport,
    ) -> Answer<'a, QuotaView>;

    fn slot<'a>(
        &'a self,
        quota: &'a CacheIdentity,
        exact: ExactQuota,
        longest: Duration,
    ) -> Answer<'a, Slot>;

    fn changed<'a>(&'a self, quota: &'a CacheIdentity) -> Answer<'a, ()>;
}

impl<T: QuotaStore> Erased for T {
    fn report<'a>(
        &'a self,
        quota: &'a CacheIdentity,
        report: &'a QuotaReport,
    ) -> Answer<'a, QuotaView> {
        Box::pin(QuotaStore::report(self, quota, report))
    }

    fn slot<'a>(
        &'a self,
        quota: &'a CacheIdentity,
        exact: ExactQuota,
        longest: Duration,
    ) -> Answer<'a, Slot> {
        Box::pin(QuotaStore::slot(self, quota, exact, longest))
    }

    fn changed<'a>(&'a self, quota: &'a CacheIdentity) -> Answer<'a, ()> {
        Box::pin(QuotaStore::changed(self, quota))
    }
}
