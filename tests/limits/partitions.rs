//! What a partition knows of its quota, and that it is its own.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use tokio::time::{Instant, sleep, timeout};
use tower::Layer;
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{PartitionKey, RateLimited},
};

use crate::{
    support::{Body, SECOND, get, send, serving, spawn, status_only, throttled},
    world::{limited, send_first},
};

#[tokio::test(start_paused = true)]
async fn an_announced_quota_is_never_exceeded() {
    let server = Arc::new(Mutex::new((Instant::now(), 0_u32)));
    let refused = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refused);
    let (inner, _) = serving(move |_| {
        let mut server = server.lock().unwrap();
        if server.0.elapsed() >= 10 * SECOND {
            *server = (Instant::now(), 0);
        }
        server.1 += 1;
        let left = 10_u64.saturating_sub(server.0.elapsed().as_secs());
        let response = Response::builder()
            .header("x-ratelimit-limit", 50)
            .header("x-ratelimit-remaining", 50_u32.saturating_sub(server.1))
            .header("x-ratelimit-reset", left);
        let over = server.1 > 50;
        counter.fetch_add(usize::from(over), SeqCst);
        let response = response.status(if over { 429 } else { 200 });
        async move {
            sleep(Duration::from_millis(20)).await;
            response.body(Body::default()).unwrap()
        }
    });
    let service = RateLimitRetryLayer::new().layer(inner);
    let began = Instant::now();

    let calls: Vec<_> = (0..200).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    assert_eq!(refused.load(SeqCst), 0);
    assert!(began.elapsed() < 33 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_in_flight_frees_its_permit() {
    let (inner, _) = serving(|_| async {
        sleep(60 * SECOND).await;
        status_only(StatusCode::OK)
    });
    let layer = RateLimitRetryLayer::new();
    let service = layer.layer(inner);

    drop(timeout(SECOND, send(&service, get("/"))).await);

    assert_eq!(layer.handle().status()[0].in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_partition_starts_with_the_initial_window() {
    let (inner, calls) = serving(|_| async {
        sleep(Duration::from_millis(100)).await;
        status_only(StatusCode::OK)
    });
    let service = RateLimitRetryLayer::new().layer(inner);

    let all: Vec<_> = (0..100).map(|_| spawn(&service, get("/"))).collect();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(calls.load(SeqCst), 8);
    sleep(Duration::from_millis(60)).await;
    assert_eq!(calls.load(SeqCst), 100);

    for call in all {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn holds_are_per_partition() {
    let (inner, _) = serving(|request: Request<Body>| {
        let limited = request.uri().path() == "/limited";
        std::future::ready(if limited {
            throttled("60")
        } else {
            status_only(StatusCode::OK)
        })
    });
    let service = RateLimitRetryLayer::builder()
        .max_wait(SECOND)
        .partition_by(|parts| PartitionKey::from(parts.uri.path()))
        .build()
        .layer(inner);
    send(&service, get("/limited")).await.unwrap();

    let other = send(&service, get("/other")).await.unwrap();
    let same = send(&service, get("/limited")).await;

    assert_eq!(other.status(), StatusCode::OK);
    assert!(same.unwrap_err().is::<RateLimited>());
}

#[tokio::test(start_paused = true)]
async fn a_request_with_several_keys_waits_for_all_of_them() {
    let began = Instant::now();
    let (inner, arrivals) = limited(move || began.elapsed() < 5 * SECOND, "5");
    let service = RateLimitRetryLayer::builder()
        .partitions_by(|parts| match parts.uri.path() {
            "/a" => vec!["a".into()],
            _ => vec!["a".into(), "b".into()],
        })
        .build()
        .layer(inner);
    send_first(&service);
    let first = spawn(&service, get("/a"));
    sleep(SECOND).await;

    send(&service, get("/both")).await.unwrap();

    first.await.unwrap().unwrap();
    let arrivals = arrivals.lock().unwrap();
    assert!(arrivals.iter().skip(2).all(|at| *at - began >= 5 * SECOND));
}
