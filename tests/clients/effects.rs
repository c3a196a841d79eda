//! What the guide's table of orders says about each order: what the layer does there, and why the wrong ones are wrong.

use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::{sleep, timeout};
use tower::{
    ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    retry::{Policy, RetryLayer},
    timeout::{TimeoutLayer, error::Elapsed},
    util::BoxService,
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_m2m::{Attempts, ErrorClass, RateLimitRetryLayer, rate_limit_retry::PartitionKey};

use crate::support::{API, Body, Inner, Source, get, layer, serving, status_only};

const MINUTE: Duration = Duration::from_secs(60);

/// Throttles its first request for a minute, and writes down which tokens came.
fn throttling() -> (Inner, Arc<Mutex<Vec<HeaderValue>>>) {
    let tokens = Arc::<Mutex<Vec<HeaderValue>>>::default();
    let log = Arc::clone(&tokens);
    let (inner, _) = serving(move |request| {
        let mut log = log.lock().unwrap();
        let token = request.headers().get(header::AUTHORIZATION).cloned();
        log.push(token.unwrap_or(HeaderValue::from_static("none")));
        let first = log.len() == 1;
        ready(if first {
            throttled()
        } else {
            status_only(StatusCode::OK)
        })
    });
    (inner, tokens)
}

fn throttled() -> Response<Body> {
    let mut response = status_only(StatusCode::TOO_MANY_REQUESTS);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, 60.into());
    response
}

/// Takes a second for each request.
fn slow() -> Inner {
    let answer = |_| async {
        sleep(Duration::from_secs(1)).await;
        status_only(StatusCode::OK)
    };
    serving(answer).0
}

/// Limits whose partition of [`API`] is held for a minute.
fn held() -> RateLimitRetryLayer {
    let limits = RateLimitRetryLayer::new();
    limits.handle().pause(&PartitionKey::from(API), MINUTE);
    limits
}

fn elsewhere() -> Request<Body> {
    Request::get("https://other.example/")
        .body(Body::default())
        .unwrap()
}

fn post() -> Request<Body> {
    let mut request = get("/");
    *request.method_mut() = Method::POST;
    request
}

