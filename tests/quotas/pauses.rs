//! Manual holds, and the time that requests wait.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::rate_limit_retry::{PartitionKey, RateLimitEvent, RateLimited};

use crate::{
    support::{SECOND, get, send, serving, spawn, status_only},
    world::{by_path, status, throttling_once},
};

#[tokio::test(start_paused = true)]
async fn a_pause_holds_all_requests_and_can_be_ended_or_replaced() {
    let (inner, calls) = serving(|_| std::future::ready(status_only(StatusCode::OK)));
    let layer = by_path().max_wait(600 * SECOND).build();
    let (service, handle, a) = (layer.layer(inner), layer.handle(), PartitionKey::from("/a"));
    let began = Instant::now();
    handle.pause(&a, 300 * SECOND);
    assert_eq!(status(&layer, "/a").held_for(), Some(300 * SECOND));
    let calls_of_a: Vec<_> = (0..5).map(|_| spawn(&service, get("/a"))).collect();
    send(&service, get("/b")).await.unwrap();
    assert_eq!((calls.load(SeqCst), began.elapsed()), (1, Duration::ZERO));

    // A shorter one replaces it, although requests already wait for the longer one.
    handle.pause(&a, 10 * SECOND);
    for call in calls_of_a {
        call.await.unwrap().unwrap();
    }
    assert_eq!((calls.load(SeqCst), began.elapsed()), (6, 10 * SECOND));

    handle.pause(&a, 300 * SECOND);
    let waiting = spawn(&service, get("/a"));
    sleep(SECOND).await;
    handle.forget(&a);
    assert_eq!(status(&layer, "/a").held_for(), Some(299 * SECOND));
    handle.resume(&a);
    waiting.await.unwrap().unwrap();
    assert_eq!(began.elapsed(), 11 * SECOND);

    handle.pause(&a, 601 * SECOND);
    let error = send(&service, get("/a")).await.unwrap_err();
    assert_eq!(
        error.downcast::<RateLimited>().unwrap().retry_after(),
        601 * SECOND
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_hold_outlasts_a_pause() {
    let (inner, calls) = throttling_once("/a", &[("retry-after", "60")]);
    let layer = by_path().build();
    let (service, began) = (layer.layer(inner), Instant::now());
    let call = spawn(&service, get("/a"));
    sleep(SECOND).await;

    layer.handle().pause(&"/a".into(), 2 * SECOND);
    layer.handle().resume(&"/a".into());
    call.await.unwrap().unwrap();

    assert_eq!(calls.load(SeqCst), 2);
    assert!(began.elapsed() >= 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_fails_immediately_if_its_slot_is_too_late() {
    let (inner, _) = throttling_once("/a", &[("retry-after", "60")]);
    let layer = by_path().max_wait(90 * SECOND).build();
    let service = layer.layer(inner);
    layer.handle().pause(&"/a".into(), 80 * SECOND);
    let waiting = spawn(&service, get("/a"));
    sleep(SECOND).await;

    layer.handle().pause(&"/a".into(), 500 * SECOND);

    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(
        error.downcast::<RateLimited>().unwrap().retry_after(),
        500 * SECOND
    );
}

#[tokio::test(start_paused = true)]
async fn the_start_and_end_of_a_wait_are_reported() {
    let (inner, _) = serving(|_| std::future::ready(status_only(StatusCode::OK)));
    let (held, waited) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    let (counter, log) = (Arc::clone(&held), Arc::clone(&waited));
    let layer = by_path()
        .on_event(move |event| match event {
            RateLimitEvent::Queued { partition, .. } => {
                assert_eq!(partition.as_str(), "/a");
                counter.fetch_add(1, SeqCst);
            }
            RateLimitEvent::Dequeued { waited, .. } => *log.lock().unwrap() = Some(*waited),
            _ => {}
        })
        .build();
    let service = layer.layer(inner);
    send(&service, get("/a")).await.unwrap();
    assert_eq!(held.load(SeqCst), 0);
    layer.handle().pause(&"/a".into(), 5 * SECOND);

    let call = spawn(&service, get("/a"));
    sleep(SECOND).await;
    assert_eq!((held.load(SeqCst), *waited.lock().unwrap()), (1, None));
    call.await.unwrap().unwrap();

    assert_eq!(*waited.lock().unwrap(), Some(5 * SECOND));
    assert_eq!(held.load(SeqCst), 1);
}
