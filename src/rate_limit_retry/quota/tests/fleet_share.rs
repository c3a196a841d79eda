//! A process's share of a shared quota, and when it reports.

use super::*;
use crate::rate_limit_retry::{
    quota::{fleet_share::Grants, grant::Grant},
    store::WindowId,
};

/// A fleet that has reported just now, and the time.
fn reported_fleet() -> (FleetShare, Instant) {
    let now = origin();
    let fleet = FleetShare {
        last_report: Some(now),
        ..FleetShare::default()
    };
    (fleet, now)
}

#[test]
fn a_grant_is_valid_until_its_window_ends() {
    let end = origin() + secs(10);
    let mut grant = Grant {
        expires: Some(end),
        granted: 3,
        overdraft: 2,
        used: 7,
        has_update: true,
        ..Grant::default()
    };
    assert!(grant.is_synced());
    assert_eq!(grant.valid_until(end - ms(1)), Some(end));
    assert_eq!(grant.valid_until(end), None);
    assert_eq!(grant.blocks(6, end - ms(1)), Some(end));
    assert_eq!(grant.blocks(5, end - ms(1)), None);
    // Without a store, local rules apply.
    assert_eq!(grant.blocks(6, end), None);

    grant.end();

    assert!(!grant.is_synced());
    assert_eq!((grant.granted, grant.overdraft), (0, 0));
    // What is not reported yet stays.
    assert_eq!((grant.used, grant.has_update), (7, true));
}

#[test]
fn the_grant_is_used_before_the_overdraft() {
    let mut grant = Grant {
        granted: 5,
        overdraft: 4,
        ..Grant::default()
    };
    for (amount, allowed, beyond, left) in [
        (3, true, false, (2, 4)),
        (7, false, true, (0, 0)),
        (1, false, true, (0, 0)),
    ] {
        assert_eq!(grant.allows(amount), allowed, "{amount}");

        assert_eq!(grant.take(amount), beyond, "{amount}");

        assert_eq!((grant.granted, grant.overdraft), left, "{amount}");
    }
}

#[test]
fn a_report_of_a_window_gives_back_what_is_not_needed() {
    let now = origin();
    let id = || WindowId::new("units tokens").unwrap();
    // Granted, demand, and what is reserved besides 100 in flight, wanted, and the minimum for a request of 40.
    for (granted, demand, reserved, wanted, minimum) in [
        (0, 0, 100, 0, 40),
        (0, 80, 100, 80, 40),
        (30, 80, 130, 50, 10),
        (90, 80, 180, 0, 1),
    ] {
        let mut grant = Grant {
            granted,
            expires: Some(now + secs(1)),
            ..Grant::default()
        };

        let report = grant.report(id(), 100, demand, 40, now);

        assert_eq!(
            (report.reserved, report.wanted),
            (reserved, wanted),
            "{granted} {demand}"
        );
        assert_eq!(report.minimum, minimum, "{granted} {demand}");
        assert_eq!(grant.is_awaited, wanted > 0);
    }
    // The window has ended: nothing of the grant is left.
    let mut grant = Grant {
        granted: 90,
        expires: Some(now),
        ..Grant::default()
    };
    assert_eq!(grant.report(id(), 100, 80, 40, now).reserved, 100);
}

#[test]
fn a_repeated_report_says_the_same_is_used() {
    let mut grant = Grant {
        used: 9,
        ..Grant::default()
    };
    assert_eq!(grant.take_used(false), 9);
    grant.used = 4;
    grant.end();
    assert_eq!(grant.take_used(true), 9);
    assert_eq!(grant.take_used(false), 4);
}

#[test]
fn forgetting_clears_grants_and_hold() {
    let end = origin() + secs(10);
    let mut fleet = FleetShare {
        pending_hold: Some(end),
        ..FleetShare::default()
    };
    fleet.estimate.expires = Some(end);

    fleet.forget();

    assert_eq!((fleet.estimate.expires, fleet.pending_hold), (None, None));
}

#[test]
fn slow_start_allows_one_request_until_the_store_grants_more() {
    let (mut fleet, now) = (FleetShare::default(), origin());
    let blocks = |fleet: &mut FleetShare, in_flight, at| fleet.blocks_start(in_flight, secs(5), at);
    assert!(!blocks(&mut fleet, 0, now));
    fleet.on_sent(0, false, now);
    assert!(blocks(&mut fleet, 1, now));
    assert!(fleet.starved);

    (fleet.start.granted, fleet.start.expires) = (2, Some(now + secs(60)));
    for number in 1..=2 {
        assert!(!blocks(&mut fleet, 1, now));
        fleet.on_sent(number, false, now);
    }
    assert!(blocks(&mut fleet, 3, now));
    // Only requests in flight count.
    fleet.on_completed();
    assert!(!blocks(&mut fleet, 2, now));
    fleet.on_sent(3, false, now);
    assert!(blocks(&mut fleet, 3, now + secs(5) - ms(1)));

    // None was accepted for 5 s.
    assert!(!blocks(&mut fleet, 3, now + secs(5)));
    assert_eq!(fleet.cold, None);
}

