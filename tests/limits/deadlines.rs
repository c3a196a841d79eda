//! Calls that may take only so long.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_m2m::{
    BoxError, M2mLayer, RateLimitRetryLayer,
    rate_limit_retry::{DeadlineExceeded, GaveUp, GiveUpReason},
};

use crate::{
    support::{Body, SECOND, Source, answering, get, layer, post, send, spawn, status_only},
    world::limited,
};

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_an_attempt_and_says_whether_it_may_have_been_processed() {
    let (inner, _) = answering(|_| async {
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
async fn a_hint_beyond_the_deadline_returns_at_once() {
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
async fn nothing_is_sent_after_the_deadline_while_a_response_hangs_and_it_is_the_answer() {
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
async fn a_short_deadline_leaves_time_for_another_attempt() {
    let answers = Arc::new(Mutex::new(vec![200, 502]));
    let inner = service_fn(move |_: Request<Body>| {
        let status = answers.lock().unwrap().pop().unwrap();
        std::future::ready(Response::builder().status(status).body(Hangs))
    });
    let limits = RateLimitRetryLayer::builder()
        .deadline(Duration::from_millis(400))
        .backoff(tower_m2m::Backoff::new(Duration::ZERO, Duration::ZERO))
        .build();

    let response = limits.layer(inner).oneshot(get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_attempt_may_have_done_is_said_at_the_deadline() {
    let (inner, calls) = answering(|request| async move {
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
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 2);
    second.abort();
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
