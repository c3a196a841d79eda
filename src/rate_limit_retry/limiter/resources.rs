//! Named quotas with partitions of their own: which of them count a request.

use tokio::time::Instant;

use super::{Call, Limiter};
use crate::rate_limit_retry::{headers::RateLimitInfo, partition::Partitioning};

impl Limiter {
    /// Adds the partitions of the named quotas that count the request. Returns whether there are any that the call did
    /// not have.
    ///
    /// Partitions that the user chooses are not divided further.
    pub(super) fn add_resources(&self, call: &mut Call) -> bool {
        let (Some(partition), Some(route), Some(prefix)) =
            (call.keys.first(), call.load.route, call.prefix)
        else {
            return false;
        };
        if !self.divides_partitions() || call.keys.iter().any(|key| key.resource().is_some()) {
            return false;
        }
        let keys = self.resources.keys_for(partition, route, prefix);
        if keys.is_empty() {
            return false;
        }
        call.keys = call.keys.iter().cloned().chain(keys).collect();
        true
    }

    /// Returns whether named quotas may have partitions of their own.
    fn divides_partitions(&self) -> bool {
        matches!(self.partitioning, Partitioning::ByOrigin)
    }

    /// Learns from a response, whose outcome has been recorded, which named quotas count the route. Moves what the
    /// partition knows of them to partitions of their own, if its routes have different ones.
    pub(super) fn learn_resources(&self, call: &Call, info: &RateLimitInfo, now: Instant) {
        let (Some(partition), Some(route), Some(prefix)) =
            (call.keys.first(), call.load.route, call.prefix)
        else {
            return;
        };
        if !self.divides_partitions() || info.limits.iter().all(|limit| limit.name.is_none()) {
            return;
        }
        let is_new = self.resources.observe(partition, route, prefix, info);
        // What a response says about other quotas than those of the call, the partition has recorded.
        let is_covered = |name| call.keys.iter().any(|key| key.resource() == Some(name));
        let mut names = info.limits.iter().filter_map(|limit| limit.name.as_deref());
        if is_new || !names.all(is_covered) {
            let named = self.resources.all_keys(partition);
            if !named.is_empty() {
                self.gate.divide(partition, &named, now);
            }
        }
    }
}
