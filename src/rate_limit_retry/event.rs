//! Events of the rate-limit and retry layer.
//!
//! | event | emitted |
//! |---|---|
//! | `Queued`, `Dequeued` | before and after a request waits |
//! | `Rejected` | in place of the wait, if it would be too long or the queue is full |
//! | `Throttled` | after a throttling response, unless it is permanent |
//! | `LimitEstimated` | when the estimate of an unannounced quota changes |
//! | `Retrying`, `GaveUp` | after a failed attempt that another attempt might correct |
//! | `RemoteHold` | when another process of the fleet reports a hold |
//! | `StoreFailed`, `StoreRecovered` | when store calls start to fail, or succeed again |
//! | `Misused` | once for each layer |
//!
//! A call emits its events in this order: `Queued`, then `Dequeued` or `Rejected`; after the attempt `LimitEstimated`
//! and `Throttled`; then `Retrying` or `GaveUp`. A call that is dropped while it waits emits no `Dequeued`. A call with
//! several partitions emits one event for each of them.
//!
//! No event is emitted for a request that is sent at once and succeeds: such requests cost nothing here.

use std::{error::Error, time::Duration};

use http::{Response, StatusCode};

use super::{GiveUpReason, PartitionKey};
use crate::{Misuse, sinks::EventType, store::StoreError};

