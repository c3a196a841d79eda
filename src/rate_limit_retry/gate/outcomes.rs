//! The part of an outcome that concerns each partition of a request.
//!
//! A response names the quotas that it is about. If named quotas have partitions of their own, each of them records
//! what is said about it, and the partition that is divided records the rest.

use super::partitions::Partition;
use crate::rate_limit_retry::{
    PartitionKey,
    headers::{Limit, RateLimitInfo},
    quota::Outcome,
};

/// The part of a response that concerns one partition.
#[derive(Debug)]
pub(super) struct Part {
    /// The limits, and the wait if it is about them.
    info: RateLimitInfo,
    /// Whether the response throttles the partition.
    throttled: bool,
}

impl Part {
    /// Returns the part that concerns a partition; `None` if that is the whole outcome.
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
        // A throttle is about the named quota that is exhausted, or else about the whole partition.
        let blames_named = info
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
                (unnamed.cloned().collect(), !blames_named)
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
            // The response names other quotas: this one has not counted the request.
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