#[test]
fn slow_start_grows_with_the_requests_of_the_fleet_and_ends() {
    let (mut fleet, now) = (FleetShare::default(), origin());
    assert_eq!(fleet.start_limit(8), 8);
    fleet.counted = 3 * 32;
    for _ in 0..31 {
        fleet.on_success(true, now);
    }
    assert_eq!(fleet.start_limit(8), 8 + 3);
    fleet.on_success(true, now);
    assert_eq!(fleet.start_limit(8), 8 + 4);
    assert!(fleet.cold.is_some());

    fleet.counted = 249 * 32;
    fleet.start_limit(8);

    assert_eq!(fleet.cold, None);
    assert!(!fleet.blocks_start(9, secs(5), now));
}

#[test]
fn send_times_have_millisecond_resolution() {
    let mut fleet = FleetShare::default();
    let now = origin();
    let half = Duration::from_micros(500);
    for (number, at) in [
        (7, now),
        (8, now + half),
        (9, now + ms(1)),
        (10, now + ms(5)),
    ] {
        fleet.on_sent(number, false, at);
    }

    let sent_after = |number| fleet.earliest_send(number).map(|at| at - now);

    assert_eq!(sent_after(6), None);
    assert_eq!(sent_after(7), Some(Duration::ZERO));
    assert_eq!(sent_after(8), Some(Duration::ZERO));
    assert_eq!(sent_after(9), Some(ms(1)));
    assert_eq!(sent_after(10), Some(ms(5)));
    assert_eq!(sent_after(11), Some(ms(5)));
}

#[test]
fn the_times_of_64_requests_are_remembered() {
    let mut fleet = FleetShare::default();
    let now = origin();
    for number in 0..64 {
        fleet.on_sent(number, false, now + ms(number));
    }
    assert_eq!(fleet.earliest_send(0), Some(now));

    fleet.on_sent(64, false, now + ms(64));

    assert_eq!(fleet.earliest_send(0), None);
    assert_eq!(fleet.earliest_send(1), Some(now + ms(1)));
    assert_eq!(fleet.send_marks.len(), 64);
}

#[test]
fn a_hold_is_published_unless_it_came_from_others() {
    let now = origin();
    for (heard, until, announced) in [
        (None, 10, true),
        (Some(10), 11, true),
        (Some(10), 10, false),
        (Some(10), 9, false),
    ] {
        let mut fleet = FleetShare {
            remote_hold: heard.map(|at| now + secs(at)),
            ..FleetShare::default()
        };

        fleet.on_throttle(now + secs(until));

        let hold = announced.then(|| now + secs(until));
        assert_eq!(fleet.pending_hold, hold, "{heard:?} {until}");
    }
}

#[test]
fn demand_includes_waiters_and_100_ms_of_recent_traffic() {
    for (sent, passed, scarce, wants) in [
        // The last report was so long ago.
        (6, Some(ms(50)), false, 4 + 12),
        (6, Some(ms(200)), false, 4 + 3),
        (1, Some(ms(300)), false, 4 + 1),
        (0, Some(ms(300)), false, 4),
        (2, Some(Duration::ZERO), false, 4 + 200),
        (6, None, false, 4 + 6),
        // What is scarce is not kept for requests that may come.
        (6, Some(ms(50)), true, 4),
    ] {
        let now = origin();
        let fleet = FleetShare {
            last_report: passed.map(|passed| now - passed),
            sent,
            ..FleetShare::default()
        };
        assert_eq!(fleet.demand(4, scarce, now), wants, "{sent} in {passed:?}");
    }
}

#[test]
fn the_first_report_is_due_immediately_and_only_one_is_in_flight() {
    let (now, none) = (origin(), Grants::default());
    let mut fleet = FleetShare::default();
    assert_eq!(fleet.next_report(0, &none, now), Some(now));
    fleet.report_in_flight = true;
    assert_eq!(fleet.next_report(1, &none, now), None);
}

#[test]
fn a_failed_store_is_retried_after_its_backoff() {
    let (mut fleet, now) = reported_fleet();
    fleet.retry_at = Some(now + secs(5));
    (fleet.sync_requested, fleet.pending_hold) = (true, Some(now + secs(9)));

    let due = fleet.next_report(1, &Grants::default(), now);
    assert_eq!(due, Some(now + secs(5)));
}