/// An event about a request that a limit or a failure affected. Borrowed; contains no paths or queries.
///
/// Passed to the closures set with [`on_event`](super::RateLimitRetryLayerBuilder::on_event), outside every lock.
///
/// The features `tracing` and `metrics` turn the same events into log lines and metrics. A closure is needed only for
/// what these do not cover, such as an alert or a test.
///
/// # Examples
///
/// Collecting events in a test:
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::RateLimitEvent};
///
/// let waits = Arc::new(Mutex::new(Vec::new()));
/// let sink = Arc::clone(&waits);
/// let layer = RateLimitRetryLayer::builder()
///     .on_event(move |event| {
///         if let RateLimitEvent::Dequeued { waited, .. } = event {
///             sink.lock().unwrap().push(*waited);
///         }
///     })
///     .build();
/// # drop(layer);
/// # assert!(waits.lock().unwrap().is_empty());
/// ```
///
/// Logging:
///
/// ```
/// use tower_m2m::rate_limit_retry::RateLimitEvent;
///
/// fn sink(event: &RateLimitEvent<'_>) {
///     match event {
///         RateLimitEvent::Throttled { partition, status, held_for, .. } => {
///             eprintln!("{partition}: {status}, held for {held_for:?}");
///         }
///         RateLimitEvent::GaveUp { reason, .. } => {
///             eprintln!("given up: {}", reason.as_str());
///         }
///         _ => {}
///     }
/// }
/// # let _: fn(&RateLimitEvent<'_>) = sink;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum RateLimitEvent<'a> {
    /// The server throttled a request. Its partition is held, or its route after a 503. If the wait concerns this
    /// request only, `held_for` is zero, and `Retrying` has the wait.
    ///
    /// A request of several partitions causes one event for each, all with the longest of their holds.
    ///
    /// Also emitted for an HTTP/2 stream that was reset with `ENHANCE_YOUR_CALM` (RFC 9113 §7); its `status` is 429.
    /// Several requests in flight may cause one event each, while the partition is held once.
    #[non_exhaustive]
    Throttled {
        /// The partition.
        partition: &'a PartitionKey,
        /// The status of the response.
        status: StatusCode,
        /// How long the partition or the route is held from now. Zero if only this request waits.
        held_for: Duration,
    },
    /// A request has to wait before it is sent.
    ///
    /// Followed by `Dequeued` or `Rejected`, or by nothing if the call is dropped.
    #[non_exhaustive]
    Queued {
        /// The partition. A request of several partitions causes one event for each.
        partition: &'a PartitionKey,
    },
    /// A request that had to wait was admitted.
    #[non_exhaustive]
    Dequeued {
        /// The partition. A request of several partitions causes one event for each.
        partition: &'a PartitionKey,
        /// How long the request waited.
        waited: Duration,
    },
    /// The layer estimated a quota that the server does not announce, from rejected requests.
    ///
    /// Emitted when the estimate changes; a rate must change by more than 10 %. Compare it with the documented limit:
    /// if both agree, a [`LocalLimit`](super::LocalLimit) avoids the rejections from which the layer has to learn it.
    #[non_exhaustive]
    LimitEstimated {
        /// The partition.
        partition: &'a PartitionKey,
        /// Estimated number of requests per window.
        limit: Option<u64>,
        /// Upper bound on the length of a window; `None` until it is known, such as after the first rejection.
        window: Option<Duration>,
        /// Estimated requests per second, if the server refills the quota continuously, as a token bucket does.
        rate: Option<f64>,
    },
    /// A request will be retried.
    ///
    /// The retry may still fail to be sent, if the partition is held for longer than the call may wait.
    #[non_exhaustive]
    Retrying {
        /// The partition.
        partition: &'a PartitionKey,
        /// Number of the attempt that failed; 1 for the first.
        attempt: u32,
        /// The wait of this request alone. A hold of the partition may extend it.
        wait: Duration,
        /// The status of the response; `None` if there was no response.
        status: Option<StatusCode>,
        /// The error of the inner service; `None` if there was a response. Its causes are in its `source()`.
        error: Option<&'a (dyn Error + Send + Sync + 'static)>,
    },
    /// A request is not retried although a retry might have helped. The caller receives the response or the error.
    #[non_exhaustive]
    GaveUp {
        /// The partition.
        partition: &'a PartitionKey,
        /// Number of the attempt that failed; 1 for the first.
        attempt: u32,
        /// The reason.
        reason: GiveUpReason,
        /// The status of the response; `None` if there was no response.
        status: Option<StatusCode>,
        /// The error of the inner service; `None` if there was a response. Its causes are in its `source()`.
        error: Option<&'a (dyn Error + Send + Sync + 'static)>,
    },
    /// A request was not sent: its partition is held for longer than the request may wait, the wait queue is full, or
    /// its cost exceeds a limit.
    ///
    /// The caller receives [`RateLimited`](super::RateLimited),
    /// [`QueueFull`](super::QueueFull) or [`CostTooHigh`](super::CostTooHigh).
    #[non_exhaustive]
    Rejected {
        /// The partition.
        partition: &'a PartitionKey,
        /// How long the partition is held from now. Zero if no wait helps, because the cost exceeds a limit.
        held_for: Duration,
    },
    /// Another process of the fleet was rejected; the partition is held in this process, too.
    #[non_exhaustive]
    RemoteHold {
        /// The partition.
        partition: &'a PartitionKey,
        /// How long the partition is held from now, at most
        /// [`max_hold`](super::RateLimitRetryLayerBuilder::max_hold).
        held_for: Duration,
    },
    /// The store of the shared quotas has failed.
    ///
    /// Requests use the quotas that this process knows. The event is emitted once, until
    /// [`StoreRecovered`](Self::StoreRecovered).
    #[non_exhaustive]
    StoreFailed {
        /// The partition of the failed store call.
        partition: &'a PartitionKey,
        /// The error.
        error: &'a StoreError,
    },
    /// The layer is used in a way that defeats its purpose. Emitted once for each layer.
    #[non_exhaustive]
    Misused {
        /// The misuse.
        misuse: Misuse,
    },
    /// The store works again.
    #[non_exhaustive]
    StoreRecovered {
        /// The partition of the store call that succeeded.
        partition: &'a PartitionKey,
    },
}

/// The event type of [`RateLimitEvent`]s, for [`EventType`].
#[derive(Debug)]
pub(crate) struct RateLimitEvents;

impl EventType for RateLimitEvents {
    type Event<'a> = RateLimitEvent<'a>;
}

/// Why a response was returned although a retry might have helped. Stored in the response's extensions.
///
/// A successful response never has one. An error of the inner service has no extensions: for errors, only the event
/// [`RateLimitEvent::GaveUp`] contains the reason. With nested layers, it is the value of the outermost layer that
/// gave up.
///
/// # Examples
///
/// A gateway that passes the wait on to its own caller:
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
    /// Why the layer gave up.
    pub(crate) reason: GiveUpReason,
    /// The wait that the server requested.
    pub(crate) retry_after: Option<Duration>,
}

impl GaveUp {
    /// Returns the value stored in `response`; `None` if no layer gave up.
    #[must_use]
    pub fn of<B>(response: &Response<B>) -> Option<Self> {
        response.extensions().get().copied()
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> GiveUpReason {
        self.reason
    }

    /// Returns the wait that the server requested, counted from the response; `None` if it requested none.
    ///
    /// Without such a wait, it is the remaining hold of the partition, if it is held: the time after which the layer
    /// itself would have sent the request again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
