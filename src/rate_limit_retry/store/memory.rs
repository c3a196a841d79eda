//! The quota algorithm of an in-memory store: the same as `redis/report.lua` and `redis/gcra.lua`.
//!
//! It is the readable specification of the scripts, and the store of the test utilities. A change must be made in both;
//! only the time unit differs (milliseconds and microseconds there).

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{FleetQuota, ProcessId, QuotaReport, QuotaSnapshot, Reservation, SharedWindow};
use crate::clock::add_capped;

/// State of one quota.
#[derive(Debug, Default)]
pub(crate) struct MemoryQuota {
    /// The current window.
    window: Option<KnownWindow>,
    /// End of the hold.
    hold: Option<Instant>,
    /// Reserved requests and time of the last report, by process. The sum of the reservations is what all processes may
    /// have in flight.
    processes: HashMap<ProcessId, (u32, Instant)>,
    /// Theoretical arrival time of the next request (GCRA), if requests are spaced evenly.
    tat: Option<Instant>,
}

/// The announced window.
#[derive(Clone, Copy, Debug)]
struct KnownWindow {
    /// Number of requests per window, if announced.
    limit: Option<u64>,
    /// Number of requests that remained, including reserved ones.
    remaining: u64,
    /// When the announcement was stored. Later than the response, so that a request is taken for a newer one only if it
    /// certainly is.
    updated: Instant,
    /// When the window is reset.
    resets_at: Instant,
}

impl MemoryQuota {
    /// Stores a report and returns the combined state. The flag says whether the report contains a later hold than
    /// the known one.
    ///
    /// - A process without reports for [`RESERVATION_TTL`] loses its reservation.
    /// - A window or a hold that is over is discarded.
    /// - The longest hold applies.
    /// - A report replaces the earlier reservation of its process.
    /// - Grants are limited to an equal share of the free requests, but are at least one while any are free.
    pub(crate) fn report(&mut self, report: &QuotaReport, now: Instant) -> (QuotaSnapshot, bool) {
        // Expires reservations, the window and the hold.
        self.processes
            .retain(|_, (_, updated)| add_capped(*updated, RESERVATION_TTL) > now);
        self.window = self.window.filter(|window| window.resets_at > now);
        self.hold = self.hold.filter(|hold| *hold > now);
        if let Some(announced) = &report.announced {
            // A response to a request that was sent after the last announcement replaces it. Other responses may have
            // overtaken each other; of those, the smallest number of remaining requests applies.
            let sent = announced.age.and_then(|age| now.checked_sub(age));
            let believed = self.window.is_none_or(|window| {
                announced.remaining < window.remaining
                    || sent.is_some_and(|sent| sent > window.updated)
            });
            if believed {
                self.window = Some(KnownWindow {
                    limit: announced.limit,
                    remaining: announced.remaining,
                    updated: now,
                    resets_at: add_capped(now, announced.reset),
                });
            }
        }
        // A report without a hold never shortens a known one.
        let hold = report.hold.map(|hold| add_capped(now, hold));
        let is_new_hold = hold > self.hold;
        self.hold = self.hold.max(hold);
        // A report replaces the previous reservation of its process.
        self.processes
            .insert(report.process, (report.reserved, now));
        // Each process receives at most its equal share of the free requests, but at least one while any are free.
        let reserved: u64 = self.processes.values().map(|(n, _)| u64::from(*n)).sum();
        let mut granted = 0;
        if let Some(window) = self.window {
            let free = window.remaining.saturating_sub(reserved);
            let fair = (free / self.processes.len() as u64).max(1).min(free);
            granted = report.wanted.min(u32::try_from(fair).unwrap_or(u32::MAX));
            if let Some((mine, _)) = self.processes.get_mut(&report.process) {
                *mine = mine.saturating_add(granted);
            }
        }
        let snapshot = QuotaSnapshot {
            granted,
            window: self.window.map(|window| SharedWindow {
                limit: window.limit,
                remaining: window.remaining,
                reserved: reserved + u64::from(granted),
                processes: u32::try_from(self.processes.len()).unwrap_or(u32::MAX),
                reset: window.resets_at - now,
            }),
            hold: self.hold.map(|hold| hold - now),
        };
        (snapshot, is_new_hold)
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

/// Time after which the reservation of a process without reports expires. Several times the interval between reports of
/// a process that sends requests, so that a lost report does not cost its reservation.
pub(super) const RESERVATION_TTL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit_retry::store::AnnouncedQuota;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary instant to count from"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    fn report(process: ProcessId, reserved: u32, wanted: u32) -> QuotaReport {
        QuotaReport {
            process,
            reserved,
            wanted,
            announced: None,
            hold: None,
        }
    }

