//! What the bodies of one `RequestBodyReplayLayer` may keep together.

mod support;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use support::{API, status_only};
use tokio::{sync::Barrier, task::JoinSet, time::sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, RateLimitRetryLayer,
    rate_limit_retry::{GaveUp, GiveUpReason},
    replay::{ReplayBody, ReplayEvent, ReplayableBody, RequestBodyReplayLayer},
};

#[tokio::test(start_paused = true)]
async fn bodies_beyond_the_budget_are_sent_once_and_complete() {
    let events = Arc::<Mutex<Vec<usize>>>::default();
    let sink = Arc::clone(&events);
    let replay = RequestBodyReplayLayer::new()
        .max_total_bytes(250)
        .on_event(move |event| {
            let ReplayEvent::OverBudget { budget, .. } = event else {
                unreachable!("the only event")
            };
            sink.lock().unwrap().push(*budget);
        });
    let lengths = Arc::<Mutex<Vec<usize>>>::default();
    // Three at once: each has been read before the first is answered.
    let (seen, all_read) = (Arc::clone(&lengths), Arc::new(Barrier::new(3)));
    let throttled = Arc::<AtomicUsize>::default();
    let api = service_fn(move |request: Request<ReplayBody<ChunkedBody>>| {
        let (seen, all_read) = (Arc::clone(&seen), Arc::clone(&all_read));
        let throttled = Arc::clone(&throttled);
        async move {
            let length = request.into_body().collect().await?.to_bytes().len();
            seen.lock().unwrap().push(length);
            if throttled.fetch_add(1, SeqCst) >= 3 {
                return Ok(status_only(StatusCode::OK));
            }
            all_read.wait().await;
            Ok::<_, BoxError>(support::throttled("1"))
        }
    });
    let service = ServiceBuilder::new()
        .layer(replay.clone())
        .layer(RateLimitRetryLayer::new())
        .service(api);

    let mut calls = JoinSet::new();
    for _ in 0..3 {
        calls.spawn(service.clone().oneshot(upload()));
    }

    let mut outcomes = Vec::new();
    for response in calls.join_all().await {
        let response = response.unwrap();
        outcomes.push((
            response.status().as_u16(),
            GaveUp::of(&response).map(|g| g.reason()),
        ));
    }
    outcomes.sort_by_key(|outcome| outcome.0);
    let once = (429, Some(GiveUpReason::Body));
    assert_eq!(outcomes, [(200, None), (200, None), once]);
    assert_eq!(*lengths.lock().unwrap(), [100; 5]);
    assert_eq!(*events.lock().unwrap(), [250]);
    assert_eq!(replay.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn buffered_bytes_are_counted_until_the_response_arrives() {
    let replay = RequestBodyReplayLayer::new();
    let slow = service_fn(async |request: Request<ReplayBody<ChunkedBody>>| {
        drop(request.into_body().collect().await?);
        sleep(Duration::from_secs(1)).await;
        Ok::<_, BoxError>(status_only(StatusCode::OK))
    });
    let service = ServiceBuilder::new()
        .layer(replay.clone())
        .layer(RateLimitRetryLayer::new())
        .service(slow);

    let call = tokio::spawn(service.clone().oneshot(upload()));
    sleep(Duration::from_millis(500)).await;
    assert_eq!(replay.buffered_bytes(), 100);
    call.await.unwrap().unwrap();
    assert_eq!(replay.buffered_bytes(), 0);

    let abandoned = tokio::spawn(service.oneshot(upload()));
    sleep(Duration::from_millis(500)).await;
    abandoned.abort();
    drop(abandoned.await);
    assert_eq!(replay.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_its_limit_releases_its_buffer() {
    let replay = RequestBodyReplayLayer::new().max_body_bytes(60);
    let kept = replay.clone();
    let api = service_fn(move |request: Request<ReplayBody<ChunkedBody>>| {
        let kept = kept.clone();
        async move {
            let copy = request.body().try_clone();
            drop(request.into_body().collect().await?);
            assert_eq!(kept.buffered_bytes(), 0);
            drop(copy);
            Ok::<_, BoxError>(())
        }
    });

    replay.layer(api).oneshot(upload()).await.unwrap();
}

#[test]
fn small_frames_are_charged_by_their_memory() {
    for size in [1, 7, 100, 1000, 5000] {
        let replay = RequestBodyReplayLayer::new();
        let count = 64 * 1024 / size;
        let piece = Bytes::from(vec![7; size]);
        let mut bodies = None;
        let api = service_fn(|request: Request<ReplayBody<ChunkedBody>>| {
            bodies = Some((request.body().try_clone().unwrap(), request.into_body()));
            std::future::ready(Ok::<_, BoxError>(()))
        });
        let pieces = ChunkedBody(vec![piece; count]);
        let request = Request::post(API).body(pieces).unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        drop(std::pin::pin!(replay.layer(api).call(request)).poll(&mut cx));
        let (copy, mut first) = bodies.unwrap();

        let taken = allocation_counter::measure(|| {
            for _ in 0..count {
                let frame = Pin::new(&mut first).poll_frame(&mut cx);
                assert!(matches!(frame, Poll::Ready(Some(Ok(_)))));
            }
        });

        let kept = replay.buffered_bytes();
        let data = count * size;
        assert!((data..data + 8 * 1024).contains(&kept), "{size}: {kept}");
        // Frames from 1 KiB on are kept by reference.
        let charged = i64::try_from(kept).unwrap();
        assert!(taken.bytes_current <= charged + 4096, "{size}: {taken:?}");
        drop(first);
        let copied = std::pin::pin!(copy.collect()).poll(&mut cx);
        let Poll::Ready(Ok(copied)) = copied else {
            panic!("{size}: the copy is not complete");
        };
        assert_eq!(copied.to_bytes(), vec![7; data]);
    }
}

#[test]
fn trailers_are_charged() {
    let replay = RequestBodyReplayLayer::new();
    let mut bodies = None;
    let api = service_fn(|request: Request<ReplayBody<_>>| {
        bodies = Some((request.body().try_clone().unwrap(), request.into_body()));
        std::future::ready(Ok::<_, BoxError>(()))
    });
    let long = http::HeaderMap::from_iter([(
        http::header::ETAG,
        http::HeaderValue::from_bytes(&[b'a'; 10_000]).unwrap(),
    )]);
    let body = http_body_util::Full::new(Bytes::new())
        .with_trailers(std::future::ready(Some(Ok::<_, Infallible>(long))));
    let request = Request::post(API).body(body).unwrap();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    drop(std::pin::pin!(replay.layer(api).call(request)).poll(&mut cx));
    let (_copy, mut first) = bodies.unwrap();

    while let Poll::Ready(Some(frame)) = Pin::new(&mut first).poll_frame(&mut cx) {
        frame.unwrap();
    }

    assert!(
        replay.buffered_bytes() > 10_000,
        "{}",
        replay.buffered_bytes()
    );
}

/// A hundred bytes in two pieces, of a length that is not known before.
fn upload() -> Request<ChunkedBody> {
    let piece = Bytes::from_static(&[0; 50]);
    let pieces = ChunkedBody(vec![piece.clone(), piece]);
    Request::post(API).body(pieces).unwrap()
}

struct ChunkedBody(Vec<Bytes>);

impl HttpBody for ChunkedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(|piece| Ok(Frame::data(piece))))
    }
}
