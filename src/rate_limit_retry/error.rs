//! Errors of requests that were not sent, or whose response was not awaited.
//!
//! | error | cause | setting |
//! |---|---|---|
//! | [`RateLimited`] | the partition is held for too long | `max_wait`, `deadline` |
//! | [`QueueFull`] | the wait queue is full | `max_waiting` |
//! | [`CostTooHigh`] | a limit is lower than the request's cost | `cost` |
//! | [`DeadlineExceeded`] | the call took too long | `deadline` |
//!
//! All four are final ([`ErrorClass::Final`](crate::ErrorClass::Final)): an outer retry layer of this crate does not
//! retry them. To recognize them behind other layers, downcast the error or one of its sources.

use std::{error::Error, fmt};

use tokio::time::Instant;

use super::PartitionKey;

/// The request was not sent: its partition is held for longer than the caller may wait.
///
/// No part of the request has left the process. Services return it as a [`BoxError`](crate::BoxError).
///
/// A program that can wait should raise [`max_wait`](super::RateLimitRetryLayerBuilder::max_wait). A server that
/// answers its own callers should pass [`retry_after`](Self::retry_after) on, with a 503.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{BoxError, RateLimitRetryLayer, rate_limit_retry::RateLimited};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let http = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(String::new())));
/// let limits = RateLimitRetryLayer::builder()
///     .max_wait(Duration::from_secs(10))
///     .build();
/// let minute = Duration::from_secs(60);
/// limits.handle().pause(&"https://api.example.com".into(), minute);
///
/// let request = Request::get("https://api.example.com/orders").body(())?;
/// let error = limits.layer(http).oneshot(request).await.unwrap_err();
///
/// let hold = error.downcast_ref::<RateLimited>().ok_or("another error")?;
/// assert!(hold.retry_after() > Duration::from_secs(50));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimited {
    /// Expected end of the hold, in tokio's time.
    pub(crate) until: Instant,
    /// Time from the rejection until `until`.
    pub(crate) retry_after: std::time::Duration,
    /// The held partition.
    pub(crate) partition: PartitionKey,
    /// Whether the call ran in a tokio runtime. Without one, no timers are available and no request can wait.
    pub(crate) has_runtime: bool,
}

impl RateLimited {
    /// Returns the expected end of the hold, in tokio's time, for `tokio::time::sleep_until`.
    ///
    /// It is an estimate: another response may extend or end the hold. If no end is known, it is the time until which
    /// the request could have waited.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Returns the time until the end of the hold, counted from the rejection. A gateway can send it to its own
    /// caller as `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> std::time::Duration {
        self.retry_after
    }

    /// Returns the held partition. For a request with several partitions, the first one, which need not be the one
    /// that is held.
    #[must_use]
    pub fn partition(&self) -> &PartitionKey {
        &self.partition
    }
}

impl fmt::Display for RateLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (partition, wait) = (self.partition.as_str(), self.retry_after);
        write!(
            f,
            "request not sent: {partition} is rate-limited for another {wait:.0?}, "
        )?;
        f.write_str(if self.has_runtime {
            "longer than `.max_wait(..)` or `.deadline(..)` allow"
        } else {
            "and there is no tokio runtime in which the call could wait"
        })
    }
}

/// Includes the message, because a `main` that returns an error prints its `Debug` output.
impl fmt::Debug for RateLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RateLimited({self})")
    }
}

impl Error for RateLimited {}

/// The request was not sent: [`max_waiting`](super::RateLimitRetryLayerBuilder::max_waiting) requests already wait
/// for its partition.
///
/// No part of the request has left the process. Services return it as a [`BoxError`](crate::BoxError). It means that
/// requests arrive faster than the quota allows for a long time: reduce the load, or share it over more credentials. A
/// larger queue only postpones the error. Retries never fail with it.
///
/// # Examples
///
/// ```
/// use tower_m2m::{BoxError, rate_limit_retry::QueueFull};
///
/// /// Whether this process sends more than the API accepts.
/// fn is_overloaded(error: &BoxError) -> bool {
///     let full = error.downcast_ref::<QueueFull>();
///     full.inspect(|full| eprintln!("{full}")).is_some()
/// }
/// # assert!(!is_overloaded(&"another".into()));
/// ```
#[derive(Clone)]
pub struct QueueFull {
    /// The partition whose wait queue is full.
    pub(crate) partition: PartitionKey,
    /// The value of `max_waiting`.
    pub(crate) limit: usize,
}

