//! What an announcement is worth when answers contradict it, or say nothing.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Response, StatusCode};
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{GaveUp, RateLimited},
};

use crate::support::{Body, Client, Inner, SECOND, get, post, send, serving, spawn};

#[tokio::test(start_paused = true)]
async fn responses_without_headers_do_not_exhaust_a_quota() {
    for (status, field) in [
        (200, None),
        (200, Some(("age", "30"))),
        (404, None),
        (500, None),
    ] {
        let (inner, calls) = after_the_first(
            &[
                ("x-ratelimit-limit", "100"),
                ("x-ratelimit-remaining", "99"),
                ("x-ratelimit-reset", "3000"),
            ],
            status,
            field.as_slice(),
        );
        let service = RateLimitRetryLayer::new().layer(inner);
        let began = Instant::now();

        for _ in 0..250 {
            send(&service, post("/")).await.unwrap();
        }

        assert_eq!(calls.load(SeqCst), 250);
        assert!(began.elapsed() < 30 * SECOND, "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn cached_responses_do_not_slow_requests_down() {
    let (inner, _) = after_the_first(
        &[
            ("x-ratelimit-limit", "10"),
            ("x-ratelimit-remaining", "5"),
            ("x-ratelimit-reset", "3000"),
        ],
        200,
        &[("age", "30")],
    );
    let service = RateLimitRetryLayer::new().layer(inner);
    send(&service, get("/")).await.unwrap();
    for _ in 0..100 {
        send(&service, get("/")).await.unwrap();
    }

    // Two at once: one at a time would take twice as long.
    let began = Instant::now();
    let calls = [spawn(&service, get("/")), spawn(&service, get("/"))];
    for call in calls {
        call.await.unwrap().unwrap();
    }

    assert_eq!(began.elapsed(), LATENCY);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_always_announces_zero_and_accepts_does_not_throttle() {
    let silent = time_of_500(&[]).await;
    for fields in [
        &[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "0")][..],
        &[
            ("x-ratelimit-limit", "name=rate-limit-1,1"),
            ("x-ratelimit-remaining", "name=rate-limit-1,0"),
        ],
        &[
            ("x-ratelimit-limit", "1000"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "3600"),
        ],
        &[
            ("ratelimit-limit", "1000"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "0"),
        ],
        &[("ratelimit", "\"default\";r=0;t=60")],
    ] {
        let time = time_of_500(fields).await;

        assert!(time <= silent + 4 * LATENCY, "{fields:?}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_confirms_an_announced_zero() {
    let refuses = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refuses);
    let (inner, calls) = serving(move |_| {
        let refused = counter.load(SeqCst) > 0;
        let response = Response::builder()
            .status(if refused { 429 } else { 200 })
            .header("x-ratelimit-limit", "100")
            .header("x-ratelimit-remaining", "0")
            .header("x-ratelimit-reset", "60");
        async move {
            sleep(LATENCY).await;
            response.body(Body::default()).unwrap()
        }
    });
    let service = RateLimitRetryLayer::builder().max_retries(0).build();
    let service = service.layer(inner);
    let first: Vec<_> = (0..50).map(|_| spawn(&service, get("/"))).collect();
    for call in first {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    refuses.store(1, SeqCst);
    let refused = send(&service, get("/")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let (sent, began) = (calls.load(SeqCst), Instant::now());
    refuses.store(0, SeqCst);

    send(&service, get("/")).await.unwrap();

    assert!(began.elapsed() >= 60 * SECOND, "{:?}", began.elapsed());
    assert_eq!(calls.load(SeqCst), sent + 1);
}

#[tokio::test(start_paused = true)]
async fn a_ban_of_days_holds_requests_until_a_probe_after_max_hold() {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrivals);
    let (inner, _) = serving(move |_| {
        log.lock().unwrap().push(Instant::now());
        let response = Response::builder()
            .status(418)
            .header("retry-after", "259200");
        std::future::ready(response.body(Body::default()).unwrap())
    });
    let service = RateLimitRetryLayer::new().layer(inner);
    let first = send(&service, get("/")).await.unwrap();
    let asked = GaveUp::of(&first).unwrap().retry_after();
    assert_eq!(asked, Some(259_200 * SECOND));

    for _ in 0..200 {
        let error = send(&service, get("/")).await.unwrap_err();
        let wait = error.downcast::<RateLimited>().unwrap().retry_after();
        assert!(wait > 3500 * SECOND, "{wait:?}");
    }
    sleep(3601 * SECOND).await;
    let probes: Vec<_> = (0..200).map(|_| spawn(&service, get("/"))).collect();
    for probe in probes {
        drop(probe.await.unwrap());
    }

    assert_eq!(arrivals.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_daily_limit_without_retry_after_is_probed_once() {
    for fields in [
        &[
            ("x-ratelimit-limit", "17"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "50000"),
        ][..],
        // One of two quotas is exhausted.
        &[
            ("x-ratelimit-limit-minute", "100"),
            ("x-ratelimit-remaining-minute", "99"),
            ("x-ratelimit-reset-minute", "60"),
            ("x-ratelimit-limit-day", "17"),
            ("x-ratelimit-remaining-day", "0"),
            ("x-ratelimit-reset-day", "50000"),
        ],
        &[("ratelimit", "\"minute\";r=99;t=60, \"day\";r=0;t=50000")],
        // It does not say what remains.
        &[("x-ratelimit-limit", "17"), ("x-ratelimit-reset", "50000")],
    ] {
        let fields = fields.to_vec();
        let (inner, calls) = serving(move |_| {
            let mut response = Response::builder().status(429);
            for (name, value) in &fields {
                response = response.header(*name, *value);
            }
            std::future::ready(response.body(Body::default()).unwrap())
        });
        let service = RateLimitRetryLayer::new().layer(inner);
        let refused = send(&service, post("/")).await.unwrap();
        let asked = GaveUp::of(&refused).unwrap().retry_after();
        assert_eq!(asked, Some(50_000 * SECOND));

        for _ in 0..20 {
            let error = send(&service, post("/")).await.unwrap_err();
            assert!(error.downcast::<RateLimited>().is_ok());
        }

        assert_eq!(calls.load(SeqCst), 1);
    }
}

const LATENCY: Duration = Duration::from_millis(100);

/// How long 500 jobs of 50 workers take at a server that accepts everything, and says this.
async fn time_of_500(fields: &[(&'static str, &'static str)]) -> Duration {
    let (inner, calls) = after_the_first(fields, 200, fields);
    let service = RateLimitRetryLayer::new().layer(inner);
    let began = Instant::now();
    let worker = |_| {
        let service = service.clone();
        tokio::spawn(work(service))
    };
    let workers: Vec<_> = (0..50).map(worker).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(calls.load(SeqCst), 500);
    began.elapsed()
}

async fn work(service: impl Client) {
    for _ in 0..10 {
        let answer = send(&service, get("/")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

/// Answers 200 with these fields first, and then always with this status and those fields.
fn after_the_first(
    first: &[(&'static str, &'static str)],
    status: u16,
    then: &[(&'static str, &'static str)],
) -> (Inner, Arc<AtomicUsize>) {
    let (first, then) = (first.to_vec(), then.to_vec());
    let sent = Arc::new(AtomicUsize::new(0));
    serving(move |_| {
        let (status, fields) = match sent.fetch_add(1, SeqCst) {
            0 => (200, &first),
            _ => (status, &then),
        };
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        async move {
            sleep(LATENCY).await;
            response.body(Body::default()).unwrap()
        }
    })
}
