//! A 401, and another token that waits for its turn.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    Attempts, BoxError, M2mLayer, RateLimitRetryLayer,
    client_credentials::ExistingCredential,
    rate_limit_retry::RateLimited,
    replay::{Once, ReplayableBody},
};

use crate::{
    support::{
        API, Body, HOUR, SECOND, Source, api, get, layer, post, send, serving, spawn, status_only,
        throttled,
    },
    world::stacked,
};

#[tokio::test(start_paused = true)]
async fn a_replay_waits_for_a_permit() {
    let source = Source::with_lifetime(HOUR);
    let (valid, sent) = (source.clone(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&sent);
    let (inner, _) = serving(move |request| {
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
    layer.handle().tokens().prefetch().await.unwrap();
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
async fn a_thousand_stale_401s_cause_one_token_request_and_all_succeed() {
    let source = Source::with_lifetime(HOUR);
    let (inner, _) = api(&source);
    let service = stacked(&source, inner).0;
    send(&service, get("/")).await.unwrap();
    source.revoke_all();
    let source = source.with_delay(SECOND / 10);

    let calls = (0..1_000).map(|_| spawn(&service, get("/")));
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_always_says_401_gets_one_replay() {
    let source = Source::with_lifetime(HOUR);
    let (inner, calls) = serving(|_| std::future::ready(status_only(StatusCode::UNAUTHORIZED)));
    let service = stacked(&source, inner).0;

    let first = send(&service, get("/")).await.unwrap();
    let second = send(&service, get("/")).await.unwrap();

    assert_eq!((Attempts::of(&first), Attempts::of(&second)), (2, 1));
    assert_eq!((source.fetches(), calls.load(SeqCst)), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_not_resent_on_a_server_hint() {
    for together in [true, false] {
        let source = Source::with_lifetime(HOUR);
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&tokens);
        let (inner, _) = serving(move |request| {
            let token = request.headers()[header::AUTHORIZATION].clone();
            log.lock().unwrap().push(token);
            let mut response = status_only(StatusCode::UNAUTHORIZED);
            let asks = header::HeaderValue::from_static("true");
            response.headers_mut().insert("x-should-retry", asks);
            std::future::ready(response)
        });
        let response = if together {
            send(&stacked(&source, inner).0, get("/")).await
        } else {
            let credentials = layer(&source).build().layer(inner);
            send(&RateLimitRetryLayer::new().layer(credentials), get("/")).await
        };

        assert_eq!(response.unwrap().status(), StatusCode::UNAUTHORIZED);
        let tokens = tokens.lock().unwrap();
        assert_eq!(*tokens, ["Bearer token-1", "Bearer token-2"], "{together}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_carries_the_current_token_with_one_replay() {
    // 401 · replay: 429 · after a minute, with a new token: 401, which stands
    let source = Source::with_lifetime(30 * SECOND);
    let answers = [401, 429, 401];
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (inner, _) = serving(move |request| {
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
    let retry = || RateLimitRetryLayer::builder().seed(7).build();
    let combined = stacked(&source, inner.clone()).0;
    let apart = retry().layer(layer(&source).build().layer(inner));
    for (combined, numbers) in [(Some(combined), 1..4), (None, 5..8)] {
        let began = Instant::now();
        let response = match combined {
            Some(combined) => send(&combined, post("/")).await,
            None => send(&apart, post("/")).await,
        };

        let response = response.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(Attempts::of(&response), 3);
        assert!(began.elapsed() >= 60 * SECOND);
        // The token is renewed for others.
        sleep(SECOND).await;
        assert_eq!(source.fetches(), numbers.end);
        let tokens: Vec<_> = numbers.map(|n| format!("Bearer token-{n}")).collect();
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), tokens);
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_copy_serves_both_layers() {
    let copies = Arc::new(AtomicUsize::new(0));
    let inner = service_fn(|_: Request<Counted>| async {
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let source = Source::with_lifetime(HOUR);
    let layer = M2mLayer::new(RateLimitRetryLayer::new(), layer(&source).build());
    layer.handle().tokens().prefetch().await.unwrap();
    let request = Request::get(API).body(Counted(Arc::clone(&copies)));

    layer.layer(inner).oneshot(request.unwrap()).await.unwrap();

    assert_eq!(copies.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_credential_is_rate_limited_and_never_replayed() {
    let source = Source::with_lifetime(HOUR);
    let (inner, calls) = api(&source);
    let credentials = layer(&source).on_existing_credential(ExistingCredential::Keep);
    let layer = M2mLayer::new(RateLimitRetryLayer::new(), credentials.build());
    let mut request = get("/");
    let own = "Bearer own".parse().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, own);

    let response = send(&layer.layer(inner), request).await.unwrap();

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((source.fetches(), calls.load(SeqCst)), (0, 1));
    assert_eq!(layer.handle().quotas().status().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_non_replayable_body_is_sent_once_and_the_token_refreshed() {
    let source = Source::with_lifetime(HOUR);
    let valid = source.clone();
    let inner = service_fn(move |request: Request<Once<Body>>| {
        std::future::ready(Ok::<_, BoxError>(valid.answer(&request)))
    });
    let layer = M2mLayer::new(RateLimitRetryLayer::new(), layer(&source).build());
    layer.handle().tokens().prefetch().await.unwrap();
    source.revoke_all();
    let once = || Request::post(API).body(Once::new(Body::from("once")));

    let first = layer.layer(inner.clone()).oneshot(once().unwrap()).await;
    sleep(SECOND).await;
    let second = layer.layer(inner).oneshot(once().unwrap()).await;

    assert_eq!(first.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(second.unwrap().status(), StatusCode::OK);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hold_beyond_max_wait_fails_a_replay() {
    let source = Source::with_lifetime(HOUR);
    let (inner, calls) = serving(|_| {
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

    let error = error.downcast::<RateLimited>().unwrap();
    assert!(error.retry_after() > 2000 * SECOND);
    assert_eq!(calls.load(SeqCst), 1);
}

/// A body that counts its copies.
struct Counted(Arc<AtomicUsize>);

impl ReplayableBody for Counted {
    fn try_clone(&self) -> Option<Self> {
        self.0.fetch_add(1, SeqCst);
        Some(Self(Arc::clone(&self.0)))
    }
}

#[tokio::test(start_paused = true)]
async fn layers_below_see_the_number_of_every_attempt() {
    // A retry, then a replay, and the reverse. The layers are combined, or separate, in either order.
    for statuses in [[429, 401, 200], [401, 429, 200]] {
        for stack in ["combined", "limits outside", "limits inside"] {
            let source = Source::with_lifetime(HOUR);
            let numbers = Arc::new(Mutex::new(Vec::new()));
            let log = Arc::clone(&numbers);
            let (inner, _) = serving(move |request| {
                let mut log = log.lock().unwrap();
                let status = StatusCode::from_u16(statuses[log.len()]).unwrap();
                log.push(Attempts::of_request(&request));
                std::future::ready(match status {
                    StatusCode::TOO_MANY_REQUESTS => throttled("1"),
                    status => status_only(status),
                })
            });
            let (limits, tokens) = (RateLimitRetryLayer::new(), layer(&source).build());
            let response = match stack {
                "combined" => send(&stacked(&source, inner).0, get("/")).await,
                "limits outside" => send(&limits.layer(tokens.layer(inner)), get("/")).await,
                _ => send(&tokens.layer(limits.layer(inner)), get("/")).await,
            };

            let response = response.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{stack} {statuses:?}");
            assert_eq!(Attempts::of(&response), 3, "{stack} {statuses:?}");
            let numbers = numbers.lock().unwrap();
            assert_eq!(*numbers, [1, 2, 3], "{stack} {statuses:?}");
        }
    }
}
