//! Settings of the quotas that a layer shares.
//!
//! The store key of a partition consists of the group's name and the partition key, so that layers of different
//! groups never share an entry.

use std::{fmt, sync::Arc, time::Duration};

use super::{FleetQuota, QuotaStore, erased::Erased};
use crate::{rate_limit_retry::PartitionKey, store::CacheKey};

/// Quotas that are shared with the other processes of a fleet through a [`QuotaStore`]. Cheap to clone.
///
/// Each process reports to the store, off the request path, which windows it knows and what is in flight. The store
/// splits each window between the processes, so that together they can use all of it but do not exceed it. A rejection
/// in one process holds all processes.
///
/// If the store fails, only accuracy is lost: each process follows the quota that it knows, and emits
/// [`StoreFailed`](crate::rate_limit_retry::RateLimitEvent::StoreFailed) once.
///
/// | shared | not shared |
/// |---|---|
/// | announced quotas in all units, and the part of each process; which named quotas have partitions of their own | learned rates, sliding windows and limits on requests in flight |
/// | the estimated window of an API that announces nothing | pauses, bypass |
/// | announced limits on requests in flight; slow start | configured limits |
/// | holds after rejections | |
/// | a [`fleet_quota`](Self::fleet_quota) | |
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "test-util")] {
/// use tower_m2m::{
///     RateLimitRetryLayer, rate_limit_retry::StoredQuotas,
///     test_util::MemoryQuotaStore,
/// };
///
/// let quotas = StoredQuotas::new("application-1", MemoryQuotaStore::new());
/// let layer = RateLimitRetryLayer::builder().store(quotas).build();
/// # drop(layer);
/// # }
/// ```
#[derive(Clone)]
pub struct StoredQuotas {
    /// Name of the group of layers that share quotas.
    name: Arc<str>,
    /// The store.
    pub(super) store: Arc<dyn Erased>,
    /// Time limit of a store call.
    pub(super) timeout: Duration,
    /// The quota that the fleet enforces exactly, if any.
    pub(super) fleet_quota: Option<FleetQuota>,
}

impl StoredQuotas {
    /// Shares quotas through `store`.
    ///
    /// Layers with the same `name` share partitions with the same key. Use the name of the credential that the API
    /// counts for. Programs that use different credentials at the same API need different names, because the partition
    /// key is the origin by default.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, store: impl QuotaStore) -> Self {
        Self {
            name: name.into(),
            store: Arc::new(store),
            timeout: Duration::from_millis(100),
            fleet_quota: None,
        }
    }

    /// Sets the time limit of a store call. Default: 100 ms.
    ///
    /// Requests wait for the store in two cases only: when it is not known that enough remains for them, and with
    /// [`fleet_quota`](Self::fleet_quota). The first case includes a quota that is nearly exhausted or reserved for
    /// other processes, and the first report of a partition and of each window.
    ///
    /// Choose it a few times the usual round trip. A report that exceeds it, 250 ms, or eight times the average response time, is
    /// repeated once. If that exceeds it as well, the store has failed, and the process uses its own knowledge until a later
    /// report succeeds.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Enforces this quota exactly, for each partition: each request reserves a slot in the store before it is sent,
    /// and waits for that slot. Default: none.
    ///
    /// If the store fails, requests follow the quota that their own process knows.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "test-util")] {
    /// use tower_m2m::{
    ///     rate_limit_retry::{FleetQuota, StoredQuotas},
    ///     test_util::MemoryQuotaStore,
    /// };
    ///
    /// let quotas = StoredQuotas::new("application-1", MemoryQuotaStore::new())
    ///     .fleet_quota(FleetQuota::per_second(50));
    /// # drop(quotas);
    /// # }
    /// ```
    #[must_use]
    pub fn fleet_quota(mut self, quota: FleetQuota) -> Self {
        self.fleet_quota = Some(quota);
        self
    }

    /// Returns the store key of a partition.
    pub(super) fn cache_key(&self, partition: &PartitionKey) -> CacheKey {
        // The fields are length-prefixed, so that no two pairs of names have the same key.
        CacheKey::new("quota")
            .field("name", &*self.name)
            .field("partition", partition.as_str())
    }
}

impl fmt::Debug for StoredQuotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredQuotas")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .field("fleet_quota", &self.fleet_quota)
            .finish_non_exhaustive()
    }
}
