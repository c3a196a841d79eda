//! The quota algorithm of an in-memory store: the same as `redis/report.lua` and `redis/gcra.lua`.
//!
//! It is the readable specification of the scripts, and the store of the test utilities. A change must be made in both;
//! only the time unit differs (milliseconds and microseconds there).

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    AnnouncedQuota, FleetQuota, MAX_AMOUNT, MAX_WINDOWS, ProcessId, QuotaReport, QuotaSnapshot,
    Reservation, SharedWindow, WindowId, WindowReport,
};
use crate::clock::add_capped;

/// State of one quota.
#[derive(Debug, Default)]
pub(crate) struct MemoryQuota {
    /// The version of the newest process that has reported.
    version: u32,
    /// The windows that are announced or of which something is reserved.
    windows: BTreeMap<WindowId, Window>,
    /// End of the hold. It means the same in all versions.
    hold: Option<Instant>,
    /// The processes that have reported.
    processes: HashMap<ProcessId, Process>,
    /// Theoretical arrival time of the next request (GCRA), if requests are spaced evenly.
    tat: Option<Instant>,
}

/// One window.
#[derive(Debug, Default)]
struct Window {
    /// What all processes have reserved.
    reserved: u64,
    /// The window itself, until it is over.
    known: Option<KnownWindow>,
}

/// What is known of a window.
#[derive(Clone, Copy, Debug)]
struct KnownWindow {
    /// Units per window, if known.
    limit: Option<u64>,
    /// Units that remain, including reserved ones.
    remaining: u64,
    /// When the announcement was stored. Later than the response, so that a request is taken for a newer one only if it
    /// certainly is.
    updated: Instant,
    /// When the window is reset.
    resets_at: Instant,
    /// Length of the window, if known.
    window: Option<Duration>,
}

/// One process.
#[derive(Debug)]
struct Process {
    /// Time of its last report.
    updated: Instant,
    /// Number of that report.
    number: u64,
    /// What it has reserved.
    reserved: BTreeMap<WindowId, u64>,
}

impl MemoryQuota {
    /// Stores a report and returns the combined state. The flag says whether the report contains a later hold than
    /// the known one.
    ///
    /// [`QuotaStore`](super::QuotaStore) lists the rules.
    pub(crate) fn report(&mut self, report: &QuotaReport, now: Instant) -> (QuotaSnapshot, bool) {
        self.hold = self.hold.filter(|hold| *hold > now);
        // A report without a hold never shortens a known one.
        let hold = report.hold.map(|hold| add_capped(now, hold));
        let is_new_hold = hold > self.hold;
        self.hold = self.hold.max(hold);
        let without_windows = QuotaSnapshot {
            hold: self.hold.map(|hold| hold - now),
            ..QuotaSnapshot::default()
        };
        // The entry of a newer version.
        if report.version < self.version {
            return (without_windows, is_new_hold);
        }
        if report.version > self.version {
            self.version = report.version;
            (self.windows, self.processes) = Default::default();
        }
        self.expire(now);
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&report.process) {
            return (without_windows, is_new_hold);
        }
        // The report replaces what its process had reserved. What it says is used was counted before if it is repeated.
        let former = self.processes.get(&report.process);
        let is_repeated =
            report.number > 0 && former.is_some_and(|former| former.number == report.number);
        self.release(report.process);
        let mut reserved = BTreeMap::new();
        let mut counted = Vec::new();
        for of_window in report.windows.iter().take(MAX_WINDOWS) {
            let id = &of_window.id;
            if self.windows.len() >= MAX_WINDOWS && !self.windows.contains_key(id) {
                continue;
            }
            let window = self.windows.entry(id.clone()).or_default();
            window.count(of_window, is_repeated, now);
            *reserved.entry(id.clone()).or_default() += of_window.reserved.min(MAX_AMOUNT);
            counted.push(of_window);
        }
        let processes = self.processes.len() as u64 + 1;
        let mut granted = BTreeMap::new();
        for of_window in counted {
            if let Some(window) = self.windows.get_mut(&of_window.id) {
                let grant = window.grant(of_window, processes);
                *reserved.entry(of_window.id.clone()).or_default() += grant;
                granted.insert(&of_window.id, grant);
            }
        }
        let updated = now;
        let number = report.number;
        let process = Process {
            updated,
            number,
            reserved,
        };
        self.processes.insert(report.process, process);
        self.windows.retain(|_, window| window.is_used());
        let windows = self.windows.iter().filter_map(|(id, window)| {
            let known = window.known?;
            Some(SharedWindow {
                id: id.clone(),
                granted: granted.get(id).copied().unwrap_or_default(),
                limit: known.limit,
                remaining: known.remaining,
                reserved: window.reserved,
                reset: known.resets_at - now,
                window: known.window,
            })
        });
        let snapshot = QuotaSnapshot {
            processes: u32::try_from(processes).unwrap_or(u32::MAX),
            windows: windows.collect(),
            ..without_windows
        };
        (snapshot, is_new_hold)
    }

    /// Removes processes without reports for [`RESERVATION_TTL`], and windows that are over.
    fn expire(&mut self, now: Instant) {
        let expired = |process: &Process| add_capped(process.updated, RESERVATION_TTL) <= now;
        let expired = self.processes.iter().filter(|(_, known)| expired(known));
        let expired: Vec<_> = expired.map(|(id, _)| *id).collect();
        for process in expired {
            self.release(process);
        }
        for window in self.windows.values_mut() {
            window.known = window.known.filter(|known| known.resets_at > now);
        }
        self.windows.retain(|_, window| window.is_used());
    }

    /// Removes a process and what it has reserved.
    fn release(&mut self, process: ProcessId) {
        let former = self.processes.remove(&process);
        for (id, amount) in former.into_iter().flat_map(|known| known.reserved) {
            if let Some(window) = self.windows.get_mut(&id) {
                window.reserved = window.reserved.saturating_sub(amount);
            }
        }
        self.windows.retain(|_, window| window.is_used());
    }

    /// Reserves a slot by the generic cell rate algorithm (GCRA).
    ///
    /// A request is due one emission interval after the previous one, and may be sent earlier by the tolerance. If
    /// the wait would exceed `max_wait`, nothing is reserved.
    pub(crate) fn reserve(
        &mut self,
        fleet_quota: FleetQuota,
        max_wait: Duration,
        now: Instant,
    ) -> Reservation {
        // A due time in the past does not accumulate credit beyond the tolerance.
        let tat = self.tat.map_or(now, |tat| tat.max(now));
        let wait = (tat - now).saturating_sub(fleet_quota.burst_tolerance());
        if wait > max_wait {
            return Reservation::Denied(wait);
        }
        self.tat = Some(add_capped(tat, fleet_quota.emission_interval()));
        Reservation::Granted(wait)
    }
}

