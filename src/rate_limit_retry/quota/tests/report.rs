//! Reports to the fleet's store, and the application of its snapshots.

use super::*;
use crate::rate_limit_retry::store::{ProcessId, QuotaReport, QuotaSnapshot, SharedWindow};

/// A partition of a fleet, where one request has been answered: 90 of 100 remain for a minute.
pub(super) fn fleet() -> TestQuota {
    let mut world = unannounced_fleet();
    let number = world.enter();
    world.succeed(number, &announcing(100, 90, secs(60)));
    world
}

/// A partition of a fleet of which nothing is known.
fn unannounced_fleet() -> TestQuota {
    TestQuota::with(QuotaConfig {
        shared: true,
        ..CONFIG
    })
}

/// The report to the store, with this number of waiters.
pub(super) fn report(world: &mut TestQuota, waiting: usize) -> QuotaReport {
    let report = world.quota.report(ProcessId::random(), waiting, world.now);
    report.unwrap()
}

pub(super) fn apply(world: &mut TestQuota, snapshot: &QuotaSnapshot) -> Option<Instant> {
    world.quota.apply(snapshot, secs(3600), world.now)
}

fn window(remaining: u64, reserved: u64, processes: u32, reset: Duration) -> SharedWindow {
    SharedWindow::new(Some(100), remaining, reserved, processes, reset)
}

/// A snapshot with this grant, and a window that ends in a minute.
pub(super) fn snapshot(
    granted: u32,
    remaining: u64,
    reserved: u64,
    processes: u32,
) -> QuotaSnapshot {
    QuotaSnapshot {
        granted,
        window: Some(window(remaining, reserved, processes, secs(60))),
        hold: None,
    }
}

fn held_snapshot(hold: Duration) -> QuotaSnapshot {
    QuotaSnapshot {
        hold: Some(hold),
        ..QuotaSnapshot::default()
    }
}

/// How many may go together.
fn burst(world: &mut TestQuota) -> usize {
    (0..1000).take_while(|_| world.send().is_some()).count()
}

#[test]
fn an_unshared_quota_reports_nothing() {
    let mut world = TestQuota::new();

    assert_eq!(world.quota.report_due(world.now), None);
    let report = world.quota.report(ProcessId::random(), 1, world.now);
    assert!(report.is_none());
}

#[test]
fn a_report_contains_in_flight_demand_and_window() {
    let mut world = unannounced_fleet();
    let number = world.enter();
    world.advance(ms(30));
    world.enter();
    world.succeed(number, &announcing(100, 90, secs(60)));
    world.advance(ms(20));

    let first = report(&mut world, 3);

    // Two went, and as many may come.
    assert_eq!((first.reserved, first.wanted), (1, 5));
    assert_eq!(first.hold, None);
    let announced = first.announced.unwrap();
    assert_eq!((announced.limit, announced.remaining), (Some(100), 90));
    assert_eq!((announced.reset, announced.age), (ms(59_980), Some(ms(50))));
    assert_eq!(world.quota.report_due(world.now), None);

    // Nothing has happened since.
    apply(&mut world, &snapshot(0, 90, 1, 1));
    let second = report(&mut world, 3);
    assert_eq!((second.reserved, second.wanted), (1, 3));
    assert!(second.announced.is_none());
}

#[test]
fn ended_windows_are_not_reported() {
    for (early, announced) in [(ms(1), Some(ms(1))), (Duration::ZERO, None)] {
        let mut world = fleet();
        world.advance(secs(60) - early);
        assert_eq!(
            report(&mut world, 0)
                .announced
                .map(|announced| announced.reset),
            announced
        );

        let mut world = unannounced_fleet();
        let number = world.enter();
        let until = world.throttle(number, &with_retry_after(secs(5))).unwrap();
        world.now = until - early;
        assert_eq!(report(&mut world, 0).hold, announced);
    }
}

#[test]
fn unused_grants_are_released() {
    let mut world = fleet();
    report(&mut world, 10);
    apply(&mut world, &snapshot(10, 90, 10, 1));
    world.send();

    world.advance(ms(100));
    let next = report(&mut world, 3);
    // One went in the last 100 ms, and three wait.
    assert_eq!((next.reserved, next.wanted), (1 + 4, 0));

    apply(&mut world, &snapshot(0, 90, 5, 1));
    world.advance(ms(100));
    let next = report(&mut world, 7);
    assert_eq!((next.reserved, next.wanted), (1 + 4, 3));
}

#[test]
fn grants_expire_with_their_window() {
    for (passed, reserved) in [(ms(59_999), 10), (secs(60), 0)] {
        let mut world = fleet();
        report(&mut world, 10);
        apply(&mut world, &snapshot(10, 90, 10, 1));

        world.advance(passed);

        assert_eq!(report(&mut world, 10).reserved, reserved);
    }
}

#[test]
fn a_process_may_use_its_grant_and_a_quarter_of_its_free_share() {
    for (granted, remaining, reserved, processes, may) in [
        (5, 100, 10, 3, 5 + 7),
        (5, 100, 10, 0, 5 + 22),
        (5, 20, 10, 1, 5 + 2),
        // Less is free than is reserved.
        (5, 19, 10, 1, 5),
        (0, 100, 100, 1, 0),
    ] {
        let mut world = fleet();
        report(&mut world, 10);
        apply(
            &mut world,
            &snapshot(granted, remaining, reserved, processes),
        );

        assert_eq!(burst(&mut world), may, "{granted} of {remaining}");

        let reset = world.now + secs(60);
        assert_eq!(world.admit(), SendTime::AfterResponse(Some(reset)));
    }
}

