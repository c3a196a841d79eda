//! A process's share of a shared quota, and when it reports.

use super::*;

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
fn the_fleet_is_synced_while_the_shared_window_is_valid() {
    let now = origin();
    let mut fleet = FleetShare::default();
    assert!(!fleet.is_synced());
    assert_eq!(fleet.valid_until(now), None);
    let end = now + secs(10);
    (fleet.expires, fleet.pending_hold) = (Some(end), Some(end));
    (fleet.granted, fleet.overdraft_limit) = (3, 2);
    assert!(fleet.is_synced());
    assert_eq!(fleet.valid_until(end - ms(1)), Some(end));
    assert_eq!(fleet.valid_until(end), None);

    fleet.on_window_end();

    assert!(!fleet.is_synced());
    assert_eq!(
        (fleet.granted, fleet.overdraft_limit, fleet.pending_hold),
        (0, 0, Some(end))
    );
}

#[test]
fn forgetting_clears_window_and_hold() {
    let end = origin() + secs(10);
    let mut fleet = FleetShare {
        expires: Some(end),
        pending_hold: Some(end),
        granted: 3,
        overdraft_limit: 2,
        ..FleetShare::default()
    };

    fleet.forget();

    assert_eq!((fleet.expires, fleet.pending_hold), (None, None));
    assert!(!fleet.allows());
}

#[test]
fn the_grant_is_used_before_the_overdraft() {
    let now = origin();
    let mut fleet = FleetShare {
        granted: 2,
        overdraft_limit: 1,
        ..FleetShare::default()
    };
    // After each request: what is left, whether one was wanted that was not allowed, and whether others do not know.
    for (left, kept_back, beyond, more) in [
        ((1, 1), false, false, true),
        ((0, 1), true, false, true),
        ((0, 0), true, true, false),
        ((0, 0), true, true, false),
    ] {
        fleet.on_sent(0, now);

        assert_eq!(fleet.allows(), more);
        assert_eq!((fleet.granted, fleet.overdraft_limit), left);
        assert_eq!((fleet.starved, fleet.overdraft), (kept_back, beyond));
    }
    assert_eq!(fleet.sent, 4);
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
        fleet.on_sent(number, at);
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
        fleet.on_sent(number, now + ms(number));
    }
    assert_eq!(fleet.earliest_send(0), Some(now));

    fleet.on_sent(64, now + ms(64));

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
            scarce,
            ..FleetShare::default()
        };
        assert_eq!(fleet.demand(4, now), wants, "{sent} in {passed:?}");
    }
}

#[test]
fn the_first_report_is_due_immediately_and_only_one_is_in_flight() {
    let now = origin();
    let mut fleet = FleetShare::default();
    assert_eq!(fleet.next_report(0, false, now), Some(now));
    fleet.report_in_flight = true;
    assert_eq!(fleet.next_report(1, true, now), None);
}

#[test]
fn a_failed_store_is_retried_after_its_backoff() {
    let (mut fleet, now) = reported_fleet();
    fleet.retry_at = Some(now + secs(5));
    (fleet.sync_requested, fleet.pending_hold) = (true, Some(now + secs(9)));

    assert_eq!(fleet.next_report(1, true, now), Some(now + secs(5)));
}

#[test]
fn holds_and_requests_are_due_immediately() {
    let (mut fleet, now) = reported_fleet();
    let later = now + ms(1);
    fleet.sync_requested = true;
    assert_eq!(fleet.next_report(0, false, later), Some(later));
    (fleet.sync_requested, fleet.pending_hold) = (false, Some(now + secs(9)));
    assert_eq!(fleet.next_report(0, false, later), Some(later));
}

type Change = fn(&mut FleetShare);

/// When the next report is due after one that came just now, in ms.
fn next_report(synced: bool, announced: bool, in_flight: u32, change: Change) -> Option<u128> {
    let (mut fleet, now) = reported_fleet();
    fleet.expires = synced.then(|| now + secs(60));
    change(&mut fleet);
    let due = fleet.next_report(in_flight, announced, now);
    due.map(|at| (at - now).as_millis())
}

#[test]
fn nothing_is_reported_without_reservations_or_updates() {
    assert_eq!(next_report(true, true, 0, |_| {}), None);
    assert_eq!(next_report(false, false, 0, |_| {}), None);
}

