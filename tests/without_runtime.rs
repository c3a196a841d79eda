//! Requests that are polled outside of a tokio runtime: there are no timers, and nothing panics.

mod support;

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::{Body as HttpBody, Frame};
use support::{API, Body, SECOND, Source, get, layer, send, serving, status_only, throttled};
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, M2mLayer, RateLimitRetryLayer,
    client_credentials::TokenError,
    rate_limit_retry::{GaveUp, GiveUpReason, LocalLimit, RateLimited},
};

#[test]
fn a_429_is_returned_unchanged() {
    for deadline in [None, Some(60 * SECOND)] {
        for status in [429, 503] {
            let (inner, calls) = serving(move |_| {
                let mut response = throttled("1");
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                std::future::ready(response)
            });
            let mut limits = RateLimitRetryLayer::builder();
            if let Some(deadline) = deadline {
                limits = limits.deadline(deadline);
            }
            let limits = limits.build();

            let response = now(send(&limits.layer(inner), get("/"))).unwrap();

            assert_eq!(response.status(), status);
            let gave_up = GaveUp::of(&response).unwrap();
            assert_eq!(gave_up.reason(), GiveUpReason::NoRuntime);
            assert!(gave_up.retry_after() >= Some(SECOND));
            assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 1);
        }
    }
}

#[test]
fn a_request_that_would_have_to_wait_is_not_sent() {
    let (inner, calls) = serving(|_| std::future::ready(status_only(StatusCode::OK)));
    let paused = RateLimitRetryLayer::new();
    paused.handle().pause(&API.into(), 10 * SECOND);
    let one = LocalLimit::per_second(1);
    let limited = RateLimitRetryLayer::builder().limit(one).build();
    now(send(&limited.layer(inner.clone()), get("/"))).unwrap();

    for limits in [paused, limited] {
        let error = now(send(&limits.layer(inner.clone()), get("/"))).unwrap_err();

        let error = error.downcast::<RateLimited>().unwrap();
        assert!(error.to_string().contains("no tokio runtime"), "{error}");
    }
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn a_rejected_token_is_not_replaced_and_the_401_is_returned() {
    let source = Source::default();
    let credentials = layer(&source).build();
    let handle = credentials.handle();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(handle.prefetch()).unwrap();
    drop(runtime);
    source.revoke_all();
    let valid = source.clone();
    let inner = service_fn(move |request: Request<Body>| {
        let response = valid.answer(&request).map(|_| PendingBody);
        std::future::ready(Ok::<_, BoxError>(response))
    });
    let both = M2mLayer::new(RateLimitRetryLayer::new(), credentials.clone());

    let alone = now(credentials.layer(inner.clone()).oneshot(get("/"))).unwrap();
    let combined = now(both.layer(inner).oneshot(get("/"))).unwrap();

    assert_eq!(alone.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(combined.status(), StatusCode::UNAUTHORIZED);
}

#[test]
fn without_a_token_there_is_an_error() {
    let source = Source::default();
    let (inner, _) = support::api(&source);
    let both = M2mLayer::new(RateLimitRetryLayer::new(), layer(&source).build());

    let error = now(send(&both.layer(inner), get("/"))).unwrap_err();

    assert!(error.is::<TokenError>(), "{error}");
}

/// The output of a future that completes on its first poll.
fn now<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the call waits for what never comes"),
    }
}

/// A body that never comes.
struct PendingBody;

impl HttpBody for PendingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}
