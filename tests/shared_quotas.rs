//! Quotas that several processes share: each is a layer of its own with a shared store in memory, in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::StatusCode;
use support::{Inner, get, in_full, send, serving, spawn, status_only};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::Layer;
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{
        FleetQuota, ProcessId, QuotaHandle, QuotaReport, QuotaSnapshot, QuotaStore, RateLimitEvent,
        RateLimitRetry, RateLimitRetryLayerBuilder, Reservation, StoredQuotas,
    },
    store::{CacheKey, StoreError},
    test_util::{Api, Dialect, MemoryQuotaStore, Quota},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

struct Process {
    service: RateLimitRetry<Inner>,
    handle: QuotaHandle,
    events: Arc<Mutex<Vec<String>>>,
}

fn process(store: &MemoryQuotaStore, inner: &Inner) -> Process {
    process_with(StoredQuotas::new("fleet", store.clone()), inner, |b| b)
}

fn process_with(
    quotas: StoredQuotas,
    inner: &Inner,
    set: impl FnOnce(RateLimitRetryLayerBuilder) -> RateLimitRetryLayerBuilder,
) -> Process {
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let layer = set(RateLimitRetryLayer::builder().store(quotas)).on_event(move |event| {
        let what = match event {
            RateLimitEvent::RemoteHold { held_for, .. } => {
                format!("held for {} s", held_for.as_secs_f64().round())
            }
            RateLimitEvent::StoreFailed { error, .. } => error.to_string(),
            RateLimitEvent::StoreRecovered { .. } => "recovered".to_owned(),
            _ => return,
        };
        sink.lock().unwrap().push(what);
    });
    let layer = layer.build();
    Process {
        service: layer.layer(inner.clone()),
        handle: layer.handle(),
        events,
    }
}

