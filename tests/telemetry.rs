//! The guide `telemetry` and what is emitted: neither names anything that the other does not.
#![cfg(all(feature = "tracing", feature = "metrics"))]

mod support;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::SystemTime,
};

use http_body_util::BodyExt;
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use support::{SECOND, Source, api, get, layer, post, send, serving, throttled};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_m2m::{
    BoxError, ClientAuth, ClientCredentialsLayer, Clock, RateLimitRetryLayer, SystemClock,
    TokenEndpoint,
    client_credentials::TokenError,
    rate_limit_retry::StoredQuotas,
    replay::{ReplayBody, ReplayableBody, RequestBodyReplayLayer},
    store::StoreError,
    test_util::MemoryQuotaStore,
};
use tracing_subscriber::layer::SubscriberExt;

const GUIDE: &str = include_str!("../src/docs/telemetry.md");
/// What was registered: `kind name{labels}`.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeSet<String>>>, Arc<Mutex<BTreeSet<String>>>);

impl Recorded {
    fn describe(&self, kind: &str, name: &KeyName, unit: Option<Unit>, description: &str) {
        assert!(!description.is_empty(), "{name:?}");
        let in_seconds = name.as_str().ends_with("_seconds");
        let expected = if in_seconds {
            Unit::Seconds
        } else {
            Unit::Count
        };
        assert_eq!(unit, Some(expected), "{name:?}");
        let line = format!("{kind} {}", name.as_str());
        self.1.lock().unwrap().insert(line);
    }

    fn note(&self, kind: &str, key: &Key) {
        let labels: Vec<_> = key.labels().map(metrics::Label::key).collect();
        let line = format!("{kind} {}{{{}}}", key.name(), labels.join(","));
        self.0.lock().unwrap().insert(line);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe("counter", &name, unit, &description);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe("gauge", &name, unit, &description);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe("histogram", &name, unit, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.note("counter", key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.note("gauge", key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note("histogram", key);
        Histogram::noop()
    }
}

/// The messages of `tracing` events, and the names of spans: `level target message`, `span target name`.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<BTreeSet<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Messages {
    fn on_new_span(
        &self,
        span: &tracing::span::Attributes<'_>,
        _: &tracing::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let metadata = span.metadata();
        let line = format!("span {} {}", metadata.target(), metadata.name());
        self.0.lock().unwrap().insert(line);
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let metadata = event.metadata();
        let level = metadata.level().to_string().to_lowercase();
        let line = format!("{level} {} {}", metadata.target(), message.0);
        self.0.lock().unwrap().insert(line);
    }
}

/// The rows of the guide's table of metrics, as [`Recorded`] writes them.
fn listed() -> BTreeSet<String> {
    let rows = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("| `tower_m2m_"));
    rows.filter_map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        let [name, kind, labels, _] = cells[..] else {
            return None;
        };
        let labels = labels.replace(['`', ' '], "").replace("none", "");
        Some(format!(
            "{kind} tower_m2m_{}{{{labels}}}",
            name.trim_end_matches('`')
        ))
    })
    .collect()
}

#[test]
fn emitted_and_documented_metrics_match() {
    let seen = Recorded::default();
    let messages = Messages::default();
    let subscriber = tracing_subscriber::registry().with(messages.clone());

    with_local_recorder(&seen, || {
        tracing::subscriber::with_default(subscriber, || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap()
                .block_on(everything());
        });
    });

    let events = seen.0.lock().unwrap().clone();
    let not_driven: BTreeSet<String> = NOT_DRIVEN.iter().map(|line| (*line).to_owned()).collect();
    let all: BTreeSet<String> = events.union(&not_driven).cloned().collect();
    assert_eq!(all, listed());
    assert!(events.is_disjoint(&not_driven), "{events:?}");
    let spans = messages.0.lock().unwrap().clone();
    let spans: Vec<_> = spans
        .iter()
        .filter(|line| line.starts_with("span"))
        .collect();
    assert_eq!(
        spans,
        [
            "span tower_m2m::rate_limit waiting for permit",
            "span tower_m2m::token token fetch"
        ]
    );
    for message in messages.0.lock().unwrap().iter() {
        let [level, target, text] = message.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("{message}");
        };
        let section = GUIDE.split(&format!("Target `{target}`")).nth(1);
        let row = section.and_then(|section| {
            let mut rows = section.lines();
            rows.find(|row| row.starts_with(&format!("| {level} |")))
        });
        let listed = row.is_some_and(|row| row.contains(&format!("`{text}`")));
        assert!(listed, "not in the guide: {message}");
    }
}

