//! This process's part of a quota that a fleet shares: what the store has granted, and what is to be reported to it.
//!
//! The store keeps for each process how many requests it has in flight or may send without asking again (its
//! reservation). What the API announces as remaining, less all reservations, is free; each process is granted a part
//! of it, its grant.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::clock::add_capped;

/// The state of one partition's quota between two reports to the store.
#[derive(Debug, Default)]
pub(super) struct FleetShare {
    /// Number of requests that may still be sent without asking the store.
    pub(super) granted: u32,
    /// Number of requests that may be sent beyond the grant before the store's next response, if enough is free.
    pub(super) overdraft_limit: u32,
    /// The time until which the grant is valid. `None` while no window is known or the store fails.
    pub(super) expires: Option<Instant>,
    /// Whether less is free than is reserved: then the end of a request is reported soon, because others wait for it.
    pub(super) scarce: bool,
    /// Whether the store reports that nothing remains.
    pub(super) exhausted: bool,
    /// Numbers and times of some of the last sends, at least [`MIN_REPORT_INTERVAL`] apart, from old to new.
    pub(super) send_marks: VecDeque<(u64, Instant)>,
    /// Whether responses have announced a window since the last report.
    pub(super) has_update: bool,
    /// Number of requests sent since the last report.
    pub(super) sent: u32,
    /// Whether a request has ended since the last report.
    pub(super) dirty: bool,
    /// Whether a request had to wait for a grant since the last report.
    pub(super) starved: bool,
    /// Whether requests were sent beyond the grant since the last report, so that the store does not know of
    /// them.
    pub(super) overdraft: bool,
    /// Number of requests for which the last report wanted room.
    pub(super) wanted: u32,
    /// Whether the last report requested more than the grant at that time.
    pub(super) awaiting_grant: bool,
    /// Time of the last report.
    pub(super) last_report: Option<Instant>,
    /// Whether the store has not responded to the last report yet.
    pub(super) report_in_flight: bool,
    /// Number of consecutive reports that requested a grant and were granted nothing.
    pub(super) empty_grants: u32,
    /// A hold to report to the other processes.
    pub(super) pending_hold: Option<Instant>,
    /// The end of the latest hold that was reported by this process or by others.
    pub(super) remote_hold: Option<Instant>,
    /// Whether the next report is due at once, because another process has reported something.
    pub(super) sync_requested: bool,
    /// The time before which a store that has failed gets no report.
    pub(super) retry_at: Option<Instant>,
}

impl FleetShare {
    /// Returns whether the other processes are known, so that all that the quota loses is this fleet's.
    pub(super) fn is_synced(&self) -> bool {
        self.expires.is_some()
    }

    /// Returns the time until which the grant is valid, if it is now.
    pub(super) fn valid_until(&self, now: Instant) -> Option<Instant> {
        self.expires.filter(|until| now < *until)
    }

    /// Returns whether one more request may be sent. Notes that the grant was used up, which makes a report due.
    pub(super) fn allows(&mut self) -> bool {
        self.starved |= self.granted == 0;
        self.granted > 0 || self.overdraft_limit > 0
    }

    /// Debits the grant, or else the overdraft, for a send.
    pub(super) fn on_sent(&mut self, number: u64, now: Instant) {
        if self
            .send_marks
            .back()
            .is_none_or(|(_, at)| *at + MIN_REPORT_INTERVAL <= now)
        {
            if self.send_marks.len() == MAX_SEND_MARKS {
                self.send_marks.pop_front();
            }
            self.send_marks.push_back((number, now));
        }
        match self.granted {
            0 => {
                self.overdraft_limit = self.overdraft_limit.saturating_sub(1);
                self.overdraft = true;
            }
            _ => self.granted -= 1,
        }
        self.sent = self.sent.saturating_add(1);
    }

    /// Records that a request is no longer in flight.
    pub(super) fn on_completed(&mut self) {
        self.dirty = true;
    }

    /// Records that a response has announced a window.
    pub(super) fn on_announced(&mut self) {
        self.has_update = true;
    }

    /// Returns a time at or before which the request was sent; `None` if it is older than all marks.
    pub(super) fn earliest_send(&self, number: u64) -> Option<Instant> {
        let before = self
            .send_marks
            .iter()
            .rev()
            .find(|(mark, _)| *mark <= number)?;
        Some(before.1)
    }

