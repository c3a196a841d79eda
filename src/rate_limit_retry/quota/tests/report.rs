//! Reports to the fleet's store, and the application of its snapshots.

use super::*;
use crate::rate_limit_retry::headers::Unit;
use crate::rate_limit_retry::store::{
    ProcessId, QuotaReport, QuotaSnapshot, SharedWindow, WindowId, WindowReport,
};

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
    let (config, now) = (&world.config, world.now);
    let report = world
        .quota
        .report(ProcessId::random(), waiting, config, now);
    report.unwrap()
}

/// What a report says about this window.
fn of<'a>(report: &'a QuotaReport, window: &str) -> Option<&'a WindowReport> {
    report
        .windows
        .iter()
        .find(|known| known.id.as_str() == window)
}

/// What a report says about the window without a name.
fn requests(report: &QuotaReport) -> &WindowReport {
    of(report, "requests").unwrap()
}

/// The requests that a report has reserved, and those that it wants.
fn wish(report: &QuotaReport) -> (u64, u64) {
    let requests = requests(report);
    (requests.reserved, requests.wanted)
}

pub(super) fn apply(world: &mut TestQuota, snapshot: &QuotaSnapshot) -> Option<Instant> {
    world.quota.apply(snapshot, secs(3600), world.now)
}

pub(super) fn window(id: &str, remaining: u64, reset: Duration) -> SharedWindow {
    let mut window = SharedWindow::new(WindowId::new(id).unwrap(), remaining, reset);
    window.limit = Some(100);
    window
}

/// A snapshot with one window.
fn with_window(processes: u32, window: SharedWindow) -> QuotaSnapshot {
    QuotaSnapshot {
        processes,
        windows: vec![window],
        hold: None,
    }
}

/// A snapshot with this grant, and a window that ends in a minute.
pub(super) fn snapshot(
    granted: u64,
    remaining: u64,
    reserved: u64,
    processes: u32,
) -> QuotaSnapshot {
    let window = SharedWindow {
        granted,
        reserved,
        ..window("requests", remaining, secs(60))
    };
    with_window(processes, window)
}

