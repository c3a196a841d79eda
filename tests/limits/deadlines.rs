//! Calls that may take only so long.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_m2m::{
    BoxError, M2mLayer, RateLimitRetryLayer,
    rate_limit_retry::{DeadlineExceeded, GaveUp, GiveUpReason},
};

use crate::{
    support::{Body, Client, SECOND, Source, get, layer, post, send, serving, spawn, status_only},
    world::limited,
};

#[tokio::test(start_paused = true)]
async fn a_deadline_error_states_whether_the_request_may_have_been_processed() {
    let (inner, _) = serving(|_| async {
        sleep(60 * SECOND).await;
        status_only(StatusCode::OK)
    });
    let service = RateLimitRetryLayer::builder()
        .deadline(10 * SECOND)
        .build()
        .layer(inner);
    let began = Instant::now();

    let error = send(&service, get("/")).await.unwrap_err();

    assert!(
        error
            .downcast::<DeadlineExceeded>()
            .unwrap()
            .possibly_processed()
    );
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_beyond_the_deadline_returns_immediately() {
    let (inner, _) = limited(|| true, "20");
    let service = RateLimitRetryLayer::builder()
        .deadline(10 * SECOND)
        .build()
        .layer(inner);

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(
        GaveUp::of(&response).unwrap().reason(),
        GiveUpReason::Deadline
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_with_a_hanging_body_is_returned_at_the_deadline() {
    for (status, hint) in [(429, 1), (429, 100), (401, 1)] {
        for latency in [0, 150, 590] {
            let deadline = Duration::from_millis(600);
            let latency = Duration::from_millis(latency);
            let began = Instant::now();
            let sent = Arc::<Mutex<Vec<Duration>>>::default();
            let log = Arc::clone(&sent);
            let inner = service_fn(move |_: Request<Body>| {
                log.lock().unwrap().push(began.elapsed());
                async move {
                    sleep(latency).await;
                    let response = Response::builder().status(status);
                    response.header("retry-after-ms", hint).body(Hangs)
                }
            });
            let limits = RateLimitRetryLayer::builder().deadline(deadline).build();
            let both = M2mLayer::new(limits, layer(&Source::default()).build());

            let response = both.layer(inner).oneshot(post("/")).await.unwrap();

            let case = format!("{status} {hint} {latency:?}");
            assert_eq!(response.status(), status, "{case}");
            assert!(began.elapsed() <= deadline, "{case}");
            let sent = sent.lock().unwrap();
            assert!(sent.iter().all(|at| *at < deadline), "{case} {sent:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn draining_leaves_time_for_a_retry_within_a_short_deadline() {
    let answers = Arc::new(Mutex::new(vec![200, 502]));
    let inner = service_fn(move |_: Request<Body>| {
        let status = answers.lock().unwrap().pop().unwrap();
        ready(Response::builder().status(status).body(Hangs))
    });
    let limits = RateLimitRetryLayer::builder()
        .deadline(Duration::from_millis(400))
        .backoff(tower_m2m::Backoff::new(Duration::ZERO, Duration::ZERO))
        .build();

    let response = limits.layer(inner).oneshot(get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_error_includes_earlier_attempts() {
    let (inner, calls) = serving(|request| async move {
        if request.uri().path() == "/slow" {
            sleep(60 * SECOND).await;
        }
        status_only(StatusCode::BAD_GATEWAY)
    });
    let one_by_one = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(inner);
    let limits = RateLimitRetryLayer::builder().deadline(10 * SECOND).build();
    let service = limits.layer(tower::util::BoxCloneSyncService::new(
        one_by_one.clone().map_err(BoxError::from),
    ));

    let first = spawn(&service, get("/"));
    tokio::task::yield_now().await;
    // Between the attempts, so that the second waits for its turn until the deadline.
    let second = tokio::spawn(one_by_one.oneshot(get("/slow")));
    let error = first.await.unwrap().unwrap_err();

    assert!(
        error
            .downcast::<DeadlineExceeded>()
            .unwrap()
            .possibly_processed()
    );
    assert_eq!(calls.load(SeqCst), 2);
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_by_a_service_that_is_ready_when_the_deadline_passes() {
    for (ready_after, sent) in [(9, true), (10, false)] {
        let limits = || RateLimitRetryLayer::builder().deadline(10 * SECOND).build();
        let source = Source::default();
        let both = M2mLayer::new(limits(), layer(&source).build());
        both.handle().tokens().prefetch().await.unwrap();

        let alone = send_when_ready(ready_after * SECOND, |inner| limits().layer(inner)).await;
        let stacked = send_when_ready(ready_after * SECOND, |inner| both.layer(inner)).await;

        for (kind, (outcome, calls)) in [("limits", alone), ("both", stacked)] {
            let case = format!("{kind}, ready after {ready_after} s");
            assert_eq!(calls, 1 + usize::from(sent), "{case}");
            match outcome {
                Ok(_) => assert!(sent, "{case}"),
                Err(error) => {
                    assert!(!sent, "{case}");
                    let late = error.downcast::<DeadlineExceeded>().unwrap();
                    assert!(!late.possibly_processed(), "{case}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_attempt_in_flight_is_dropped_at_the_deadline() {
    let alive = Arc::new(());
    let held = Arc::downgrade(&alive);
    let inner = service_fn(move |_: Request<Body>| {
        let alive = held.upgrade();
        async move {
            sleep(60 * SECOND).await;
            drop(alive);
            Ok::<_, BoxError>(status_only(StatusCode::OK))
        }
    });
    let limits = RateLimitRetryLayer::builder().deadline(10 * SECOND).build();
    let mut service = limits.layer(inner);
    let mut call = std::pin::pin!(service.ready().await.unwrap().call(get("/")));
    assert!(
        tokio::time::timeout(9 * SECOND, call.as_mut())
            .await
            .is_err()
    );
    assert_eq!(Arc::strong_count(&alive), 2);

    let error = call.as_mut().await.unwrap_err();

    assert!(error.is::<DeadlineExceeded>());
    // Before the future of the call is dropped.
    assert_eq!(Arc::strong_count(&alive), 1);
}

/// Sends a request through a service that throttles it, and is then busy for `busy`. Returns how often the service was
/// called, too.
async fn send_when_ready<S: Client>(
    busy: Duration,
    layered: impl FnOnce(Busy) -> S,
) -> (Result<Response<Body>, BoxError>, usize) {
    let (until, calls) = (Arc::default(), Arc::default());
    let inner = Busy {
        busy,
        until: Arc::clone(&until),
        calls: Arc::clone(&calls),
        timer: None,
    };
    let outcome = layered(inner).oneshot(get("/")).await;
    (outcome, calls.load(SeqCst))
}

/// A service that throttles the first request, and is not ready for a while afterwards. Clones share the time.
struct Busy {
    busy: Duration,
    until: Arc<Mutex<Option<Instant>>>,
    calls: Arc<AtomicUsize>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clone for Busy {
    fn clone(&self) -> Self {
        Self {
            busy: self.busy,
            until: Arc::clone(&self.until),
            calls: Arc::clone(&self.calls),
            timer: None,
        }
    }
}

impl Service<Request<Body>> for Busy {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let Some(until) = *self.until.lock().unwrap() else {
            return Poll::Ready(Ok(()));
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        timer.as_mut().poll(cx).map(Ok)
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let mut response = status_only(StatusCode::OK);
        if self.calls.fetch_add(1, SeqCst) == 0 {
            *self.until.lock().unwrap() = Some(Instant::now() + self.busy);
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        ready(Ok(response))
    }
}

/// A body that never comes.
struct Hangs;

impl http_body::Body for Hangs {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}
