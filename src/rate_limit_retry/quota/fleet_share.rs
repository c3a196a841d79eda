//! This process's part of a quota that a fleet shares, and when it reports to the store.
//!
//! The store keeps the reservation of each process: how much it has in flight or may send without another report. What
//! remains of a window, less all reservations, is free; each process is granted a part of it. The [`Grant`] of an
//! announced window is stored with the window, and those of the other windows are here.
//!
//! # Slow start
//!
//! While nothing is known of a quota, the fleet shares two windows: *slow start* limits the requests in flight, and the
//! *count* is the number of accepted requests. Slow start begins with `initial_window` requests for the whole fleet and
//! grows by one with every [`GROWTH_INTERVAL`] accepted ones, so that few requests are in flight when the first one is
//! throttled. Each process may always have one request in flight, and no more until the store has responded for the
//! first time.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{grant::Grant, tuning::TIMER_RESOLUTION};
use crate::{
    clock::add_capped,
    rate_limit_retry::{
        Cost,
        store::{MAX_AMOUNT, WindowId},
    },
};

/// The state of one partition's quota between two reports to the store.
#[derive(Debug)]
pub(super) struct FleetShare {
    /// Requests in flight during slow start.
    pub(super) start: Grant,
    /// Requests of the estimated window.
    pub(super) estimate: Grant,
    /// Requests in flight, if the server limits them.
    pub(super) concurrency: Grant,
    /// The requests that were accepted during slow start. Only counted.
    pub(super) count: Grant,
    /// Number of requests that the fleet has counted, as far as the store knows.
    pub(super) counted: u64,
    /// Whether slow start lasts, and since when no request was accepted.
    pub(super) cold: Option<Option<Instant>>,
    /// The start of the estimated window and its limit, as reported last.
    pub(super) reported_estimate: Option<(Instant, u64)>,
    /// The concurrency limit that was reported last.
    pub(super) reported_concurrency: Option<u32>,
    /// Whether the store shares windows: it has not failed, and has no entry of a newer version.
    pub(super) answers: bool,
    /// Number of processes that share the quota.
    pub(super) processes: u32,
    /// The windows that tell the other processes which named quotas have partitions of their own; empty if none have.
    pub(super) divided: Vec<WindowId>,
    /// The cost of the last request that was to be sent.
    pub(super) cost: Cost,
    /// Numbers and times of some of the last sends, at least [`TIMER_RESOLUTION`] apart, from old to new.
    pub(super) send_marks: VecDeque<(u64, Instant)>,
    /// Number of requests sent since the last report.
    pub(super) sent: u32,
    /// Whether a request has ended since the last report.
    pub(super) dirty: bool,
    /// Whether a request had to wait for a grant since the last report.
    pub(super) starved: bool,
    /// Whether requests were sent beyond a grant since the last report, so that the store does not know of them.
    pub(super) overdrawn: bool,
    /// Time of the last report.
    pub(super) last_report: Option<Instant>,
    /// Whether the store has not responded to the last report yet.
    pub(super) report_in_flight: bool,
    /// Number of the last report.
    pub(super) number: u64,
    /// Whether the next report repeats the last one, to which the store has not responded.
    pub(super) repeats: bool,
    /// Number of consecutive reports that requested a grant and were granted nothing.
    pub(super) empty_grants: u32,
    /// A hold to report to the other processes.
    pub(super) pending_hold: Option<Instant>,
    /// The hold that is in the report to which the store has not responded yet.
    pub(super) reported_hold: Option<Instant>,
    /// The end of the latest hold that was reported by this process or by others.
    pub(super) remote_hold: Option<Instant>,
    /// Whether the next report is due at once, because another process has reported something.
    pub(super) sync_requested: bool,
    /// The time before which a store that has failed gets no report.
    pub(super) retry_at: Option<Instant>,
}

impl Default for FleetShare {
    fn default() -> Self {
        Self {
            start: Grant::default(),
            estimate: Grant::default(),
            concurrency: Grant::default(),
            count: Grant::default(),
            counted: 0,
            cold: Some(None),
            reported_estimate: None,
            reported_concurrency: None,
            answers: true,
            processes: 1,
            divided: Vec::new(),
            cost: Cost::ONE,
            send_marks: VecDeque::new(),
            sent: 0,
            dirty: false,
            starved: false,
            overdrawn: false,
            last_report: None,
            report_in_flight: false,
            number: 0,
            repeats: false,
            empty_grants: 0,
            pending_hold: None,
            reported_hold: None,
            remote_hold: None,
            sync_requested: false,
            retry_at: None,
        }
    }
}

