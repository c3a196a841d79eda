//! Holds that begin while requests wait, and waiting requests that are not polled.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
    time::{Duration, SystemTime},
};

use http::{Request, StatusCode};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_m2m::{
    Clock, RateLimitRetryLayer, SystemClock,
    rate_limit_retry::{LocalLimit, RateLimited},
};

use crate::{
    support::{Body, HOUR, SECOND, get, send, serving, spawn, status_only, throttled},
    world::limited,
};

#[tokio::test(start_paused = true)]
async fn a_waiter_fails_immediately_when_a_hold_exceeds_max_wait() {
    let (inner, calls) = serving(|request: Request<Body>| async move {
        if request.uri().path() == "/slow" {
            sleep(10 * SECOND).await;
            throttled("3000")
        } else {
            throttled("60")
        }
    });
    let service = RateLimitRetryLayer::builder().max_retries(1).build();
    let service = service.layer(inner);
    let began = Instant::now();
    let slow = spawn(&service, get("/slow"));
    let refused = spawn(&service, get("/refused"));
    sleep(SECOND).await;
    let waiting: Vec<_> = (0..100).map(|_| spawn(&service, get("/"))).collect();

    for caller in waiting {
        let error = caller.await.unwrap().unwrap_err();
        let wait = error.downcast::<RateLimited>().unwrap().retry_after();
        assert!(wait >= 3000 * SECOND && wait < 3001 * SECOND, "{wait:?}");
        assert_eq!(began.elapsed(), 10 * SECOND);
    }
    assert!(refused.await.unwrap().is_err());
    assert_eq!(slow.await.unwrap().unwrap().status(), 429);
    assert_eq!(calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn waiters_that_are_not_polled_do_not_block_others() {
    for unpolled in [1, 50] {
        let began = Instant::now();
        let (inner, _) = limited(move || began.elapsed() < 5 * SECOND, "5");
        let service = RateLimitRetryLayer::new().layer(inner);
        drop(spawn(&service, get("/")));
        sleep(SECOND).await;
        // As in `select!` or `buffer_unordered`: polled once, and then the task does something else.
        let mut left: Vec<_> = (0..unpolled)
            .map(|_| Box::pin(service.clone().oneshot(get("/"))))
            .collect();
        for future in &mut left {
            assert!(poll_once(future).await.is_pending());
        }

        let others: Vec<_> = (0..100).map(|_| spawn(&service, get("/"))).collect();
        for other in others {
            assert_eq!(other.await.unwrap().unwrap().status(), StatusCode::OK);
        }

        assert!(began.elapsed() < 20 * SECOND, "{:?}", began.elapsed());
        // They go on when they are polled again.
        for future in left {
            let answer = timeout(5 * SECOND, future).await.unwrap().unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_not_polled_does_not_keep_the_only_permit() {
    let (inner, _) = serving(|_| async {
        sleep(SECOND).await;
        status_only(StatusCode::OK)
    });
    let layer = RateLimitRetryLayer::builder()
        .limit(LocalLimit::in_flight(1))
        .build();
    let service = layer.layer(inner);
    let first = spawn(&service, get("/"));
    sleep(Duration::from_millis(10)).await;
    let mut left = Box::pin(service.clone().oneshot(get("/")));
    assert!(poll_once(&mut left).await.is_pending());

    let other = timeout(10 * SECOND, send(&service, get("/"))).await;

    assert_eq!(other.unwrap().unwrap().status(), StatusCode::OK);
    assert!(first.await.unwrap().is_ok());
    assert!(timeout(10 * SECOND, left).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn suspension_counts_towards_a_hold() {
    let clock = Suspended::default();
    let began = Instant::now();
    let (inner, arrivals) = limited(move || began.elapsed() < SECOND, "3000");
    let layer = RateLimitRetryLayer::builder().clock(clock.clone()).build();
    let service = layer.layer(inner);
    assert_eq!(send(&service, get("/")).await.unwrap().status(), 429);
    sleep(2 * SECOND).await;
    let error = send(&service, get("/")).await.unwrap_err();
    let error = error.downcast::<RateLimited>().unwrap();
    assert!(error.retry_after() > 2990 * SECOND);

    clock.suspend_for(3001 * SECOND);

    assert_eq!(layer.handle().status()[0].held_for(), None);
    assert_eq!(send(&service, get("/")).await.unwrap().status(), 200);
    assert_eq!(arrivals.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn waiters_resume_soon_after_a_suspension() {
    let clock = Suspended::default();
    let began = Instant::now();
    let (inner, _) = limited(move || began.elapsed() < SECOND, "3000");
    let layer = RateLimitRetryLayer::builder()
        .max_wait(HOUR)
        .clock(clock.clone())
        .build();
    let service = layer.layer(inner);
    let waiting = spawn(&service, get("/"));
    sleep(2 * SECOND).await;

    clock.suspend_for(3001 * SECOND);

    let woken = Instant::now();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    assert!(woken.elapsed() < 61 * SECOND, "{:?}", woken.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_remaining_hold_is_correct_after_a_suspension() {
    let clock = Suspended::default();
    let (inner, _) = limited(|| true, "3000");
    let layer = RateLimitRetryLayer::builder().clock(clock.clone()).build();
    let service = layer.layer(inner);
    send(&service, get("/")).await.unwrap();

    clock.suspend_for(1000 * SECOND);

    let error = send(&service, get("/")).await.unwrap_err();
    let error = error.downcast::<RateLimited>().unwrap();
    let left = 2000 * SECOND..2001 * SECOND;
    assert!(
        left.contains(&error.retry_after()),
        "{:?}",
        error.retry_after()
    );
    // By the caller's clock.
    let until = error.until() - Instant::now();
    assert!(left.contains(&until), "{until:?}");
    // A wall clock that is set back changes nothing.
    clock.set_back(1500 * SECOND);
    let error = send(&service, get("/")).await.unwrap_err();
    let wait = error.downcast::<RateLimited>().unwrap().retry_after();
    assert!(left.contains(&wait), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn suspension_counts_towards_an_announced_window() {
    let clock = Suspended::default();
    let said = Arc::new(AtomicBool::new(false));
    let once = Arc::clone(&said);
    let (inner, calls) = serving(move |_| {
        let mut response = status_only(StatusCode::OK);
        if !once.swap(true, SeqCst) {
            let fields = [
                ("x-ratelimit-limit", "100"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "3000"),
            ];
            for (name, value) in fields {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
        }
        std::future::ready(response)
    });
    let layer = RateLimitRetryLayer::builder().clock(clock.clone()).build();
    let service = layer.layer(inner);
    send(&service, get("/")).await.unwrap();
    assert!(send(&service, get("/")).await.is_err());

    clock.suspend_for(3002 * SECOND);

    assert!(send(&service, get("/")).await.is_ok());
    assert_eq!(calls.load(SeqCst), 2);
}

async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// tokio's paused time, and a wall clock that advances while the machine is suspended.
#[derive(Clone)]
struct Suspended(Arc<std::sync::Mutex<SystemTime>>, Instant);

impl Default for Suspended {
    fn default() -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        Self(Arc::new(wall.into()), Instant::now())
    }
}

impl Suspended {
    fn suspend_for(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }

    fn set_back(&self, time: Duration) {
        *self.0.lock().unwrap() -= time;
    }
}

impl Clock for Suspended {
    fn now(&self) -> Instant {
        SystemClock::default().now()
    }

    fn wall_clock(&self) -> SystemTime {
        *self.0.lock().unwrap() + (self.now() - self.1)
    }
}
