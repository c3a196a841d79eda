//! The clock of holds and windows.
//!
//! tokio's clock is monotonic. On Linux it stops while the machine is suspended, but the server's windows continue.
//! Without a correction, every hold would last longer by the time of the suspension.
//!
//! The correction compares two readings of both clocks. If the wall clock has advanced by at least 500 ms more than
//! the monotonic clock, the difference counts as a suspension and is added to every later reading. Setting the wall
//! clock forward by that much has the same effect; setting it back has none.
//!
//! # Why not `CLOCK_BOOTTIME`
//!
//! It would need a system call per platform and a dependency, and tokio's paused clock of tests would not apply to it.
//! The error of the comparison is harmless: a false suspension ends holds early, and the server's next rejection renews
//! them.
//!
//! # Order
//!
//! `total` only grows, so that readings never go back. It is written under the lock of `last` and read without it: a
//! reader that misses the latest suspension gets a time that is too early, and waits for as long as before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::{
    clock::{Moment, SharedClock, add_capped},
    sync::Mutex,
};

/// tokio's clock, adjusted so that it keeps running while the machine is suspended, as Linux' `CLOCK_BOOTTIME` does.
///
/// A timeout ends by the monotonic clock or by the wall clock, whichever advanced more. The wall clock is not read
/// for each request. A suspension is detected whenever both clocks are read: when a response contains something to
/// record, when a request has to wait, and while it waits.
#[derive(Clone, Debug)]
pub(crate) struct BoottimeClock {
    /// The configured clock.
    clock: SharedClock,
    /// Time spent suspended. Shared by all clones.
    suspension: Arc<Suspension>,
}

/// Accumulated suspensions.
#[derive(Debug)]
struct Suspension {
    /// Total time that the monotonic clock has missed, in nanoseconds. Only grows.
    total: AtomicU64,
    /// The last reading of both clocks.
    last: Mutex<Moment>,
}

impl BoottimeClock {
    /// Wraps `clock`. Suspensions count from now.
    pub(crate) fn new(clock: SharedClock) -> Self {
        let last = Mutex::new(clock.moment());
        let total = AtomicU64::new(0);
        Self {
            clock,
            suspension: Arc::new(Suspension { total, last }),
        }
    }

    /// Returns the current time, including all suspensions detected so far. Lock-free; reads one clock.
    pub(crate) fn now(&self) -> Instant {
        add_capped(self.clock.now(), self.total_suspended())
    }

    /// Compares both clocks, then returns the current time and the reading of the wall clock. Both are of the same
    /// moment. Does not wait for the lock: if another thread compares the clocks, its result is used.
    pub(crate) fn now_and_wall(&self) -> (Instant, SystemTime) {
        let moment = self.clock.moment();
        self.detect_suspension(moment);
        (
            add_capped(moment.instant(), self.total_suspended()),
            moment.wall_clock(),
        )
    }

    /// Converts `at` to the clock that callers and tokio's timers use. Returns `at` itself if the result would be out
    /// of range.
    pub(crate) fn to_tokio(&self, at: Instant) -> Instant {
        at.checked_sub(self.total_suspended()).unwrap_or(at)
    }

    /// Returns the total of detected suspensions.
    fn total_suspended(&self) -> Duration {
        // Relaxed: the total publishes no other data.
        Duration::from_nanos(self.suspension.total.load(Ordering::Relaxed))
    }

    /// Adds a suspension if the wall clock advanced by at least [`MIN_SUSPENSION`] more than the monotonic clock.
    fn detect_suspension(&self, moment: Moment) {
        // Another thread is comparing the clocks at this moment; a second comparison would add nothing.
        let Ok(mut last) = self.suspension.last.try_lock() else {
            return;
        };
        // This moment was read before the last comparison.
        if moment.instant() < last.instant() {
            return;
        }
        let awake = moment.instant() - last.instant();
        let missed = moment.elapsed_since(*last).saturating_sub(awake);
        // A smaller difference is an adjustment of the wall clock. Under a paused clock, it is the time that a test takes.
        if missed >= MIN_SUSPENSION && !self.clock.is_paused() {
            let nanos = u64::try_from(missed.min(MAX_SUSPENSION).as_nanos()).unwrap_or(0);
            // Under the lock of `last`, so that no suspension is added twice.
            self.suspension.total.fetch_add(nanos, Ordering::Relaxed);
        }
        *last = moment;
    }
}

/// Minimum length of a detected suspension. Longer than the usual steps of NTP, shorter than a suspension that matters
/// for a hold.
const MIN_SUSPENSION: Duration = Duration::from_millis(500);
/// Maximum length of one suspension. After a longer one, all previous limits are outdated anyway.
const MAX_SUSPENSION: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    #[cfg_attr(miri, ignore = "waits")]
    #[expect(
        clippy::disallowed_methods,
        reason = "the wall clock has to advance, and tokio's must not"
    )]
    async fn a_slow_test_with_a_paused_clock_is_no_suspension() {
        let clock = BoottimeClock::new(SharedClock::default());
        let began = clock.now();

        std::thread::sleep(MIN_SUSPENSION * 2);

        assert_eq!(clock.now_and_wall().0, began);
    }
}
