//! The clocks of the layers. No other module of the library reads the system's time, except the doubles in `test_util`.
//!
//! All other code takes `now` as an argument, or reads a [`Clock`], so that tests can control the time.
#![expect(
    clippy::disallowed_methods,
    reason = "everything else in the crate takes `now` as an argument"
)]

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// A source of time. Each layer has one. Default: [`SystemClock`].
///
/// It is read on the path of each request, so it should be cheap and must not block.
///
/// Lifetimes, holds and deadlines are measured with [`now`](Self::now). The [`wall_clock`](Self::wall_clock) clock is read only
/// to interpret dates from the network, and to detect that the machine was suspended.
///
/// # Contract
///
/// - `now` does not go back, and is on the scale of tokio's timers: deadlines computed from it are passed to
///   [`sleep_until`](tokio::time::sleep_until). A clock of another scale makes waits too long or too short.
/// - `wall_clock` may jump in either direction. A step forward counts like a suspended machine: cooldowns and holds end
///   earlier. A step back is ignored.
/// - A panic of either method unwinds through the call, or the background task, that reads the clock.
///
/// Implement it for tests that depend on dates in responses; see the guide [`testing`](crate::docs::testing#a-clock).
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
///     fn wall_clock(&self) -> SystemTime {
///         SystemClock::default().wall_clock() + Duration::from_secs(3600)
///     }
/// }
///
/// let layer = RateLimitRetryLayer::builder().clock(AnHourFast).build();
/// # drop(layer);
/// ```
pub trait Clock: Send + Sync + 'static {
    /// Returns the monotonic time, on the scale of tokio's timers.
    ///
    /// Read once for each request that is sent at once, and again after each wait.
    fn now(&self) -> Instant;

    /// Returns the wall-clock time, which may jump.
    ///
    /// Used for `Date`, `Retry-After` and reset times that are dates, the `exp` of tokens and assertions, and the
    /// metric of the token's expiry. If it is wrong by some minutes, waits computed from dates are corrected by the
    /// server's own `Date`.
    fn wall_clock(&self) -> SystemTime;
}