/// What the grants of all windows say about the next report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grants {
    /// Whether the store knows a window.
    pub(super) synced: bool,
    /// Whether a window is known here that the store does not know, or not in its present state.
    pub(super) has_news: bool,
    /// Whether the store reports that nothing remains of a window.
    pub(super) exhausted: bool,
    /// Whether less of a window is free than is reserved.
    pub(super) scarce: bool,
    /// Whether a grant is less than half of what was wanted.
    pub(super) low: bool,
    /// Whether something is granted.
    pub(super) granted: bool,
}

impl Grants {
    /// Adds the grant of a window. `is_known`: the window is known here.
    pub(super) fn add(&mut self, grant: &Grant, is_known: bool, overdrawn: bool, now: Instant) {
        let synced = grant.valid_until(now).is_some();
        self.has_news |= is_known && !synced && (grant.has_update || overdrawn);
        self.synced |= synced;
        self.granted |= grant.granted > 0;
        self.scarce |= grant.scarce;
        self.exhausted |= synced && grant.exhausted;
        self.low |= synced && grant.granted <= grant.wanted / 2 && !grant.scarce;
    }
}

impl FleetShare {
    /// Returns the grants of the windows that no response announces.
    pub(super) fn grants_mut(&mut self) -> [&mut Grant; 4] {
        let Self {
            start,
            estimate,
            concurrency,
            count,
            ..
        } = self;
        [start, estimate, concurrency, count]
    }

    /// Returns whether one more request must wait for slow start. Notes that it waits, which makes a report due.
    ///
    /// Slow start ends if no request is accepted for `timeout`.
    pub(super) fn blocks_start(&mut self, in_flight: u32, timeout: Duration, now: Instant) -> bool {
        let Some(since) = self.cold else { return false };
        if in_flight == 0 {
            return false;
        }
        if since.is_some_and(|since| add_capped(since, timeout) <= now) {
            self.end_start();
            return false;
        }
        let blocked = self.start.granted == 0;
        self.starved |= blocked;
        blocked
    }

    /// Ends slow start, because something is known of the quota.
    pub(super) fn end_start(&mut self) {
        self.cold = None;
        self.start.end();
    }

    /// Returns the limit of slow start. Ends slow start if it exceeds [`MAX_START`].
    pub(super) fn start_limit(&mut self, initial: u32) -> u64 {
        let accepted = self.counted + self.count.used;
        let limit = u64::from(initial.max(1)) + accepted / GROWTH_INTERVAL;
        if limit > MAX_START {
            self.end_start();
        }
        limit
    }

    /// Records a send. `overdrawn`: it exceeds a grant.
    pub(super) fn on_sent(&mut self, number: u64, overdrawn: bool, now: Instant) {
        if self
            .send_marks
            .back()
            .is_none_or(|(_, at)| *at + TIMER_RESOLUTION <= now)
        {
            if self.send_marks.len() == MAX_SEND_MARKS {
                self.send_marks.pop_front();
            }
            self.send_marks.push_back((number, now));
        }
        if let Some(since @ None) = &mut self.cold {
            *since = Some(now);
        }
        self.start.take(1);
        self.concurrency.take(1);
        self.overdrawn |= overdrawn;
        self.sent = self.sent.saturating_add(1);
    }

    /// Records that a request is no longer in flight.
    pub(super) fn on_completed(&mut self) {
        self.start.give_back(1);
        self.concurrency.give_back(1);
        self.dirty = true;
    }

    /// Records that a request was accepted. `counted`: no response announces what remains.
    pub(super) fn on_success(&mut self, counted: bool, now: Instant) {
        if let Some(since) = &mut self.cold {
            *since = Some(now);
            self.count.used += 1;
        }
        if counted {
            self.estimate.used += 1;
        }
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

    /// Resets what is known of the windows, and a hold that is not reported yet.
    pub(super) fn forget(&mut self) {
        self.grants_mut().into_iter().for_each(Grant::end);
        (self.pending_hold, self.reported_hold) = (None, None);
        self.reported_estimate = None;
        self.divided.clear();
    }

    /// Records that the store has responded to the last report.
    pub(super) fn on_response(&mut self) {
        (self.report_in_flight, self.repeats, self.reported_hold) = (false, false, None);
        (self.estimate.unconfirmed, self.count.unconfirmed) = (0, 0);
    }

    /// Forgets what is to be reported as used. The next announcement of the window contains it.
    pub(super) fn forget_used(&mut self) {
        self.repeats = false;
        (self.estimate.used, self.estimate.unconfirmed) = (0, 0);
        self.count.unconfirmed = 0;
    }

    /// Records that the store has not received the last report, as far as is known. The next one, which is due at
    /// `retry_at`, repeats it.
    pub(super) fn on_report_lost(&mut self, retry_at: Instant) {
        self.pending_hold = self.pending_hold.max(self.reported_hold.take());
        (self.reported_estimate, self.reported_concurrency) = (None, None);
        (self.report_in_flight, self.repeats) = (false, true);
        self.dirty = true;
        self.retry_at = Some(retry_at);
    }

    /// Records that the quotas with these names have partitions of their own. The other processes are told at once.
    ///
    /// Slow start ends: what it waits for is announced to those partitions.
    pub(super) fn divide<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.end_start();
        let known = self.divided.len();
        if known == 0 {
            self.divided.extend(WindowId::new(DIVIDED));
        }
        let named = names.filter_map(|name| WindowId::new(format!("{DIVIDED} {name}")));
        for mark in named {
            if self.divided.len() <= MAX_MARKS && !self.divided.contains(&mark) {
                self.divided.push(mark);
            }
        }
        self.sync_requested |= self.divided.len() > known;
    }

