//! Servers with a concurrency limit, in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use support::{Body, Inner, SECOND, get, spawn, status_only, throttled};
use tokio::time::{Instant, sleep};
use tower::{Layer, service_fn, util::BoxCloneSyncService};
use tower_m2m::{BoxError, RateLimitRetryLayer};

/// The counters of a server.
#[derive(Clone, Default)]
struct Counts {
    running: Arc<AtomicUsize>,
    max_running: Arc<AtomicUsize>,
    throttled: Arc<AtomicUsize>,
}

/// Returns a server that processes `slots` requests at a time, 200 ms each, and rejects others at once with
/// `rejection`.
fn server(
    slots: usize,
    counts: &Counts,
    accepted: fn() -> Response<Body>,
    rejection: fn() -> Response<Body>,
) -> Inner {
    let counts = counts.clone();
    BoxCloneSyncService::new(service_fn(move |_: Request<Body>| {
        let counts = counts.clone();
        async move {
            let running = counts.running.fetch_add(1, SeqCst) + 1;
            if running > slots {
                counts.running.fetch_sub(1, SeqCst);
                counts.throttled.fetch_add(1, SeqCst);
                return Ok(rejection());
            }
            counts.max_running.fetch_max(running, SeqCst);
            sleep(Duration::from_millis(200)).await;
            counts.running.fetch_sub(1, SeqCst);
            Ok::<_, BoxError>(accepted())
        }
    }))
}

/// Sends 800 requests with 24 workers to a server with 8 slots. Returns the time ÷ the minimum of 20 s.
async fn play(
    counts: &Counts,
    accepted: fn() -> Response<Body>,
    rejection: fn() -> Response<Body>,
) -> f64 {
    let layer = RateLimitRetryLayer::builder()
        .max_retries(50)
        .max_wait(60 * SECOND)
        .build();
    let service = layer.layer(server(8, counts, accepted, rejection));
    let left = Arc::new(AtomicUsize::new(800));
    let began = Instant::now();
    let workers: Vec<_> = (0..24)
        .map(|_| {
            let (service, left) = (service.clone(), Arc::clone(&left));
            tokio::spawn(async move {
                while left
                    .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let response = spawn(&service, get("/")).await.unwrap().unwrap();
                    assert_eq!(response.status(), StatusCode::OK);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    began.elapsed().as_secs_f64() / 20.0
}

fn silent() -> Response<Body> {
    status_only(StatusCode::TOO_MANY_REQUESTS)
}

fn ok() -> Response<Body> {
    status_only(StatusCode::OK)
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_concurrency_is_learned_from_429s() {
    for rejection in [silent, || throttled("1")] {
        let counts = Counts::default();
        let time = play(&counts, ok, rejection).await;
        let throttled = counts.throttled.load(SeqCst);
        assert!(time <= 1.08, "{time}");
        assert!(throttled <= 40, "{throttled}");
        assert_eq!(counts.max_running.load(SeqCst), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn an_announced_limit_on_concurrency_is_obeyed() {
    let policy = || {
        let mut response = ok();
        let value = "\"conc\";q=8;qu=\"concurrent-requests\"".parse().unwrap();
        response.headers_mut().insert("ratelimit-policy", value);
        response
    };
    let limit = || {
        let mut response = ok();
        let value = "8".parse().unwrap();
        response.headers_mut().insert("x-concurrency-limit", value);
        response
    };
    for accepted in [policy, limit] {
        let counts = Counts::default();
        let time = play(&counts, accepted, silent).await;
        assert!(time <= 1.03, "{time}");
        assert_eq!(counts.throttled.load(SeqCst), 0);
    }
}