    /// Records a hold to report, unless one that ends as late is known to the others.
    pub(super) fn on_throttle(&mut self, until: Instant) {
        if self
            .remote_hold
            .is_none_or(|remote_hold| remote_hold < until)
        {
            self.pending_hold = Some(until);
        }
    }

    /// Ends the window: without one, no grant applies.
    pub(super) fn on_window_end(&mut self) {
        self.expires = None;
        (self.granted, self.overdraft_limit) = (0, 0);
    }

    /// Resets what is known of the window, and a hold that is not reported yet.
    pub(super) fn forget(&mut self) {
        self.on_window_end();
        self.pending_hold = None;
    }

    /// Returns the number of requests for which room is wanted: the waiters, and those expected within [`LOOKAHEAD`] at
    /// the rate since the last report.
    pub(super) fn demand(&self, waiting: u32, now: Instant) -> u32 {
        let passed = self
            .last_report
            .map_or(LOOKAHEAD, |at| now - at)
            .max(MIN_REPORT_INTERVAL);
        let soon = f64::from(self.sent) * LOOKAHEAD.div_duration_f64(passed);
        // A scarce quota is not reserved for requests that may never come.
        let soon = if self.scarce { 0 } else { soon.ceil() as u32 };
        waiting.saturating_add(soon)
    }

    /// Returns the time at which the next report is due; `None` while one is in flight or nothing is to be reported.
    ///
    /// | situation, first match | next report |
    /// |---|---|
    /// | no report yet | now |
    /// | the store has failed | at `retry_at` |
    /// | a hold is to be reported, or another process has reported something | now |
    /// | nothing remains | 100 ms after the last, if a request has ended |
    /// | a window is known here and not confirmed by the store | 1 ms after the last |
    /// | the grant is used up or low | 1 ms after the last; after empty grants 10 ms, doubling up to 100 ms |
    /// | the quota is scarce and a request has ended | 5 ms after the last |
    /// | requests are in flight or reserved, or one has ended | 300 ms after the last |
    /// | otherwise | none |
    pub(super) fn next_report(
        &self,
        in_flight: u32,
        announced: bool,
        now: Instant,
    ) -> Option<Instant> {
        if self.report_in_flight {
            return None;
        }
        let Some(reported) = self.last_report else {
            return Some(now);
        };
        if let Some(retry_at) = self.retry_at {
            return Some(retry_at);
        }
        let synced = self.valid_until(now).is_some();
        // A window is known here, but the store has not confirmed a grant for it.
        let unsynced = announced && !synced && (self.has_update || self.overdraft);
        // Grants of nothing back off exponentially.
        let pause = match self.empty_grants {
            0 => MIN_REPORT_INTERVAL,
            empty_grants => MIN_RETRY_INTERVAL
                .saturating_mul(2_u32.saturating_pow(empty_grants))
                .min(MAX_RETRY_INTERVAL),
        };
        let low = self.sent > 0 && self.granted <= self.wanted / 2;
        if self.pending_hold.is_some() || self.sync_requested {
            Some(now)
        } else if synced && self.exhausted {
            // Nothing more can be granted before the reset.
            self.dirty.then(|| add_capped(reported, MAX_RETRY_INTERVAL))
        } else if unsynced {
            Some(add_capped(reported, MIN_REPORT_INTERVAL))
        } else if synced && (self.starved || self.overdraft || (low && !self.scarce)) {
            Some(add_capped(reported, pause))
        } else if self.scarce && self.dirty {
            Some(add_capped(reported, MIN_RETRY_INTERVAL))
        } else if in_flight > 0 || self.granted > 0 || self.dirty {
            Some(add_capped(reported, HEARTBEAT))
        } else {
            None
        }
    }
}

/// Minimum interval between two reports and between two marks.
const MIN_REPORT_INTERVAL: Duration = Duration::from_millis(1);
/// Time for which a process reserves requests in advance, if enough is free.
const LOOKAHEAD: Duration = Duration::from_millis(100);
/// Maximum number of marks.
const MAX_SEND_MARKS: usize = 64;
/// Base of the backoff of a process that was granted nothing, whose first wait is twice this; and interval after
/// which ends are reported in a scarce quota.
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum of that backoff, and interval between reports while nothing remains.
const MAX_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between the reports of a process that has a reservation. The store drops those of processes without
/// reports.
const HEARTBEAT: Duration = Duration::from_millis(300);