impl Process {
    fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

fn announcing(limit: u32, window: Duration) -> (Api, Inner) {
    announcing_in(Dialect::Draft3, limit, window)
}

fn announcing_in(dialect: Dialect, limit: u32, window: Duration) -> (Api, Inner) {
    let api = Api::builder()
        .quota(Quota::fixed_window(limit, window))
        .dialect(dialect)
        .latency(20 * MILLI)
        .in_process();
    let inner = in_full(api.service());
    (api, inner)
}

/// Each process with `workers` that send one request after the other; how long all of it took.
async fn work(fleet: &[Process], workers: usize, requests: usize) -> Duration {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for process in fleet {
        for _ in 0..workers {
            let service = process.service.clone();
            tasks.spawn(async move {
                for _ in 0..requests {
                    let response = spawn(&service, get("/")).await.unwrap().unwrap();
                    assert_eq!(response.status(), StatusCode::OK);
                }
            });
        }
    }
    tasks.join_all().await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn eight_processes_share_one_quota_without_overshoot() {
    // Quotas with a name and without; resets as a time and as a duration.
    for dialect in [Dialect::Draft3, Dialect::Draft8, Dialect::Didit] {
        let (api, inner) = announcing_in(dialect, 300, 60 * SECOND);
        let store = MemoryQuotaStore::new();
        store.set_latency(2 * MILLI);
        // A reset in whole seconds may be a little later than a window of a minute.
        let patient = |builder: RateLimitRetryLayerBuilder| builder.max_wait(3600 * SECOND);
        let quotas = || StoredQuotas::new("fleet", store.clone());
        let fleet: Vec<_> = (0..8)
            .map(|_| process_with(quotas(), &inner, patient))
            .collect();

        let took = work(&fleet, 5, 30).await;

        let stats = api.stats();
        assert_eq!((stats.ok, stats.rate_limited), (1200, 0), "{dialect:?}");
        // The end of each window is announced in whole seconds, rounded up.
        assert!(took <= 3 * 61 * SECOND * 101 / 100, "{dialect:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cold_fleet_shares_its_first_burst() {
    let (api, inner) = announcing(300, 60 * SECOND);
    let store = MemoryQuotaStore::new();
    store.set_latency(2 * MILLI);
    let patient = |builder: RateLimitRetryLayerBuilder| builder.max_wait(3600 * SECOND);
    let quotas = || StoredQuotas::new("fleet", store.clone());
    let fleet: Vec<_> = (0..100)
        .map(|_| process_with(quotas(), &inner, patient))
        .collect();

    // 400 at once would be 100 too many.
    work(&fleet, 4, 3).await;

    let stats = api.stats();
    assert_eq!(stats.ok, 1200);
    assert!(stats.rate_limited <= 36, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_learns_a_silent_limit_together() {
    let refused = async |shared: bool| {
        let (api, inner) = announcing_in(Dialect::None, 300, 60 * SECOND);
        let store = MemoryQuotaStore::new();
        store.set_latency(2 * MILLI);
        // Without sharing, each process has a name of its own.
        let name = |number| format!("{}", if shared { 0 } else { number });
        let patient =
            |builder: RateLimitRetryLayerBuilder| builder.max_wait(3600 * SECOND).max_retries(50);
        let fleet: Vec<_> = (0..4)
            .map(|number| StoredQuotas::new(name(number), store.clone()))
            .map(|quotas| process_with(quotas, &inner, patient))
            .collect();
        work(&fleet, 64, 8).await;
        assert_eq!(api.stats().ok, 4 * 64 * 8);
        api.stats().rate_limited
    };

    let (shared, alone) = (refused(true).await, refused(false).await);

    // As for a single process: 4 % of the requests.
    assert!(shared <= 81 && shared * 3 < alone * 2, "{shared}, {alone}");
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_loses_nothing() {
    let (api, inner) = announcing(300, 60 * SECOND);
    let store = MemoryQuotaStore::new();
    store.set_latency(2 * MILLI);
    let version = |newer| {
        let quotas = StoredQuotas::new("fleet", VersionedStore(store.clone(), newer));
        process_with(quotas, &inner, |b| b)
    };
    // Half of the fleet has been updated.
    let fleet: Vec<_> = (0..8).map(|number| version(number % 2)).collect();

    let took = work(&fleet, 5, 30).await;

    let stats = api.stats();
    assert_eq!(stats.ok, 1200);
    // About as without a store: the processes of the old version go on by themselves.
    assert!(stats.rate_limited <= 60, "{stats:?}");
    assert!(took <= 3 * 61 * SECOND * 102 / 100, "{took:?}");
    let quota = fleet[0].take_events();
    assert!(
        quota.iter().all(|event| event.starts_with("held")),
        "{quota:?}"
    );
}

/// A store as a process uses it whose version is later by a number.
struct VersionedStore(MemoryQuotaStore, u32);

impl QuotaStore for VersionedStore {
    async fn report(
        &self,
        quota: &CacheKey,
        report: &QuotaReport,
    ) -> Result<QuotaSnapshot, StoreError> {
        let mut report = report.clone();
        report.version += self.1;
        self.0.report(quota, &report).await
    }

    async fn reserve(
        &self,
        quota: &CacheKey,
        exact: FleetQuota,
        longest: Duration,
    ) -> Result<Reservation, StoreError> {
        self.0.reserve(quota, exact, longest).await
    }

    async fn changed(&self, quota: &CacheKey) -> Result<(), StoreError> {
        self.0.changed(quota).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_in_one_process_holds_all_processes() {
    let refuses = Arc::new(AtomicBool::new(false));
    let (inner, calls) = serving({
        let refuses = Arc::clone(&refuses);
        move |_| {
            let mut response = status_only(StatusCode::OK);
            if refuses.load(SeqCst) {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                response.headers_mut().insert("retry-after", 30.into());
            }
            std::future::ready(response)
        }
    });
    let store = MemoryQuotaStore::new();
    store.set_latency(2 * MILLI);
    let never = |builder: RateLimitRetryLayerBuilder| builder.max_retries(0);
    let quotas = || StoredQuotas::new("fleet", store.clone());
    let fleet: Vec<_> = (0..3)
        .map(|_| process_with(quotas(), &inner, never))
        .collect();
    let clamped = process_with(quotas(), &inner, |builder| {
        builder.max_retries(0).max_hold(5 * SECOND)
    });
    let stranger = process_with(StoredQuotas::new("other", store.clone()), &inner, never);
    let all = [&fleet[0], &fleet[1], &fleet[2], &clamped, &stranger];
    for one in all {
        send(&one.service, get("/")).await.unwrap();
    }
    sleep(SECOND).await;
    calls.store(0, SeqCst);
    refuses.store(true, SeqCst);

    send(&fleet[0].service, get("/")).await.unwrap();
    sleep(5 * MILLI).await;
    let waiting: Vec<_> = all[1..4]
        .iter()
        .map(|one| spawn(&one.service, get("/")))
        .collect();
    sleep(4 * SECOND).await;

    assert_eq!(calls.load(SeqCst), 1);
    assert!(fleet[0].take_events().is_empty());
    assert_eq!(fleet[1].take_events(), ["held for 30 s"]);
    assert_eq!(clamped.take_events(), ["held for 5 s"]);
    assert!(stranger.take_events().is_empty());
    sleep(2 * SECOND).await;
    assert_eq!(calls.load(SeqCst), 2);
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn a_store_failure_is_reported_once_and_adds_no_latency() {
    let (api, inner) = announcing(1000, 60 * SECOND);
    let store = MemoryQuotaStore::new();
    let fleet: Vec<_> = (0..4).map(|_| process(&store, &inner)).collect();
    let down = || StoreError::unavailable("is down");
    store.fail_with(Some(down()));

    assert_eq!(work(&fleet, 1, 50).await, 50 * 20 * MILLI);

    store.fail_with(None);
    sleep(10 * SECOND).await;
    for one in &fleet {
        assert_eq!(one.take_events(), ["the store is down", "recovered"]);
    }
    assert_eq!(work(&fleet, 1, 50).await, 50 * 20 * MILLI);

    // Its calls never complete, and no request waits for them.
    store.set_latency(3600 * SECOND);
    assert_eq!(work(&fleet, 1, 50).await, 50 * 20 * MILLI);
    store.set_latency(Duration::ZERO);
    sleep(10 * SECOND).await;
    for one in &fleet {
        assert_eq!(
            one.take_events(),
            ["the store did not respond within 100ms", "recovered"]
        );
    }
    assert_eq!(api.stats().rate_limited, 0);
}

#[tokio::test(start_paused = true)]
async fn data_loss_in_the_store_costs_only_accuracy() {
    let (api, inner) = announcing(300, 60 * SECOND);
    let store = MemoryQuotaStore::new();
    let fleet: Vec<_> = (0..8).map(|_| process(&store, &inner)).collect();
    let restarts = async {
        for _ in 0..200 {
            sleep(50 * MILLI).await;
            store.clear();
        }
    };

    let (took, ()) = tokio::join!(work(&fleet, 2, 50), restarts);

    assert_eq!(api.stats().ok, 800);
    assert!(api.stats().rate_limited <= 8, "{:?}", api.stats());
    assert!(took <= 2 * 61 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_report_is_repeated_and_no_failure() {
    let (api, inner) = announcing(300, 60 * SECOND);
    let store = MemoryQuotaStore::new();
    store.set_latency(2 * MILLI);
    let fleet: Vec<_> = (0..4).map(|_| process(&store, &inner)).collect();
    work(&fleet, 2, 5).await;
    store.set_loss(0.01);
    let asked = store.calls();

    let took = work(&fleet, 8, 18).await;

    let asked = store.calls() - asked;
    assert!(asked > 200, "{asked}");
    assert_eq!((api.stats().ok, api.stats().rate_limited), (616, 0));
    assert!(took <= 2 * 61 * SECOND, "{took:?}");
    for process in &fleet {
        assert_eq!(process.take_events(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn reservations_of_a_dead_process_expire() {
    let (api, inner) = announcing(100, 60 * SECOND);
    let store = MemoryQuotaStore::new();
    let (gone, stays) = (process(&store, &inner), process(&store, &inner));
    work(std::slice::from_ref(&gone), 10, 3).await;
    let under_way: Vec<_> = (0..10).map(|_| spawn(&gone.service, get("/"))).collect();
    sleep(10 * MILLI).await;
    under_way.iter().for_each(|call| call.abort());
    drop(gone);

    let took = work(&[stays], 1, 60).await;

    assert_eq!(api.stats().rate_limited, 0);
    assert!(took <= 10 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_graceful_shutdown_releases_reservations() {
    let (api, inner) = announcing(100, 60 * SECOND);
    let store = MemoryQuotaStore::new();
    store.set_latency(20 * MILLI);
    let (ends, stays) = (process(&store, &inner), process(&store, &inner));
    work(std::slice::from_ref(&ends), 10, 6).await;

    ends.handle.release_reservations().await;
    drop(ends);
    // All but one of the remaining requests, immediately.
    let took = work(&[stays], 3, 13).await;

    assert_eq!((api.stats().ok, api.stats().rate_limited), (99, 0));
    assert!(took < SECOND * 3 / 4, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_late_process_knows_that_the_quota_is_exhausted() {
    let (api, inner) = announcing(50, 60 * SECOND);
    let store = MemoryQuotaStore::new();
    let early = process(&store, &inner);
    work(&[early], 5, 10).await;
    let late = process(&store, &inner);
    // Its first request may be gone before the store has answered.
    send(&late.service, get("/")).await.unwrap();

    let seen = api.stats();

    assert!(seen.rate_limited <= 1, "{seen:?}");
    let later = process(&store, &inner);
    let first = spawn(&later.service, get("/"));
    sleep(MILLI).await;
    first.abort();
    work(&[later], 5, 10).await;
    assert_eq!(api.stats().rate_limited, seen.rate_limited);
}

#[tokio::test(start_paused = true)]
async fn an_exact_quota_is_never_exceeded_and_a_store_failure_blocks_no_request() {
    // The API announces nothing that a process could learn from.
    let (api, inner) = announcing_in(Dialect::None, 60, 60 * SECOND);
    let store = MemoryQuotaStore::new();
    store.set_latency(2 * MILLI);
    let exact =
        || StoredQuotas::new("fleet", store.clone()).fleet_quota(FleetQuota::per_minute(60));
    let patient = |builder: RateLimitRetryLayerBuilder| builder.max_wait(3600 * SECOND);
    let fleet: Vec<_> = (0..8)
        .map(|_| process_with(exact(), &inner, patient))
        .collect();

    let took = work(&fleet, 2, 15).await;

    assert_eq!((api.stats().ok, api.stats().rate_limited), (240, 0));
    assert!(took <= 60 * SECOND * 240 / 50, "{took:?}");
    let impatient = process_with(exact(), &inner, |builder| builder.max_wait(SECOND / 2));
    assert!(send(&impatient.service, get("/")).await.is_err());

    sleep(120 * SECOND).await;
    store.fail_with(Some(StoreError::unavailable("is down")));
    fleet.iter().for_each(|one| drop(one.take_events()));
    let asked = store.calls();
    work(&fleet[..1], 4, 5).await;
    assert_eq!(fleet[0].take_events(), ["the store is down"]);
    // The four that found it out, and reports; 16 others went without asking.
    assert!(store.calls() - asked < 12, "{}", store.calls() - asked);
    store.fail_with(None);
    sleep(10 * SECOND).await;
    work(&fleet[..1], 1, 1).await;
    assert_eq!(fleet[0].take_events(), ["recovered"]);
}

/// A store that panics where the test says.
#[derive(Clone)]
struct Panicking {
    store: MemoryQuotaStore,
    at: Arc<Mutex<Option<&'static str>>>,
    reports: Arc<AtomicUsize>,
}

impl Panicking {
    fn new() -> Self {
        Self {
            store: MemoryQuotaStore::new(),
            at: Arc::default(),
            reports: Arc::default(),
        }
    }

    fn panics_at(&self, at: Option<&'static str>) {
        *self.at.lock().unwrap() = at;
    }

    fn reports(&self) -> usize {
        self.reports.load(SeqCst)
    }

    fn reach(&self, here: &str) {
        let at = *self.at.lock().unwrap();
        assert_ne!(at, Some(here), "as it should");
    }
}

impl QuotaStore for Panicking {
    fn report(
        &self,
        quota: &CacheKey,
        report: &QuotaReport,
    ) -> impl Future<Output = Result<QuotaSnapshot, StoreError>> + Send {
        self.reports.fetch_add(1, SeqCst);
        self.reach("report, before its future");
        async {
            self.reach("report");
            self.store.report(quota, report).await
        }
    }

    fn reserve(
        &self,
        quota: &CacheKey,
        exact: FleetQuota,
        longest: Duration,
    ) -> impl Future<Output = Result<Reservation, StoreError>> + Send {
        self.reach("slot, before its future");
        async move {
            self.reach("slot");
            self.store.reserve(quota, exact, longest).await
        }
    }

    fn changed(&self, quota: &CacheKey) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.reach("changed, before its future");
        async {
            self.reach("changed");
            self.store.changed(quota).await
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_the_pauses_between_reports_to_a_store_that_fails() {
    let (one, again, other) = (
        failing_reports(7).await,
        failing_reports(7).await,
        failing_reports(8).await,
    );

    assert!(one.len() > 5, "{one:?}");
    assert_eq!(one, again);
    assert_ne!(one, other);
}

/// When a layer with this seed calls a failing store.
async fn failing_reports(seed: u64) -> Vec<Duration> {
    let store = MemoryQuotaStore::new();
    store.fail_with(Some(StoreError::unavailable("is down")));
    let (_, inner) = announcing(300, 60 * SECOND);
    let quotas = StoredQuotas::new("fleet", store.clone());
    let process = process_with(quotas, &inner, |builder| builder.seed(seed));
    let (began, mut calls, mut asked) = (Instant::now(), store.calls(), Vec::new());
    send(&process.service, get("/")).await.unwrap();
    while began.elapsed() < 20 * SECOND {
        if store.calls() > calls {
            calls = store.calls();
            asked.push(began.elapsed());
        }
        sleep(MILLI).await;
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn a_store_panic_counts_as_a_failure_and_is_retried() {
    for at in [
        "report",
        "report, before its future",
        "changed",
        "changed, before its future",
    ] {
        let store = Panicking::new();
        let (_, inner) = announcing(300, 60 * SECOND);
        let process = process_with(StoredQuotas::new("fleet", store.clone()), &inner, |b| b);
        store.panics_at(Some(at));
        spawn(&process.service, get("/")).await.unwrap().unwrap();
        sleep(SECOND).await;
        let events = process.take_events();
        store.panics_at(None);
        let before = store.reports();
        for _ in 0..10 {
            spawn(&process.service, get("/")).await.unwrap().unwrap();
            sleep(SECOND).await;
        }

        assert_eq!(events.first().unwrap(), "the store panicked", "{at}");
        assert!(store.reports() >= before + 2, "{at}");
        let last = process
            .take_events()
            .pop()
            .or_else(|| events.last().cloned());
        assert_eq!(last.unwrap(), "recovered", "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn store_panics_never_reach_the_caller() {
    for at in ["slot", "slot, before its future"] {
        let store = Panicking::new();
        let quotas = StoredQuotas::new("fleet", store.clone());
        let quotas = quotas.fleet_quota(FleetQuota::per_minute(300));
        let (_, inner) = announcing(300, 60 * SECOND);
        let process = process_with(quotas, &inner, |b| b);
        store.panics_at(Some(at));

        let response = send(&process.service, get("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(process.take_events()[0], "the store panicked", "{at}");
        store.panics_at(Some("report, before its future"));
        process.handle.release_reservations().await;
    }
}

#[test]
fn a_runtime_dropped_during_a_report_does_not_stop_sharing() {
    let store = MemoryQuotaStore::new();
    let (_, inner) = announcing(300, 60 * SECOND);
    let process = process(&store, &inner);
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    // Longer than the runtime lives.
    store.set_latency(60 * MILLI);
    runtime().block_on(async {
        spawn(&process.service, get("/")).await.unwrap().unwrap();
        sleep(30 * MILLI).await;
    });
    let before = store.calls();
    store.set_latency(2 * MILLI);

    runtime().block_on(async {
        for _ in 0..5 {
            spawn(&process.service, get("/")).await.unwrap().unwrap();
            sleep(SECOND).await;
        }
    });

    // What the agent asks as it begins is not enough.
    assert!(store.calls() >= before + 4, "{} {before}", store.calls());
    let [failed, recovered] = &process.take_events()[..] else {
        panic!("two events");
    };
    assert!(failed.contains("the runtime shut down"), "{failed}");
    assert_eq!(recovered, "recovered");
}

#[tokio::test(start_paused = true)]
async fn clearing_the_memory_store_wakes_its_listeners() {
    let (store, quota) = (MemoryQuotaStore::new(), CacheKey::new("quota"));
    let mut held = QuotaReport::new(ProcessId::random());
    held.hold = Some(SECOND);
    store.report(&quota, &held).await.unwrap();
    let listener = tokio::spawn({
        let (store, quota) = (store.clone(), quota.clone());
        async move { store.changed(&quota).await }
    });
    sleep(MILLI).await;
    assert!(!listener.is_finished());

    store.clear();

    let heard = tokio::time::timeout(SECOND, listener).await;
    heard.unwrap().unwrap().unwrap();
}