impl Window {
    /// Returns whether the window is known, or something of it is reserved.
    fn is_used(&self) -> bool {
        self.known.is_some() || self.reserved > 0
    }

    /// Counts what a process reports. What is used is not counted again if the report `is_repeated`.
    fn count(&mut self, report: &WindowReport, is_repeated: bool, now: Instant) {
        if let Some(announced) = &report.announced {
            self.known = Some(KnownWindow::merge(self.known, announced, now));
        }
        if let Some(known) = &mut self.known
            && !is_repeated
        {
            known.remaining = known.remaining.saturating_sub(report.used);
        }
        self.reserved += report.reserved.min(MAX_AMOUNT);
    }

    /// Reserves a part of what is free. Returns it.
    fn grant(&mut self, report: &WindowReport, processes: u64) -> u64 {
        let remaining = self.known.map_or(0, |known| known.remaining);
        let free = remaining.saturating_sub(self.reserved);
        let minimum = report.minimum.max(1);
        let granted = if minimum > free {
            0
        } else {
            report.wanted.min((free / processes).max(minimum))
        };
        self.reserved += granted;
        granted
    }
}

impl KnownWindow {
    /// Returns what is known after an announcement.
    fn merge(known: Option<Self>, announced: &AnnouncedQuota, now: Instant) -> Self {
        let limit = announced.limit.map(|limit| limit.min(MAX_AMOUNT));
        let remaining = announced.remaining.min(MAX_AMOUNT);
        let new = Self {
            limit,
            remaining,
            updated: now,
            resets_at: add_capped(now, announced.reset),
            window: announced.window,
        };
        let Some(known) = known else { return new };
        let raised = match (announced.age, known.limit, limit) {
            (None, Some(known), Some(limit)) if limit != known => Some(limit.saturating_sub(known)),
            _ => None,
        };
        if let Some(raised) = raised {
            return Self {
                limit: known.limit.max(limit),
                remaining: (known.remaining + raised).min(MAX_AMOUNT),
                ..known
            };
        }
        // A response to a request that was sent after the last announcement replaces it. Other responses may have
        // overtaken each other; of those, the smallest remaining amount applies.
        let sent = announced.age.and_then(|age| now.checked_sub(age));
        if remaining < known.remaining || sent.is_some_and(|sent| sent > known.updated) {
            new
        } else {
            known
        }
    }
}

