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
        RedisQuotaStore, Reservation,
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
                assert_same_replies(answer, expected),
                "{seed}: {report:?}\n{answer:?}\n{expected:?}"
            );
            compared += 1;
        }
        // A window that ends before the next round.
        sleep(Duration::from_millis(3)).await;
        let mut last = report(&processes, &mut random);
        let mut events = AnnouncedQuota::new(3, SECOND);
        events.age = Some(Duration::ZERO);
        last.announced = Some(events);
        real.report(&quota, &last).await.unwrap();
        model.report(&quota, &last).await.unwrap();
        sleep(SECOND * 3 / 2).await;
    }
    assert!(compared > 80, "{compared}");
}

fn report(processes: &[ProcessId], random: &mut Rng) -> QuotaReport {
    let mut report = QuotaReport::new(processes[random.usize(..processes.len())]);
    report.reserved = random.u32(..6);
    report.wanted = random.u32(..20);
    if random.u8(..3) == 0 {
        let mut events = AnnouncedQuota::new(random.u64(..80), SECOND * random.u32(30..90));
        events.limit = random.bool().then_some(100);
        // Not known, sent before all that is known, or sent after it.
        events.age = [None, Some(600 * SECOND), Some(Duration::ZERO)][random.usize(..3)];
        report.announced = Some(events);
    }
    report.hold = (random.u8(..10) == 0).then(|| SECOND * random.u32(30..90));
    report
}

fn assert_same_replies(one: QuotaSnapshot, other: QuotaSnapshot) -> bool {
    let counts = |view: QuotaSnapshot| {
        let window = view.window;
        window.map(|w| (w.limit, w.remaining, w.reserved, w.processes))
    };
    let reset = |view: QuotaSnapshot| view.window.map(|window| window.reset);
    one.granted == other.granted
        && counts(one) == counts(other)
        && is_close(reset(one), reset(other))
        && is_close(one.hold, other.hold)
}

fn is_close(one: Option<Duration>, other: Option<Duration>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) < TOLERANCE,
        (one, other) => one == other,
    }
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
