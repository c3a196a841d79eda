//! Settings of partitions, configured limits and presets.

use std::sync::Arc;

use http::request::Parts;

use super::{
    super::{LocalLimit, PartitionKey, Preset},
    Partitioning, RateLimitRetryLayerBuilder,
};

impl RateLimitRetryLayerBuilder {
    /// Sets the function that derives a request's partition. Default: the request's origin.
    ///
    /// The function is called once per call, not per attempt, and receives the head of the request. It should not read
    /// a clock or a random number: equal requests must have equal partitions. With it, requests do not take the fast
    /// path.
    pub fn partition_by(
        self,
        key: impl Fn(&Parts) -> PartitionKey + Send + Sync + 'static,
    ) -> Self {
        self.set_partitions(move |parts| vec![key(parts)])
    }

    /// Sets the function that derives a request's partitions, if several limits apply at once. A request is sent when
    /// all its partitions admit it. Default: the request's origin.
    ///
    /// A response does not identify the limit that it describes. All partitions of the request record it, and a
    /// rejection holds all of them. Exception: a partition whose limit is known, from requests without another
    /// partition, ignores responses that report another limit. Return a partition only for a limit that exists. If
    /// each combination has a limit of its own, put the combination into one key: `app-1 GET`, not `app-1` and `GET`.
    ///
    /// A rejection of everything the client sends ([`global`](crate::rate_limit_retry::headers::RateLimitInfo::global))
    /// holds all partitions of the request's origin.
    ///
    /// Duplicates are removed. The first partition is the one of the retry budget, of the clock skew and of errors. A
    /// request without partitions is not limited.
    ///
    /// # Examples
    ///
    /// An API with a limit for all requests, and another one for writes:
    ///
    /// ```
    /// use http::Method;
    /// use tower_m2m::RateLimitRetryLayer;
    ///
    /// let layer = RateLimitRetryLayer::builder().partitions_by(|request| {
    ///     let mut keys = vec!["all".into()];
    ///     if request.method != Method::GET {
    ///         keys.push("writes".into());
    ///     }
    ///     keys
    /// });
    /// # drop(layer.build());
    /// ```
    pub fn partitions_by(
        self,
        keys: impl Fn(&Parts) -> Vec<PartitionKey> + Send + Sync + 'static,
    ) -> Self {
        self.set_partitions(keys)
    }

    /// Sets the function that derives a request's partitions. Three methods set it, and only one of them may be called.
    fn set_partitions(
        mut self,
        keys: impl Fn(&Parts) -> Vec<PartitionKey> + Send + Sync + 'static,
    ) -> Self {
        self.set_once.record("partition_by");
        self.partitioning = Partitioning::By(Arc::new(keys));
        self
    }

    /// Sets a limit that each partition enforces by itself, whatever its server announces; the stricter of both
    /// applies. Default: no limit.
    ///
    /// Enforced per process: with several processes, divide the limit, or use
    /// [`StoredQuotas::fleet_quota`](super::super::StoredQuotas::fleet_quota). Partitions with a limit do not take the
    /// fast path.
    pub fn limit(mut self, limit: LocalLimit) -> Self {
        self.limits.default = Some(limit);
        self
    }

    /// Sets the limit of one partition, in place of the one set by [`limit`](Self::limit). Can be called repeatedly.
    ///
    /// A partition with the default key has the name of its origin:
    ///
    /// ```
    /// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::LocalLimit};
    ///
    /// let layer = RateLimitRetryLayer::builder()
    ///     .limit_for("https://slow.example.com".into(), LocalLimit::per_second(2))
    ///     .build();
    /// # drop(layer);
    /// ```
    pub fn limit_for(mut self, partition: PartitionKey, limit: LocalLimit) -> Self {
        self.limits.by_partition.insert(partition, limit);
        self
    }

    /// Sets the partitions and limits that a vendor documents, for a layer that sends requests to this vendor only.
    /// Default: no preset.
    ///
    /// Replaces the function set by [`partitions_by`](Self::partitions_by), which is reported as
    /// [`Misuse::SetTwice`](crate::Misuse::SetTwice).
    pub fn preset(mut self, preset: Preset) -> Self {
        // A preset adds to the limits of individual partitions, and replaces those with the same key.
        let limits = preset.limits.iter();
        let limits = limits.map(|(name, limit)| (PartitionKey::from(*name), *limit));
        self.limits.by_partition.extend(limits);
        self.set_partitions(preset.keys)
    }
}
