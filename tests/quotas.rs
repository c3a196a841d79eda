//! Quotas in several partitions, by hand, and spread over their windows, in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use support::{Body, Inner, SECOND, answering, get, send, spawn, status_only};
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::{
    RateLimitRetryLayer,
    rate_limit_retry::{
        HoldTooLong, PartitionKey, QuotaStatus, RateLimitEvent, RateLimitRetryLayerBuilder, Release,
    },
};

#[tokio::test(start_paused = true)]
async fn a_pause_holds_everybody_and_can_be_ended_or_replaced() {
    let (inner, calls) = answering(|_| std::future::ready(status_only(StatusCode::OK)));
    let layer = by_path().max_wait(600 * SECOND).build();
    let (service, handle, a) = (layer.layer(inner), layer.handle(), PartitionKey::from("/a"));
    let began = Instant::now();
    handle.pause(&a, 300 * SECOND);
    assert_eq!(status(&layer, "/a").held_for, Some(300 * SECOND));
    let calls_of_a: Vec<_> = (0..5).map(|_| spawn(&service, get("/a"))).collect();
    send(&service, get("/b")).await.unwrap();
    assert_eq!((calls.load(SeqCst), began.elapsed()), (1, Duration::ZERO));

    // A shorter one takes its place, and those who wait already know.
    handle.pause(&a, 10 * SECOND);
    for call in calls_of_a {
        call.await.unwrap().unwrap();
    }
    assert_eq!((calls.load(SeqCst), began.elapsed()), (6, 10 * SECOND));

    handle.pause(&a, 300 * SECOND);
    let waiting = spawn(&service, get("/a"));
    sleep(SECOND).await;
    handle.forget(&a);
    assert_eq!(status(&layer, "/a").held_for, Some(299 * SECOND));
    handle.resume(&a);
    waiting.await.unwrap().unwrap();
    assert_eq!(began.elapsed(), 11 * SECOND);

    handle.pause(&a, 601 * SECOND);
    let error = send(&service, get("/a")).await.unwrap_err();
    assert_eq!(
        error.downcast::<HoldTooLong>().unwrap().wait(),
        601 * SECOND
    );
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_the_server_asked_for_outlasts_a_pause() {
    let (inner, calls) = refusing_once("/a", &[("retry-after", "60")]);
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
async fn a_waiter_whose_time_is_up_is_told_when_it_could_have_gone() {
    let (inner, _) = refusing_once("/a", &[("retry-after", "60")]);
    let layer = by_path().max_wait(90 * SECOND).build();
    let service = layer.layer(inner);
    layer.handle().pause(&"/a".into(), 80 * SECOND);
    let waiting = spawn(&service, get("/a"));
    sleep(SECOND).await;

    layer.handle().pause(&"/a".into(), 500 * SECOND);

    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(
        error.downcast::<HoldTooLong>().unwrap().wait(),
        411 * SECOND
    );
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_over_a_window_that_is_told() {
    let (inner, arrivals) = counting(60, 60 * SECOND, true);
    let layer = RateLimitRetryLayer::builder()
        .release(Release::Smooth)
        .build();
    let service = layer.layer(inner);

    let calls: Vec<_> = (0..119).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), 119);
    let counts = per(&arrivals, 10 * SECOND);
    // A few find out, and the rest goes evenly.
    assert!(counts[0] <= 20, "{counts:?}");
    assert!(
        counts[1..11].iter().all(|n| (7..=12).contains(n)),
        "{counts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_over_a_window_that_was_learnt() {
    let (inner, arrivals) = counting(60, 60 * SECOND, false);
    let layer = RateLimitRetryLayer::builder()
        .release(Release::Smooth)
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
async fn a_refusal_of_everything_holds_all_partitions_of_the_origin() {
    for (name, value) in [
        ("x-ratelimit-global", "true"),
        ("x-ratelimit-scope", "global"),
    ] {
        let (inner, _) = refusing_once("/a", &[("retry-after", "30"), (name, value)]);
        let service = by_path().build().layer(inner);
        let began = Instant::now();
        send(&service, get("/known")).await.unwrap();
        let refused = spawn(&service, get("/a"));
        sleep(SECOND).await;

        let elsewhere = Request::get("https://other.example.com/").body(Body::default());
        send(&service, elsewhere.unwrap()).await.unwrap();
        assert_eq!(began.elapsed(), SECOND);
        let new = spawn(&service, get("/new"));
        send(&service, get("/known")).await.unwrap();
        assert!(began.elapsed() >= 30 * SECOND);
        new.await.unwrap().unwrap();
        refused.await.unwrap().unwrap();
        assert!(began.elapsed() < 32 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_partition_holds_no_other() {
    let (inner, _) = refusing_once(
        "/a",
        &[("retry-after", "30"), ("x-ratelimit-scope", "user")],
    );
    let service = by_path().build().layer(inner);
    let began = Instant::now();
    let refused = spawn(&service, get("/a"));
    sleep(SECOND).await;

    send(&service, get("/b")).await.unwrap();

    assert_eq!(began.elapsed(), SECOND);
    refused.await.unwrap().unwrap();
}

/// Writes are counted as such, and with everything else.
#[tokio::test(start_paused = true)]
async fn a_limit_of_another_partition_holds_only_that_one() {
    let headers = [
        ("retry-after", "30"),
        ("x-ratelimit-limit", "10"),
        ("x-ratelimit-remaining", "0"),
    ];
    let (inner, _) = refusing_once("/write", &headers);
    let (inner, _) = answering(move |request| {
        let inner = inner.clone();
        async move {
            let mut response = send(&inner, request).await.unwrap();
            if response.status() == StatusCode::OK {
                let headers = response.headers_mut();
                headers.insert("x-ratelimit-limit", 600.into());
                headers.insert("x-ratelimit-remaining", 500.into());
            }
            response
        }
    });
    let service = RateLimitRetryLayer::builder()
        .partitions_by(|parts| match parts.uri.path() {
            "/write" => vec!["all".into(), "writes".into()],
            _ => vec!["all".into()],
        })
        .build()
        .layer(inner);
    let began = Instant::now();
    send(&service, get("/read")).await.unwrap();
    let refused = spawn(&service, get("/write"));
    sleep(SECOND).await;

    send(&service, get("/read")).await.unwrap();
    assert_eq!(began.elapsed(), SECOND);

    send(&service, get("/write")).await.unwrap();
    assert!(began.elapsed() >= 30 * SECOND);
    refused.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_refusals_teach_is_told_and_kept() {
    let (inner, _) = counting(60, 60 * SECOND, false);
    let lessons = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lessons);
    let layer = RateLimitRetryLayer::builder()
        .max_wait(600 * SECOND)
        .max_retries(20)
        .on_event(move |event| {
            if let RateLimitEvent::Learnt {
                allowance, period, ..
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
    assert_eq!((known.allowance, known.period), last);
    assert_eq!((known.rate, known.limit, known.waiting), (None, None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_told_when_it_begins_and_when_it_ends() {
    let (inner, _) = answering(|_| std::future::ready(status_only(StatusCode::OK)));
    let (held, waited) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    let (counter, log) = (Arc::clone(&held), Arc::clone(&waited));
    let layer = by_path()
        .on_event(move |event| match event {
            RateLimitEvent::Held { partition, .. } => {
                assert_eq!(partition.as_str(), "/a");
                counter.fetch_add(1, SeqCst);
            }
            RateLimitEvent::Released { waited, .. } => *log.lock().unwrap() = Some(*waited),
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

fn by_path() -> RateLimitRetryLayerBuilder {
    RateLimitRetryLayer::builder().partition_by(|parts| PartitionKey::from(parts.uri.path()))
}

fn status(layer: &RateLimitRetryLayer, name: &str) -> QuotaStatus {
    let mut all = layer.handle().status().into_iter();
    all.find(|status| status.partition.as_str() == name)
        .unwrap()
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

/// Refuses the first request for `path`.
fn refusing_once(
    path: &'static str,
    headers: &[(&'static str, &'static str)],
) -> (Inner, Arc<AtomicUsize>) {
    let headers = headers.to_vec();
    let refused = Arc::new(AtomicUsize::new(0));
    answering(move |request: Request<Body>| {
        let refuse = request.uri().path() == path && refused.fetch_add(1, SeqCst) == 0;
        let mut response = status_only(StatusCode::OK);
        if refuse {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            for (name, value) in &headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
        }
        std::future::ready(response)
    })
}

/// Takes `limit` requests in each `window`, and says so or not; and when those came that it took.
fn counting(limit: usize, window: Duration, tells: bool) -> (Inner, Arc<Mutex<Vec<Instant>>>) {
    let taken = Arc::new(Mutex::new(Vec::<Instant>::new()));
    let log = Arc::clone(&taken);
    let began = Instant::now();
    let (inner, _) = answering(move |_| {
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
