//! The part of an outcome that concerns each partition of a request.
//!
//! A response names the quotas that it is about. If named quotas have partitions of their own, each of them records
//! what is said about it, and the request's first partition records the rest.

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
    /// Whether the response names other quotas, so that this one has not counted the request.
    is_of_others: bool,
}

impl Part {
    /// Returns the part that concerns the partition of `key`, one of `keys`; `None` if that is the whole outcome.
    ///
    /// A limit that none of the keys is for concerns the request's other partitions. So nothing is lost that a response
    /// says about a quota that has got a partition of its own since the request was admitted.
    pub(super) fn of(
        key: &PartitionKey,
        keys: &[PartitionKey],
        outcome: Outcome<'_>,
    ) -> Option<Self> {
        let (throttled, info) = match outcome {
            Outcome::Response { throttled, info } => (throttled, info),
            Outcome::FailedResponse { info } => (false, info),
            _ => return None,
        };
        if keys.iter().all(|key| key.resource().is_none()) {
            return None;
        }
        let covered = |limit: &&Limit| {
            let name = limit.name.as_deref();
            name.is_some() && keys.iter().any(|key| key.resource() == name)
        };
        // A throttle is about the named quota that is exhausted, or else about all that the client sends.
        let blames_named = !info.global
            && info
                .limits
                .iter()
                .any(|limit| covered(&limit) && limit.is_exhausted());
        let limits: Vec<Limit> = match key.resource() {
            Some(resource) => {
                let own = info
                    .limits
                    .iter()
                    .filter(|limit| limit.name.as_deref() == Some(resource));
                own.cloned().collect()
            }
            None => info
                .limits
                .iter()
                .filter(|limit| !covered(limit))
                .cloned()
                .collect(),
        };
        let concerned = match key.resource() {
            Some(_) => blames_named && limits.iter().any(Limit::is_exhausted),
            None => !blames_named,
        };
        let is_of_others = key.resource().is_some()
            && limits.is_empty()
            && info.limits.iter().any(|limit| covered(&limit));
        let throttled = throttled && concerned;
        Some(Self {
            info: RateLimitInfo {
                retry_after: info.retry_after.filter(|_| throttled),
                // Not empty: the response has limits, if not of this partition.
                is_requested: info.is_requested || !info.limits.is_empty(),
                limits,
                ..info.clone()
            },
            throttled,
            is_of_others,
        })
    }

    /// Returns the outcome for the partition.
    pub(super) fn outcome(&self, outcome: Outcome<'_>) -> Outcome<'_> {
        let info = &self.info;
        match outcome {
            _ if self.is_of_others => Outcome::NotSent,
            Outcome::Response {
                throttled: true, ..
            } if !self.throttled => Outcome::FailedResponse { info },
            Outcome::Response { .. } => Outcome::Response {
                throttled: self.throttled,
                info,
            },
            _ => Outcome::FailedResponse { info },
        }
    }
}
