//! Limits that the caller sets, in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Method, Request, StatusCode};
use support::{
    API, Body, Client, Inner, SECOND, get, send, serving, spawn, status_only, throttled,
};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, service_fn};
use tower_m2m::{
    BoxError, ErrorClass, RateLimitRetryLayer,
    client_credentials::TokenError,
    rate_limit_retry::{LocalLimit, Pacing, PartitionKey, Preset},
};

#[tokio::test(start_paused = true)]
async fn no_period_exceeds_the_limit_for_any_latency() {
    let (inner, arrivals) = slow();
    let layer = RateLimitRetryLayer::builder()
        .limit(LocalLimit::per(20, 10 * SECOND))
        .build();
    let service = layer.layer(inner);
    let began = Instant::now();

    let calls: Vec<_> = (0..100).map(|_| spawn(&service, get("/"))).collect();
    // A caller who leaves has sent its request all the same.
    sleep(Duration::from_millis(600)).await;
    calls[0].abort();
    for call in calls.into_iter().skip(1) {
        call.await.unwrap().unwrap();
    }

    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), 100);
    for (n, at) in arrivals.iter().enumerate().skip(20) {
        assert!(*at - arrivals[n - 20] >= 10 * SECOND, "{n}: {at:?}");
    }
    assert!(began.elapsed() < 46 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn requests_seen_by_the_server_are_charged() {
    let limited = || RateLimitRetryLayer::builder().limit(LocalLimit::per_second(5));
    // Rejected permanently.
    let (inner, calls) = serving(|_| std::future::ready(throttled("60")));
    let service = limited().is_permanent(|_| true).build().layer(inner);
    assert_eq!(sent_in_a_second(&service, &calls).await, 5);

    // Failed in a way that no retry helps against.
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let failing = move |_: Request<Body>| {
        counter.fetch_add(1, SeqCst);
        std::future::ready(Err::<http::Response<Body>, BoxError>("no".into()))
    };
    let layer = limited().classify_errors(|_| ErrorClass::Final).build();
    let service = layer.layer(service_fn(failing));
    assert_eq!(sent_in_a_second(&service, &calls).await, 5);
}

#[tokio::test(start_paused = true)]
async fn unsent_requests_are_not_charged() {
    for (error, class) in [
        (None, ErrorClass::Final),
        (Some("no connection"), ErrorClass::NotSent),
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let failing = move |_: Request<Body>| {
            counter.fetch_add(1, SeqCst);
            let error: BoxError = match error {
                Some(error) => error.into(),
                None => TokenError::transient("the issuer is down").into(),
            };
            std::future::ready(Err::<http::Response<Body>, BoxError>(error))
        };
        let layer = RateLimitRetryLayer::builder()
            .limit(LocalLimit::per_second(5))
            .max_retries(0)
            .classify_errors(move |_| class)
            .build();
        let service = layer.layer(service_fn(failing));

        assert_eq!(sent_in_a_second(&service, &calls).await, 100, "{error:?}");
    }
}

/// How many of 100 requests have been sent within a second.
async fn sent_in_a_second(service: &impl Client, calls: &AtomicUsize) -> usize {
    let requests: Vec<_> = (0..100).map(|_| spawn(service, get("/"))).collect();
    sleep(Duration::from_millis(990)).await;
    requests.iter().for_each(tokio::task::JoinHandle::abort);
    calls.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn requests_are_spaced_evenly_except_for_a_burst() {
    let layers = [
        (LocalLimit::per_minute(60).burst(5), Pacing::Burst, 5),
        (LocalLimit::per_minute(60), Pacing::Even, 1),
    ];
    for (limit, release, at_once) in layers {
        let (inner, arrivals) = slow();
        let layer = RateLimitRetryLayer::builder();
        let layer = layer.limit(limit).pacing(release).build();
        let service = layer.layer(inner);

        let calls: Vec<_> = (0..30).map(|_| spawn(&service, get("/"))).collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }

        let arrivals = arrivals.lock().unwrap();
        let passed: Vec<_> = arrivals.iter().map(|at| *at - arrivals[0]).collect();
        assert!(passed[at_once - 1] < Duration::from_millis(50));
        for (n, passed) in passed.iter().enumerate().skip(at_once) {
            let due = SECOND * u32::try_from(n + 1 - at_once).unwrap();
            assert!(
                *passed >= due && *passed < due + SECOND / 20,
                "{n}: {passed:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn concurrency_never_exceeds_the_limit() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, high) = (Arc::clone(&now), Arc::clone(&most));
    let (inner, _) = serving(move |_| {
        let (count, high) = (Arc::clone(&count), Arc::clone(&high));
        async move {
            high.fetch_max(count.fetch_add(1, SeqCst) + 1, SeqCst);
            sleep(Duration::from_millis(100)).await;
            count.fetch_sub(1, SeqCst);
            status_only(StatusCode::OK)
        }
    });
    let layer = RateLimitRetryLayer::builder().limit(LocalLimit::in_flight(3));
    let service = layer.build().layer(inner);
    let began = Instant::now();

    let calls: Vec<_> = (0..30).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }

    assert_eq!(most.load(SeqCst), 3);
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_stricter_of_local_and_announced_limits_applies() {
    for (own, servers) in [(5, 50), (50, 5)] {
        let (inner, arrivals) = announcing(servers, 200);
        let layer = RateLimitRetryLayer::builder().initial_window(2);
        let layer = layer.limit(LocalLimit::per_minute(own)).build();
        let service = layer.layer(inner);
        let calls: Vec<_> = (0..20).map(|_| spawn(&service, get("/"))).collect();
        sleep(30 * SECOND).await;

        assert_eq!(arrivals.lock().unwrap().len(), 5, "{own} and {servers}");
        drop(calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_may_have_its_own_limit() {
    let (inner, _) = slow();
    let layer = RateLimitRetryLayer::builder()
        .partition_by(|parts| PartitionKey::from(parts.uri.path()))
        .limit(LocalLimit::per_minute(1))
        .limit_for("/b".into(), LocalLimit::per_minute(3))
        .build();
    let service = layer.layer(inner);
    let allowed = async |path| {
        let mut allowed = 0;
        while timeout(SECOND, send(&service, get(path))).await.is_ok() {
            allowed += 1;
        }
        allowed
    };

    assert_eq!(allowed("/a").await, 1);
    assert_eq!(allowed("/b").await, 3);
}

#[tokio::test(start_paused = true)]
async fn documented_limits_apply_until_the_server_announces_others() {
    let session = "/v2/session/";
    for (method, path, documented) in [
        (Method::GET, "/v2/sessions", 300),
        (Method::POST, "/v2/session/1/update-status/", 300),
        (Method::PATCH, "/v2/session/1/data/", 300),
        (Method::DELETE, "/v2/session/1/delete/", 300),
        (Method::POST, session, 600),
        (Method::GET, "/v2/session/1/decision/", 100),
        (Method::GET, "/session/1/generate-pdf/", 50),
    ] {
        let (inner, arrivals) = slow();
        let service = didit(inner);
        let calls = many(&service, &method, path);
        sleep(30 * SECOND).await;
        assert_eq!(
            arrivals.lock().unwrap().len(),
            documented,
            "{method} {path}"
        );
        drop(calls);
    }

    // Each by itself.
    let (inner, arrivals) = slow();
    let service = didit(inner);
    let calls = [
        many(&service, &Method::GET, "/"),
        many(&service, &Method::POST, "/"),
        many(&service, &Method::POST, session),
    ];
    sleep(30 * SECOND).await;
    assert_eq!(arrivals.lock().unwrap().len(), 1200);
    drop(calls);

    // It says that it is more, or less.
    for events in [450, 200] {
        let (inner, arrivals) = announcing(events, 100);
        let service = didit(inner);
        let calls = many(&service, &Method::GET, "/");
        sleep(30 * SECOND).await;
        assert_eq!(arrivals.lock().unwrap().len(), events as usize);
        drop(calls);
    }
}

type Service = tower_m2m::rate_limit_retry::RateLimitRetry<Inner>;

fn didit(inner: Inner) -> Service {
    let layer = RateLimitRetryLayer::builder().preset(Preset::DIDIT);
    layer.build().layer(inner)
}

/// More than any limit allows.
fn many(service: &Service, method: &Method, path: &str) -> Vec<tokio::task::JoinHandle<()>> {
    let call = |_| {
        let request = Request::builder()
            .method(method)
            .uri(format!("{API}{path}"));
        let call = spawn(service, request.body(Body::default()).unwrap());
        tokio::spawn(async move { drop(call.await) })
    };
    (0..700).map(call).collect()
}

/// Responds after 1 ms to 1 s. Also returns the times of all requests, delayed by up to half of that.
fn slow() -> (Inner, Arc<Mutex<Vec<Instant>>>) {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let (log, sent) = (Arc::clone(&arrivals), Arc::new(AtomicUsize::new(0)));
    let (inner, _) = serving(move |_| {
        let n = sent.fetch_add(1, SeqCst) as u64;
        let log = Arc::clone(&log);
        async move {
            sleep(Duration::from_millis(n * 37 % 500 % 40)).await;
            log.lock().unwrap().push(Instant::now());
            sleep(Duration::from_millis(1 + n * 91 % 500)).await;
            status_only(StatusCode::OK)
        }
    });
    (inner, arrivals)
}

/// Accepts `limit` requests per minute, announces it, and responds after `millis`. Also returns the times of all
/// requests.
fn announcing(limit: u32, millis: u64) -> (Inner, Arc<Mutex<Vec<Instant>>>) {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrivals);
    let (inner, _) = serving(move |_| {
        let mut log = log.lock().unwrap();
        log.push(Instant::now());
        let used = u32::try_from(log.len()).unwrap();
        let mut response = status_only(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert("x-ratelimit-limit", limit.into());
        headers.insert("x-ratelimit-remaining", limit.saturating_sub(used).into());
        headers.insert("x-ratelimit-reset", 60.into());
        if used > limit {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        }
        async move {
            sleep(Duration::from_millis(millis)).await;
            response
        }
    });
    (inner, arrivals)
}
