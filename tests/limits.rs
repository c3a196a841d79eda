//! What is promised of rate limits, through the public API and in virtual time.
#![expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock measures the tests"
)]

mod support;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use support::{Body, Inner, Source, answering, api, get, layer, post, send, spawn, status_only};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_m2m::{
    Attempts, BoxError, RateLimitRetryLayer,
    client_credentials::TokenError,
    rate_limit_retry::{
        DeadlineExceeded, GaveUp, GiveUpReason, HoldTooLong, PartitionKey, RateLimitEvent,
    },
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn one_429_holds_every_clone() {
    let began = Instant::now();
    let (inner, arrivals) = limited(move || began.elapsed() < 10 * SECOND, "10");
    let service = RateLimitRetryLayer::builder().seed(1).build().layer(inner);
    send(&service, get("/")).await.unwrap();

    let calls: Vec<_> = (0..100).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    // The first was refused at the start; nobody else was, because nobody went before the ten seconds were over.
    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), 102);
    assert!(arrivals[1..].iter().all(|at| *at - began >= 10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn waiters_are_let_out_by_and_by_after_a_hold() {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrivals);
    let (inner, _) = answering(move |_| {
        log.lock().unwrap().push(Instant::now());
        let refused = log.lock().unwrap().len() == 1;
        async move {
            sleep(Duration::from_millis(40)).await;
            if refused {
                throttled("5")
            } else {
                status_only(StatusCode::OK)
            }
        }
    });
    let service = RateLimitRetryLayer::new().layer(inner);
    let first = spawn(&service, get("/"));
    sleep(SECOND).await;

    let calls: Vec<_> = (0..200).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }

    first.await.unwrap().unwrap();
    let arrivals = arrivals.lock().unwrap();
    let within = |millis| {
        let end = arrivals[1] + Duration::from_millis(millis);
        arrivals[1..].iter().filter(|at| **at < end).count()
    };
    // One looks, then two go, then four: no herd, and no long wait either.
    assert_eq!((within(30), within(70), within(110)), (1, 3, 7));
    assert_eq!(within(500), 201);
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_announced_is_never_exceeded() {
    let server = Arc::new(Mutex::new((Instant::now(), 0_u32)));
    let refused = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refused);
    let (inner, _) = answering(move |_| {
        let mut server = server.lock().unwrap();
        if server.0.elapsed() >= 10 * SECOND {
            *server = (Instant::now(), 0);
        }
        server.1 += 1;
        let left = 10_u64.saturating_sub(server.0.elapsed().as_secs());
        let response = Response::builder()
            .header("x-ratelimit-limit", 50)
            .header("x-ratelimit-remaining", 50_u32.saturating_sub(server.1))
            .header("x-ratelimit-reset", left);
        let over = server.1 > 50;
        counter.fetch_add(usize::from(over), SeqCst);
        let response = response.status(if over { 429 } else { 200 });
        async move {
            sleep(Duration::from_millis(20)).await;
            response.body(Body::default()).unwrap()
        }
    });
    let service = RateLimitRetryLayer::new().layer(inner);
    let began = Instant::now();

    let calls: Vec<_> = (0..200).map(|_| spawn(&service, get("/"))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    assert_eq!(refused.load(SeqCst), 0);
    assert!(began.elapsed() < 33 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_max_wait_returns_at_once() {
    let (inner, arrivals) = limited(|| true, "99999999999999999999");
    let service = RateLimitRetryLayer::builder()
        .max_wait(30 * SECOND)
        .build()
        .layer(inner);
    let began = Instant::now();

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let gave_up = GaveUp::of(&response).unwrap();
    assert_eq!(gave_up.reason(), GiveUpReason::Wait);
    assert!(gave_up.retry_after().unwrap() > 1_000_000 * SECOND);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(arrivals.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_meets_a_hold_beyond_max_wait_is_told_until_when() {
    let (inner, arrivals) = limited(|| true, "60");
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    let layer = RateLimitRetryLayer::builder()
        .max_wait(30 * SECOND)
        .on_event(move |event| {
            let not_sent = matches!(event, RateLimitEvent::NotSent { .. });
            counter.fetch_add(usize::from(not_sent), SeqCst);
        })
        .build();
    let service = layer.layer(inner);
    send(&service, get("/")).await.unwrap();

    let error = send(&service, get("/")).await.unwrap_err();

    let hold = error.downcast::<HoldTooLong>().unwrap();
    assert!((60..=64).contains(&hold.wait().as_secs()), "{hold}");
    assert_eq!(arrivals.lock().unwrap().len(), 1);
    assert_eq!(layer.handle().status()[0].in_flight, 0);
    assert_eq!(told.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_never_undercut() {
    for (hint, least) in [("7", 7.0), ("1.5", 1.5), ("0", 0.4)] {
        let refusals = AtomicUsize::new(1);
        let (inner, arrivals) = limited(
            move || {
                refusals
                    .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
                    .is_ok()
            },
            hint,
        );
        let service = RateLimitRetryLayer::new().layer(inner);

        let response = send(&service, post("/")).await.unwrap();

        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(Attempts::of(&response), 2);
        let arrivals = arrivals.lock().unwrap();
        let waited = (arrivals[1] - arrivals[0]).as_secs_f64();
        assert!(
            waited >= least && waited <= least * 1.06 + 1.0,
            "{hint}: {waited}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_the_tokens_life_sends_a_fresh_token() {
    let source = Source::living(30 * SECOND);
    let valid = source.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (inner, _) = answering(move |request: Request<Body>| {
        let token = request.headers()["authorization"]
            .to_str()
            .unwrap()
            .to_owned();
        log.lock().unwrap().push(token);
        assert!(valid.accepts(&request));
        let first = log.lock().unwrap().len() == 1;
        std::future::ready(if first {
            throttled("60")
        } else {
            status_only(StatusCode::OK)
        })
    });
    let service = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(layer(&source).build())
        .service(inner);

    let response = service.oneshot(get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(*seen.lock().unwrap(), ["Bearer token-1", "Bearer token-2"]);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_issuer_is_not_retried_by_the_outer_layer() {
    let source = Source::default();
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    source.fail_with(Some(TokenError::transient("is down").with_source(refused)));
    let (inner, calls) = api(&source);
    let service = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(layer(&source).build())
        .service(inner);
    let began = Instant::now();

    let error = service.oneshot(get("/")).await.unwrap_err();

    assert!(error.is::<TokenError>());
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!((source.fetches(), calls.load(SeqCst)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn errors_are_retried_by_class() {
    let kinds = [
        (io::ErrorKind::ConnectionRefused, Method::POST, 6),
        (io::ErrorKind::ConnectionReset, Method::POST, 1),
        (io::ErrorKind::ConnectionReset, Method::GET, 6),
    ];
    for (kind, method, expected) in kinds {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let inner = service_fn(move |_: Request<Body>| {
            counter.fetch_add(1, SeqCst);
            std::future::ready(Err::<Response<Body>, _>(io::Error::from(kind)))
        });
        let mut request = get("/");
        *request.method_mut() = method.clone();

        let error = RateLimitRetryLayer::new()
            .layer(inner)
            .oneshot(request)
            .await;

        assert!(error.is_err());
        assert_eq!(calls.load(SeqCst), expected, "{kind:?} {method}");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_are_retried_for_idempotent_methods_only() {
    for (request, expected) in [(get("/"), 6), (post("/"), 1)] {
        let (inner, calls) =
            answering(|_| std::future::ready(status_only(StatusCode::BAD_GATEWAY)));
        let service = RateLimitRetryLayer::new().layer(inner);

        let response = send(&service, request).await.unwrap();

        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(calls.load(SeqCst), expected);
        assert!(GaveUp::of(&response).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_retries_no_post_even_after_429() {
    let (inner, arrivals) = limited(|| true, "1");
    let layer = RateLimitRetryLayer::builder().idempotent_methods_only();
    let service = layer.build().layer(inner);

    let response = send(&service, post("/")).await.unwrap();

    assert_eq!(
        GaveUp::of(&response).unwrap().reason(),
        GiveUpReason::NotIdempotent
    );
    assert_eq!(arrivals.lock().unwrap().len(), 1);
}

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
async fn nobody_waits_while_holding_readiness() {
    let (inner, _) = limited(|| true, "60");
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(inner);
    let mut direct = limited.clone();
    let mut service = RateLimitRetryLayer::new().layer(limited);
    let refused = spawn(&service, get("/"));
    sleep(SECOND).await;
    // Kept alive: it is the service, not its owner's departure, that gives readiness back.
    service.ready().await.unwrap();
    let held = tokio::spawn(service.call(get("/")));
    sleep(SECOND).await;

    // Both wait for the hold to end, and the one permit is free.
    assert!(timeout(SECOND, direct.ready()).await.is_ok());

    assert!(!refused.is_finished() && !held.is_finished());
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn dropping_all_waiters_but_one_strands_nobody() {
    let began = Instant::now();
    let (inner, arrivals) = limited(move || began.elapsed() < 10 * SECOND, "10");
    let layer = RateLimitRetryLayer::new();
    let service = layer.layer(inner);
    send_first(&service);
    sleep(SECOND).await;
    let mut calls: Vec<_> = (0..50).map(|_| spawn(&service, get("/"))).collect();
    sleep(SECOND).await;
    let last = calls.pop().unwrap();

    calls.iter().for_each(tokio::task::JoinHandle::abort);

    assert_eq!(last.await.unwrap().unwrap().status(), StatusCode::OK);
    sleep(SECOND).await;
    let status = layer.handle().status().remove(0);
    assert_eq!((status.waiting, status.in_flight), (0, 0));
    assert_eq!(arrivals.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_during_an_attempt_frees_its_place() {
    let (inner, _) = answering(|_| async {
        sleep(60 * SECOND).await;
        status_only(StatusCode::OK)
    });
    let layer = RateLimitRetryLayer::new();
    let service = layer.layer(inner);

    drop(timeout(SECOND, send(&service, get("/"))).await);

    assert_eq!(layer.handle().status()[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_partition_gets_a_few_requests_before_its_first_answer() {
    let (inner, calls) = answering(|_| async {
        sleep(Duration::from_millis(100)).await;
        status_only(StatusCode::OK)
    });
    let service = RateLimitRetryLayer::new().layer(inner);

    let all: Vec<_> = (0..100).map(|_| spawn(&service, get("/"))).collect();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(calls.load(SeqCst), 8);
    sleep(Duration::from_millis(60)).await;
    assert_eq!(calls.load(SeqCst), 100);

    for call in all {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_partitions_hold_is_not_anothers() {
    let (inner, _) = answering(|request: Request<Body>| {
        let limited = request.uri().path() == "/limited";
        std::future::ready(if limited {
            throttled("60")
        } else {
            status_only(StatusCode::OK)
        })
    });
    let service = RateLimitRetryLayer::builder()
        .max_wait(SECOND)
        .partition_by(|parts| PartitionKey::from(parts.uri.path()))
        .build()
        .layer(inner);
    send(&service, get("/limited")).await.unwrap();

    let other = send(&service, get("/other")).await.unwrap();
    let same = send(&service, get("/limited")).await;

    assert_eq!(other.status(), StatusCode::OK);
    assert!(same.unwrap_err().is::<HoldTooLong>());
}

#[tokio::test(start_paused = true)]
async fn a_request_with_several_keys_waits_for_all_of_them() {
    let began = Instant::now();
    let (inner, arrivals) = limited(move || began.elapsed() < 5 * SECOND, "5");
    let service = RateLimitRetryLayer::builder()
        .partitions_by(|parts| match parts.uri.path() {
            "/a" => vec!["a".into()],
            _ => vec!["a".into(), "b".into()],
        })
        .build()
        .layer(inner);
    send_first(&service);
    let first = spawn(&service, get("/a"));
    sleep(SECOND).await;

    send(&service, get("/both")).await.unwrap();

    first.await.unwrap().unwrap();
    let arrivals = arrivals.lock().unwrap();
    assert!(arrivals.iter().skip(2).all(|at| *at - began >= 5 * SECOND));
}

/// Answers 429 with `Retry-After: {hint}` while `refuse` says so; and when it was asked.
fn limited(
    refuse: impl Fn() -> bool + Send + Sync + 'static,
    hint: &'static str,
) -> (Inner, Arc<Mutex<Vec<Instant>>>) {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrivals);
    let refuse = Arc::new(refuse);
    let (inner, _) = answering(move |_| {
        log.lock().unwrap().push(Instant::now());
        std::future::ready(if refuse() {
            throttled(hint)
        } else {
            status_only(StatusCode::OK)
        })
    });
    (inner, arrivals)
}

fn throttled(hint: &str) -> Response<Full<Bytes>> {
    let mut response = status_only(StatusCode::TOO_MANY_REQUESTS);
    response
        .headers_mut()
        .insert("retry-after", hint.parse().unwrap());
    response
}

fn send_first<S>(service: &S)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    drop(spawn(service, get("/a")));
}
