//! Rejections after which no wait helps, and nested retry layers; in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use support::{Body, SECOND, get, send, serving, spawn, status_only, throttled};
use tokio::time::{Instant, Sleep, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_m2m::{
    Attempts, BoxError, RateLimitRetryLayer,
    rate_limit_retry::{
        BodyPrefix, GaveUp, GiveUpReason, PeekBodyLayer, RateLimitEvent, RateLimited,
    },
};

const PAUSE: Duration = Duration::from_millis(110);

#[tokio::test(start_paused = true)]
async fn a_permanently_exhausted_quota_is_returned_and_holds_no_request() {
    let (inner, calls) = serving(|request| {
        std::future::ready(if request.uri().path() == "/spent" {
            let mut response = throttled("30");
            let headers = response.headers_mut();
            headers.insert("x-quota", "plan".parse().unwrap());
            response
        } else {
            status_only(StatusCode::OK)
        })
    });
    let events = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&events);
    let service = RateLimitRetryLayer::builder()
        .is_permanent(|refusal| {
            assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(refusal.body(), b"");
            refusal
                .headers()
                .get("x-quota")
                .is_some_and(|q| q == "plan")
        })
        .on_event(move |event| {
            let permanent = matches!(
                event,
                RateLimitEvent::GaveUp {
                    reason: GiveUpReason::Permanent,
                    attempt: 1,
                    ..
                }
            );
            counter.fetch_add(usize::from(permanent), SeqCst);
        })
        .build()
        .layer(inner);
    let began = Instant::now();

    let response = send(&service, get("/spent")).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let gave_up = GaveUp::of(&response).unwrap();
    assert_eq!(gave_up.reason(), GiveUpReason::Permanent);
    assert_eq!(gave_up.retry_after(), Some(30 * SECOND));
    send(&service, get("/other")).await.unwrap();

    assert_eq!((began.elapsed(), calls.load(SeqCst)), (Duration::ZERO, 2));
    assert_eq!(events.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_body_is_inspected_and_still_arrives_complete() {
    let text = |n| format!(r#"{{"error":{{"code":"insufficient_quota"}}, "n":{n}}}"#);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let (inner, _) = serving(move |_| {
        let n = counter.fetch_add(1, SeqCst);
        let body = Full::from(text(n));
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        std::future::ready(response)
    });
    let service = ServiceBuilder::new()
        .layer(
            RateLimitRetryLayer::builder()
                .is_permanent(|refusal| {
                    let body = String::from_utf8_lossy(refusal.body());
                    body.contains("insufficient_quota")
                })
                .build(),
        )
        .layer(PeekBodyLayer::new())
        .service(inner);

    let response = service.oneshot(get("/")).await.unwrap();

    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(
        GaveUp::of(&response).unwrap().reason(),
        GiveUpReason::Permanent
    );
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), text(0));
}

/// A body in pieces of three bytes, one every 110 ms, and then perhaps an error.
struct Pieces {
    left: usize,
    fails: bool,
    next: Pin<Box<Sleep>>,
}

impl Pieces {
    fn new(left: usize, fails: bool) -> Self {
        let next = Box::pin(sleep(PAUSE));
        Self { left, fails, next }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            let fails = std::mem::take(&mut self.fails);
            return Poll::Ready(fails.then(|| Err("cut off".into())));
        }
        ready!(self.next.as_mut().poll(cx));
        let next = Instant::now() + PAUSE;
        self.next.as_mut().reset(next);
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"abc")))))
    }
}

