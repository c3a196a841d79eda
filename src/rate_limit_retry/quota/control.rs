//! The state of a quota, and what its owner sets.

use std::mem::take;

use tokio::time::Instant;

use super::{
    Quota,
    hold::Hold,
    pace::{MIN_SILENT_RESPONSES, QuotaConfig},
    reserved::Reserved,
    slow_start::SlowStart,
    snapshot::Estimate,
    tuning::ESTIMATE_TTL,
    window::Window,
};
use crate::clock::add_capped;

impl Quota {
    /// Returns the end of the hold or of the pause, whichever is later, if it has not passed.
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.throttled_until()
            .max(self.pause)
            .filter(|until| *until > now)
    }

    /// Returns the end of the hold, which may have passed.
    ///
    /// A pause is not included.
    pub(crate) fn throttled_until(&self) -> Option<Instant> {
        self.hold.map(|hold| hold.until)
    }

    /// Returns the number of requests in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        self.all_in_flight()
    }

    /// Returns the announced limit, the remaining requests and the reset, as far as they are known.
    pub(crate) fn announced_quota(&self) -> (Option<u64>, Option<u64>, Option<Instant>) {
        let nearest = self.windows.nearest();
        let current = nearest.and_then(|window| window.current.as_ref());
        current.map_or((None, None, None), |current| {
            (current.limit, Some(current.available()), current.reset_at)
        })
    }

    /// Returns the limits learned from throttling.
    pub(crate) fn estimate(&self) -> Estimate {
        self.estimator.estimate()
    }

    /// Takes the quotas that have a name out, for partitions of their own. A fleet is told that the partition is divided,
    /// and into which.
    pub(crate) fn take_named_windows<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<Window> {
        if let Some(fleet) = &mut self.fleet_share {
            fleet.divide(names);
        }
        self.windows.take_named()
    }

    /// Adds a quota that another partition has known until now.
    pub(crate) fn insert_window(&mut self, window: Window) {
        self.is_announced = true;
        self.slow_start = SlowStart::finished();
        // The store's first response limits what is sent.
        if let Some(fleet) = &mut self.fleet_share {
            fleet.end_start();
        }
        self.windows.insert(window, self.next_number);
    }

    /// Pauses the partition until the given time. Replaces an earlier pause.
    pub(crate) fn pause(&mut self, until: Instant) {
        self.pause = Some(until);
    }

    /// Ends a pause. Waiting requests are sent by slow start.
    pub(crate) fn resume(&mut self) {
        if self.pause.take().is_some() {
            self.slow_start = SlowStart::probe();
        }
    }

    /// Holds the partition until the given time, because of a response to another partition or process.
    ///
    /// The end is taken for one that the server named. A hold that ends later stays.
    pub(crate) fn hold(&mut self, until: Instant) {
        if let Some(fleet) = &mut self.fleet_share {
            fleet.end_start();
        }
        self.extend_hold(Hold {
            until,
            from_server: true,
        });
    }

    /// Sets the hold if it ends later than the current one. Returns whether it does.
    pub(super) fn extend_hold(&mut self, hold: Hold) -> bool {
        let later = self.hold.is_none_or(|known| known.until < hold.until);
        if later {
            self.hold = Some(hold);
        }
        later
    }

    /// Resets the quota. Requests in flight, a pause, the local limit and the numbering stay.
    pub(crate) fn forget(&mut self, config: &QuotaConfig) {
        *self = Self {
            in_flight: self.in_flight,
            on_credit: self.on_credit,
            unused_credits: self.unused_credits,
            next_number: self.next_number,
            // Responses to requests that were sent before must not confirm anything about the new state.
            epoch: self.next_number,
            last_used: self.last_used,
            reserved: take(&mut self.reserved),
            reserved_in_flight: take(&mut self.reserved_in_flight),
            routes_in_flight: take(&mut self.routes_in_flight),
            pause: self.pause,
            local_limit: self.local_limit.take(),
            fleet_share: self.fleet_share.take().map(|mut fleet| {
                fleet.forget();
                fleet
            }),
            ..Self::new(config, None)
        };
    }

    /// Returns whether the partition can be removed without loss: it is unused, its window has been reset, and what
    /// throttling has taught is outdated.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let reset_at = self.windows.latest_reset();
        let last_used = self
            .last_used
            .filter(|_| self.estimator.is_known() || self.concurrency.is_known());
        let known = reset_at.max(last_used.map(|used| add_capped(used, ESTIMATE_TTL)));
        self.is_unused(now) && known.is_none_or(|at| at <= now)
    }

    /// Returns what requests have reserved of each unit, and what they were charged.
    pub(crate) fn reserved(&self) -> &Reserved {
        &self.reserved
    }

    /// Returns whether the partition is not in use: nothing is in flight or reserved, counted by a local limit, held or
    /// paused.
    ///
    /// Limits that are known do not count as use: see [`is_idle`](Self::is_idle).
    pub(crate) fn is_unused(&self, now: Instant) -> bool {
        let capped = self
            .local_limit
            .as_ref()
            .is_some_and(|cap| cap.has_recent(now));
        let reserved = !self.reserved.is_empty();
        self.all_in_flight() == 0 && !reserved && !capped && self.held_until(now).is_none()
    }

    /// Returns whether the partition has no known limit and enough responses have said nothing about one.
    ///
    /// Then the fast path may be opened: [`MIN_SILENT_RESPONSES`] responses in a row had no limits, and nothing holds
    /// the partition.
    pub(crate) fn allows_fast_path(&self) -> bool {
        let held = self.pause.is_some() || self.local_limit.is_some() || self.hold.is_some();
        let held = held || self.partial_hold.is_some();
        self.silent_responses >= MIN_SILENT_RESPONSES
            && !held
            && self.windows.is_empty()
            && !self.estimator.is_known()
            && !self.concurrency.is_known()
    }
}
