//! The scripts on Redis answer what the store in memory does, which is tested in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "Redis has a clock of its own, which runs"
)]

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};
use tower_m2m::{
    rate_limit_retry::{
        AnnouncedQuota, FleetQuota, ProcessId, QuotaReport, QuotaSnapshot, QuotaStore,
        RedisQuotaStore, Reservation, SharedWindow, WindowId, WindowReport,
    },
    store::CacheKey,
    test_util::MemoryQuotaStore,
};

use crate::{server::Server, world::keys};

const SECOND: Duration = Duration::from_secs(1);
/// Durations differ by whole seconds, and the two stores are called one after the other.
const TOLERANCE: Duration = Duration::from_millis(450);

#[tokio::test]
async fn reports_match_the_memory_store() {
    let redis = Server::start();
    let real = RedisQuotaStore::new(redis.url(), keys()).unwrap();
    let model = MemoryQuotaStore::new();
    let processes = [(); 4].map(|()| ProcessId::random());
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    let mut compared = 0;
    for round in 0..8 {
        // Every other time with what was known before; all processes are gone.
        let quota = CacheKey::new("test").field("round", [round / 2]);
        let began = Instant::now();
        for _ in 0..40 {
            // A process that is silent for a second expires, and it must be clear which.
            if began.elapsed() > SECOND / 2 {
                break;
            }
            sleep(Duration::from_millis(3)).await;
            let report = report(&processes, &mut random);
            let expected = model.report(&quota, &report).await.unwrap();
            let answer = real.report(&quota, &report).await.unwrap();
            assert!(
                assert_same_replies(&answer, &expected),
                "{seed}: {report:?}\n{answer:?}\n{expected:?}"
            );
            compared += 1;
        }
        // Windows that end before the next round.
        sleep(Duration::from_millis(3)).await;
        let mut last = report(&processes, &mut random);
        for window in &mut last.windows {
            let mut ends = AnnouncedQuota::new(3, SECOND);
            ends.age = Some(Duration::ZERO);
            window.announced = Some(ends);
        }
        real.report(&quota, &last).await.unwrap();
        model.report(&quota, &last).await.unwrap();
        sleep(SECOND * 3 / 2).await;
    }
    assert!(compared > 80, "{compared}");
}

/// A report about some of many windows, of the present version or of the next one.
fn report(processes: &[ProcessId], random: &mut Rng) -> QuotaReport {
    let mut report = QuotaReport::new(processes[random.usize(..processes.len())]);
    report.version += u32::from(random.u8(..40) == 0);
    // Some repeat the last one.
    report.number = random.u64(..3);
    let mut names: Vec<_> = (0..20).collect();
    random.shuffle(&mut names);
    for number in names.into_iter().take(random.usize(..5)) {
        let id = WindowId::new(format!("units/{number} \"näme\" {number}")).unwrap();
        let mut window = WindowReport::new(id);
        window.reserved = random.u64(..6);
        window.wanted = random.u64(..20);
        window.minimum = random.u64(..8);
        window.used = random.u64(..8) * u64::from(random.bool());
        if random.u8(..3) == 0 {
            let remaining = [random.u64(..80), random.u64(..)][random.usize(..2)];
            let mut announced = AnnouncedQuota::new(remaining, SECOND * random.u32(30..90));
            announced.limit = [None, Some(100), Some(random.u64(90..110))][random.usize(..3)];
            announced.window = random.bool().then_some(60 * SECOND);
            // Not known, sent before all that is known, or sent after it.
            announced.age = [None, Some(600 * SECOND), Some(Duration::ZERO)][random.usize(..3)];
            window.announced = Some(announced);
        }
        report.windows.push(window);
    }
    report.hold = (random.u8(..10) == 0).then(|| SECOND * random.u32(30..90));
    report
}

fn assert_same_replies(one: &QuotaSnapshot, other: &QuotaSnapshot) -> bool {
    let same = |(one, other): (&SharedWindow, &SharedWindow)| {
        let counts = |w: &SharedWindow| (w.limit, w.remaining, w.reserved, w.granted, w.window);
        one.id == other.id
            && counts(one) == counts(other)
            && is_close(Some(one.reset), Some(other.reset))
    };
    one.processes == other.processes
        && one.windows.len() == other.windows.len()
        && one.windows.iter().zip(&other.windows).all(same)
        && is_close(one.hold, other.hold)
}

fn is_close(one: Option<Duration>, other: Option<Duration>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) < TOLERANCE,
        (one, other) => one == other,
    }
}

#[tokio::test]
async fn entries_of_other_versions_are_kept_or_replaced() {
    let redis = Server::start();
    let store = RedisQuotaStore::new(redis.url(), keys()).unwrap();
    let quota = CacheKey::new("test");
    let report = |version: u32, hold: Option<Duration>| {
        let mut report = QuotaReport::new(ProcessId::random());
        report.version = QuotaReport::VERSION - 1 + version;
        let mut window = WindowReport::new(WindowId::new("requests").unwrap());
        (window.reserved, window.wanted) = (1, 2);
        window.announced = Some(AnnouncedQuota::new(50, 60 * SECOND));
        report.windows.push(window);
        report.hold = hold;
        report
    };
    let (old, new) = (0, 1);
    let first = store
        .report(&quota, &report(old, Some(9 * SECOND)))
        .await
        .unwrap();
    assert_eq!((first.processes, first.windows.len()), (1, 1));

    let replaced = store.report(&quota, &report(new, None)).await.unwrap();
    assert_eq!((replaced.processes, replaced.windows.len()), (1, 1));
    assert!(is_close(replaced.hold, Some(9 * SECOND)));
    let entry = || {
        let key = redis
            .keys()
            .into_iter()
            .find(|key| key.ends_with(":windows"));
        redis.command(&[b"HGET", key.unwrap().as_bytes(), b"windows"])
    };
    let before = entry();

    // A process of the old version goes on by itself, except for holds. The entry stays.
    let alone = store
        .report(&quota, &report(old, Some(20 * SECOND)))
        .await
        .unwrap();
    assert_eq!((alone.processes, alone.windows.len()), (0, 0));
    assert!(is_close(alone.hold, Some(20 * SECOND)));
    assert_eq!(entry(), before);
    let after = store.report(&quota, &report(new, None)).await.unwrap();
    assert_eq!(
        (after.processes, after.windows[0].reserved),
        (2, 1 + 2 + 1 + 2)
    );
    assert!(is_close(after.hold, Some(20 * SECOND)));
}

#[tokio::test]
async fn reservations_match_the_memory_store() {
    let redis = Server::start();
    let real = RedisQuotaStore::new(redis.url(), keys()).unwrap();
    let model = MemoryQuotaStore::new();
    let quota = CacheKey::new("test");
    let exact = FleetQuota::per_minute(60).burst(3);
    let mut late = 0;
    for longest in [2, 10, 0, 5, 3, 20].repeat(4) {
        let longest = SECOND * longest;
        let expected = model.reserve(&quota, exact, longest).await.unwrap();
        let answer = real.reserve(&quota, exact, longest).await.unwrap();
        let assert_same_replies = match (answer, expected) {
            (Reservation::Granted(one), Reservation::Granted(other)) => {
                is_close(Some(one), Some(other))
            }
            (Reservation::Denied(one), Reservation::Denied(other)) => {
                late += 1;
                is_close(Some(one), Some(other))
            }
            _ => false,
        };
        assert!(assert_same_replies, "{answer:?} {expected:?}");
    }
    assert!(late > 5, "{late}");
}
