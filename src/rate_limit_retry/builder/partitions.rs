//! The settings that say which limits there are: partitions, limits of the user's own, and those that vendors document.

use std::sync::Arc;

use http::request::Parts;

use super::{
    super::{OwnLimit, PartitionKey, Preset},
    Partitioning, RateLimitRetryLayerBuilder,
};

impl RateLimitRetryLayerBuilder {
    /// Chooses a request's partition. Default: its origin.
    pub fn partition_by(
        self,
        key: impl Fn(&Parts) -> PartitionKey + Send + Sync + 'static,
    ) -> Self {
        self.partitions_by(move |parts| vec![key(parts)])
    }

    /// Chooses a request's partitions, if several limits bind it at once: it goes when all of them allow.
    ///
    /// An answer does not say which of them it is about: all learn from it, and a refusal holds all. Only a partition
    /// whose limit is known, from requests that have no other, ignores answers that name another limit. So name a
    /// partition only for a limit that exists, and fold into its name what each has a limit of its own for: `app-1 GET`,
    /// not `app-1` and `GET`.
    ///
    /// A refusal that is about everything the client sends
    /// ([`global`](crate::rate_limit_retry::headers::Signals::global)) holds all partitions of the request's origin.
    pub fn partitions_by(
        mut self,
        keys: impl Fn(&Parts) -> Vec<PartitionKey> + Send + Sync + 'static,
    ) -> Self {
        self.partitioning = Partitioning::By(Arc::new(keys));
        self
    }

    /// Keeps a limit for each partition, whatever its server says; of both, the stricter counts. Default: none.
    pub fn limit(mut self, limit: OwnLimit) -> Self {
        self.limits.each = Some(limit);
        self
    }

    /// The same for one partition, in place of the one for each. May be called again.
    pub fn limit_of(mut self, partition: PartitionKey, limit: OwnLimit) -> Self {
        self.limits.of.insert(partition, limit);
        self
    }

    /// Partitions and limits as a vendor documents them, for a layer that is used for this vendor only. Default: none.
    pub fn preset(mut self, preset: Preset) -> Self {
        let limits = preset.limits.iter();
        let limits = limits.map(|(name, limit)| (PartitionKey::from(*name), *limit));
        self.limits.of.extend(limits);
        self.partitions_by(preset.keys)
    }
}