/// tokio's monotonic clock and the system's wall clock.
///
/// While a test has paused tokio's clock, `now` follows that clock, and `wall_clock` does not.
///
/// `now` is a read of `CLOCK_MONOTONIC` on Linux, which excludes the time that the machine is suspended; the layers
/// therefore also compare wall clocks.
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

    fn wall_clock(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The clock of one layer, shared with everything that the layer creates.
#[derive(Clone)]
pub(crate) struct SharedClock {
    /// The clock.
    clock: Arc<dyn Clock>,
    /// Whether it is the default one.
    is_system: bool,
}

impl SharedClock {
    /// Wraps a clock.
    pub(crate) fn new(clock: impl Clock) -> Self {
        Self {
            clock: Arc::new(clock),
            is_system: false,
        }
    }

    /// Returns whether a test has paused tokio's clock. Then the two clocks of [`SystemClock`] are not on one scale. Always
    /// `false` for a clock of the caller's own.
    pub(crate) fn is_paused(&self) -> bool {
        let (real, shown) = (std::time::Instant::now(), self.now().into_std());
        let differ = real.max(shown) - real.min(shown);
        self.is_system && differ > MAX_READING
    }

    /// Returns the clock as a trait object, for public contexts that borrow it.
    pub(crate) fn as_dyn(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Returns the monotonic time.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Returns the wall-clock time.
    pub(crate) fn wall_clock(&self) -> SystemTime {
        self.clock.wall_clock()
    }

    #[allow(dead_code)]
    /// Reads both clocks now. Paths that read the monotonic clock anyway use [`Moment::new`].
    pub(crate) fn moment(&self) -> Moment {
        Moment::new(self.now(), self.wall_clock())
    }
}

impl Default for SharedClock {
    fn default() -> Self {
        Self {
            is_system: true,
            ..Self::new(SystemClock)
        }
    }
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedClock")
    }
}

/// Maximum time between the two readings of [`SharedClock::is_paused`].
const MAX_READING: Duration = Duration::from_millis(100);

/// A point in time on both clocks. Durations computed from it include the time that the machine was suspended.
///
/// The monotonic clock stands still while the machine is suspended, and the wall clock may be set. The elapsed time
/// is the larger of the two readings, so that a deadline set before a suspension also passes during it. A wall clock
/// that steps back is ignored; one that steps forward counts like a suspension.
///
/// tokio's timers follow the monotonic clock: a timer armed before a suspension fires late. Code that runs after it
/// must check the deadline with [`has_passed`](Self::has_passed).
///
/// | since a moment, at a later one | monotonic | wall clock | elapsed |
/// |---|---|---|---|
/// | nothing special | 10 s | 10 s | 10 s |
/// | suspended for an hour | 10 s | 1 h | 1 h |
/// | the wall clock was set back | 10 s | − 1 h | 10 s |
/// | the wall clock was set forward | 10 s | 1 h | 1 h, which cannot be distinguished from a suspension |
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Moment {
    /// The monotonic clock's reading.
    instant: Instant,
    /// The wall clock's reading.
    wall_clock: SystemTime,
}

#[allow(dead_code)]
impl Moment {
    /// Creates the moment at which the clocks read `instant` and `wall_clock`.
    pub(crate) fn new(instant: Instant, wall: SystemTime) -> Self {
        Self {
            instant,
            wall_clock: wall,
        }
    }

    /// Returns the monotonic clock's reading.
    pub(crate) fn instant(self) -> Instant {
        self.instant
    }

    /// Returns the wall clock's reading.
    pub(crate) fn wall_clock(self) -> SystemTime {
        self.wall_clock
    }

    /// Returns the time since `earlier`, by the clock that counted more of it; zero if `earlier` is later.
    pub(crate) fn elapsed_since(self, earlier: Self) -> Duration {
        let monotonic = self.instant.saturating_duration_since(earlier.instant);
        // An error means that the wall clock stepped back: then only the monotonic clock counts.
        let civil = self
            .wall_clock
            .duration_since(earlier.wall_clock)
            .unwrap_or_default();
        monotonic.max(civil)
    }

    /// Returns the deadline `wait` after this moment, on both clocks. A `wait` of more than a year counts as a year.
    pub(crate) fn after(self, wait: Duration) -> Self {
        let instant = add_capped(self.instant, wait);
        // `after` may have shortened the wait: both clocks get the same one.
        let wall = self.wall_clock.checked_add(instant - self.instant);
        Self {
            instant,
            wall_clock: wall.unwrap_or(self.wall_clock),
        }
    }

    /// Returns whether this deadline has passed at `now`, on either clock.
    pub(crate) fn has_passed(self, now: Self) -> bool {
        self.left(now).is_zero()
    }

    /// Returns the time from `now` to this deadline, on the clock that is closer to it; zero once it has passed.
    ///
    /// A wait for this long ends at the right time if neither clock jumps. After it, check
    /// [`has_passed`](Self::has_passed): the machine may have been suspended, or the wall clock set back.
    pub(crate) fn left(self, now: Self) -> Duration {
        // Zero on a clock once it has passed the deadline, so the smaller value is zero if either clock has.
        let monotonic = self.instant.saturating_duration_since(now.instant);
        let civil = self
            .wall_clock
            .duration_since(now.wall_clock)
            .unwrap_or_default();
        monotonic.min(civil)
    }
}

/// Returns `now + wait`. A `wait` of more than a year counts as a year, so that the sum does not overflow.
pub(crate) fn add_capped(now: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    // `Instant` has a limit that depends on the platform. A clock near it gets no wait rather than a panic.
    now.checked_add(wait.min(YEAR)).unwrap_or(now)
}

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> Moment {
        Moment::new(
            Instant::now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        )
    }

    /// `monotonic` and `civil` later by the two clocks; `back` is taken from the wall clock first.
    fn later(from: Moment, monotonic: Duration, civil: Duration, back: Duration) -> Moment {
        Moment::new(from.instant + monotonic, from.wall_clock - back + civil)
    }

    #[test]
    fn elapsed_time_is_the_maximum_of_both_clocks() {
        let began = start();
        for (monotonic, civil, back, elapsed) in [
            (SECOND, SECOND, Duration::ZERO, SECOND),
            // The machine was suspended for an hour.
            (SECOND, HOUR, Duration::ZERO, HOUR),
            // The wall clock was set back, or does not move.
            (HOUR, HOUR, 2 * HOUR, HOUR),
            (HOUR, Duration::ZERO, Duration::ZERO, HOUR),
            (Duration::ZERO, Duration::ZERO, HOUR, Duration::ZERO),
        ] {
            let now = later(began, monotonic, civil, back);
            assert_eq!(now.elapsed_since(began), elapsed);
        }
        // A later moment.
        assert_eq!(
            began.elapsed_since(later(began, HOUR, HOUR, Duration::ZERO)),
            Duration::ZERO
        );
    }

    #[test]
    fn a_deadline_passes_by_either_clock() {
        let began = start();
        let deadline = began.after(HOUR);
        let none = Duration::ZERO;
        for (now, left) in [
            (began, HOUR),
            (later(began, HOUR - SECOND, HOUR - SECOND, none), SECOND),
            (later(began, HOUR, HOUR, none), none),
            // Suspended: two seconds by the one clock, the rest by the other.
            (later(began, 2 * SECOND, HOUR - SECOND, none), SECOND),
            (later(began, 2 * SECOND, 2 * HOUR, none), none),
            // Set back: the monotonic clock decides.
            (later(began, HOUR - SECOND, HOUR, 3 * HOUR), SECOND),
            (later(began, HOUR, HOUR, 3 * HOUR), none),
        ] {
            assert_eq!(deadline.left(now), left);
            assert_eq!(deadline.has_passed(now), left.is_zero());
        }
    }

    #[test]
    fn an_unbounded_deadline_is_capped_at_one_year() {
        let began = start();
        let deadline = began.after(Duration::MAX);

        assert_eq!(deadline, began.after(365 * 24 * HOUR));
        assert_eq!(deadline.left(began), 365 * 24 * HOUR);
        assert!(!deadline.has_passed(began.after(364 * 24 * HOUR)));
        assert_eq!(
            add_capped(began.instant(), Duration::MAX),
            deadline.instant()
        );
        assert_eq!(deadline.wall_clock(), began.wall_clock() + 365 * 24 * HOUR);
    }

    #[test]
    fn a_moment_reads_both_clocks() {
        struct Fixed(Moment);

        impl Clock for Fixed {
            fn now(&self) -> Instant {
                self.0.instant
            }

            fn wall_clock(&self) -> SystemTime {
                self.0.wall_clock
            }
        }

        let moment = start();
        assert_eq!(SharedClock::new(Fixed(moment)).moment(), moment);
    }
}
