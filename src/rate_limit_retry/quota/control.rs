//! What is asked of a quota, and what its owner orders.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Quota,
    hold::Hold,
    lesson::Lesson,
    pace::{Pace, QUIET},
    ramp::Ramp,
};
use crate::clock::after;

impl Quota {
    /// Until when nobody goes, if there is a hold or a pause.
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.refused_until()
            .max(self.pause)
            .filter(|until| *until > now)
    }

    /// Until when nobody goes because of refusals.
    pub(crate) fn refused_until(&self) -> Option<Instant> {
        self.hold.map(|hold| hold.until)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Limit, remaining and reset, as far as they are known.
    pub(crate) fn known(&self) -> (Option<u64>, Option<u64>, Option<Instant>) {
        self.told.as_ref().map_or((None, None, None), |told| {
            (told.limit, Some(told.left()), told.reset_at)
        })
    }

    /// What refusals have taught.
    pub(crate) fn lesson(&self) -> Lesson {
        self.habit.lesson()
    }

    /// Keeps everybody until then.
    pub(crate) fn pause(&mut self, until: Instant) {
        self.pause = Some(until);
    }

    /// Those who wait go by and by.
    pub(crate) fn resume(&mut self) {
        if self.pause.take().is_some() {
            self.ramp = Ramp::look();
        }
    }

    /// A refusal elsewhere is about this partition, too.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.prolong(Hold { until, exact: true });
    }

    /// Returns whether it ends later than what was known.
    pub(super) fn prolong(&mut self, hold: Hold) -> bool {
        let later = self.hold.is_none_or(|known| known.until < hold.until);
        if later {
            self.hold = Some(hold);
        }
        later
    }

    /// Starts from nothing, but for what is in flight, and a pause.
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

    /// Whether forgetting the partition would lose anything.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let told = self.told.as_ref().and_then(|told| told.reset_at);
        let learnt = self.used.filter(|_| self.habit.is_known());
        let known = told.max(learnt.map(|used| after(used, REMEMBERED)));
        self.is_unused(now) && known.is_none_or(|at| at <= now)
    }

    /// Whether nobody uses the partition, and nobody is kept from it.
    pub(crate) fn is_unused(&self, now: Instant) -> bool {
        let capped = self.cap.as_ref().is_some_and(|cap| cap.is_used(now));
        self.in_flight == 0 && !capped && self.held_until(now).is_none()
    }

    /// Whether nothing is known of the partition but that it takes what comes.
    pub(crate) fn is_quiet(&self) -> bool {
        let held = self.pause.is_some() || self.cap.is_some() || self.hold.is_some();
        let held = held || self.part_held.is_some();
        self.quiet >= QUIET && !held && self.told.is_none() && !self.habit.is_known()
    }
}

/// For so long after the last request it is remembered what refusals have taught.
const REMEMBERED: Duration = Duration::from_secs(3600);
