//! The state of a quota, and what its owner sets.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Quota,
    hold::Hold,
    lesson::Lesson,
    pace::{Pace, QUIET},
    ramp::Ramp,
};
use crate::clock::add_capped;

impl Quota {
    /// Returns the end of the hold or of the pause, whichever is later, if it has not passed.
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.refused_until()
            .max(self.pause)
            .filter(|until| *until > now)
    }

    /// Returns the end of the hold, which may have passed.
    ///
    /// A pause is not included.
    pub(crate) fn refused_until(&self) -> Option<Instant> {
        self.hold.map(|hold| hold.until)
    }

    /// Returns the number of requests in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Returns the announced limit, the remaining requests and the reset, as far as they are known.
    pub(crate) fn known(&self) -> (Option<u64>, Option<u64>, Option<Instant>) {
        self.told.as_ref().map_or((None, None, None), |told| {
            (told.limit, Some(told.left()), told.reset_at)
        })
    }

    /// Returns the limits learned from throttling.
    pub(crate) fn lesson(&self) -> Lesson {
        self.habit.lesson()
    }

    /// Pauses the partition until the given time. Replaces an earlier pause.
    pub(crate) fn pause(&mut self, until: Instant) {
        self.pause = Some(until);
    }

    /// Ends a pause. Waiting requests are sent by slow start.
    pub(crate) fn resume(&mut self) {
        if self.pause.take().is_some() {
            self.ramp = Ramp::look();
        }
    }

    /// Holds the partition until the given time, because of a response to another partition or process.
    ///
    /// The end is taken for one that the server named. A hold that ends later stays.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.prolong(Hold { until, exact: true });
    }

    /// Sets the hold if it ends later than the current one. Returns whether it does.
    pub(super) fn prolong(&mut self, hold: Hold) -> bool {
        let later = self.hold.is_none_or(|known| known.until < hold.until);
        if later {
            self.hold = Some(hold);
        }
        later
    }

    /// Resets the quota. Requests in flight, a pause, the local limit and the numbering stay.
    pub(crate) fn forget(&mut self, pace: &Pace) {
        *self = Self {
            in_flight: self.in_flight,
            next: self.next,
            since: self.next,
            used: self.used,
            pause: self.pause,
            cap: self.cap.take(),
            fleet: self.fleet.take().map(|mut fleet| {
                fleet.forget();
                fleet
            }),
            ..Self::new(pace, None)
        };
    }

    /// Returns whether the partition can be removed without loss: it is unused, its window has been reset, and what
    /// throttling has taught is outdated.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let told = self.told.as_ref().and_then(|told| told.reset_at);
        let learnt = self.used.filter(|_| self.habit.is_known());
        let known = told.max(learnt.map(|used| add_capped(used, REMEMBERED)));
        self.is_unused(now) && known.is_none_or(|at| at <= now)
    }

    /// Returns whether the partition is not in use: nothing is in flight, counted by a local limit, held or paused.
    ///
    /// Limits that are known do not count as use: see [`is_idle`](Self::is_idle).
    pub(crate) fn is_unused(&self, now: Instant) -> bool {
        let capped = self.cap.as_ref().is_some_and(|cap| cap.is_used(now));
        self.in_flight == 0 && !capped && self.held_until(now).is_none()
    }

    /// Returns whether the partition has no known limit and enough responses have said nothing about one.
    ///
    /// Then the fast path may be opened: [`QUIET`] responses in a row had no limits, and nothing holds the partition.
    pub(crate) fn is_quiet(&self) -> bool {
        let held = self.pause.is_some() || self.cap.is_some() || self.hold.is_some();
        let held = held || self.part_held.is_some();
        self.quiet >= QUIET && !held && self.told.is_none() && !self.habit.is_known()
    }
}

/// Time after the last request for which limits learned from throttling are kept.
const REMEMBERED: Duration = Duration::from_secs(3600);
