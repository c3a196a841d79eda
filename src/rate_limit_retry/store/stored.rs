//! How a layer shares its quotas.

use std::{fmt, sync::Arc, time::Duration};

use super::{ExactQuota, QuotaStore, erased::Erased};
use crate::{rate_limit_retry::PartitionKey, store::CacheIdentity};

/// Quotas that are shared with the other processes of a fleet through a [`QuotaStore`]. Cheap to clone.
///
/// Each process tells the store, off the request path, what the API has told it and what it has under way. Of a quota
/// that the API announces, the store gives each process a part to use, so that all of it is used and nothing beyond it; a
/// refusal anywhere holds all. A store that fails costs accuracy: each process goes by what it knows itself, and tells
/// of it once, by [`StoreFailed`](crate::rate_limit_retry::RateLimitEvent::StoreFailed).
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "test-util")] {
/// use tower_m2m::{
///     RateLimitRetryLayer, rate_limit_retry::StoredQuotas, test_util::MemoryQuotaStore,
/// };
///
/// let quotas = StoredQuotas::new("application-1", MemoryQuotaStore::new());
/// let layer = RateLimitRetryLayer::builder().store(quotas).build();
/// # drop(layer);
/// # }
/// ```
#[derive(Clone)]
pub struct StoredQuotas {
    name: Arc<str>,
    pub(super) store: Arc<dyn Erased>,
    pub(super) answer_within: Duration,
    pub(super) exact: Option<ExactQuota>,
}

impl StoredQuotas {
    /// Shares quotas through `store`. `name` says whose they are: layers with the same name share partitions with the
    /// same key, so name the credential that the API counts for.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, store: impl QuotaStore) -> Self {
        Self {
            name: name.into(),
            store: Arc::new(store),
            answer_within: Duration::from_millis(100),
            exact: None,
        }
    }

    /// How long the store may take for each answer. Requests do not wait for it, but in two cases: when a quota is nearly
    /// used up, and what is left is reserved for others; and with [`exact`](Self::exact). Default: 100 ms.
    #[must_use]
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }

    /// Keeps this quota exactly, for each partition: each request takes a slot from the store before it is sent, and waits
    /// for it. When the store fails, requests go by what their process knows. Default: none.
    #[must_use]
    pub fn exact(mut self, quota: ExactQuota) -> Self {
        self.exact = Some(quota);
        self
    }

    /// Under what a partition is stored.
    pub(super) fn identity(&self, partition: &PartitionKey) -> CacheIdentity {
        CacheIdentity::new("quota")
            .field("name", &*self.name)
            .field("partition", partition.as_str())
    }
}

impl fmt::Debug for StoredQuotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredQuotas")
            .field("name", &self.name)
            .field("answer_within", &self.answer_within)
            .field("exact", &self.exact)
            .finish_non_exhaustive()
    }
}