#[test]
fn grants_accumulate() {
    let mut world = fleet();
    report(&mut world, 10);
    apply(&mut world, &snapshot(3, 20, 15, 1));
    report(&mut world, 10);
    apply(&mut world, &snapshot(4, 20, 15, 1));
    assert_eq!(burst(&mut world), 7);
}

#[test]
fn without_a_shared_window_the_local_state_applies() {
    let over = QuotaSnapshot {
        window: Some(window(0, 0, 1, Duration::ZERO)),
        ..QuotaSnapshot::default()
    };
    for none in [QuotaSnapshot::default(), over] {
        let mut world = fleet();
        report(&mut world, 10);
        apply(&mut world, &snapshot(1, 90, 90, 1));
        report(&mut world, 10);
        apply(&mut world, &none);
        assert_eq!(burst(&mut world), 90);
        assert_eq!(world.quota.announced_quota().1, Some(90));
    }
}

#[test]
fn a_store_failure_falls_back_to_local_state_and_reports_after_the_backoff() {
    let mut world = fleet();
    report(&mut world, 10);
    apply(&mut world, &snapshot(1, 90, 90, 1));
    report(&mut world, 10);

    let retry_at = world.now + secs(5);
    world.quota.fall_back(retry_at);

    assert_eq!(burst(&mut world), 90);
    assert_eq!(world.quota.report_due(world.now), Some(retry_at));
    world.now = retry_at;
    assert!(report(&mut world, 0).announced.is_some());
}

#[test]
fn shared_state_replaces_local_state_except_unreported_requests() {
    let mut world = fleet();
    apply(&mut world, &snapshot(0, 40, 0, 1));
    assert_eq!(world.quota.announced_quota().1, Some(90));
    report(&mut world, 0);
    apply(&mut world, &snapshot(0, 40, 0, 1));
    assert_eq!(world.quota.announced_quota().1, Some(40));

    let mut world = unannounced_fleet();
    report(&mut world, 0);
    apply(&mut world, &snapshot(0, 40, 0, 1));
    let reset = Some(world.now + secs(60));
    assert_eq!(world.quota.announced_quota(), (Some(100), Some(40), reset));
}

#[test]
fn no_grant_remains_after_the_window_ends() {
    let mut world = fleet();
    report(&mut world, 10);
    apply(&mut world, &snapshot(10, 90, 10, 1));
    world.advance(secs(60));
    // One is sent as a probe of the next window.
    assert_eq!(burst(&mut world), 1);
    assert_eq!(report(&mut world, 0).reserved, 1);
}

#[test]
fn empty_grants_are_counted() {
    let mut world = fleet();
    for (waiting, snapshot, dry) in [
        (5, snapshot(0, 90, 90, 1), 1),
        (5, snapshot(0, 90, 90, 1), 2),
        // Nothing was wanted.
        (0, snapshot(0, 90, 90, 1), 0),
        (5, snapshot(0, 90, 90, 1), 1),
        (5, snapshot(1, 90, 90, 1), 0),
        (5, snapshot(0, 90, 90, 1), 1),
        // No window is known.
        (5, QuotaSnapshot::default(), 0),
    ] {
        world.advance(secs(1));
        report(&mut world, waiting);
        apply(&mut world, &snapshot);
        let fleet = world.quota.fleet_share.as_ref().unwrap();
        assert_eq!(fleet.empty_grants, dry, "{waiting} {snapshot:?}");
    }
}

#[test]
fn remote_holds_are_obeyed_up_to_max_hold() {
    let mut world = unannounced_fleet();
    let now = world.now;

    assert_eq!(
        apply(&mut world, &held_snapshot(secs(10))),
        Some(now + secs(10))
    );

    assert_eq!(world.admit(), SendTime::NotBefore(now + secs(10)));
    let max_hold = Some(now + secs(3600));
    assert_eq!(apply(&mut world, &held_snapshot(secs(9000))), max_hold);
}

#[test]
fn a_duplicate_remote_hold_counts_once() {
    for (hold, news) in [
        (secs(9), false),
        (secs(10), false),
        (ms(10_500), false),
        (ms(10_501), true),
    ] {
        let mut world = unannounced_fleet();
        apply(&mut world, &held_snapshot(secs(10)));
        let announced = apply(&mut world, &held_snapshot(hold));
        assert_eq!(announced, news.then(|| world.now + hold), "{hold:?}");
    }
}

#[test]
fn a_remote_hold_is_not_published_back() {
    let mut world = unannounced_fleet();
    let number = world.enter();
    apply(&mut world, &held_snapshot(secs(10)));
    world.throttle(number, &with_retry_after(secs(5)));
    assert_eq!(report(&mut world, 0).hold, None);
}

#[test]
fn a_remote_update_triggers_a_report() {
    let mut world = fleet();
    report(&mut world, 0);
    apply(&mut world, &snapshot(0, 90, 0, 1));
    world.advance(ms(1));
    assert_eq!(world.quota.report_due(world.now), None);

    world.quota.request_sync();

    assert_eq!(world.quota.report_due(world.now), Some(world.now));
}
