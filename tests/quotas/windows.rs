//! Requests that are spread over a window, and the estimates from rejections.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Response, StatusCode};
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{Pacing, RateLimitEvent},
};

use crate::support::{Body, Inner, SECOND, get, serving, spawn};

#[tokio::test(start_paused = true)]
async fn requests_are_paced_over_an_announced_window() {
    let (inner, arrivals) = counting(60, 60 * SECOND, true);
    let layer = RateLimitRetryLayer::builder().pacing(Pacing::Even).build();
    let service = layer.layer(inner);

    let calls: Vec<_> = (0..119).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), 119);
    let counts = per(&arrivals, 10 * SECOND);
    // A few probe the limit, and the rest are sent evenly.
    assert!(counts[0] <= 20, "{counts:?}");
    assert!(
        counts[1..11].iter().all(|n| (7..=12).contains(n)),
        "{counts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn requests_are_paced_over_an_estimated_window() {
    let (inner, arrivals) = counting(60, 60 * SECOND, false);
    let layer = RateLimitRetryLayer::builder()
        .pacing(Pacing::Even)
        .max_wait(600 * SECOND)
        .max_retries(20)
        .build();
    let service = layer.layer(inner);

    let calls: Vec<_> = (0..290).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    let counts = per(&arrivals.lock().unwrap(), 10 * SECOND);
    // What a window takes is found out in the first, and how long it lasts in the second.
    assert!(counts[0] >= 60, "{counts:?}");
    assert!(
        counts[18..23].iter().all(|n| (7..=13).contains(n)),
        "{counts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn estimates_are_reported_and_kept() {
    let (inner, _) = counting(60, 60 * SECOND, false);
    let lessons = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lessons);
    let layer = RateLimitRetryLayer::builder()
        .max_wait(600 * SECOND)
        .max_retries(20)
        .on_event(move |event| {
            if let RateLimitEvent::LimitEstimated {
                limit: allowance,
                window: period,
                ..
            } = event
            {
                log.lock().unwrap().push((*allowance, *period));
            }
        })
        .build();
    let service = layer.layer(inner);

    let calls: Vec<_> = (0..290).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }

    let lessons = lessons.lock().unwrap();

    assert_eq!(lessons.first(), Some(&(Some(60), None)));
    let last = *lessons.last().unwrap();
    let period = last.1.unwrap();
    assert_eq!(last.0, Some(60));
    assert!(period >= 60 * SECOND && period < 72 * SECOND, "{period:?}");
    let known = layer.handle().status().remove(0);
    assert_eq!((known.estimated_limit(), known.estimated_window()), last);
    assert_eq!(
        (known.estimated_rate(), known.limit(), known.waiting()),
        (None, None, 0)
    );
}

/// How many in each `length` since the first.
fn per(arrivals: &[Instant], length: Duration) -> Vec<usize> {
    let mut counts = Vec::new();
    for at in arrivals {
        let slot = (*at - arrivals[0]).as_nanos() / length.as_nanos();
        let slot = usize::try_from(slot).unwrap();
        counts.resize(counts.len().max(slot + 1), 0);
        counts[slot] += 1;
    }
    counts
}

/// Takes `limit` requests in each `window`, and says so or not; and when those came that it took.
fn counting(limit: usize, window: Duration, tells: bool) -> (Inner, Arc<Mutex<Vec<Instant>>>) {
    let taken = Arc::new(Mutex::new(Vec::<Instant>::new()));
    let log = Arc::clone(&taken);
    let began = Instant::now();
    let (inner, _) = serving(move |_| {
        let now = Instant::now();
        let passed = (now - began).as_nanos() % window.as_nanos();
        let passed = Duration::from_nanos(passed.try_into().unwrap());
        let mut taken = log.lock().unwrap();
        let used = taken.iter().filter(|at| now - **at <= passed).count();
        let mut response = Response::builder();
        if used >= limit {
            response = response.status(429);
        } else {
            taken.push(now);
        }
        if tells {
            response = response
                .header("x-ratelimit-limit", limit)
                .header("x-ratelimit-remaining", limit.saturating_sub(used + 1))
                .header(
                    "x-ratelimit-reset",
                    (window - passed).as_millis().div_ceil(1000).to_string(),
                );
        }
        async move {
            sleep(Duration::from_millis(20)).await;
            response.body(Body::default()).unwrap()
        }
    });
    (inner, taken)
}
