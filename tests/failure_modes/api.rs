//! An API that throttles or fails.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, RateLimitRetryLayer,
    rate_limit_retry::{GaveUp, GiveUpReason as Reason, PartitionKey},
    replay::Once,
};

use crate::support::{API, SECOND, get, post, send, serving, spawn, status_only, throttled};

#[tokio::test(start_paused = true)]
async fn permanent_errors_are_returned_with_the_reason() {
    for (status, wait, method, replayable, sent, reason) in [
        (429, Some("1"), Method::GET, true, 6, Reason::Retries),
        (429, Some("1"), Method::POST, true, 6, Reason::Retries),
        (429, Some("1"), Method::GET, false, 1, Reason::Body),
        (503, Some("1"), Method::GET, true, 6, Reason::Retries),
        (503, Some("1"), Method::POST, true, 1, Reason::NotIdempotent),
        (502, None, Method::GET, true, 6, Reason::Retries),
        (502, None, Method::POST, true, 1, Reason::NotIdempotent),
        (504, None, Method::PUT, false, 1, Reason::Body),
    ] {
        let calls = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&calls);
        let response = move || {
            counter.fetch_add(1, SeqCst);
            let mut response = status_only(StatusCode::from_u16(status).unwrap());
            if let Some(wait) = wait {
                let wait = wait.parse().unwrap();
                response.headers_mut().insert("retry-after", wait);
            }
            response
        };
        let request = Request::builder().method(&method).uri(API);
        let layer = RateLimitRetryLayer::new();

        let response = if replayable {
            let inner = service_fn(move |_: Request<Full<_>>| {
                std::future::ready(Ok::<_, BoxError>(response()))
            });
            let body = Full::new(bytes::Bytes::from("data"));
            layer
                .layer(inner)
                .oneshot(request.body(body).unwrap())
                .await
        } else {
            let inner = service_fn(move |_: Request<Once<Full<_>>>| {
                std::future::ready(Ok::<_, BoxError>(response()))
            });
            let body = Once::new(Full::new(bytes::Bytes::from("data")));
            layer
                .layer(inner)
                .oneshot(request.body(body).unwrap())
                .await
        };

        let response = response.unwrap();
        assert_eq!(response.status(), status);
        let gave_up = GaveUp::of(&response).map(|gave_up| gave_up.reason());
        assert_eq!(gave_up, Some(reason), "{status} {method}");
        assert_eq!(calls.load(SeqCst), sent, "{status} {method}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_retry_after_the_backoff_is_waited_for() {
    for hint in [None, Some("0")] {
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&arrivals);
        let (inner, _) = serving(move |_| {
            let mut log = log.lock().unwrap();
            log.push(Instant::now());
            std::future::ready(match (log.len(), hint) {
                (1, Some(hint)) => throttled(hint),
                (1, None) => status_only(StatusCode::TOO_MANY_REQUESTS),
                _ => status_only(StatusCode::OK),
            })
        });
        let service = RateLimitRetryLayer::new().layer(inner);

        let response = send(&service, post("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        let arrivals = arrivals.lock().unwrap();
        let waited = arrivals[1] - arrivals[0];
        assert!((SECOND / 2..=2 * SECOND).contains(&waited), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_statuses_are_returned_unchanged() {
    for status in [200, 304, 400, 403, 404, 409, 418, 500, 501] {
        let (inner, calls) = serving(move |_| {
            std::future::ready(status_only(StatusCode::from_u16(status).unwrap()))
        });
        let service = RateLimitRetryLayer::new().layer(inner);

        let response = send(&service, get("/")).await.unwrap();

        assert_eq!(response.status(), status);
        assert!(GaveUp::of(&response).is_none(), "{status}");
        assert_eq!(calls.load(SeqCst), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_amplify_traffic() {
    let (inner, calls) = serving(|_| std::future::ready(status_only(StatusCode::BAD_GATEWAY)));
    let service = RateLimitRetryLayer::new().layer(inner);
    let mut callers = Vec::new();

    // 1,000 requests in 10 s; each of them by itself would be sent six times.
    for _ in 0..1_000 {
        callers.push(spawn(&service, get("/")));
        sleep(SECOND / 100).await;
    }
    for caller in callers {
        let response = caller.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    }

    let retries = calls.load(SeqCst) - 1_000;
    // 10 a second, as long as it lasts, and those that are in stock.
    assert!((50..=400).contains(&retries), "{retries} retries");
}

#[tokio::test(start_paused = true)]
async fn forgetting_a_partition_ends_its_hold() {
    let (inner, calls) = serving(|_| std::future::ready(throttled("600")));
    let layer = RateLimitRetryLayer::builder().max_wait(SECOND).build();
    let service = layer.layer(inner);
    send(&service, get("/")).await.unwrap();
    assert!(send(&service, get("/")).await.is_err());

    layer.handle().forget(&PartitionKey::new(API));

    let response = send(&service, get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(calls.load(SeqCst), 2);
}