#[test]
fn building_a_layer_describes_every_metric_and_histograms_have_buckets() {
    let seen = Recorded::default();

    with_local_recorder(&seen, || drop(RateLimitRetryLayer::new()));

    let described = seen.1.lock().unwrap().clone();
    let names = listed().into_iter();
    let names: BTreeSet<_> = names
        .map(|line| line.split('{').next().unwrap().to_owned())
        .collect();
    assert_eq!(described, names);
    let histograms = names
        .iter()
        .filter_map(|line| line.strip_prefix("histogram "));
    for name in histograms {
        let buckets = tower_m2m::METRIC_BUCKETS;
        let bounds = buckets.iter().find(|(histogram, _)| *histogram == name);
        let (_, bounds) = bounds.unwrap_or_else(|| panic!("no buckets for {name}"));
        assert!(bounds.is_sorted(), "{name}");
        let row = format!(
            "| `{name}` | {} |",
            bounds
                .iter()
                .map(f64::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        );
        assert!(GUIDE.contains(&row), "not in the guide: {row}");
    }
}

#[test]
fn every_message_in_the_source_is_in_the_guide() {
    let source = include_str!("../src/telemetry/trace.rs");
    let messages = source.split('"').skip(1).step_by(2);
    let mut count = 0;
    for message in messages.filter(|text| text.contains(' ') || !text.contains("tower_m2m")) {
        assert!(GUIDE.contains(&format!("`{message}`")), "{message}");
        count += 1;
    }
    assert!(count > 15, "{count}");
}

/// The gauge that says when a token expires.
#[derive(Clone, Default)]
struct Expiry(Arc<AtomicU64>);

impl Recorder for Expiry {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match key.name() {
            "tower_m2m_token_expiry_timestamp_seconds" => Gauge::from_arc(Arc::clone(&self.0)),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn the_time_at_which_a_token_expires_is_by_the_clock_of_the_layer() {
    struct Billennium;
    impl Clock for Billennium {
        fn now(&self) -> Instant {
            SystemClock::default().now()
        }

        fn wall_clock(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + 1_000_000_000 * SECOND
        }
    }

    let expiry = Expiry::default();
    with_local_recorder(&expiry, || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let tokens = layer(&Source::with_lifetime(300 * SECOND)).clock(Billennium);
            tokens.build().handle().token().await.unwrap();
        });
    });

    let expires_at = f64::from_bits(expiry.0.load(SeqCst));
    assert!((expires_at - 1_000_000_300.0).abs() < 1.0, "{expires_at}");
}