#[test]
fn holds_and_requests_are_due_immediately() {
    let (mut fleet, now) = reported_fleet();
    let (later, none) = (now + ms(1), Grants::default());
    fleet.sync_requested = true;
    assert_eq!(fleet.next_report(0, &none, later), Some(later));
    (fleet.sync_requested, fleet.pending_hold) = (false, Some(now + secs(9)));
    assert_eq!(fleet.next_report(0, &none, later), Some(later));
}

type Change = fn(&mut FleetShare, &mut Grant);

/// When the next report is due after one that came just now, in ms, with one window.
fn next_report(synced: bool, in_flight: u32, change: Change) -> Option<u128> {
    let (mut fleet, now) = reported_fleet();
    let mut grant = Grant {
        expires: synced.then(|| now + secs(60)),
        ..Grant::default()
    };
    change(&mut fleet, &mut grant);
    let mut grants = Grants::default();
    grants.add(&grant, true, fleet.overdrawn, now);
    let due = fleet.next_report(in_flight, &grants, now);
    due.map(|at| (at - now).as_millis())
}

#[test]
fn nothing_is_reported_without_reservations_or_updates() {
    assert_eq!(next_report(true, 0, |_, _| {}), None);
    assert_eq!(next_report(false, 0, |_, _| {}), None);
}

#[test]
fn reservations_and_updates_are_reported_every_300_ms() {
    for synced in [false, true] {
        assert_eq!(next_report(synced, 1, |_, _| {}), Some(300));
        let granted: Change = |_, grant| grant.granted = 1;
        assert_eq!(next_report(synced, 0, granted), Some(300));
        assert_eq!(
            next_report(synced, 0, |fleet, _| fleet.dirty = true),
            Some(300)
        );
    }
}

#[test]
fn a_new_window_is_published_within_a_millisecond() {
    let update: Change = |_, grant| grant.has_update = true;
    let overdrawn: Change = |fleet, _| fleet.overdrawn = true;
    assert_eq!(next_report(false, 1, update), Some(1));
    assert_eq!(next_report(false, 1, overdrawn), Some(1));
    // The other processes know it, or there is nothing to report.
    assert_eq!(next_report(true, 1, update), Some(300));
    assert_eq!(next_report(false, 1, |_, _| {}), Some(300));
}

#[test]
fn more_is_requested_at_half_of_the_demand() {
    fn set(fleet: &mut FleetShare, grant: &mut Grant, granted: u64) {
        (fleet.sent, grant.wanted, grant.granted) = (1, 10, granted);
    }
    assert_eq!(
        next_report(true, 0, |fleet, grant| set(fleet, grant, 5)),
        Some(1)
    );
    assert_eq!(
        next_report(true, 0, |fleet, grant| set(fleet, grant, 6)),
        Some(300)
    );
    // No request used any of it.
    let unused: Change = |_, grant| (grant.wanted, grant.granted) = (10, 5);
    assert_eq!(next_report(true, 0, unused), Some(300));
    // There is no more.
    let scarce: Change = |fleet, grant| {
        set(fleet, grant, 5);
        grant.scarce = true;
    };
    assert_eq!(next_report(true, 0, scarce), Some(300));
    assert_eq!(
        next_report(false, 0, |fleet, grant| set(fleet, grant, 5)),
        Some(300)
    );
}

#[test]
fn empty_grants_back_off_requests() {
    let (mut fleet, now) = reported_fleet();
    let synced = Grants {
        synced: true,
        ..Grants::default()
    };
    for (empty, wait) in [
        (0, 1),
        (1, 10),
        (2, 20),
        (3, 40),
        (4, 80),
        (5, 100),
        (u32::MAX, 100),
    ] {
        fleet.empty_grants = empty;
        for reason in [(true, false), (false, true)] {
            (fleet.starved, fleet.overdrawn) = reason;
            let due = fleet.next_report(0, &synced, now);
            assert_eq!(due, Some(now + ms(wait)), "{empty}");
        }
    }
    assert_eq!(next_report(false, 0, |fleet, _| fleet.starved = true), None);
}

#[test]
fn completions_are_reported_sooner_if_others_wait() {
    let scarce: Change = |_, grant| grant.scarce = true;
    let dirty: Change = |fleet, grant| (grant.scarce, fleet.dirty) = (true, true);
    assert_eq!(next_report(true, 1, dirty), Some(5));
    assert_eq!(next_report(true, 1, scarce), Some(300));
}

#[test]
fn an_exhausted_window_reports_only_updates() {
    let exhausted: Change = |fleet, grant| (grant.exhausted, fleet.starved) = (true, true);
    let dirty: Change = |fleet, grant| {
        (grant.exhausted, fleet.starved) = (true, true);
        fleet.dirty = true;
    };
    assert_eq!(next_report(true, 1, exhausted), None);
    assert_eq!(next_report(true, 1, dirty), Some(100));
    // It is over.
    assert_eq!(next_report(false, 1, dirty), Some(300));
}
