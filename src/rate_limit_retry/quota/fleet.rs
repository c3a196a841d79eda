//! This process's part of a quota that a fleet shares: what the store has granted, and what is to be reported to it.
//!
//! The store keeps for each process how many requests it has in flight or may send without asking again (its
//! reservation). What the API announces as remaining, less all reservations, is free; each process is granted a part
//! of it, its allowance.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::clock::add_capped;

/// The state of one partition's quota between two reports to the store.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    /// Number of requests that may still be sent without asking the store.
    pub(super) allowance: u32,
    /// Number of requests that may be sent beyond the allowance before the store's next response, if enough is free.
    pub(super) advance: u32,
    /// The time until which the allowance is valid. `None` while no window is known or the store fails.
    pub(super) until: Option<Instant>,
    /// Whether less is free than is reserved: then the end of a request is reported soon, because others wait for it.
    pub(super) scarce: bool,
    /// Whether the store reports that nothing remains.
    pub(super) used_up: bool,
    /// Numbers and times of some of the last sends, at least [`TICK`] apart, from old to new.
    pub(super) marks: VecDeque<(u64, Instant)>,
    /// Whether responses have announced a window since the last report.
    pub(super) spoken: bool,
    /// Number of requests sent since the last report.
    pub(super) sent: u32,
    /// Whether a request has ended since the last report.
    pub(super) news: bool,
    /// Whether a request was refused for want of allowance since the last report.
    pub(super) kept_back: bool,
    /// Whether requests were sent beyond the allowance since the last report, so that the store does not know of
    /// them.
    pub(super) beyond: bool,
    /// Number of requests for which the last report wanted room.
    pub(super) wanted: u32,
    /// Whether the last report asked for more than the allowance at that time.
    pub(super) expects: bool,
    /// Time of the last report.
    pub(super) reported: Option<Instant>,
    /// Whether the store has not responded to the last report yet.
    pub(super) under_way: bool,
    /// Number of consecutive reports that asked for an allowance and were granted nothing.
    pub(super) dry: u32,
    /// A hold to report to the other processes.
    pub(super) hold: Option<Instant>,
    /// The end of the latest hold that was reported by this process or by others.
    pub(super) heard: Option<Instant>,
    /// Whether the next report is due at once, because another process has reported something.
    pub(super) asked: bool,
    /// The time before which a store that has failed gets no report.
    pub(super) rests: Option<Instant>,
}

impl Fleet {
    /// Returns whether the other processes are known, so that all that the quota loses is this fleet's.
    pub(super) fn is_together(&self) -> bool {
        self.until.is_some()
    }