#[test]
fn failure_events_include_the_cause() {
    #[derive(Clone, Default)]
    struct Fields(Arc<Mutex<Vec<String>>>);
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Fields {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            struct Line(String);
            impl tracing::field::Visit for Line {
                fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                    self.0.push_str(&format!(" {field}={value:?}"));
                }
            }
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }

    let fields = Fields::default();
    let subscriber = tracing_subscriber::registry().with(fields.clone());
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let broken = || {
                let lookup = std::io::Error::other("no such host");
                Err::<http::Response<support::Body>, BoxError>(Outer(lookup).into())
            };
            let issuer =
                service_fn(move |_: http::Request<support::Body>| std::future::ready(broken()));
            let uri = "https://id.example/token".parse().unwrap();
            let endpoint = TokenEndpoint::new(uri, ClientAuth::post("id", "secret"));
            let endpoint = endpoint.service(issuer).retries(1);
            let tokens = ClientCredentialsLayer::builder(endpoint, support::origin()).build();
            tokens.handle().token().await.unwrap_err();

            let api =
                service_fn(move |_: http::Request<support::Body>| std::future::ready(broken()));
            let limits = RateLimitRetryLayer::builder().max_retries(1).build();
            limits.layer(api).oneshot(get("/")).await.unwrap_err();
        });
    });

    let fields = fields.0.lock().unwrap();
    for (message, cause) in [
        (
            "retrying token request",
            r#"kind="transport" cause="connecting failed: no such host""#,
        ),
        (
            "token fetch failed",
            r#"kind="transport" cause="connecting failed: no such host""#,
        ),
        (
            "retrying",
            r#"error="connecting failed" cause="no such host""#,
        ),
        (
            "gave up",
            r#"error="connecting failed" cause="no such host""#,
        ),
    ] {
        let known = |line: &&String| line.contains(message) && line.contains(cause);
        assert!(
            fields.iter().any(|line| known(&line)),
            "{message}: {fields:?}"
        );
    }
}

#[derive(Debug)]
struct Outer(std::io::Error);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connecting failed")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// What needs more than this test has; the test of tokens in a store has it.
const NOT_DRIVEN: [&str; 2] = [
    "counter tower_m2m_token_fetch_retries_total{credential,error}",
    "gauge tower_m2m_token_store_up{credential}",
];

/// A life in which everything happens once.
async fn everything() {
    let source = Source::with_lifetime(300 * SECOND);
    let tokens = layer(&source).name("orders").build();
    let service = tokens.layer(api(&source).0);
    source.fail_with(Some(TokenError::transient("could not be sent")));
    assert!(send(&service, get("/")).await.is_err());
    tokio::time::sleep(60 * SECOND).await;
    source.fail_with(None);
    send(&service, get("/")).await.unwrap();
    source.revoke_all();
    send(&service, get("/")).await.unwrap();

    let (throttling, _) = serving(|request| {
        let long = request.uri().path() == "/long";
        std::future::ready(throttled(if long { "9000" } else { "1" }))
    });
    let limits = RateLimitRetryLayer::builder().max_retries(1).build();
    let limited = limits.layer(throttling);
    send(&limited, get("/")).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    send(&limited, get("/long")).await.unwrap();
    assert!(send(&limited, get("/")).await.is_err());

    // No room for a single byte.
    let replay = RequestBodyReplayLayer::new().max_total_bytes(0);
    let reading = service_fn(async |request: http::Request<ReplayBody<support::Body>>| {
        let copy = request.body().try_clone();
        let read = request.into_body().collect().await.map(drop);
        drop(copy);
        read
    });
    replay.layer(reading).oneshot(post("/")).await.unwrap();

    let (refusing, _) = serving(|_| std::future::ready(throttled("5")));
    let store = MemoryQuotaStore::new();
    store.fail_with(Some(StoreError::unavailable("is down")));
    let fleet = [(); 2].map(|()| {
        let quotas = StoredQuotas::new("fleet", store.clone());
        let layer = RateLimitRetryLayer::builder().store(quotas).max_retries(0);
        layer.build().layer(refusing.clone())
    });
    for (process, fault) in [(&fleet[0], true), (&fleet[1], false)] {
        send(process, get("/")).await.unwrap();
        tokio::time::sleep(20 * SECOND).await;
        store.fail_with(fault.then(|| StoreError::unavailable("is down")));
        tokio::time::sleep(20 * SECOND).await;
        store.fail_with(None);
        tokio::time::sleep(20 * SECOND).await;
    }
    send(&fleet[0], get("/")).await.unwrap();
    tokio::time::sleep(SECOND).await;
}