#[tokio::test(start_paused = true)]
async fn credentials_outside_the_retry_send_an_expired_token() {
    let source = || Source::with_lifetime(Duration::from_secs(30));
    let ((right, seen), (wrong, seen_wrong)) = (throttling(), throttling());
    let right = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(layer(&source()).build())
        .service(right);
    let wrong = ServiceBuilder::new()
        .layer(layer(&source()).build())
        .layer(RateLimitRetryLayer::new())
        .service(wrong);

    right.oneshot(get("/")).await.unwrap();
    wrong.oneshot(get("/")).await.unwrap();

    assert_eq!(*seen.lock().unwrap(), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(
        *seen_wrong.lock().unwrap(),
        ["Bearer token-1", "Bearer token-1"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_layer_below_hides_a_429() {
    let (inner, tokens) = throttling();
    let limits = RateLimitRetryLayer::new();
    let quotas = limits.handle();
    let client = ServiceBuilder::new()
        .layer(limits)
        .layer(RetryLayer::new(ImmediateRetry))
        .service(inner);

    let response = client.oneshot(get("/")).await.unwrap();

    // Retried within the minute; the caller does not see the rejection.
    assert_eq!(tokens.lock().unwrap().len(), 2);
    assert_eq!(Attempts::of(&response), 1);
    assert_eq!(quotas.status()[0].held_for(), None);
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_above_counts_queued_and_below_sent_requests() {
    let limit = || ConcurrencyLimitLayer::new(1);
    let above = ServiceBuilder::new()
        .layer(limit())
        .layer(held())
        .service(slow());
    let below = ServiceBuilder::new()
        .layer(held())
        .layer(limit())
        .service(slow());

    let waiting = tokio::spawn(above.clone().oneshot(get("/")));
    tokio::task::yield_now().await;
    let blocked = timeout(Duration::from_secs(30), above.oneshot(elsewhere())).await;
    assert!(blocked.is_err());
    waiting.await.unwrap().unwrap();

    let waiting = tokio::spawn(below.clone().oneshot(get("/")));
    tokio::task::yield_now().await;
    let sent = timeout(Duration::from_secs(30), below.oneshot(elsewhere())).await;
    assert_eq!(sent.unwrap().unwrap().status(), StatusCode::OK);
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn load_shed_above_sheds_only_for_a_layer_in_between() {
    let bare = ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(held())
        .service(slow());
    let limited = ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(held())
        .service(slow());

    let (one, other) = tokio::join!(bare.clone().oneshot(get("/")), bare.oneshot(get("/")));
    assert!(one.is_ok() && other.is_ok());

    let waiting = tokio::spawn(limited.clone().oneshot(get("/")));
    tokio::task::yield_now().await;
    let shed = limited.oneshot(get("/")).await.unwrap_err();
    assert!(shed.is::<Overloaded>(), "{shed}");
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn requests_shed_below_are_retried_if_classified_as_not_sent() {
    let known = RateLimitRetryLayer::builder().classify_errors(|error| {
        if error.is::<Overloaded>() {
            ErrorClass::NotSent
        } else {
            ErrorClass::of(error)
        }
    });
    for (limits, sent) in [(RateLimitRetryLayer::new(), false), (known.build(), true)] {
        let client = ServiceBuilder::new()
            .layer(limits)
            .layer(LoadShedLayer::new())
            .layer(ConcurrencyLimitLayer::new(1))
            .service(slow());

        let first = tokio::spawn(client.clone().oneshot(post()));
        tokio::task::yield_now().await;
        let second = client.oneshot(post()).await;

        assert_eq!(second.is_ok(), sent);
        first.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_above_bounds_the_wait_and_below_an_attempt() {
    let limit = || TimeoutLayer::new(Duration::from_secs(10));
    let above = ServiceBuilder::new()
        .layer(limit())
        .layer(held())
        .service(slow());
    let below = ServiceBuilder::new()
        .layer(held())
        .layer(limit())
        .service(slow());

    let above = timeout(Duration::from_secs(11), above.oneshot(get("/"))).await;
    let error = above.unwrap().unwrap_err();
    assert!(error.is::<Elapsed>(), "{error}");

    // The hold is longer than the limit.
    let below = below.oneshot(get("/")).await.unwrap();
    assert_eq!(below.status(), StatusCode::OK);
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn a_trace_above_has_a_span_for_a_call_and_below_one_for_each_attempt() {
    use std::sync::atomic::AtomicUsize;

    let trace = |spans: &Arc<AtomicUsize>| {
        let spans = Arc::clone(spans);
        tower_http::trace::TraceLayer::new_for_http().make_span_with(move |_: &Request<Body>| {
            spans.fetch_add(1, SeqCst);
            tracing::Span::none()
        })
    };
    let (above, below) = (Arc::default(), Arc::default());
    let client = ServiceBuilder::new()
        .layer(trace(&above))
        .layer(RateLimitRetryLayer::new())
        .layer(trace(&below))
        .service(throttling().0);

    client.oneshot(get("/")).await.unwrap();

    assert_eq!((above.load(SeqCst), below.load(SeqCst)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn layers_below_see_each_attempt_with_its_token() {
    let seen = Arc::<Mutex<Vec<HeaderValue>>>::default();
    let log = Arc::clone(&seen);
    let client = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(layer(&Source::with_lifetime(Duration::from_secs(30))).build())
        .map_request(move |request: Request<Body>| {
            let token = request.headers()[header::AUTHORIZATION].clone();
            log.lock().unwrap().push(token);
            request
        })
        .service(throttling().0);

    client.oneshot(get("/")).await.unwrap();

    assert_eq!(*seen.lock().unwrap(), ["Bearer token-1", "Bearer token-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_non_clone_inner_service_works_below_a_buffer() {
    let client = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .layer(BufferLayer::new(8))
        .service(BoxService::new(throttling().0));

    let response = client.oneshot(get("/")).await.unwrap();

    assert_eq!(Attempts::of(&response), 2);
}

#[tokio::test(start_paused = true)]
async fn a_redirect_that_keeps_the_method_is_not_followed_with_a_body() {
    let (inner, calls) = serving(|_| {
        let mut response = status_only(StatusCode::PERMANENT_REDIRECT);
        let there = HeaderValue::from_static("/there");
        response.headers_mut().insert(header::LOCATION, there);
        ready(response)
    });
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(RateLimitRetryLayer::new())
        .service(inner);

    let response = client.oneshot(post().map(|_| "data".into())).await.unwrap();

    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(calls.load(SeqCst), 1);
}

/// Retries immediately after a 429.
#[derive(Clone)]
struct ImmediateRetry;

impl<B: Clone, RB, E> Policy<Request<B>, Response<RB>, E> for ImmediateRetry {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<RB>, E>,
    ) -> Option<Ready<()>> {
        let status = result.as_ref().ok()?.status();
        (status == StatusCode::TOO_MANY_REQUESTS).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}
