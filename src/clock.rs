//! The one file that reads a clock.
#![expect(
    clippy::disallowed_methods,
    reason = "everything else in the crate takes `now` as an argument"
)]

use std::{fmt, sync::Arc, time::SystemTime};

use tokio::time::Instant;

/// Where a layer reads the time. One per layer; the default is [`SystemClock`].
///
/// Lifetimes, holds and deadlines are measured with [`now`](Self::now). The [`wall`](Self::wall) clock is read only
/// for dates that come from the wire, and to notice that the machine was suspended.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use tokio::time::Instant;
/// use tower_m2m::{Clock, RateLimitRetryLayer, SystemClock};
///
/// /// For a test: the civil time of this machine is an hour wrong.
/// struct AnHourFast;
///
/// impl Clock for AnHourFast {
///     fn now(&self) -> Instant {
///         SystemClock::default().now()
///     }
///
///     fn wall(&self) -> SystemTime {
///         SystemClock::default().wall() + Duration::from_secs(3600)
///     }
/// }
///
/// let layer = RateLimitRetryLayer::builder().clock(AnHourFast).build();
/// # drop(layer);
/// ```
pub trait Clock: Send + Sync + 'static {
    /// A monotonic reading, in the time that tokio's timers use.
    fn now(&self) -> Instant;

    /// The civil time, which may jump.
    fn wall(&self) -> SystemTime;
}

/// tokio's monotonic clock and the system's wall clock.
///
/// # Examples
///
/// ```
/// use tower_m2m::{Clock, SystemClock};
///
/// let clock = SystemClock::default();
///
/// let (earlier, later) = (clock.now(), clock.now());
///
/// assert!(earlier <= later);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The clock of one layer, shared by everything that the layer makes.
#[derive(Clone)]
pub(crate) struct SharedClock(Arc<dyn Clock>);

impl SharedClock {
    pub(crate) fn new(clock: impl Clock) -> Self {
        Self(Arc::new(clock))
    }

    pub(crate) fn as_dyn(&self) -> &dyn Clock {
        &*self.0
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.now()
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.0.wall()
    }
}

impl Default for SharedClock {
    fn default() -> Self {
        Self::new(SystemClock)
    }
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedClock")
    }
}

/// `now + wait`, or a year from `now` where the sum would overflow.
pub(crate) fn after(now: Instant, wait: std::time::Duration) -> Instant {
    const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);
    now.checked_add(wait.min(YEAR)).unwrap_or(now)
}
