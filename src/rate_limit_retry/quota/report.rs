//! The reports of a quota to its fleet's store, and the application of the store's responses.

use std::time::Duration;

use tokio::time::Instant;

use super::{Quota, announced::AnnouncedWindow};
use crate::{
    clock::add_capped,
    rate_limit_retry::store::{AnnouncedQuota, ProcessId, QuotaReport, QuotaSnapshot},
};

impl Quota {
    /// Returns the time at which the next report is due. `None` if quotas are not shared or nothing is to be
    /// reported.
    pub(crate) fn report_due(&self, now: Instant) -> Option<Instant> {
        let announced = self.windows.latest_reset().is_some();
        self.fleet_share
            .as_ref()?
            .next_report(self.in_flight, announced, now)
    }

    /// Returns the next report and marks it as in flight. `waiting` is the number of waiters.
    ///
    /// The report has the reservation (requests in flight and the rest of the grant), the additional grant
    /// wanted, the announced window if responses have announced it since the last report and it is not doubted, and a
    /// hold that the other processes do not know.
    pub(crate) fn report(
        &mut self,
        process: ProcessId,
        waiting: usize,
        now: Instant,
    ) -> Option<QuotaReport> {
        let fleet = self.fleet_share.as_mut()?;
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let demand = fleet.demand(waiting, now);
        if fleet.valid_until(now).is_none() {
            (fleet.granted, fleet.overdraft_limit) = (0, 0);
        }
        // The report gives back what is not needed: the reservation is smaller by it.
        fleet.granted = fleet.granted.min(demand);
        fleet.wanted = demand;
        fleet.last_report = Some(now);
        fleet.report_in_flight = true;
        fleet.retry_at = None;
        (fleet.sent, fleet.dirty, fleet.starved) = (0, false, false);
        (fleet.overdraft, fleet.sync_requested) = (false, false);
        let wanted = demand.saturating_sub(fleet.granted);
        let reserved = self.in_flight.saturating_add(fleet.granted);
        let hold = fleet.pending_hold.take().filter(|hold| *hold > now);
        fleet.remote_hold = fleet.remote_hold.max(hold);
        let to_announced = |announced: AnnouncedWindow| {
            let reset = announced.reset_at.filter(|reset| *reset > now)?;
            let sent = fleet.earliest_send(announced.latest_request);
            Some(AnnouncedQuota {
                limit: announced.limit,
                // Debits do not prove that nothing remains: 1 is reported unless the server itself announced 0.
                remaining: announced.available().max(announced.remaining.min(1)),
                reset: reset - now,
                age: sent.map(|at| now.saturating_duration_since(at)),
            })
        };
        let nearest = self.windows.nearest().filter(|_| fleet.has_update);
        let announced = nearest.and_then(|window| window.believed().copied());
        let announced = announced.and_then(to_announced);
        fleet.has_update = false;
        fleet.awaiting_grant = wanted > 0;
        Some(QuotaReport {
            process,
            reserved,
            wanted,
            announced,
            hold: hold.map(|hold| hold - now),
        })
    }

    /// Applies the store's response. Returns the end of a hold of other processes, if it is new here.
    ///
    /// `max_hold` is the upper bound on a hold.
    ///
    /// A window of the store replaces what is known here, unless a response has announced a newer one since the
    /// report was sent. Without a window, this process uses its own responses.
    pub(crate) fn apply(
        &mut self,
        snapshot: &QuotaSnapshot,
        max_hold: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let fleet = self.fleet_share.as_mut()?;
        fleet.report_in_flight = false;
        match &snapshot.window {
            Some(window) if !window.reset.is_zero() => {
                let until = add_capped(now, window.reset);
                let free = window.remaining.saturating_sub(window.reserved);
                fleet.expires = Some(until);
                fleet.granted = fleet.granted.saturating_add(snapshot.granted);
                fleet.scarce = free < window.reserved;
                let part = free / u64::from(window.processes.max(1)) / OVERDRAFT_DIVISOR;
                fleet.overdraft_limit = match fleet.scarce {
                    true => 0,
                    false => u32::try_from(part).unwrap_or(u32::MAX),
                };
                fleet.exhausted = window.remaining == 0;
                let nearest = self.windows.nearest_mut();
                match nearest.and_then(|window| window.current.as_mut()) {
                    // Announced after the report was sent: newer than the store's state.
                    Some(_) if fleet.has_update => {}
                    Some(announced) => {
                        announced.merge_remote(window.remaining, until, self.next_number)
                    }
                    None => {
                        let announced =
                            AnnouncedWindow::from_shared(window, until, self.next_number, now);
                        self.windows.insert_shared(announced);
                    }
                }
            }
            _ => {
                fleet.on_window_end();
                (fleet.scarce, fleet.exhausted) = (false, false);
            }
        }
        let empty = fleet.awaiting_grant && snapshot.granted == 0 && snapshot.window.is_some();
        fleet.empty_grants = if empty {
            fleet.empty_grants.saturating_add(1)
        } else {
            0
        };
        let hold = snapshot.hold?.min(max_hold);
        let until = add_capped(now, hold);
        if fleet
            .remote_hold
            .is_some_and(|remote_hold| until <= remote_hold + HOLD_TOLERANCE)
        {
            return None;
        }
        fleet.remote_hold = Some(until);
        self.hold(until);
        Some(until)
    }

    /// Makes the next report due at once, because another process has reported something.
    pub(crate) fn request_sync(&mut self) {
        if let Some(fleet) = &mut self.fleet_share {
            fleet.sync_requested = true;
        }
    }

    /// Falls back to what this process knows itself, because the store has failed. The next report is due at
    /// `retry_at`, and includes the announced window.
    pub(crate) fn fall_back(&mut self, retry_at: Instant) {
        if let Some(fleet) = &mut self.fleet_share {
            fleet.on_window_end();
            fleet.report_in_flight = false;
            (fleet.dirty, fleet.has_update) = (true, true);
            fleet.retry_at = Some(retry_at);
            (fleet.scarce, fleet.exhausted) = (false, false);
        }
    }

    /// Returns the time of the last send.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        self.last_used
    }
}

/// Divisor of the overdraft: all processes together may use up this part of what is free before the store responds.
const OVERDRAFT_DIVISOR: u64 = 4;
/// Maximum difference between the ends of one hold as reported twice.
const HOLD_TOLERANCE: Duration = Duration::from_millis(500);
