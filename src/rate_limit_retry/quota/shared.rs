//! What a quota tells the store of its fleet, and what it takes from it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Quota, told::Told};
use crate::{
    clock::after,
    rate_limit_retry::store::{ProcessId, QuotaReport, QuotaView, ToldQuota},
};

impl Quota {
    /// When something is to be told to the store.
    pub(crate) fn report_due(&self, now: Instant) -> Option<Instant> {
        let told = self.told.as_ref();
        let told = told.is_some_and(|told| told.reset_at.is_some());
        self.fleet.as_ref()?.due(self.in_flight, told, now)
    }

    /// What is to be told to the store, where so many wait.
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
        // What is not needed is given back.
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
                // What was counted here is no proof that nothing remains.
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

    /// Takes in what the store has answered. Returns the end of a hold that is new here.
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
                let until = after(now, window.reset);
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
                    // Newer than what the store has heard.
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
        let until = after(now, hold);
        if fleet.heard.is_some_and(|heard| until <= heard + BLUR) {
            return None;
        }
        fleet.heard = Some(until);
        self.hold(until);
        Some(until)
    }

    /// Something has been told elsewhere.
    pub(crate) fn ask_store(&mut self) {
        if let Some(fleet) = &mut self.fleet {
            fleet.asked = true;
        }
    }

    /// The store has failed, and is not asked before `rests`: this process goes by what it knows itself.
    pub(crate) fn go_alone(&mut self, rests: Instant) {
        if let Some(fleet) = &mut self.fleet {
            fleet.over();
            fleet.under_way = false;
            (fleet.news, fleet.spoken) = (true, true);
            fleet.rests = Some(rests);
            (fleet.scarce, fleet.used_up) = (false, false);
        }
    }

    /// When the partition was used last.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        self.used
    }
}

/// Of what is free, all processes together may use up one part of so many before the store has answered.
const ADVANCE: u64 = 4;
/// The same hold, told twice, ends at times that differ by less than this.
const BLUR: Duration = Duration::from_millis(500);
