//! Layers in the wrong order, inside one another, or built for each request are reported once.

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::StatusCode;
use support::{Body, SECOND, Source, api, get, layer, send, serving, status_only, throttled};
use tower::{Layer, ServiceBuilder, service_fn, util::BoxCloneSyncService};
use tower_m2m::{
    BoxError, M2mLayer, Misuse, RateLimitRetryLayer,
    client_credentials::{ClientCredentialsLayerBuilder, TokenEvent},
    rate_limit_retry::{LocalLimit, RateLimitEvent, RateLimitRetryLayerBuilder},
};

#[tokio::test(start_paused = true)]
async fn limits_inside_credentials_are_reported_at_construction() {
    let source = Source::with_lifetime(300 * SECOND);
    let (seen, credentials) = with_events(layer(&source));
    let credentials = credentials.build();
    let limits = RateLimitRetryLayer::new();

    for _ in 0..3 {
        let stack = ServiceBuilder::new()
            .layer(credentials.clone())
            .concurrency_limit(10)
            .layer(limits.clone());
        send(&stack.service(api(&source).0), get("/"))
            .await
            .unwrap();
    }

    assert_eq!(seen.take(), [Misuse::WrongOrder]);
}

#[tokio::test(start_paused = true)]
async fn the_right_order_is_not_reported() {
    let source = Source::with_lifetime(300 * SECOND);
    let (seen, credentials) = with_events(layer(&source));
    let credentials = credentials.build();
    let limits = limits_with_events(&seen);

    let stack = ServiceBuilder::new()
        .layer(limits.clone())
        .layer(credentials.clone());
    send(&stack.service(api(&source).0), get("/"))
        .await
        .unwrap();
    let both = M2mLayer::new(limits, credentials).layer(api(&source).0);
    send(&both, get("/")).await.unwrap();
    source.revoke_all();
    send(&both, get("/")).await.unwrap();

    assert_eq!(seen.take(), []);
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_rejected_is_not_reported() {
    let source = Source::with_lifetime(300 * SECOND);
    let (seen, credentials) = with_events(layer(&source));
    let (rejecting, calls) = serving(|_| std::future::ready(status_only(StatusCode::UNAUTHORIZED)));

    send(&credentials.build().layer(rejecting), get("/"))
        .await
        .unwrap();

    assert_eq!(calls.load(SeqCst), 2);
    assert_eq!(seen.take(), []);
}

#[tokio::test(start_paused = true)]
async fn limits_inside_limits_are_reported() {
    let (service, _) = serving(|_| std::future::ready(status_only(StatusCode::OK)));
    let seen = Reported::default();
    let inner = RateLimitRetryLayer::new().layer(service);
    drop(limits_with_events(&seen).layer(inner.clone()));
    assert_eq!(seen.take(), [Misuse::Nested]);

    let source = Source::with_lifetime(300 * SECOND);
    let both = M2mLayer::new(limits_with_events(&seen), layer(&source).build());
    drop(both.layer(inner));
    assert_eq!(seen.take(), [Misuse::Nested]);
}

#[tokio::test(start_paused = true)]
async fn boxed_limits_inside_credentials_are_found_on_a_retry_with_a_stale_token() {
    let source = Source::with_lifetime(300 * SECOND);
    let count = Arc::new(AtomicUsize::new(0));
    let issued = source.clone();
    let (service, _) = serving(move |request| {
        std::future::ready(match count.fetch_add(1, SeqCst) {
            0 | 3 => throttled("1"),
            1 | 4 => status_only(StatusCode::UNAUTHORIZED),
            _ => issued.answer(&request),
        })
    });
    let hidden = BoxCloneSyncService::new(RateLimitRetryLayer::new().layer(service));
    let (seen, credentials) = with_events(layer(&source));
    let stack = credentials.build().layer(hidden);

    for _ in 0..2 {
        send(&stack, get("/")).await.unwrap();
        tokio::time::sleep(60 * SECOND).await;
    }

    assert_eq!(seen.take(), [Misuse::WrongOrder]);
}

#[tokio::test(start_paused = true)]
async fn boxed_limits_inside_limits_are_found_on_a_retry() {
    let count = Arc::new(AtomicUsize::new(0));
    let failing = service_fn(move |_: http::Request<Body>| {
        let first = count.fetch_add(1, SeqCst) == 0;
        std::future::ready(match first {
            true => Err(BoxError::from(std::io::Error::from(
                std::io::ErrorKind::ConnectionRefused,
            ))),
            false => Ok(status_only(StatusCode::OK)),
        })
    });
    let seen = Reported::default();
    let inner = limits_builder_with_events(&seen)
        .max_retries(0)
        .build()
        .layer(failing);
    let stack = RateLimitRetryLayer::new().layer(BoxCloneSyncService::new(inner));

    send(&stack, get("/")).await.unwrap();

    assert_eq!(seen.take(), [Misuse::Nested]);
}

#[tokio::test(start_paused = true)]
async fn nested_credentials_for_the_same_header_are_reported() {
    let source = Source::with_lifetime(300 * SECOND);
    let (seen, inner) = with_events(layer(&source));
    let inner = inner.build().layer(api(&source).0);
    let stack = layer(&source).build().layer(inner);
    send(&stack, get("/")).await.unwrap();
    send(&stack, get("/")).await.unwrap();
    assert_eq!(seen.take(), [Misuse::Nested]);

    let (seen, inner) = with_events(layer(&source));
    let inner = inner.build().layer(api(&source).0);
    let key = http::HeaderName::from_static("x-api-key");
    let beside = layer(&source).header(key).build().layer(inner);
    send(&beside, get("/")).await.unwrap();
    assert_eq!(seen.take(), []);
}

#[tokio::test(start_paused = true)]
async fn layers_built_for_each_request_are_reported_once() {
    let source = Source::with_lifetime(300 * SECOND);
    let mut reports = Vec::new();
    for _ in 0..100 {
        let (seen, credentials) = with_events(layer(&source).name("per request"));
        // Other tests build theirs elsewhere.
        let limits = limits_builder_with_events(&seen).build();
        let stack = ServiceBuilder::new()
            .layer(limits)
            .layer(credentials.build());
        send(&stack.service(api(&source).0), get("/"))
            .await
            .unwrap();
        reports.extend(seen.take());
    }

    assert_eq!(reports, [Misuse::PerRequest; 2]);
}

#[tokio::test(start_paused = true)]
async fn applying_one_layer_per_request_is_not_reported() {
    let source = Source::with_lifetime(300 * SECOND);
    let (seen, credentials) = with_events(layer(&source).name("applied"));
    let credentials = credentials.build();
    for _ in 0..100 {
        send(&credentials.layer(api(&source).0), get("/"))
            .await
            .unwrap();
    }

    assert_eq!(seen.take(), []);
}

#[derive(Clone, Default)]
struct Reported(Arc<Mutex<Vec<Misuse>>>);

impl Reported {
    fn take(&self) -> Vec<Misuse> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn with_events(
    builder: ClientCredentialsLayerBuilder,
) -> (Reported, ClientCredentialsLayerBuilder) {
    let seen = Reported::default();
    let events = seen.clone();
    let builder = builder.on_event(move |event| {
        if let TokenEvent::Misused { misuse, .. } = event {
            events.0.lock().unwrap().push(*misuse);
        }
    });
    (seen, builder)
}

fn limits_with_events(seen: &Reported) -> RateLimitRetryLayer {
    limits_builder_with_events(seen).build()
}

fn limits_builder_with_events(seen: &Reported) -> RateLimitRetryLayerBuilder {
    let events = seen.clone();
    RateLimitRetryLayer::builder().on_event(move |event| {
        if let RateLimitEvent::Misused { misuse, .. } = event {
            events.0.lock().unwrap().push(*misuse);
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_replaces_another_one_is_reported() {
    let seen = Reported::default();
    let twice = limits_builder_with_events(&seen)
        .partition_by(|_| "one".into())
        .partitions_by(|_| vec!["other".into()]);
    drop(twice.build());

    let setting = "partition_by";
    assert_eq!(seen.take(), [Misuse::SetTwice { setting }]);
    let text = Misuse::SetTwice { setting }.to_string();
    assert!(text.contains("(`partition_by`)"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn settings_that_add_to_each_other_are_not_reported() {
    let seen = Reported::default();
    let added = limits_builder_with_events(&seen)
        .partition_by(|_| "one".into())
        .limit_for("one".into(), LocalLimit::per_second(1))
        .limit_for("two".into(), LocalLimit::per_second(2))
        .on_event(|_| {});
    drop(added.build());

    assert_eq!(seen.take(), []);
}