/// Time after which the reservation of a process without reports expires. Several times the interval between reports of
/// a process that sends requests, so that a lost report does not cost its reservation.
pub(super) const RESERVATION_TTL: Duration = Duration::from_secs(1);
/// Maximum number of processes of an entry. Bounds its memory.
const MAX_PROCESSES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary instant to count from"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    fn id(name: &str) -> WindowId {
        WindowId::new(name).unwrap()
    }

    /// A report about one window.
    fn report(process: ProcessId, reserved: u64, wanted: u64) -> QuotaReport {
        let mut report = QuotaReport::new(process);
        let mut requests = WindowReport::new(id("requests"));
        (requests.reserved, requests.wanted) = (reserved, wanted);
        report.windows.push(requests);
        report
    }

    fn announcing(mut report: QuotaReport, remaining: u64, age: Option<Duration>) -> QuotaReport {
        let mut announced = AnnouncedQuota::new(remaining, 60 * SECOND);
        (announced.limit, announced.age) = (Some(100), age);
        report.windows[0].announced = Some(announced);
        report
    }

    fn requests(snapshot: &QuotaSnapshot) -> &SharedWindow {
        let window = snapshot.windows.iter().find(|w| w.id == id("requests"));
        window.unwrap()
    }

    #[test]
    fn grants_never_exceed_remaining_and_are_fair() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let [a, b] = [ProcessId::random(), ProcessId::random()];
        assert_eq!(quota.report(&report(b, 0, 10), now).0.windows, []);

        let first = announcing(report(a, 4, 100), 20, None);
        let first = quota.report(&first, now).0;
        let second = quota.report(&report(b, 2, 100), now).0;
        let third = quota.report(&report(a, 12, 100), now).0;

        // Half of what is free each time.
        let granted = [&first, &second, &third].map(|snapshot| requests(snapshot).granted);
        assert_eq!(granted, [8, 3, 1]);
        assert_eq!(requests(&third).reserved, 18);
        let all: u64 = (0..9)
            .map(|n| {
                let reserved = 13 + n.min(2);
                let snapshot = quota.report(&report(a, reserved, 1), now).0;
                requests(&snapshot).granted
            })
            .sum();
        assert_eq!(all, 2);
    }

    #[test]
    fn a_grant_is_enough_for_one_request_or_nothing() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let [a, b] = [ProcessId::random(), ProcessId::random()];
        quota.report(&announcing(report(b, 0, 0), 1_000, None), now);
        let mut ask = |reserved, minimum| {
            let mut report = report(a, reserved, 2_000);
            report.windows[0].minimum = minimum;
            requests(&quota.report(&report, now).0).granted
        };

        // An equal share is 500.
        assert_eq!(ask(0, 700), 700);
        assert_eq!(ask(700, 700), 0);
        assert_eq!(ask(0, 1), 500);
        assert_eq!(ask(0, 1_001), 0);
        assert_eq!(ask(0, 1_000), 1_000);
    }

    #[test]
    fn the_lowest_remaining_applies_until_a_later_request_reports_more() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let a = ProcessId::random();
        let mut tell = |remaining, age, at| {
            let report = announcing(report(a, 0, 0), remaining, age);
            requests(&quota.report(&report, at).0).remaining
        };

        assert_eq!(tell(20, None, now), 20);
        assert_eq!(tell(30, None, now + SECOND), 20);
        assert_eq!(tell(10, None, now + 2 * SECOND), 10);
        assert_eq!(tell(50, Some(SECOND), now + 3 * SECOND), 10);
        assert_eq!(tell(50, Some(SECOND / 2), now + 3 * SECOND), 50);
        assert_eq!(tell(90, None, now + 63 * SECOND), 90);
    }

    #[test]
    fn what_is_used_is_subtracted_and_a_greater_limit_adds() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let a = ProcessId::random();
        let mut number = 0;
        let mut tell = |limit, used| {
            let mut report = announcing(report(a, 0, 0), limit, None);
            number += 1;
            (report.number, report.windows[0].used) = (number, used);
            let announced = report.windows[0].announced.as_mut().unwrap();
            announced.limit = Some(limit);
            let snapshot = quota.report(&report, now).0;
            (requests(&snapshot).limit, requests(&snapshot).remaining)
        };

        assert_eq!(tell(100, 30), (Some(100), 70));
        assert_eq!(tell(101, 1), (Some(101), 70));
        // Another process that reports the same window, or an older one, changes nothing.
        assert_eq!(tell(101, 0), (Some(101), 70));
        assert_eq!(tell(80, 0), (Some(101), 70));
        assert_eq!(tell(101, 90), (Some(101), 0));
        assert_eq!(tell(u64::MAX, 0), (Some(MAX_AMOUNT), MAX_AMOUNT - 101));
    }

    #[test]
    fn a_repeated_report_is_counted_once() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let a = ProcessId::random();
        let mut tell = |number, used, at| {
            let mut report = report(a, 0, 0);
            (report.number, report.windows[0].used) = (number, used);
            requests(&quota.report(&announcing(report, 100, None), at).0).remaining
        };

        assert_eq!(tell(1, 10, now), 90);
        assert_eq!(tell(1, 10, now), 90);
        assert_eq!(tell(2, 10, now), 80);
        assert_eq!(tell(3, 10, now), 70);
    }

    #[test]
    fn the_longest_hold_applies_and_silent_processes_expire() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let [a, b] = [ProcessId::random(), ProcessId::random()];
        let hold = |length: Duration| QuotaReport {
            hold: Some(length),
            ..announcing(report(a, 10, 0), 10, None)
        };

        assert!(quota.report(&hold(30 * SECOND), now).1);
        let (snapshot, is_new_hold) = quota.report(&hold(5 * SECOND), now);
        assert_eq!((snapshot.hold, is_new_hold), (Some(30 * SECOND), false));
        let granted = requests(&quota.report(&report(b, 0, 5), now).0).granted;
        assert_eq!(granted, 0);
        let later = quota.report(&report(b, 0, 5), now + RESERVATION_TTL).0;
        assert_eq!(
            (requests(&later).granted, later.hold),
            (5, Some(29 * SECOND))
        );
        assert_eq!(later.processes, 1);
        let over = quota.report(&report(b, 5, 0), now + 30 * SECOND).0;
        assert_eq!(over.hold, None);
    }

    #[test]
    fn versions_share_holds_and_no_windows() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let [old, new] = [ProcessId::random(), ProcessId::random()];
        let of = |version, report| QuotaReport { version, ..report };
        let newer = QuotaReport::VERSION + 1;
        let held = QuotaReport {
            hold: Some(9 * SECOND),
            ..announcing(report(old, 3, 7), 50, None)
        };
        assert_eq!(quota.report(&held, now).0.processes, 1);

        // The new version starts with an empty entry, except for the hold.
        let first = quota.report(&of(newer, report(new, 2, 0)), now).0;
        assert_eq!((first.processes, first.hold), (1, Some(9 * SECOND)));
        assert_eq!(first.windows, []);
        let tells = of(newer, announcing(report(new, 2, 0), 40, None));
        let before = quota.report(&tells, now).0;

        // The old one changes nothing except the hold.
        let longer = QuotaReport {
            hold: Some(20 * SECOND),
            ..announcing(report(old, 30, 7), 1, None)
        };
        let (alone, is_new_hold) = quota.report(&longer, now);
        assert_eq!((alone.processes, &*alone.windows), (0, &[][..]));
        assert_eq!((alone.hold, is_new_hold), (Some(20 * SECOND), true));
        let after = quota.report(&of(newer, report(new, 2, 0)), now).0;
        assert_eq!(after.windows, before.windows);
        assert_eq!((after.processes, after.hold), (1, Some(20 * SECOND)));
    }

    #[test]
    fn windows_and_processes_are_bounded() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        for number in 0..10_000_u32 {
            let mut report = report(ProcessId::random(), 1, 1);
            report.windows[0].id = id(&format!("window {number}"));
            report = announcing(report, 10, None);
            quota.report(&report, now);
        }
        assert_eq!(quota.windows.len(), MAX_WINDOWS);
        assert_eq!(quota.processes.len(), MAX_PROCESSES);

        // Windows that are over make room.
        let later = now + 60 * SECOND;
        let snapshot = quota.report(
            &announcing(report(ProcessId::random(), 0, 3), 9, None),
            later,
        );
        assert_eq!(requests(&snapshot.0).granted, 3);
        assert_eq!((quota.windows.len(), quota.processes.len()), (1, 1));
    }

    #[test]
    fn reservations_are_spaced_evenly_except_for_a_burst() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let fleet_quota = FleetQuota::per_minute(63).burst(2);
        let mut wait = |at| quota.reserve(fleet_quota, 2 * SECOND, at);

        assert_eq!(wait(now), Reservation::Granted(Duration::ZERO));
        assert_eq!(wait(now), Reservation::Granted(Duration::ZERO));
        assert_eq!(wait(now), Reservation::Granted(SECOND));
        assert_eq!(wait(now), Reservation::Granted(2 * SECOND));
        assert_eq!(wait(now), Reservation::Denied(3 * SECOND));
        assert_eq!(wait(now + SECOND), Reservation::Granted(2 * SECOND));
    }
}