    /// Returns the number of requests for which room is wanted: the waiters, and those expected within [`LOOKAHEAD`] at
    /// the rate since the last report.
    ///
    /// A scarce quota is not reserved for requests that may never come.
    pub(super) fn demand(&self, waiting: u32, scarce: bool, now: Instant) -> u32 {
        let passed = self
            .last_report
            .map_or(LOOKAHEAD, |at| now - at)
            .max(TIMER_RESOLUTION);
        let soon = f64::from(self.sent) * LOOKAHEAD.div_duration_f64(passed);
        let soon = if scarce { 0 } else { soon.ceil() as u32 };
        waiting.saturating_add(soon)
    }

    /// Starts a report.
    pub(super) fn on_report(&mut self, now: Instant) {
        self.last_report = Some(now);
        self.report_in_flight = true;
        self.retry_at = None;
        (self.sent, self.dirty, self.starved) = (0, false, false);
        (self.overdrawn, self.sync_requested) = (false, false);
    }

    /// Returns the time at which the next report is due; `None` while one is in flight or nothing is to be reported.
    ///
    /// | situation, first match | next report |
    /// |---|---|
    /// | no report yet | now |
    /// | the store has failed | at `retry_at` |
    /// | a hold is to be reported, or another process has reported something | now |
    /// | a window is known here and not confirmed by the store | 1 ms after the last |
    /// | nothing remains | 100 ms after the last, if a request has ended |
    /// | the grant is used up or low | 1 ms after the last; after empty grants 10 ms, doubling up to 100 ms |
    /// | the quota is scarce and a request has ended | 5 ms after the last |
    /// | requests are in flight or reserved, or one has ended | 300 ms after the last |
    /// | otherwise | none |
    pub(super) fn next_report(
        &self,
        in_flight: u32,
        grants: &Grants,
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
        // Grants of nothing back off exponentially.
        let pause = match self.empty_grants {
            0 => TIMER_RESOLUTION,
            empty_grants => MIN_RETRY_INTERVAL
                .saturating_mul(2_u32.saturating_pow(empty_grants))
                .min(LOOKAHEAD),
        };
        if self.pending_hold.is_some() || self.sync_requested {
            Some(now)
        } else if grants.has_news {
            Some(add_capped(reported, TIMER_RESOLUTION))
        } else if grants.exhausted {
            // Nothing more can be granted before the reset.
            self.dirty.then(|| add_capped(reported, LOOKAHEAD))
        } else if grants.synced && (self.starved || self.overdrawn || (self.sent > 0 && grants.low))
        {
            Some(add_capped(reported, pause))
        } else if grants.scarce && self.dirty {
            Some(add_capped(reported, MIN_RETRY_INTERVAL))
        } else if in_flight > 0 || grants.granted || self.dirty {
            Some(add_capped(reported, HEARTBEAT))
        } else {
            None
        }
    }
}

/// Maximum number of names of which the other processes are told. They learn others from their own responses.
const MAX_MARKS: usize = 6;
/// Name of the window that says that named quotas have partitions of their own. Each of the others has the name of such a
/// quota after it.
pub(super) const DIVIDED: &str = "divided";
/// The remaining amount of the window that only counts: more than can be counted.
pub(super) const COUNT_FROM: u64 = MAX_AMOUNT;

/// Number of accepted requests after which slow start allows one more request in flight. At 300 requests in the first
/// window, 9 more are in flight than at first, and are throttled at its end.
const GROWTH_INTERVAL: u64 = 32;
/// Limit of the fleet's slow start beyond which it ends.
const MAX_START: u64 = 256;
/// Time for which a process reserves requests in advance, if enough is free. A process that is granted nothing, or has
/// nothing to reserve, reports as often.
const LOOKAHEAD: Duration = Duration::from_millis(100);
/// Maximum number of marks.
const MAX_SEND_MARKS: usize = 64;
/// Base of the backoff of a process that was granted nothing, whose first wait is twice this; and interval after
/// which ends are reported in a scarce quota.
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Interval between the reports of a process that has a reservation: three within the time after which the store drops it
/// (1 s).
const HEARTBEAT: Duration = LOOKAHEAD.saturating_mul(3);