    fn announced(remaining: u64, age: Option<Duration>) -> Option<AnnouncedQuota> {
        Some(AnnouncedQuota {
            limit: Some(100),
            remaining,
            reset: 60 * SECOND,
            age,
        })
    }

    fn remaining(snapshot: QuotaSnapshot) -> u64 {
        snapshot.window.unwrap().remaining
    }

    #[test]
    fn grants_never_exceed_remaining_and_are_fair() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let [a, b] = [ProcessId::random(), ProcessId::random()];
        assert_eq!(quota.report(&report(b, 0, 10), now).0.granted, 0);

        let first = QuotaReport {
            announced: announced(20, None),
            ..report(a, 4, 100)
        };
        let first = quota.report(&first, now).0;
        let second = quota.report(&report(b, 2, 100), now).0;
        let third = quota.report(&report(a, 12, 100), now).0;

        // Half of what is free each time.
        assert_eq!((first.granted, second.granted, third.granted), (8, 3, 1));
        assert_eq!(third.window.unwrap().reserved, 18);
        let all: u32 = (0..9)
            .map(|n| {
                let reserved = 13 + n.min(2);
                quota.report(&report(a, reserved, 1), now).0.granted
            })
            .sum();
        assert_eq!(all, 2);
    }

    #[test]
    fn the_lowest_remaining_applies_until_a_later_request_reports_more() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let a = ProcessId::random();
        let mut tell = |remaining, age, at| {
            let report = QuotaReport {
                announced: announced(remaining, age),
                ..report(a, 0, 0)
            };
            quota.report(&report, at).0
        };

        assert_eq!(remaining(tell(20, None, now)), 20);
        assert_eq!(remaining(tell(30, None, now + SECOND)), 20);
        assert_eq!(remaining(tell(10, None, now + 2 * SECOND)), 10);
        assert_eq!(remaining(tell(50, Some(SECOND), now + 3 * SECOND)), 10);
        assert_eq!(remaining(tell(50, Some(SECOND / 2), now + 3 * SECOND)), 50);
        assert_eq!(remaining(tell(90, None, now + 63 * SECOND)), 90);
    }

    #[test]
    fn the_longest_hold_applies_and_silent_processes_expire() {
        let (mut quota, now) = (MemoryQuota::default(), start());
        let [a, b] = [ProcessId::random(), ProcessId::random()];
        let hold = |length: Duration| QuotaReport {
            hold: Some(length),
            announced: announced(10, None),
            ..report(a, 10, 0)
        };

        assert!(quota.report(&hold(30 * SECOND), now).1);
        let (snapshot, is_new_hold) = quota.report(&hold(5 * SECOND), now);
        assert_eq!((snapshot.hold, is_new_hold), (Some(30 * SECOND), false));
        assert_eq!(quota.report(&report(b, 0, 5), now).0.granted, 0);
        let later = quota.report(&report(b, 0, 5), now + RESERVATION_TTL).0;
        assert_eq!((later.granted, later.hold), (5, Some(29 * SECOND)));
        let over = quota.report(&report(b, 5, 0), now + 30 * SECOND).0;
        assert_eq!(over.hold, None);
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