fn held_snapshot(hold: Duration) -> QuotaSnapshot {
    QuotaSnapshot {
        hold: Some(hold),
        processes: 2,
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
    let report = world
        .quota
        .report(ProcessId::random(), 1, &world.config, world.now);
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
    assert_eq!(wish(&first), (1, 5));
    assert_eq!(first.hold, None);
    let announced = requests(&first).announced.unwrap();
    assert_eq!((announced.limit, announced.remaining), (Some(100), 90));
    assert_eq!((announced.reset, announced.age), (ms(59_980), Some(ms(50))));
    assert_eq!(world.quota.report_due(world.now), None);

    // Nothing has happened since.
    apply(&mut world, &snapshot(0, 90, 1, 1));
    let second = report(&mut world, 3);
    assert_eq!(wish(&second), (1, 3));
    assert!(requests(&second).announced.is_none());
}

#[test]
fn ended_windows_are_not_reported() {
    for (early, announced) in [(ms(1), Some(ms(1))), (Duration::ZERO, None)] {
        let mut world = fleet();
        world.advance(secs(60) - early);
        let reported = requests(&report(&mut world, 0)).announced;
        assert_eq!(reported.map(|announced| announced.reset), announced);

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
    assert_eq!(wish(&next), (1 + 4, 0));

    apply(&mut world, &snapshot(0, 90, 5, 1));
    world.advance(ms(100));
    let next = report(&mut world, 7);
    assert_eq!(wish(&next), (1 + 4, 3));
}

#[test]
fn grants_expire_with_their_window() {
    for (passed, reserved) in [(ms(59_999), 10), (secs(60), 0)] {
        let mut world = fleet();
        report(&mut world, 10);
        apply(&mut world, &snapshot(10, 90, 10, 1));

        world.advance(passed);

        assert_eq!(wish(&report(&mut world, 10)).0, reserved);
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
    let over = with_window(1, window("requests", 0, Duration::ZERO));
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
fn a_lost_report_is_repeated_within_the_grants() {
    let mut world = fleet();
    report(&mut world, 10);
    apply(&mut world, &snapshot(7, 90, 90, 2));
    let lost = report(&mut world, 10);

    let retry_at = world.now + Duration::from_millis(10);
    world.quota.repeat_report(retry_at);

    assert_eq!(world.quota.report_due(world.now), Some(retry_at));
    assert_eq!(burst(&mut world), 7);
    world.now = retry_at;
    let repeated = report(&mut world, 10);
    assert_eq!(repeated.number, lost.number);
    assert!(requests(&repeated).announced.is_some());
    apply(&mut world, &snapshot(0, 90, 90, 2));
    assert_eq!(report(&mut world, 10).number, lost.number + 1);
}

#[test]
fn a_store_failure_falls_back_to_local_state_and_reports_after_the_backoff() {
    let mut world = fleet();
    report(&mut world, 10);
    apply(&mut world, &snapshot(1, 90, 90, 1));
    let lost = report(&mut world, 10);

    let retry_at = world.now + secs(5);
    world.quota.fall_back(retry_at);

    assert_eq!(burst(&mut world), 90);
    assert_eq!(world.quota.report_due(world.now), Some(retry_at));
    world.now = retry_at;
    let next = report(&mut world, 0);
    assert!(requests(&next).announced.is_some());
    // What it announces contains all that was used: the lost report is not repeated.
    assert_eq!(next.number, lost.number + 1);
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
    assert_eq!(wish(&report(&mut world, 0)).0, 1);
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

/// A response that announces several quotas: their names, units and what remains.
fn naming(quotas: &[(&str, Unit, u64)]) -> RateLimitInfo {
    let quota = |(name, unit, remaining): &(&str, Unit, u64)| Limit {
        name: Some((*name).to_owned()),
        unit: *unit,
        limit: Some(10_000),
        remaining: Some(*remaining),
        reset: Some(secs(60)),
        ..Limit::default()
    };
    RateLimitInfo {
        limits: quotas.iter().map(quota).collect(),
        ..RateLimitInfo::default()
    }
}

#[test]
fn every_named_quota_is_reported_with_its_costs() {
    let mut world = unannounced_fleet();
    let load = Load::of(Cost::new().with("tokens", 700), None);
    let enter = |world: &mut TestQuota| world.quota.enter(&load, &world.config, world.now);
    world.quota.admit(&load, &world.config, world.now);
    let number = enter(&mut world);
    let info = naming(&[
        ("burst", Unit::Requests, 50),
        ("tokens", Unit::Other, 9_000),
    ]);
    let sent = Sent {
        number,
        load: &load,
    };
    let outcome = Outcome::Response {
        throttled: false,
        info: &info,
    };
    let (config, now) = (&world.config, Some(world.now));
    let quota = &mut world.quota;
    quota.record(sent, outcome, Scope::Partition, config, 0.0, now);
    enter(&mut world);
    enter(&mut world);

    let first = report(&mut world, 4);

    // Three were sent since the start: as many are expected.
    let burst = of(&first, "requests/10000 burst").unwrap();
    assert_eq!((burst.reserved, burst.wanted, burst.minimum), (2, 7, 1));
    let tokens = of(&first, "units/10000 tokens").unwrap();
    assert_eq!((tokens.reserved, tokens.wanted), (1_400, 7 * 700));
    assert_eq!(
        (tokens.minimum, tokens.announced.unwrap().remaining),
        (700, 9_000)
    );

    // A grant of less than one request costs is not enough for it.
    for (granted, goes) in [(600, false), (100, true)] {
        let window = |id: &str, granted| SharedWindow {
            granted,
            reserved: 10_000,
            ..window(id, 9_000, secs(60))
        };
        let mut snapshot = with_window(2, window("units/10000 tokens", granted));
        snapshot.windows.push(window("requests/10000 burst", 5));
        apply(&mut world, &snapshot);
        let admitted = world.quota.admit(&load, &world.config, world.now);
        assert_eq!(admitted == SendTime::Now, goes, "{granted}");
    }
}

#[test]
fn a_new_process_learns_named_quotas_from_the_store() {
    let mut world = unannounced_fleet();
    report(&mut world, 1);
    apply(
        &mut world,
        &with_window(2, window("requests/100 daily", 0, secs(60))),
    );

    let over = world.now + secs(60);
    assert_eq!(world.admit(), SendTime::NotBefore(over));
    // A window of a later version says nothing.
    apply(&mut world, &with_window(2, window("later x", 0, secs(90))));
    assert_eq!(world.admit(), SendTime::NotBefore(over));
}

#[test]
fn a_cold_process_shares_slow_start() {
    let mut world = unannounced_fleet();
    assert_eq!(burst(&mut world), 1);
    let first = report(&mut world, 20);
    let start = of(&first, "start").unwrap();
    assert_eq!(
        (start.reserved, start.announced.unwrap().limit),
        (1, Some(8))
    );
    let granted = |granted| SharedWindow {
        granted,
        ..window("start", 8, secs(600))
    };
    apply(&mut world, &with_window(4, granted(3)));
    assert_eq!(burst(&mut world), 3);

    // A response that announces nothing ends one request, and another may be sent.
    world.succeed(0, &RateLimitInfo::default());
    assert_eq!(burst(&mut world), 1);
    let second = report(&mut world, 20);
    assert_eq!(of(&second, "count").unwrap().used, 1);

    // The store fails: this process goes on by itself.
    world.quota.fall_back(world.now + secs(1));
    assert!(burst(&mut world) > 4);
}

#[test]
fn the_store_of_a_newer_version_leaves_the_process_by_itself() {
    let mut world = unannounced_fleet();
    report(&mut world, 20);
    apply(&mut world, &QuotaSnapshot::default());

    assert_eq!(burst(&mut world), 8);
    world.succeed(0, &announcing(100, 60, secs(60)));
    assert_eq!(burst(&mut world), 60 - 7);
}

#[test]
fn a_new_window_waits_for_the_store() {
    let mut world = fleet();
    assert_eq!(burst(&mut world), 0);
    report(&mut world, 9);
    assert_eq!(burst(&mut world), 0);

    apply(&mut world, &snapshot(2, 10, 10, 8));

    assert_eq!(burst(&mut world), 2);
}

#[test]
fn an_announced_concurrency_limit_is_shared() {
    let mut world = unannounced_fleet();
    let number = world.enter();
    let mut info = naming(&[("conn", Unit::ConcurrentRequests, 5)]);
    info.limits[0].limit = Some(6);
    world.succeed(number, &info);
    let first = report(&mut world, 9);
    let slots = of(&first, "concurrency").unwrap();
    assert_eq!((slots.reserved, slots.announced.unwrap().remaining), (0, 6));

    let granted = SharedWindow {
        granted: 2,
        reserved: 6,
        ..window("concurrency", 6, secs(600))
    };
    let mut snapshot = with_window(3, granted);
    snapshot.windows.push(SharedWindow {
        granted: 9,
        ..window("start", 50, secs(600))
    });
    apply(&mut world, &snapshot);

    let numbers: Vec<_> = (0..9).filter_map(|_| world.send()).collect();
    assert_eq!(numbers.len(), 2);
    world.succeed(numbers[0], &RateLimitInfo::default());
    assert_eq!(burst(&mut world), 1);
    assert!(
        of(&report(&mut world, 9), "concurrency")
            .unwrap()
            .announced
            .is_none()
    );
}

#[test]
fn a_process_adopts_the_estimate_of_the_fleet() {
    let mut world = unannounced_fleet();
    report(&mut world, 9);
    let mut estimate = SharedWindow {
        granted: 3,
        reserved: 30,
        ..window("estimate", 30, secs(40))
    };
    estimate.window = Some(secs(60));
    apply(&mut world, &with_window(2, estimate.clone()));

    assert_eq!(world.quota.estimate().limit, Some(100));
    assert_eq!(burst(&mut world), 3);
    let reset = world.now + secs(40);
    assert_eq!(world.admit(), SendTime::AfterResponse(Some(reset)));

    // It reports what was accepted, and not what it has adopted.
    world.succeed(0, &RateLimitInfo::default());
    let next = report(&mut world, 9);
    let of_estimate = of(&next, "estimate").unwrap();
    assert_eq!((of_estimate.used, of_estimate.reserved), (1, 2));
    assert_eq!(of_estimate.announced, None);
    // Others have used up the rest.
    (estimate.remaining, estimate.granted) = (0, 0);
    world.succeed(1, &RateLimitInfo::default());
    world.succeed(2, &RateLimitInfo::default());
    apply(&mut world, &with_window(2, estimate));
    assert!(world.send().is_none());
}

#[test]
fn a_fleet_learns_a_limit_from_the_throttle_of_one_process() {
    let mut world = unannounced_fleet();
    let number = world.enter();
    world.succeed(number, &RateLimitInfo::default());
    report(&mut world, 0);
    // The fleet has sent 40, and one process was throttled for 20 s.
    let counted = SharedWindow {
        limit: None,
        ..window("count", 10_000_000_000_000 - 40, secs(600))
    };
    apply(&mut world, &with_window(2, counted));
    apply(&mut world, &held_snapshot(secs(20)));
    world.advance(secs(20));
    let number = world.send().unwrap();
    world.succeed(number, &RateLimitInfo::default());

    assert_eq!(world.quota.estimate().limit, Some(40));
    let announced = of(&report(&mut world, 0), "estimate").unwrap().announced;
    let announced = announced.unwrap();
    assert_eq!((announced.limit, announced.remaining), (Some(40), 40));
    assert!(announced.age.is_some());
}
