//! One route is unavailable, and the others are not.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, RateLimitRetryLayer,
    rate_limit_retry::{GaveUp, RateLimited, UnavailableScope},
    replay::ReplayableBody,
};

use crate::support::{Body, Inner, SECOND, get, post, send, serving, spawn, status_only};

#[tokio::test(start_paused = true)]
async fn a_503_holds_only_its_route() {
    let (inner, sent) = unavailable("/reports", "1800");
    let service = RateLimitRetryLayer::new().layer(inner);

    let refused = send(&service, get("/reports/1")).await.unwrap();
    let asked = GaveUp::of(&refused).unwrap().retry_after();
    assert_eq!(asked, Some(1800 * SECOND));

    // Writes are a class of their own, and are rejected separately.
    assert_eq!(
        send(&service, post("/reports")).await.unwrap().status(),
        503
    );
    for _ in 0..20 {
        let error = send(&service, get("/reports/2")).await.unwrap_err();
        let held = error.downcast::<RateLimited>().unwrap();
        assert!(held.retry_after() > 1790 * SECOND);
        for request in [get("/orders"), post("/orders"), get("/")] {
            drop(send(&service, request).await.unwrap());
        }
    }

    let paths = sent.lock().unwrap();
    let count = |wanted| paths.iter().filter(|path| **path == wanted).count();
    assert_eq!(count("GET /reports/1") + count("GET /reports/2"), 1);
    assert_eq!((count("GET /orders"), count("POST /orders")), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn other_routes_are_probed_one_request_at_a_time() {
    // All routes are unavailable, which no response has reported yet.
    let (inner, sent) = unavailable("/", "1800");
    let service = RateLimitRetryLayer::new().layer(inner);
    drop(send(&service, get("/first")).await.unwrap());
    let many = |path: &str| {
        (0..50)
            .map(|_| spawn(&service, get(path)))
            .collect::<Vec<_>>()
    };
    let all = ["/a", "/b", "/c"].map(many);
    for call in all.into_iter().flatten() {
        // Rejected by the server, or held.
        drop(call.await.unwrap());
    }

    let paths = sent.lock().unwrap();
    assert_eq!(*paths, ["GET /first", "GET /a", "GET /b", "GET /c"]);
}

#[tokio::test(start_paused = true)]
async fn queued_requests_are_held_when_their_route_becomes_unavailable() {
    let (inner, sent) = unavailable("/", "60");
    let service = RateLimitRetryLayer::builder()
        .initial_window(1)
        .max_retries(0)
        .build();
    let service = service.layer(inner);

    let calls: Vec<_> = (0..20).map(|_| spawn(&service, get("/a"))).collect();
    sleep(30 * SECOND).await;
    assert_eq!(sent.lock().unwrap().len(), 1);
    for call in calls {
        drop(call.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_route_hold_one_request_probes_the_route() {
    let began = Instant::now();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let (inner, _) = serving(move |_| {
        let at = began.elapsed();
        log.lock().unwrap().push(at);
        async move {
            sleep(SECOND).await;
            let mut response = status_only(StatusCode::OK);
            if at < 60 * SECOND {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response.headers_mut().insert("retry-after", 60.into());
            }
            response
        }
    });
    let service = RateLimitRetryLayer::new().layer(inner);
    let calls: Vec<_> = (0..8).map(|_| spawn(&service, get("/a"))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    let sent = sent.lock().unwrap();
    assert!(sent[8..].iter().all(|at| *at >= 61 * SECOND), "{sent:?}");
    // One, and two after its answer.
    assert!(sent[9] >= sent[8] + SECOND, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_held_can_be_forgotten() {
    let (inner, sent) = unavailable("/reports", "1800");
    let layer = RateLimitRetryLayer::new();
    let service = layer.layer(inner);
    drop(send(&service, get("/reports")).await.unwrap());
    assert!(send(&service, get("/reports")).await.is_err());

    layer.handle().forget(&"https://api.example.com".into());

    drop(send(&service, get("/reports")).await.unwrap());
    assert_eq!(sent.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_of_all_routes_hold_the_partition() {
    let (inner, sent) = unavailable("/reports", "1800");
    let service = RateLimitRetryLayer::builder()
        .unavailable_scope(UnavailableScope::Partition)
        .build();
    let service = service.layer(inner);
    drop(send(&service, get("/reports")).await.unwrap());

    let error = send(&service, post("/orders")).await.unwrap_err();

    assert!(error.downcast::<RateLimited>().is_ok());
    assert_eq!(sent.lock().unwrap().len(), 1);
}

/// Responds with 503 and `Retry-After` to paths that begin with `path`, otherwise with 200. Also returns the paths of
/// all requests.
#[tokio::test(start_paused = true)]
async fn a_429_for_a_recovering_route_holds_the_whole_partition() {
    let count = Arc::new(AtomicUsize::new(0));
    let (inner, calls) = serving(move |_| {
        let (status, limit) = match count.fetch_add(1, SeqCst) {
            0 => (StatusCode::OK, 14),
            1 => (StatusCode::SERVICE_UNAVAILABLE, 14),
            // Names another limit than the response before, such as that of a shorter window.
            2 => (StatusCode::TOO_MANY_REQUESTS, 10),
            _ => (StatusCode::OK, 14),
        };
        let mut response = status_only(status);
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert("retry-after", 0.into());
        } else {
            let remaining = u64::from(status.is_success()) * 5;
            headers.insert("x-ratelimit-limit", limit.into());
            headers.insert("x-ratelimit-remaining", remaining.into());
            headers.insert("x-ratelimit-reset", 30.into());
        }
        std::future::ready(response)
    });
    let service = RateLimitRetryLayer::new().layer(inner);
    send(&service, get("/reports")).await.unwrap();

    let read = spawn(&service, get("/reports"));
    sleep(SECOND).await;
    assert_eq!(calls.load(SeqCst), 3);
    let began = Instant::now();
    send(&service, post("/orders")).await.unwrap();

    assert!(began.elapsed() >= 29 * SECOND, "{:?}", began.elapsed());
    assert_eq!(read.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_sheds_single_requests_delays_only_these() {
    // Every tenth request is rejected.
    let count = Arc::new(AtomicUsize::new(0));
    let (inner, _) = serving(move |_: Request<Body>| {
        let shed = count.fetch_add(1, SeqCst) % 10 == 3;
        let mut response = status_only(StatusCode::OK);
        if shed {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert("retry-after", 5.into());
        }
        async move {
            sleep(SECOND / 10).await;
            response
        }
    });
    let service = RateLimitRetryLayer::new().layer(inner);
    let began = Instant::now();

    let calls: Vec<_> = (0..60)
        .map(|n| spawn(&service, get(&format!("/a/{n}"))))
        .collect();
    sleep(4 * SECOND).await;
    let waiting = calls.iter().filter(|call| !call.is_finished()).count();
    // The rejected ones wait as long as the server has asked them to, the others do not.
    assert!((1..=12).contains(&waiting), "{waiting}");
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert!(began.elapsed() >= 5 * SECOND, "{:?}", began.elapsed());
}

fn unavailable(path: &'static str, hint: &'static str) -> (Inner, Arc<Mutex<Vec<String>>>) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let (inner, _) = serving(move |request: Request<Body>| {
        let asked = format!("{} {}", request.method(), request.uri().path());
        log.lock().unwrap().push(asked);
        let mut response = status_only(StatusCode::OK);
        if request.uri().path().starts_with(path) {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let hint = hint.parse().unwrap();
            response.headers_mut().insert("retry-after", hint);
        }
        async move {
            sleep(SECOND / 10).await;
            response
        }
    });
    (inner, sent)
}

/// A body that can be sent once only.
#[derive(Default)]
struct Once(Body);

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

impl ReplayableBody for Once {
    fn try_clone(&self) -> Option<Self> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_body_is_sent_once_holds_later_reads() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    // Requests are on credit soon, because much of the announced quota remains.
    let api = service_fn(move |_: Request<Once>| {
        let number = counter.fetch_add(1, SeqCst);
        let mut response = status_only(StatusCode::OK);
        let mut field = |name, value: usize| response.headers_mut().insert(name, value.into());
        field("x-ratelimit-limit", 1000);
        field("x-ratelimit-remaining", 999 - number);
        field("x-ratelimit-reset", 3600);
        if number == 10 {
            field("retry-after", 1800);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        std::future::ready(Ok::<_, BoxError>(response))
    });
    let service = RateLimitRetryLayer::new().layer(api);
    let read = async || {
        let request = Request::get("https://api.example.com/orders").body(Once::default());
        service.clone().oneshot(request.unwrap()).await
    };
    for _ in 0..10 {
        assert_eq!(read().await.unwrap().status(), 200);
    }
    assert_eq!(read().await.unwrap().status(), 503);

    let error = read().await.unwrap_err();

    assert!(error.is::<RateLimited>(), "{error}");
    assert_eq!(calls.load(SeqCst), 11);
}
