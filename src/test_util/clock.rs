//! A clock whose wall-clock time advances with tokio's clock.

use std::time::SystemTime;

use tokio::time::Instant;

use super::time::{Epoch, now};
use crate::Clock;

/// A [`Clock`] for paused tests: its wall-clock time advances with tokio's clock, as that of the doubles does.
///
/// [`SystemClock`](crate::SystemClock) reads the system's wall clock, which stands still while tokio's clock jumps. With dates
/// in responses, assertions or DPoP proofs, a client and a server would then disagree about the time.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use tower_m2m::{RateLimitRetryLayer, test_util::TestClock};
///
/// let clock =
///     TestClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
/// let layer = RateLimitRetryLayer::builder().clock(clock).seed(1).build();
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TestClock(Epoch);

impl TestClock {
    /// Creates a clock that starts now, at the system's wall-clock time.
    #[must_use]
    pub fn new() -> Self {
        Self(Epoch::start(None))
    }

    /// Creates a clock that starts now, at this wall-clock time.
    #[must_use]
    pub fn starting_at(wall: SystemTime) -> Self {
        Self(Epoch::start(Some(wall)))
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        now()
    }

    fn wall_clock(&self) -> SystemTime {
        self.0.wall_clock(self.0.now())
    }
}
