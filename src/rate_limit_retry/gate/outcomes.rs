//! The part of an outcome that concerns each partition of a request.
//!
//! A response may describe several named quotas. If these have partitions of their own, each partition records what the
//! response announces about its quota, and the divided partition records the rest.

use super::partitions::Partition;
use crate::rate_limit_retry::{
    PartitionKey,
    headers::{Limit, RateLimitInfo},
    quota::Outcome,
};

/// The part of a response that concerns one partition.
#[derive(Debug)]
pub(super) struct Part {
    /// The limits of this partition's quotas, and the wait if the response throttles the partition.
    info: RateLimitInfo,
    /// Whether the response throttles the partition.
    throttled: bool,
}

impl Part {
    /// Returns the part that concerns a partition; `None` if the whole outcome concerns it.
    pub(super) fn of(
        key: &PartitionKey,
        partition: &Partition,
        outcome: Outcome<'_>,
    ) -> Option<Self> {
        let (throttled, info) = match outcome {
            Outcome::Response { throttled, info } => (throttled, info),
            Outcome::FailedResponse { info } => (false, info),
            _ => return None,
        };
        if key.resource().is_none() && !partition.is_divided {
            return None;
        }
        // A throttle concerns the named quotas that are exhausted. If none is, it concerns the whole partition.
        let names_exhausted = info
            .limits
            .iter()
            .any(|limit| limit.name.is_some() && limit.is_exhausted());
        let (limits, concerned): (Vec<Limit>, bool) = match key.resource() {
            Some(resource) => {
                let of_resource = |limit: &&Limit| limit.name.as_deref() == Some(resource);
                let limits: Vec<_> = info.limits.iter().filter(of_resource).cloned().collect();
                let exhausted = limits.iter().any(Limit::is_exhausted);
                (limits, exhausted)
            }
            None => {
                let unnamed = info.limits.iter().filter(|limit| limit.name.is_none());
                (unnamed.cloned().collect(), !names_exhausted)
            }
        };
        let throttled = throttled && concerned;
        Some(Self {
            info: RateLimitInfo {
                retry_after: info.retry_after.filter(|_| throttled),
                limits,
                ..info.clone()
            },
            throttled,
        })
    }

    /// Returns the outcome for the partition.
    pub(super) fn outcome(&self, key: &PartitionKey, outcome: Outcome<'_>) -> Outcome<'_> {
        if key.resource().is_some() && self.info.limits.is_empty() {
            // The response does not name this quota, so that it has not counted the request.
            return Outcome::NotSent;
        }
        match outcome {
            Outcome::Response {
                throttled: true, ..
            } if !self.throttled => Outcome::FailedResponse { info: &self.info },
            Outcome::Response { .. } => Outcome::Response {
                throttled: self.throttled,
                info: &self.info,
            },
            _ => Outcome::FailedResponse { info: &self.info },
        }
    }
}
