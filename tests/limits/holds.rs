//! Which requests wait after a rejection, and for how long.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Request, StatusCode};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_m2m::{
    Attempts, Clock, RateLimitRetryLayer,
    rate_limit_retry::{GaveUp, GiveUpReason, RateLimitEvent, RateLimited},
};

use crate::{
    support::{
        API, Body, SECOND, Source, get, layer, post, send, serving, spawn, status_only, throttled,
    },
    world::{limited, send_first},
};

#[tokio::test(start_paused = true)]
async fn one_429_holds_every_clone() {
    let began = Instant::now();
    let (inner, arrivals) = limited(move || began.elapsed() < 10 * SECOND, "10");
    let service = RateLimitRetryLayer::builder().seed(1).build().layer(inner);
    send(&service, get("/")).await.unwrap();

    let calls: Vec<_> = (0..100).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    // The first was rejected at the start. No other was, because none was sent before the ten seconds had ended.
    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), 102);
    assert!(arrivals[1..].iter().all(|at| *at - began >= 10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_forgotten_takes_what_is_known_of_its_servers_clock_along() {
    for (forget, held_for) in [(false, 10 * SECOND), (true, 1210 * SECOND)] {
        // The server's clock is 20 minutes ahead. Its first response says so; the second has no `Date`.
        let (inner, calls) = serving(|request| {
            let mut response = status_only(StatusCode::OK);
            let headers = response.headers_mut();
            if request.uri().path() == "/first" {
                headers.insert(
                    "date",
                    HeaderValue::from_static("Mon, 21 Sep 2026 14:33:20 GMT"),
                );
                headers.insert("x-ratelimit-remaining", HeaderValue::from_static("100"));
            } else {
                let at = HeaderValue::from_static("Mon, 21 Sep 2026 14:33:30 GMT");
                headers.insert("retry-after", at);
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            }
            std::future::ready(response)
        });
        let layer = RateLimitRetryLayer::builder()
            .clock(OnTheDay)
            .max_retries(0)
            .build();
        let (service, handle) = (layer.layer(inner), layer.handle());
        send(&service, get("/first")).await.unwrap();

        if forget {
            handle.forget(&API.into());
        }
        send(&service, get("/second")).await.unwrap();

        assert_eq!(calls.load(SeqCst), 2);
        let held = handle.status()[0].held_for().unwrap();
        assert!(
            held.abs_diff(held_for) < SECOND,
            "forgotten: {forget}, {held:?}"
        );
    }
}

/// Its civil time stands still.
struct OnTheDay;

impl Clock for OnTheDay {
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// 14:13:20 GMT on 21 September 2026.
    fn wall_clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_are_released_gradually_after_a_hold() {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrivals);
    let (inner, _) = serving(move |_| {
        log.lock().unwrap().push(Instant::now());
        let refused = log.lock().unwrap().len() == 1;
        async move {
            sleep(Duration::from_millis(40)).await;
            if refused {
                throttled("5")
            } else {
                status_only(StatusCode::OK)
            }
        }
    });
    let service = RateLimitRetryLayer::new().layer(inner);
    let first = spawn(&service, get("/"));
    sleep(SECOND).await;

    let calls: Vec<_> = (0..200).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }

    first.await.unwrap().unwrap();
    let arrivals = arrivals.lock().unwrap();
    let within = |millis| {
        let end = arrivals[1] + Duration::from_millis(millis);
        arrivals[1..].iter().filter(|at| **at < end).count()
    };
    // One probe, then two requests, then four: no thundering herd, and no long wait either.
    assert_eq!((within(30), within(70), within(110)), (1, 3, 7));
    assert_eq!(within(500), 201);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_beyond_max_wait_returns_immediately() {
    let (inner, arrivals) = limited(|| true, "99999999999999999999");
    let service = RateLimitRetryLayer::builder()
        .max_wait(30 * SECOND)
        .build()
        .layer(inner);
    let began = Instant::now();

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let gave_up = GaveUp::of(&response).unwrap();
    assert_eq!(gave_up.reason(), GiveUpReason::Wait);
    assert!(gave_up.retry_after().unwrap() > 1_000_000 * SECOND);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(arrivals.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hold_beyond_max_wait_returns_its_end() {
    let (inner, arrivals) = limited(|| true, "60");
    let events = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&events);
    let layer = RateLimitRetryLayer::builder()
        .max_wait(30 * SECOND)
        .on_event(move |event| {
            let not_sent = matches!(event, RateLimitEvent::Rejected { .. });
            counter.fetch_add(usize::from(not_sent), SeqCst);
        })
        .build();
    let service = layer.layer(inner);
    send(&service, get("/")).await.unwrap();

    let error = send(&service, get("/")).await.unwrap_err();

    let hold = error.downcast::<RateLimited>().unwrap();
    assert!((60..=64).contains(&hold.retry_after().as_secs()), "{hold}");
    assert_eq!(arrivals.lock().unwrap().len(), 1);
    assert_eq!(layer.handle().status()[0].in_flight(), 0);
    assert_eq!(events.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_never_undercut() {
    for (hint, least) in [("7", 7.0), ("1.5", 1.5), ("0", 0.4)] {
        let refusals = AtomicUsize::new(1);
        let (inner, arrivals) = limited(
            move || {
                refusals
                    .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
                    .is_ok()
            },
            hint,
        );
        let service = RateLimitRetryLayer::new().layer(inner);

        let response = send(&service, post("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(Attempts::of(&response), 2);
        let arrivals = arrivals.lock().unwrap();
        let waited = (arrivals[1] - arrivals[0]).as_secs_f64();
        assert!(
            waited >= least && waited <= least * 1.06 + 1.0,
            "{hint}: {waited}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_token_lifetime_sends_a_fresh_token() {
    let source = Source::with_lifetime(30 * SECOND);
    let valid = source.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (inner, _) = serving(move |request: Request<Body>| {
        let token = request.headers()["authorization"]
            .to_str()
            .unwrap()
            .to_owned();
        log.lock().unwrap().push(token);
        assert!(valid.accepts(&request));
        let first = log.lock().unwrap().len() == 1;
        std::future::ready(if first {
            throttled("60")
        } else {
            status_only(StatusCode::OK)
        })
    });
    let service = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(layer(&source).build())
        .service(inner);

    let response = service.oneshot(get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(*seen.lock().unwrap(), ["Bearer token-1", "Bearer token-2"]);
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_while_holding_readiness() {
    let (inner, _) = limited(|| true, "60");
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(inner);
    let mut direct = limited.clone();
    let mut service = RateLimitRetryLayer::new().layer(limited);
    let refused = spawn(&service, get("/"));
    sleep(SECOND).await;
    // Kept alive: it is the service, not its owner's departure, that gives readiness back.
    service.ready().await.unwrap();
    let held = tokio::spawn(service.call(get("/")));
    sleep(SECOND).await;

    // Both wait for the hold to end, and the one permit is free.
    assert!(timeout(SECOND, direct.ready()).await.is_ok());

    assert!(!refused.is_finished() && !held.is_finished());
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn dropping_other_waiters_does_not_strand_the_last() {
    let began = Instant::now();
    let (inner, arrivals) = limited(move || began.elapsed() < 10 * SECOND, "10");
    let layer = RateLimitRetryLayer::new();
    let service = layer.layer(inner);
    send_first(&service);
    sleep(SECOND).await;
    let mut calls: Vec<_> = (0..50).map(|_| spawn(&service, get("/"))).collect();
    sleep(SECOND).await;
    let last = calls.pop().unwrap();

    calls.iter().for_each(tokio::task::JoinHandle::abort);

    assert_eq!(last.await.unwrap().unwrap().status(), StatusCode::OK);
    sleep(SECOND).await;
    let status = layer.handle().status().remove(0);
    assert_eq!((status.waiting(), status.in_flight()), (0, 0));
    assert_eq!(arrivals.lock().unwrap().len(), 3);
}