    /// Returns the time until which the allowance is valid, if it is now.
    pub(super) fn rules(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// Returns whether one more request may be sent. Notes that the allowance was used up, which makes a report due.
    pub(super) fn allows(&mut self) -> bool {
        self.kept_back |= self.allowance == 0;
        self.allowance > 0 || self.advance > 0
    }

    /// Debits the allowance, or else the advance, for a send.
    pub(super) fn entered(&mut self, number: u64, now: Instant) {
        if self.marks.back().is_none_or(|(_, at)| *at + TICK <= now) {
            if self.marks.len() == MARKS {
                self.marks.pop_front();
            }
            self.marks.push_back((number, now));
        }
        match self.allowance {
            0 => {
                self.advance = self.advance.saturating_sub(1);
                self.beyond = true;
            }
            _ => self.allowance -= 1,
        }
        self.sent = self.sent.saturating_add(1);
    }

    /// Records that a request is no longer in flight.
    pub(super) fn ended(&mut self) {
        self.news = true;
    }

    /// Records that a response has announced a window.
    pub(super) fn told(&mut self) {
        self.spoken = true;
    }

    /// Returns a time at or before which the request was sent; `None` if it is older than all marks.
    pub(super) fn sent_after(&self, number: u64) -> Option<Instant> {
        let before = self.marks.iter().rev().find(|(mark, _)| *mark <= number)?;
        Some(before.1)
    }

    /// Records a hold to report, unless one that ends as late is known to the others.
    pub(super) fn refused(&mut self, until: Instant) {
        if self.heard.is_none_or(|heard| heard < until) {
            self.hold = Some(until);
        }
    }

    /// Ends the window: without one, no allowance applies.
    pub(super) fn over(&mut self) {
        self.until = None;
        (self.allowance, self.advance) = (0, 0);
    }

    /// Resets what is known of the window, and a hold that is not reported yet.
    pub(super) fn forget(&mut self) {
        self.over();
        self.hold = None;
    }

    /// Returns the number of requests for which room is wanted: the waiters, and those expected within [`AHEAD`] at
    /// the rate since the last report.
    pub(super) fn wants(&self, waiting: u32, now: Instant) -> u32 {
        let passed = self.reported.map_or(AHEAD, |at| now - at).max(TICK);
        let soon = f64::from(self.sent) * AHEAD.div_duration_f64(passed);
        // A scarce quota is not reserved for requests that may never come.
        let soon = if self.scarce { 0 } else { soon.ceil() as u32 };
        waiting.saturating_add(soon)
    }

    /// Returns the time at which the next report is due; `None` while one is under way or nothing is to be reported.
    ///
    /// | situation, first match | next report |
    /// |---|---|
    /// | no report yet | now |
    /// | the store has failed | at `rests` |
    /// | a hold is to be reported, or another process has reported something | now |
    /// | nothing remains | 100 ms after the last, if a request has ended |
    /// | a window is known here and not confirmed by the store | 1 ms after the last |
    /// | the allowance is used up or low | 1 ms after the last; after empty grants 10 ms, doubling up to 100 ms |
    /// | the quota is scarce and a request has ended | 5 ms after the last |
    /// | requests are in flight or reserved, or one has ended | 300 ms after the last |
    /// | otherwise | none |
    pub(super) fn due(&self, in_flight: u32, told: bool, now: Instant) -> Option<Instant> {
        if self.under_way {
            return None;
        }
        let Some(reported) = self.reported else {
            return Some(now);
        };
        if let Some(rests) = self.rests {
            return Some(rests);
        }
        let ruled = self.rules(now).is_some();
        // A window is known here, but the store has not confirmed an allowance for it.
        let apart = told && !ruled && (self.spoken || self.beyond);
        // Grants of nothing back off exponentially.
        let pause = match self.dry {
            0 => TICK,
            dry => SHORTEST
                .saturating_mul(2_u32.saturating_pow(dry))
                .min(LONGEST),
        };
        let low = self.sent > 0 && self.allowance <= self.wanted / 2;
        if self.hold.is_some() || self.asked {
            Some(now)
        } else if ruled && self.used_up {
            // Nothing more can be granted before the reset.
            self.news.then(|| add_capped(reported, LONGEST))
        } else if apart {
            Some(add_capped(reported, TICK))
        } else if ruled && (self.kept_back || self.beyond || (low && !self.scarce)) {
            Some(add_capped(reported, pause))
        } else if self.scarce && self.news {
            Some(add_capped(reported, SHORTEST))
        } else if in_flight > 0 || self.allowance > 0 || self.news {
            Some(add_capped(reported, ALIVE))
        } else {
            None
        }
    }
}

/// Minimum interval between two reports and between two marks.
const TICK: Duration = Duration::from_millis(1);
/// Time for which a process reserves requests in advance, if enough is free.
const AHEAD: Duration = Duration::from_millis(100);
/// Maximum number of marks.
const MARKS: usize = 64;
/// Base of the backoff of a process that was granted nothing, whose first wait is twice this; and interval after
/// which ends are reported in a scarce quota.
const SHORTEST: Duration = Duration::from_millis(5);
/// Maximum of that backoff, and interval between reports while nothing remains.
const LONGEST: Duration = Duration::from_millis(100);
/// Interval between the reports of a process that has a reservation. The store drops those of processes without
/// reports.
const ALIVE: Duration = Duration::from_millis(300);
