//! What the layer tells about limits while it works.

use std::{error::Error, time::Duration};

use http::{Response, StatusCode};

use super::{GiveUpReason, PartitionKey};
use crate::{Misuse, sinks::Family, store::StoreError};

/// Something happened to a request because of a limit or a fault. Borrowed, and without paths or queries.
///
/// Given to the closures set with [`on_event`](super::RateLimitRetryLayerBuilder::on_event), outside every lock.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::RateLimitEvent;
///
/// fn sink(event: &RateLimitEvent<'_>) {
///     match event {
///         RateLimitEvent::Throttled { partition, status, held_for, .. } => {
///             eprintln!("{}: {status}, nothing for {held_for:?}", partition.as_str());
///         }
///         RateLimitEvent::GaveUp { reason, .. } => eprintln!("given up: {}", reason.as_str()),
///         _ => {}
///     }
/// }
/// # let _: fn(&RateLimitEvent<'_>) = sink;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum RateLimitEvent<'a> {
    /// A response throttled a request: its partition is held.
    #[non_exhaustive]
    Throttled {
        /// The partition.
        partition: &'a PartitionKey,
        /// The response's status.
        status: StatusCode,
        /// How long the partition is held from now.
        held_for: Duration,
    },
    /// A request has to wait for its turn.
    #[non_exhaustive]
    Held {
        /// The partition; of several, each one.
        partition: &'a PartitionKey,
    },
    /// A request that had to wait goes on.
    #[non_exhaustive]
    Released {
        /// The partition; of several, each one.
        partition: &'a PartitionKey,
        /// How long it has waited.
        waited: Duration,
    },
    /// Refusals have taught something about a quota that the server does not announce.
    #[non_exhaustive]
    Learnt {
        /// The partition.
        partition: &'a PartitionKey,
        /// How many requests a window takes.
        allowance: Option<u64>,
        /// How long a window lasts at most; not yet known after the first one.
        period: Option<Duration>,
        /// Requests a second, where they are given out by and by, as by a token bucket.
        rate: Option<f64>,
    },
    /// A request is sent again.
    #[non_exhaustive]
    Retrying {
        /// The partition.
        partition: &'a PartitionKey,
        /// The attempt that failed; 1 for the first.
        attempt: u32,
        /// How long the request waits by itself; a held partition may make it longer.
        wait: Duration,
        /// The response's status, if there was a response.
        status: Option<StatusCode>,
        /// The error of the inner service, if there was no response. Its causes are in its `source()`.
        error: Option<&'a (dyn Error + Send + Sync + 'static)>,
    },
    /// A request is not sent again although that might have helped.
    #[non_exhaustive]
    GaveUp {
        /// The partition.
        partition: &'a PartitionKey,
        /// The attempt that failed; 1 for the first.
        attempt: u32,
        /// Why.
        reason: GiveUpReason,
        /// The response's status, if there was a response.
        status: Option<StatusCode>,
        /// The error of the inner service, if there was no response. Its causes are in its `source()`.
        error: Option<&'a (dyn Error + Send + Sync + 'static)>,
    },
    /// A request was not sent: its partition is held for longer than it may wait, or too many wait already. Its caller
    /// gets [`HoldTooLong`](super::HoldTooLong) or [`TooManyWaiting`](super::TooManyWaiting).
    #[non_exhaustive]
    NotSent {
        /// The partition.
        partition: &'a PartitionKey,
        /// For how long the partition is held from now.
        held_for: Duration,
    },
    /// Another process of the fleet was refused: its partition is held here, too.
    #[non_exhaustive]
    HeldElsewhere {
        /// The partition.
        partition: &'a PartitionKey,
        /// For how long the partition is held from now, at most
        /// [`max_hold`](super::RateLimitRetryLayerBuilder::max_hold).
        held_for: Duration,
    },
    /// The store that quotas are shared through has failed. Requests go by what this process knows itself, and this is
    /// told once, until [`StoreRecovered`](Self::StoreRecovered).
    #[non_exhaustive]
    StoreFailed {
        /// The partition that was asked for.
        partition: &'a PartitionKey,
        /// What is wrong.
        error: &'a StoreError,
    },
    /// The layer is used in a way that works against it. Emitted once for each layer.
    #[non_exhaustive]
    Misused {
        /// What is wrong.
        misuse: Misuse,
    },
    /// The store works again.
    #[non_exhaustive]
    StoreRecovered {
        /// The partition that was asked for.
        partition: &'a PartitionKey,
    },
}

/// The family of [`RateLimitEvent`]s.
#[derive(Debug)]
pub(crate) struct RateLimitEvents;

impl Family for RateLimitEvents {
    type Event<'a> = RateLimitEvent<'a>;
}

/// Why a response came back although another attempt might have helped; in the response's extensions.
///
/// # Examples
///
/// ```
/// use http::{HeaderValue, Response, header::RETRY_AFTER};
/// use tower_m2m::rate_limit_retry::GaveUp;
///
/// /// How long a gateway asks its own caller to wait.
/// fn retry_after<B>(response: &Response<B>) -> Option<HeaderValue> {
///     let wait = GaveUp::of(response)?.retry_after()?;
///     Some(wait.as_secs().max(1).into())
/// }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GaveUp {
    pub(crate) reason: GiveUpReason,
    pub(crate) retry_after: Option<Duration>,
}

impl GaveUp {
    /// What a response says about it; `None` if nobody gave up.
    #[must_use]
    pub fn of<B>(response: &Response<B>) -> Option<Self> {
        response.extensions().get().copied()
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> GiveUpReason {
        self.reason
    }

    /// How long the server asks to wait, counted from the response.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
