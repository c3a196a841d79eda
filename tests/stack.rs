//! What the combined layer promises beyond what each of the two does.
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

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use support::{
    Body, HOUR, Inner, SECOND, Source, answering, api, get, layer, post, send, spawn, status_only,
    throttled,
};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_m2m::{
    Attempts, BoxError, M2mLayer, RateLimitRetryLayer,
    client_credentials::{ExistingCredential, OriginNotAllowed, TokenError},
    rate_limit_retry::{DeadlineExceeded, HoldTooLong},
    replay::{Once, ReplayableBody},
    stack::M2m,
};

#[tokio::test(start_paused = true)]
async fn a_replay_waits_for_its_turn_in_the_quota() {
    let source = Source::living(HOUR);
    let (valid, sent) = (source.clone(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&sent);
    let (inner, _) = answering(move |request| {
        log.lock().unwrap().push(Instant::now());
        let accepted = valid.accepts(&request);
        let status = if accepted { 200 } else { 401 };
        // A quota of two in ten seconds, of which the first call has left nothing.
        let response = Response::builder()
            .status(status)
            .header("x-ratelimit-limit", 2)
            .header("x-ratelimit-remaining", 0)
            .header("x-ratelimit-reset", 10);
        std::future::ready(response.body(Body::default()).unwrap())
    });
    let (service, layer) = stacked(&source, inner);
    layer.tokens().warm().await.unwrap();
    source.revoke_all();
    let began = Instant::now();

    let response = send(&service, get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(Attempts::of(&response), 2);
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 2);
    assert!(sent[1] - began >= 10 * SECOND, "{:?}", sent[1] - began);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_stale_401s_cost_one_token_request_and_all_succeed() {
    let source = Source::living(HOUR);
    let (inner, _) = api(&source);
    let service = stacked(&source, inner).0;
    send(&service, get("/")).await.unwrap();
    source.revoke_all();
    let source = source.delayed(SECOND / 10);

    let calls = (0..1_000).map(|_| spawn(&service, get("/")));
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_always_says_401_gets_one_replay() {
    let source = Source::living(HOUR);
    let (inner, calls) = answering(|_| std::future::ready(status_only(StatusCode::UNAUTHORIZED)));
    let service = stacked(&source, inner).0;

    let first = send(&service, get("/")).await.unwrap();
    let second = send(&service, get("/")).await.unwrap();

    assert_eq!((Attempts::of(&first), Attempts::of(&second)), (2, 1));
    assert_eq!((source.fetches(), calls.load(SeqCst)), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_carries_the_current_token_and_may_be_replayed() {
    // 401 · replay: 429 · after a minute, with a new token: 401 · replay: 200
    let source = Source::living(30 * SECOND);
    let answers = [401, 429, 401, 200];
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (inner, _) = answering(move |request| {
        let mut log = log.lock().unwrap();
        let status = StatusCode::from_u16(answers[log.len()]).unwrap();
        let token = request.headers()[header::AUTHORIZATION].clone();
        log.push(token.to_str().unwrap().to_owned());
        std::future::ready(if status == StatusCode::TOO_MANY_REQUESTS {
            throttled("60")
        } else {
            status_only(status)
        })
    });
    let service = stacked(&source, inner).0;
    let began = Instant::now();

    let response = send(&service, post("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(Attempts::of(&response), 4);
    assert!(began.elapsed() >= 60 * SECOND);
    let tokens = ["token-1", "token-2", "token-3", "token-4"];
    assert_eq!(
        *seen.lock().unwrap(),
        tokens.map(|token| format!("Bearer {token}"))
    );
}

#[tokio::test(start_paused = true)]
async fn one_copy_of_a_request_serves_both() {
    let copies = Arc::new(AtomicUsize::new(0));
    let inner = service_fn(|_: Request<Counted>| async {
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let source = Source::living(HOUR);
    let layer = M2mLayer::new(RateLimitRetryLayer::new(), layer(&source).build());
    layer.tokens().warm().await.unwrap();
    let request = Request::get(support::API).body(Counted(Arc::clone(&copies)));

    layer.layer(inner).oneshot(request.unwrap()).await.unwrap();

    assert_eq!(copies.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_for_another_origin_takes_no_place_in_the_queue() {
    let source = Source::living(HOUR);
    let (inner, calls) = api(&source);
    let (service, layer) = stacked(&source, inner);
    let foreign = Request::get("https://elsewhere.example/").body(Body::default());

    let error = send(&service, foreign.unwrap()).await.unwrap_err();

    assert!(error.is::<OriginNotAllowed>());
    assert!(layer.quotas().status().is_empty());
    assert_eq!((source.fetches(), calls.load(SeqCst)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_while_holding_readiness() {
    let source = Source::living(HOUR).delayed(20 * SECOND);
    let (inner, _) = api(&source);
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(inner);
    let mut direct = limited.clone();
    let mut service =
        M2mLayer::new(RateLimitRetryLayer::new(), layer(&source).build()).layer(limited);
    // Kept alive: it is the service, not its owner's departure, that gives readiness back.
    service.ready().await.unwrap();

    let waiting = tokio::spawn(service.call(get("/")));
    sleep(SECOND).await;

    assert!(timeout(SECOND, direct.ready()).await.is_ok());
    drop(direct);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
    drop(service);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_token_is_not_counted_as_in_flight() {
    let source = Source::living(HOUR).delayed(20 * SECOND);
    let (inner, _) = api(&source);
    let (service, layer) = stacked(&source, inner);

    let waiting = spawn(&service, get("/"));
    sleep(SECOND).await;

    let in_flight: u32 = layer.quotas().status().iter().map(|q| q.in_flight).sum();
    assert_eq!(in_flight, 0);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_named_credential_has_a_partition_of_its_own() {
    let limits = RateLimitRetryLayer::new();
    let (source, other) = (Source::living(HOUR), Source::living(HOUR));
    let valid = source.clone();
    let (inner, _) = answering(move |request| {
        // The first credential's quota is used up for good.
        let refused = valid.accepts(&request);
        let mut response = status_only(if refused {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::OK
        });
        let hint = "100".parse().unwrap();
        response.headers_mut().insert(header::RETRY_AFTER, hint);
        std::future::ready(response)
    });
    let first = M2mLayer::new(limits.clone(), layer(&source).name("first").build());
    let second = M2mLayer::new(limits, layer(&other).name("second").build());
    second.tokens().warm().await.unwrap();
    second.tokens().refresh_now().await.unwrap();
    let held = spawn(&first.layer(inner.clone()), get("/"));
    sleep(SECOND).await;

    let began = Instant::now();
    let response = send(&second.layer(inner), get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let held_for = |name: &str| {
        let status = second.quotas().status();
        let found = status.iter().find(|q| q.partition.as_str() == name);
        found.unwrap().held_for
    };
    assert!(held_for("https://api.example.com as first").is_some());
    assert!(held_for("https://api.example.com as second").is_none());
    held.abort();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_bounds_the_wait_for_a_token_too() {
    let source = Source::living(HOUR).delayed(20 * SECOND);
    let (inner, calls) = api(&source);
    let limits = RateLimitRetryLayer::builder().deadline(5 * SECOND).build();
    let service = M2mLayer::new(limits, layer(&source).build()).layer(inner);
    let began = Instant::now();

    let error = send(&service, get("/")).await.unwrap_err();

    let error = error.downcast::<DeadlineExceeded>().unwrap();
    assert!(!error.possibly_processed());
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(calls.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_token_request_is_the_callers_error() {
    let source = Source::default();
    source.fail_with(Some(TokenError::transient("is down")));
    let (inner, calls) = api(&source);
    let (service, layer) = stacked(&source, inner);

    let error = send(&service, get("/")).await.unwrap_err();

    assert!(error.is::<TokenError>());
    assert_eq!((source.fetches(), calls.load(SeqCst)), (1, 0));
    assert!(
        layer
            .quotas()
            .status()
            .iter()
            .all(|q| q.in_flight == 0 && q.waiting == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_credential_is_limited_like_others_and_never_replayed() {
    let source = Source::living(HOUR);
    let (inner, calls) = api(&source);
    let credentials = layer(&source).on_existing_credential(ExistingCredential::Keep);
    let layer = M2mLayer::new(RateLimitRetryLayer::new(), credentials.build());
    let mut request = get("/");
    let own = "Bearer own".parse().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, own);

    let response = send(&layer.layer(inner), request).await.unwrap();

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((source.fetches(), calls.load(SeqCst)), (0, 1));
    assert_eq!(layer.quotas().status().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_again_is_sent_once_and_the_token_renewed() {
    let source = Source::living(HOUR);
    let valid = source.clone();
    let inner = service_fn(move |request: Request<Once<Body>>| {
        std::future::ready(Ok::<_, BoxError>(valid.answer(&request)))
    });
    let layer = M2mLayer::new(RateLimitRetryLayer::new(), layer(&source).build());
    layer.tokens().warm().await.unwrap();
    source.revoke_all();
    let once = || Request::post(support::API).body(Once::new(Body::from("once")));

    let first = layer.layer(inner.clone()).oneshot(once().unwrap()).await;
    sleep(SECOND).await;
    let second = layer.layer(inner).oneshot(once().unwrap()).await;

    assert_eq!(first.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(second.unwrap().status(), StatusCode::OK);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_begins_while_a_token_is_awaited_is_kept_to() {
    let source = Source::living(30 * SECOND);
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrivals);
    let (inner, _) = answering(move |_| {
        let mut log = log.lock().unwrap();
        log.push(Instant::now());
        let refused = log.len() == 1;
        async move {
            // The refusal arrives while the second request waits for the second token.
            sleep(35 * SECOND).await;
            let mut response = status_only(if refused {
                StatusCode::TOO_MANY_REQUESTS
            } else {
                StatusCode::OK
            });
            let hint = "10".parse().unwrap();
            response.headers_mut().insert(header::RETRY_AFTER, hint);
            response
        }
    });
    let service = stacked(&source, inner).0;
    let began = Instant::now();
    let first = spawn(&service, get("/"));
    sleep(31 * SECOND).await;
    let source = source.delayed(10 * SECOND);

    let second = spawn(&service, get("/"));

    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(source.fetches(), 2);
    let arrivals = arrivals.lock().unwrap();
    assert!(arrivals[1..].iter().all(|at| *at - began >= 45 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_hold_beyond_max_wait_is_told_to_a_replay_too() {
    let source = Source::living(HOUR);
    let (inner, calls) = answering(|_| {
        let mut response = status_only(StatusCode::UNAUTHORIZED);
        for (name, value) in [("limit", "1"), ("remaining", "0"), ("reset", "3000")] {
            let name = format!("x-ratelimit-{name}").parse::<http::HeaderName>();
            response
                .headers_mut()
                .insert(name.unwrap(), value.parse().unwrap());
        }
        std::future::ready(response)
    });
    let service = stacked(&source, inner).0;

    let error = send(&service, get("/")).await.unwrap_err();

    let error = error.downcast::<HoldTooLong>().unwrap();
    assert!(error.wait() > 2000 * SECOND);
    assert_eq!(calls.load(SeqCst), 1);
}

fn stacked(source: &Source, inner: Inner) -> (M2m<Inner>, M2mLayer) {
    let layer = M2mLayer::new(
        RateLimitRetryLayer::builder().seed(7).build(),
        layer(source).build(),
    );
    (layer.layer(inner), layer)
}

/// A body that counts its copies.
struct Counted(Arc<AtomicUsize>);

impl ReplayableBody for Counted {
    fn try_clone(&self) -> Option<Self> {
        self.0.fetch_add(1, SeqCst);
        Some(Self(Arc::clone(&self.0)))
    }
}