#[test]
fn reservations_and_updates_are_reported_every_300_ms() {
    for synced in [false, true] {
        assert_eq!(next_report(synced, true, 1, |_| {}), Some(300));
        assert_eq!(
            next_report(synced, true, 0, |fleet| fleet.granted = 1),
            Some(300)
        );
        assert_eq!(
            next_report(synced, true, 0, |fleet| fleet.dirty = true),
            Some(300)
        );
    }
}

#[test]
fn a_new_window_is_published_within_a_millisecond() {
    assert_eq!(
        next_report(false, true, 1, |fleet| fleet.has_update = true),
        Some(1)
    );
    assert_eq!(
        next_report(false, true, 1, |fleet| fleet.overdraft = true),
        Some(1)
    );
    // The other processes know it, or there is nothing to report.
    assert_eq!(
        next_report(true, true, 1, |fleet| fleet.has_update = true),
        Some(300)
    );
    assert_eq!(
        next_report(false, false, 1, |fleet| fleet.has_update = true),
        Some(300)
    );
    assert_eq!(
        next_report(false, false, 1, |fleet| fleet.overdraft = true),
        Some(300)
    );
    assert_eq!(next_report(false, true, 1, |_| {}), Some(300));
}

#[test]
fn more_is_requested_at_half_of_the_demand() {
    fn set_granted(fleet: &mut FleetShare, allowance: u32) {
        (fleet.sent, fleet.wanted, fleet.granted) = (1, 10, allowance);
    }
    assert_eq!(
        next_report(true, true, 0, |fleet| set_granted(fleet, 5)),
        Some(1)
    );
    assert_eq!(
        next_report(true, true, 0, |fleet| set_granted(fleet, 6)),
        Some(300)
    );
    // No request used any of it.
    let unused = |fleet: &mut FleetShare| (fleet.wanted, fleet.granted) = (10, 5);
    assert_eq!(next_report(true, true, 0, unused), Some(300));
    // There is no more.
    let scarce = |fleet: &mut FleetShare| {
        set_granted(fleet, 5);
        fleet.scarce = true;
    };
    assert_eq!(next_report(true, true, 0, scarce), Some(300));
    assert_eq!(
        next_report(false, true, 0, |fleet| set_granted(fleet, 5)),
        Some(300)
    );
}

#[test]
fn empty_grants_back_off_requests() {
    for (dry, wait) in [
        (0, 1),
        (1, 10),
        (2, 20),
        (3, 40),
        (4, 80),
        (5, 100),
        (u32::MAX, 100),
    ] {
        let (mut fleet, now) = reported_fleet();
        fleet.expires = Some(now + secs(60));
        (fleet.starved, fleet.empty_grants) = (true, dry);
        assert_eq!(
            fleet.next_report(0, true, now),
            Some(now + ms(wait)),
            "{dry}"
        );
        (fleet.starved, fleet.overdraft) = (false, true);
        assert_eq!(
            fleet.next_report(0, true, now),
            Some(now + ms(wait)),
            "{dry}"
        );
    }
    assert_eq!(
        next_report(false, true, 0, |fleet| fleet.starved = true),
        None
    );
}

#[test]
fn completions_are_reported_sooner_if_others_wait() {
    let scarce = |fleet: &mut FleetShare| fleet.scarce = true;
    let dirty = |fleet: &mut FleetShare| (fleet.scarce, fleet.dirty) = (true, true);
    assert_eq!(next_report(true, true, 1, dirty), Some(5));
    assert_eq!(next_report(true, true, 1, scarce), Some(300));
}

#[test]
fn an_exhausted_window_reports_only_updates() {
    fn exhaust(fleet: &mut FleetShare) {
        (fleet.exhausted, fleet.starved) = (true, true);
    }
    let dirty = |fleet: &mut FleetShare| {
        exhaust(fleet);
        fleet.dirty = true;
    };
    assert_eq!(next_report(true, true, 1, exhaust), None);
    assert_eq!(next_report(true, true, 1, dirty), Some(100));
    // It is over.
    assert_eq!(next_report(false, true, 1, dirty), Some(300));
}
