//! The outcome of a request, as far as quotas are concerned.

use std::time::Duration;

use tokio::time::Instant;

use crate::rate_limit_retry::{cost::Cost, headers::RateLimitInfo, route::RouteClass};

/// The outcome of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<'a> {
    /// A response by which the request was accepted or throttled.
    Response {
        /// Whether the response is a throttle.
        throttled: bool,
        /// The limits that the response announces.
        info: &'a RateLimitInfo,
    },
    /// An error response that is no throttle. It does not prove that the request was accepted.
    FailedResponse { info: &'a RateLimitInfo },
    /// The server is unavailable for this class of requests for the given time. A probe shows whether it is for others.
    Unavailable { wait: Duration },
    /// A response from a cache: the server has not received the request.
    Cached,
    /// The request was not sent, and cannot have been counted.
    NotSent,
    /// The request was sent, and its outcome has no information about quotas. It may have been counted.
    Sent,
    /// The outcome is not known: the caller dropped the call, or the connection broke. It may have been counted.
    Unknown,
}

/// A request that a quota has counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    /// The number that the quota gave it.
    pub(crate) number: u64,
    /// What was reserved for it.
    pub(crate) load: &'a Load,
}

/// What a request takes from quotas, as far as it is known before it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The amounts that the caller has set.
    pub(crate) cost: Cost,
    /// Its route, by whose mean cost the other amounts are estimated. `None` if it is not known.
    pub(crate) route: Option<RouteClass>,
}

impl Load {
    /// One request of an unknown route, of which the caller has set nothing.
    pub(crate) const ONE: Self = Self::of(Cost::ONE, None);

    /// Creates the load of a request of this route.
    pub(crate) const fn of(cost: Cost, route: Option<RouteClass>) -> Self {
        Self { cost, route }
    }
}

/// What follows from an outcome for later requests, and for the request itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recorded {
    /// The end of the partition's hold, if it is held now.
    pub(crate) held_until: Option<Instant>,
    /// The end of a hold that concerns this request only: others may be sent before.
    pub(crate) own_hold: Option<Instant>,
}

/// Which partitions a response applies to, as far as the request determines it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scope {
    /// The request's only partition.
    Partition,
    /// One of several partitions that count the request; which one is not known.
    Ambiguous,
    /// All partitions of the origin. It has no information about their own quotas.
    Origin,
}
