//! The clock of holds and windows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::{
    clock::{Moment, SharedClock, after},
    sync::Mutex,
};

/// tokio's clock, which goes on while the machine is suspended, as Linux' `CLOCK_BOOTTIME` does: what is to end after a
/// time ends by the monotonic or by the wall clock, whichever counted more.
///
/// The wall clock is not read for each request. A suspension is noticed with each reading of both clocks: when a request
/// is answered with something to learn from, has to wait, or waits.
#[derive(Clone, Debug)]
pub(crate) struct BoottimeClock {
    clock: SharedClock,
    suspended: Arc<Suspended>,
}

#[derive(Debug)]
struct Suspended {
    /// The time that the monotonic clock has missed, in nanoseconds.
    total: AtomicU64,
    /// The last reading of both clocks.
    last: Mutex<Moment>,
}

impl BoottimeClock {
    pub(crate) fn new(clock: SharedClock) -> Self {
        let last = Mutex::new(clock.moment());
        let total = AtomicU64::new(0);
        Self {
            clock,
            suspended: Arc::new(Suspended { total, last }),
        }
    }

    /// The time, with all suspensions that have been noticed.
    pub(crate) fn now(&self) -> Instant {
        after(self.clock.now(), self.suspended())
    }

    /// The same, after both clocks have been compared; and the wall clock's reading.
    pub(crate) fn both(&self) -> (Instant, SystemTime) {
        let moment = self.clock.moment();
        self.compare(moment);
        (after(moment.instant(), self.suspended()), moment.wall())
    }

    /// The same moment by the clock that the caller and tokio use.
    pub(crate) fn by_tokio(&self, at: Instant) -> Instant {
        at.checked_sub(self.suspended()).unwrap_or(at)
    }

    fn suspended(&self) -> Duration {
        Duration::from_nanos(self.suspended.total.load(Ordering::Relaxed))
    }

    fn compare(&self, moment: Moment) {
        // Whoever is late has nothing to add.
        let Ok(mut last) = self.suspended.last.try_lock() else {
            return;
        };
        if moment.instant() < last.instant() {
            return;
        }
        let awake = moment.instant() - last.instant();
        let missed = moment.elapsed_since(*last).saturating_sub(awake);
        // Less than that is how the wall clock is kept right.
        if missed >= LEAST {
            let nanos = u64::try_from(missed.min(MOST).as_nanos()).unwrap_or(0);
            self.suspended.total.fetch_add(nanos, Ordering::Relaxed);
        }
        *last = moment;
    }
}

/// The shortest suspension that is noticed between two readings.
const LEAST: Duration = Duration::from_millis(500);
/// The longest one: what was known before is of no use then.
const MOST: Duration = Duration::from_secs(30 * 24 * 3600);
