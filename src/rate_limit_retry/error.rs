//! Why a request was not sent, or not waited for.

use std::{error::Error, fmt};

use tokio::time::Instant;

use super::PartitionKey;

/// A request was not sent: its partition is held for longer than the caller may wait.
///
/// Nothing has left the process. Comes out of a service as a [`BoxError`](crate::BoxError).
#[derive(Clone, Debug)]
pub struct HoldTooLong {
    pub(crate) until: Instant,
    pub(crate) wait: std::time::Duration,
    pub(crate) partition: PartitionKey,
}

impl HoldTooLong {
    /// When the hold is expected to end, in tokio's time.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// How long that was when the request was turned away: a good `Retry-After` for a gateway's own caller.
    #[must_use]
    pub fn wait(&self) -> std::time::Duration {
        self.wait
    }
}

impl fmt::Display for HoldTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "request not sent: {} is rate-limited for another {:.0?}, longer than `.max_wait(..)` or `.deadline(..)` allow",
            self.partition.as_str(),
            self.wait,
        )
    }
}

impl Error for HoldTooLong {}

/// A request was not sent: as many as [`max_waiting`](super::RateLimitRetryLayerBuilder::max_waiting) allows wait for its
/// partition already.
///
/// Nothing has left the process. Comes out of a service as a [`BoxError`](crate::BoxError).
#[derive(Clone, Debug)]
pub struct TooManyWaiting {
    pub(crate) partition: PartitionKey,
    pub(crate) limit: usize,
}

impl TooManyWaiting {
    /// The partition for which they wait.
    #[must_use]
    pub fn partition(&self) -> &PartitionKey {
        &self.partition
    }
}

impl fmt::Display for TooManyWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "request not sent: {} requests wait for {} already; send less at once, or raise `.max_waiting(..)`",
            self.limit,
            self.partition.as_str(),
        )
    }
}

impl Error for TooManyWaiting {}

/// The caller's deadline passed while an attempt was under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeadlineExceeded {
    pub(crate) possibly_processed: bool,
}

impl DeadlineExceeded {
    /// Whether the server may have processed the request; `false` if no attempt was under way, or none can have been.
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

impl Error for DeadlineExceeded {}
