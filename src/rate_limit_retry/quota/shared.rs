//! The reports of a quota to its fleet's store, and the application of the store's responses.

use std::time::Duration;

use tokio::time::Instant;

use super::{Quota, told::Told};
use crate::{
    clock::add_capped,
    rate_limit_retry::store::{ProcessId, QuotaReport, QuotaView, ToldQuota},
};

impl Quota {
    /// Returns the time at which the next report is due. `None` if quotas are not shared or nothing is to be
    /// reported.
    pub(crate) fn report_due(&self, now: Instant) -> Option<Instant> {
        let told = self.told.as_ref();
        let told = told.is_some_and(|told| told.reset_at.is_some());
        self.fleet.as_ref()?.due(self.in_flight, told, now)
    }

    /// Returns the next report and marks it as under way. `waiting` is the number of waiters.
    ///
    /// The report has the reservation (requests in flight and the rest of the allowance), the additional allowance
    /// wanted, the announced window if responses have announced it since the last report and it is not doubted, and a
    /// hold that the other processes do not know.
    pub(crate) fn report(
        &mut self,
        process: ProcessId,
        waiting: usize,
        now: Instant,
    ) -> Option<QuotaReport> {
        let fleet = self.fleet.as_mut()?;
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let wants = fleet.wants(waiting, now);
        if fleet.rules(now).is_none() {
            (fleet.allowance, fleet.advance) = (0, 0);
        }
        // The report gives back what is not needed: the reservation is smaller by it.
        fleet.allowance = fleet.allowance.min(wants);
        fleet.wanted = wants;
        fleet.reported = Some(now);
        fleet.under_way = true;
        fleet.rests = None;
        (fleet.sent, fleet.news, fleet.kept_back) = (0, false, false);
        (fleet.beyond, fleet.asked) = (false, false);
        let wanted = wants.saturating_sub(fleet.allowance);
        let reserved = self.in_flight.saturating_add(fleet.allowance);
        let hold = fleet.hold.take().filter(|hold| *hold > now);
        fleet.heard = fleet.heard.max(hold);
        let tell = |told: Told| {
            let reset = told.reset_at.filter(|reset| *reset > now)?;
            let sent = fleet.sent_after(told.by);
            Some(ToldQuota {
                limit: told.limit,
                // Debits do not prove that nothing remains: 1 is reported unless the server itself announced 0.
                remaining: told.left().max(told.remaining.min(1)),
                reset: reset - now,
                age: sent.map(|at| now.saturating_duration_since(at)),
            })
        };
        let told = self.told.as_deref().copied();
        let told = told.filter(|told| fleet.spoken && !self.doubt.covers(told.is_used_up()));
        let told = told.and_then(tell);
        fleet.spoken = false;
        fleet.expects = wanted > 0;
        Some(QuotaReport {
            process,
            reserved,
            wanted,
            told,
            hold: hold.map(|hold| hold - now),
        })
    }

    /// Applies the store's response. Returns the end of a hold of other processes, if it is new here.
    ///
    /// `longest` is the upper bound on a hold.
    ///
    /// A window of the store replaces what is known here, unless a response has announced a newer one since the
    /// report was sent. Without a window, this process goes by its own responses.
    pub(crate) fn inform(
        &mut self,
        view: &QuotaView,
        longest: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let fleet = self.fleet.as_mut()?;
        fleet.under_way = false;
        match &view.window {
            Some(window) if !window.reset.is_zero() => {
                let until = add_capped(now, window.reset);
                let free = window.remaining.saturating_sub(window.reserved);
                fleet.until = Some(until);
                fleet.allowance = fleet.allowance.saturating_add(view.granted);
                fleet.scarce = free < window.reserved;
                let part = free / u64::from(window.processes.max(1)) / ADVANCE;
                fleet.advance = match fleet.scarce {
                    true => 0,
                    false => u32::try_from(part).unwrap_or(u32::MAX),
                };
                fleet.used_up = window.remaining == 0;
                match &mut self.told {
                    // Announced after the report was sent: newer than the store's state.
                    Some(_) if fleet.spoken => {}
                    Some(told) => told.heard_of(window.remaining, until, self.next),
                    None => {
                        let told = Told::shared(window, until, self.next, now);
                        self.told = Some(Box::new(told));
                    }
                }
            }
            _ => {
                fleet.over();
                (fleet.scarce, fleet.used_up) = (false, false);
            }
        }
        let dry = fleet.expects && view.granted == 0 && view.window.is_some();
        fleet.dry = if dry { fleet.dry.saturating_add(1) } else { 0 };
        let hold = view.hold?.min(longest);
        let until = add_capped(now, hold);
        if fleet.heard.is_some_and(|heard| until <= heard + BLUR) {
            return None;
        }
        fleet.heard = Some(until);
        self.hold(until);
        Some(until)
    }

    /// Makes the next report due at once, because another process has reported something.
    pub(crate) fn ask_store(&mut self) {
        if let Some(fleet) = &mut self.fleet {
            fleet.asked = true;
        }
    }

    /// Falls back to what this process knows itself, because the store has failed. The next report is due at `rests`,
    /// and includes the announced window.
    pub(crate) fn go_alone(&mut self, rests: Instant) {
        if let Some(fleet) = &mut self.fleet {
            fleet.over();
            fleet.under_way = false;
            (fleet.news, fleet.spoken) = (true, true);
            fleet.rests = Some(rests);
            (fleet.scarce, fleet.used_up) = (false, false);
        }
    }

    /// Returns the time of the last send.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        self.used
    }
}

/// Divisor of the advance: all processes together may use up this part of what is free before the store responds.
const ADVANCE: u64 = 4;
/// Maximum difference between the ends of one hold as reported twice.
const BLUR: Duration = Duration::from_millis(500);
