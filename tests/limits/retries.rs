//! What is sent again, and what is not.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};
use tokio::time::Instant;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_m2m::{
    RateLimitRetryLayer,
    client_credentials::TokenError,
    rate_limit_retry::{GaveUp, GiveUpReason},
};

use crate::{
    support::{Body, Source, api, get, layer, post, send, serving, status_only},
    world::limited,
};

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
async fn transient_failures_are_retried_for_idempotent_methods_only() {
    for (request, expected) in [(get("/"), 6), (post("/"), 1)] {
        let (inner, calls) = serving(|_| std::future::ready(status_only(StatusCode::BAD_GATEWAY)));
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
