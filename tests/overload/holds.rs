//! Many callers wait for one partition.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use allocation_counter::measure;
use http::{Request, StatusCode};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    ErrorClass, RateLimitRetryLayer,
    rate_limit_retry::{PartitionKey, QueueFull, RateLimitEvent},
};

use super::{
    MANY, Polls, bytes_per_waiter, paused,
    support::{API, Body, Inner, SECOND, get, post, send, serving, spawn, status_only, throttled},
};

/// An API that rejects the first request with a wait of 30 s. Also returns the paths of the others.
fn throttling() -> (Inner, Arc<Mutex<Vec<String>>>) {
    let paths = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&paths);
    let refused = Arc::new(AtomicBool::new(false));
    let (inner, _) = serving(move |request: Request<Body>| {
        let first = !refused.swap(true, SeqCst);
        let response = if first {
            throttled("30")
        } else {
            log.lock().unwrap().push(request.uri().path().to_owned());
            status_only(StatusCode::OK)
        };
        async move {
            sleep(SECOND / 100).await;
            response
        }
    });
    (inner, paths)
}

#[tokio::test(start_paused = true)]
async fn a_full_partition_queue_fails_immediately_and_names_partition_and_remedy() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let layer = RateLimitRetryLayer::builder()
        .max_waiting(3)
        .on_event(move |event: &RateLimitEvent<'_>| {
            if let RateLimitEvent::Rejected {
                partition,
                held_for,
                ..
            } = event
            {
                let held_for = held_for.as_secs();
                log.lock()
                    .unwrap()
                    .push((partition.as_str().to_owned(), held_for));
            }
        })
        .build();
    let service = layer.layer(throttling().0);
    let start = Instant::now();
    let refused = spawn(&service, post("/"));
    sleep(SECOND).await;
    // The one that is sent again has a place whatever the bound.
    let waiting = [0; 2].map(|_| spawn(&service, get("/")));
    yield_now().await;

    let error = send(&service, get("/")).await.unwrap_err();

    assert_eq!(start.elapsed(), SECOND);
    let error = error.downcast::<QueueFull>().unwrap();
    assert_eq!(error.partition(), &PartitionKey::new(API));
    assert_eq!(ErrorClass::of(&*error), ErrorClass::Final);
    assert_eq!(
        error.to_string(),
        "request not sent: 3 requests already wait for https://api.example.com; send fewer at once, or raise \
         `.max_waiting(..)`"
    );
    assert_eq!(*events.lock().unwrap(), [(API.to_owned(), 29)]);
    for caller in waiting.into_iter().chain([refused]) {
        assert_eq!(caller.await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_queued_request_frees_its_slot() {
    let layer = RateLimitRetryLayer::builder().max_waiting(2).build();
    let service = layer.layer(throttling().0);
    let refused = spawn(&service, get("/"));
    sleep(SECOND).await;
    let leaves = spawn(&service, get("/"));
    yield_now().await;
    assert!(send(&service, get("/")).await.is_err());

    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    let comes = send(&service, get("/")).await.unwrap();

    assert_eq!(comes.status(), StatusCode::OK);
    assert_eq!(refused.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn queue_limits_are_per_partition() {
    let layer = RateLimitRetryLayer::builder()
        .max_waiting(1)
        .partition_by(|parts| PartitionKey::from(parts.uri.path()))
        .build();
    let service = layer.layer(throttling().0);
    let refused = spawn(&service, get("/full"));
    sleep(SECOND).await;

    assert!(send(&service, get("/full")).await.is_err());
    let other = send(&service, get("/other")).await.unwrap();

    assert_eq!(other.status(), StatusCode::OK);
    assert_eq!(refused.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn queued_requests_resume_in_arrival_order() {
    let (inner, paths) = throttling();
    let service = RateLimitRetryLayer::new().layer(inner);
    let refused = spawn(&service, get("/first"));
    sleep(SECOND).await;
    let mut callers = vec![refused];
    for number in 0..100 {
        callers.push(spawn(&service, get(&format!("/{number}"))));
        // Some leave, and others come after them.
        if number % 3 == 2 {
            yield_now().await;
            callers.swap_remove(callers.len() - 2).abort();
        }
    }
    for caller in callers {
        caller.await.unwrap().unwrap();
    }

    let mut expected = vec!["/first".to_owned()];
    let stay = (0..100).filter(|number| number % 3 != 1 || *number == 99);
    expected.extend(stay.map(|number| format!("/{number}")));
    assert_eq!(*paths.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_hold_wakes_only_admitted_requests() {
    let service = RateLimitRetryLayer::new().layer(throttling().0);
    drop(spawn(&service, get("/")));
    sleep(SECOND).await;
    let mut counts = Vec::new();
    let mut callers = Vec::new();
    for _ in 0..1_000 {
        let (caller, polls) = Polls::of(service.clone().oneshot(get("/")));
        callers.push(tokio::spawn(caller));
        counts.push(polls);
    }
    sleep(28 * SECOND).await;
    let polled = |counts: &[Arc<std::sync::atomic::AtomicUsize>]| -> usize {
        counts.iter().map(|polls| polls.load(SeqCst)).sum()
    };
    // Each was polled once, and the first in the queue has polled its timer.
    assert!(polled(&counts) <= 1_000 + 4, "{}", polled(&counts));

    for caller in callers {
        let response = caller.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }

    // Polls to queue, to be admitted and to receive the response; a waiter that reaches the front may be woken once
    // more.
    assert!(polled(&counts) <= 4 * 1_000 + 8, "{}", polled(&counts));
}

#[test]
fn a_hundred_thousand_held_partitions_take_about_a_kilobyte_each() {
    let runtime = paused();
    let layer = RateLimitRetryLayer::builder()
        .partition_by(|parts| PartitionKey::from(parts.uri.path()))
        .build();
    let refusing = serving(|_| std::future::ready(throttled("3000"))).0;
    let service = layer.layer(refusing);
    let taken = measure(|| {
        runtime.block_on(async {
            for tenant in 0..MANY {
                let refused = send(&service, get(&format!("/tenants/{tenant}"))).await;
                assert_eq!(refused.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
            }
        });
    });
    let bytes = u64::try_from(taken.bytes_current).unwrap() / MANY as u64;

    println!("{bytes} bytes for each of {MANY} held partitions");
    assert!((100..1_150).contains(&bytes), "{bytes}");
    assert_eq!(layer.handle().status().len(), MANY);
}

#[test]
fn a_hundred_thousand_requests_wait_for_a_hold_in_four_kilobytes_each() {
    let runtime = paused();
    let layer = RateLimitRetryLayer::builder().max_waiting(MANY + 1).build();
    let service = layer.layer(throttling().0);
    runtime.block_on(async {
        drop(spawn(&service, get("/")));
        sleep(SECOND).await;
    });

    let bytes = bytes_per_waiter(&runtime, || service.clone().oneshot(get("/")));

    println!("{bytes} bytes for each of {MANY} who wait for a hold");
    assert!((100..4_096).contains(&bytes), "{bytes}");
}