impl QueueFull {
    /// Returns the partition whose wait queue is full.
    #[must_use]
    pub fn partition(&self) -> &PartitionKey {
        &self.partition
    }
}

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "request not sent: {} requests already wait for {}; send fewer at once, or raise `.max_waiting(..)`",
            self.limit,
            self.partition.as_str(),
        )
    }
}

/// Includes the message, because a `main` that returns an error prints its `Debug` output.
impl fmt::Debug for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueFull({self})")
    }
}

impl Error for QueueFull {}

/// The request was not sent, because it costs more than the limit of a quota.
///
/// No part of the request has left the process. Services return it as a [`BoxError`](crate::BoxError). No wait helps:
/// send smaller requests, for example with a lower `max_tokens`, or obtain a higher limit. If the estimate of
/// [`cost`](super::RateLimitRetryLayerBuilder::cost) is too high, correct it. Costs that the layer has learned never
/// cause this error.
///
/// # Examples
///
/// ```
/// use tower_m2m::{BoxError, rate_limit_retry::CostTooHigh};
///
/// /// Returns the maximum cost of one request, if this one costs too much.
/// fn limit(error: &BoxError) -> Option<u64> {
///     error.downcast_ref().map(CostTooHigh::limit)
/// }
/// # assert_eq!(limit(&"another".into()), None);
/// ```
#[derive(Clone)]
pub struct CostTooHigh {
    /// The partition with the limit.
    pub(crate) partition: PartitionKey,
    /// The name of the quota.
    pub(crate) quota: Box<str>,
    /// The amount that the request costs.
    pub(crate) cost: u64,
    /// The limit.
    pub(crate) limit: u64,
}

impl CostTooHigh {
    /// Returns the partition with the limit.
    #[must_use]
    pub fn partition(&self) -> &PartitionKey {
        &self.partition
    }

    /// Returns the name of the quota, as the server announces it: `tokens`, `requests`.
    #[must_use]
    pub fn quota(&self) -> &str {
        &self.quota
    }

    /// Returns the amount that the request costs by the estimate.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Returns the limit of the quota.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

impl fmt::Display for CostTooHigh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "request not sent: it costs {} of the quota {}, and {} allows at most {}; send smaller requests, or correct `.cost(..)`",
            self.cost,
            self.quota,
            self.partition.as_str(),
            self.limit,
        )
    }
}

/// Includes the message, because a `main` that returns an error prints its `Debug` output.
impl fmt::Debug for CostTooHigh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CostTooHigh({self})")
    }
}

impl Error for CostTooHigh {}

/// The deadline of a call passed while an attempt was in flight, or before an attempt was sent.
///
/// A call that is waiting to be admitted when the deadline passes fails with [`RateLimited`] instead.
///
/// The attempt in flight is cancelled by dropping its future. Whether the server processes it anyway is unknown, unless
/// [`possibly_processed`](Self::possibly_processed) returns `false`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{
///     BoxError, RateLimitRetryLayer, rate_limit_retry::DeadlineExceeded,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let hangs = service_fn(async |_: Request<()>| std::future::pending::<Result<Response<String>, BoxError>>().await);
/// let limits = RateLimitRetryLayer::builder()
///     .deadline(Duration::from_millis(10))
///     .build();
///
/// let error = limits.layer(hangs).oneshot(Request::new(())).await.unwrap_err();
///
/// let late = error.downcast_ref::<DeadlineExceeded>().ok_or("another error")?;
/// assert!(late.possibly_processed());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct DeadlineExceeded {
    /// Whether the server may have processed any attempt.
    pub(crate) possibly_processed: bool,
}

impl DeadlineExceeded {
    /// Returns whether the server may have processed the request, in this attempt or an earlier one. Returns `false`
    /// if no attempt was in flight and no earlier attempt can have been processed.
    #[must_use]
    pub fn possibly_processed(&self) -> bool {
        self.possibly_processed
    }
}

impl fmt::Display for DeadlineExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call took longer than `.deadline(..)` allows; its request ")?;
        f.write_str(if self.possibly_processed {
            "may have been processed"
        } else {
            "was not processed"
        })
    }
}

/// Includes the message, because a `main` that returns an error prints its `Debug` output.
impl fmt::Debug for DeadlineExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadlineExceeded({self})")
    }
}

impl Error for DeadlineExceeded {}
