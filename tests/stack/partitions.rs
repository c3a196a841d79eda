//! Whose quota a request counts for.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use http::{Request, StatusCode, header};
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_m2m::{M2mLayer, RateLimitRetryLayer, client_credentials::OriginNotAllowed};

use crate::{
    support::{Body, HOUR, SECOND, Source, api, get, layer, send, serving, spawn, status_only},
    world::stacked,
};

#[tokio::test(start_paused = true)]
async fn a_request_for_a_foreign_origin_is_not_queued() {
    let source = Source::with_lifetime(HOUR);
    let (inner, calls) = api(&source);
    let (service, layer) = stacked(&source, inner);
    let foreign = Request::get("https://elsewhere.example/").body(Body::default());

    let error = send(&service, foreign.unwrap()).await.unwrap_err();

    assert!(error.is::<OriginNotAllowed>());
    assert!(layer.handle().quotas().status().is_empty());
    assert_eq!((source.fetches(), calls.load(SeqCst)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_named_credential_has_its_own_partition() {
    let limits = RateLimitRetryLayer::new();
    let (source, other) = (Source::with_lifetime(HOUR), Source::with_lifetime(HOUR));
    let valid = source.clone();
    let (inner, _) = serving(move |request| {
        // The first credential's quota is exhausted permanently.
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
    second.handle().tokens().prefetch().await.unwrap();
    second.handle().tokens().refresh_now().await.unwrap();
    let held = spawn(&first.layer(inner.clone()), get("/"));
    sleep(SECOND).await;

    let began = Instant::now();
    let response = send(&second.layer(inner), get("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let held_for = |name: &str| {
        let status = second.handle().quotas().status();
        let found = status.iter().find(|q| q.partition().as_str() == name);
        found.unwrap().held_for()
    };
    assert!(held_for("https://api.example.com as first").is_some());
    assert!(held_for("https://api.example.com as second").is_none());
    held.abort();
}