#[tokio::test(start_paused = true)]
async fn inspecting_a_body_is_bounded_in_bytes_and_time() {
    for (count, fails, layer, seen, after) in [
        (4, false, PeekBodyLayer::new(), 12, 440),
        (4, true, PeekBodyLayer::new(), 12, 440),
        (9, false, PeekBodyLayer::new().max_bytes(7), 7, 330),
        (9, true, PeekBodyLayer::new(), 12, 500),
        (9, false, PeekBodyLayer::new().max_time(SECOND / 4), 6, 250),
    ] {
        let inner = service_fn(move |_: Request<Body>| async move {
            let response = Response::builder().status(403);
            Ok::<_, Infallible>(response.body(Pieces::new(count, fails)).unwrap())
        });
        let began = Instant::now();

        let response = layer.layer(inner).oneshot(get("/")).await.unwrap();

        let case = format!("{count} {fails} {layer:?}");
        let passed = began.elapsed().as_millis();
        assert!(passed >= after && passed <= after + 5, "{case}: {passed}");
        let start = response.extensions().get::<BodyPrefix>().unwrap();
        assert_eq!(start.as_bytes(), &b"abcabcabcabc"[..seen], "{case}");
        assert!(!format!("{start:?}").contains("abc"));
        let body = response.into_body().collect().await;
        match body {
            Ok(body) => assert_eq!(body.to_bytes(), "abc".repeat(count)),
            Err(error) => assert_eq!(error.to_string(), "cut off"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn other_responses_are_not_inspected() {
    let inner = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Pieces::new(3, false)))
    });
    let began = Instant::now();

    let response = PeekBodyLayer::new().layer(inner).oneshot(get("/"));
    let response = response.await.unwrap();

    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(response.extensions().get::<BodyPrefix>().is_none());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "abcabcabc");
}

#[tokio::test(start_paused = true)]
async fn nested_retry_layers_add_up_and_do_not_multiply() {
    for (status, most) in [(429, 6), (503, 6), (0, 7)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let inner = service_fn(move |_: Request<Body>| {
            counter.fetch_add(1, SeqCst);
            let answer = match status {
                0 => Err("broken".into()),
                status => Ok(Response::builder()
                    .status(status)
                    .body(Body::default())
                    .unwrap()),
            };
            std::future::ready(answer.map_err(|error: BoxError| error))
        });
        let service = ServiceBuilder::new()
            .layer(
                RateLimitRetryLayer::builder()
                    .max_wait(3600 * SECOND)
                    .build(),
            )
            .layer(
                RateLimitRetryLayer::builder()
                    .max_wait(3600 * SECOND)
                    .build(),
            )
            .service(inner);

        let outcome = service.oneshot(get("/")).await;

        assert_eq!(calls.load(SeqCst), most, "{status}");
        if let Ok(response) = outcome {
            assert_eq!(
                GaveUp::of(&response).unwrap().reason(),
                GiveUpReason::Retries
            );
            assert_eq!(Attempts::of(&response), 6);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn errors_are_retried_by_one_of_three_layers_and_returned_unchanged() {
    for (inner_retries, most) in [(5, 8), (0, 7)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let inner = service_fn(move |_: Request<Body>| {
            counter.fetch_add(1, SeqCst);
            let broken = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            std::future::ready(Err::<Response<Body>, BoxError>(broken.into()))
        });
        let innermost = RateLimitRetryLayer::builder().max_retries(inner_retries);
        let service = ServiceBuilder::new()
            .layer(RateLimitRetryLayer::new())
            .layer(RateLimitRetryLayer::new())
            .layer(innermost.build())
            .service(inner);

        let error = service.oneshot(get("/")).await.unwrap_err();

        // Each layer outside another one finds out with one send that that one has given up.
        assert_eq!(calls.load(SeqCst), most);
        assert!(error.is::<std::io::Error>(), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outer_layer_may_wait_longer_than_an_inner_one() {
    let began = Instant::now();
    let (inner, calls) = serving(move |_| {
        std::future::ready(if began.elapsed() < 60 * SECOND {
            throttled("60")
        } else {
            status_only(StatusCode::OK)
        })
    });
    let inner = RateLimitRetryLayer::builder()
        .max_wait(SECOND)
        .build()
        .layer(inner);
    let waiting = spawn(&inner, get("/"));
    assert!(GaveUp::of(&waiting.await.unwrap().unwrap()).is_some());
    let error = send(&inner, get("/")).await.unwrap_err();
    assert!(error.is::<RateLimited>());
    let other = RateLimitRetryLayer::builder().max_wait(SECOND).build();
    let service = RateLimitRetryLayer::new().layer(other.layer(inner.into_inner()));

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert!(began.elapsed() >= 60 * SECOND);
    assert_eq!(calls.load(SeqCst), 3);
}
