//! cargo run -p otel
//!
//! A program with both layers over hyper-util, whose spans and metrics go to a collector by OpenTelemetry's protocol. The
//! collector is a double in this process, like the issuer and the API: it decodes what arrives, and this program prints
//! it. Fails if it violates the semantic conventions.
//!
//! | file | contents |
//! |---|---|
//! | `main` | the program |
//! | `http_span` | the layer below those of tower-m2m: a span and a measurement for each attempt |
//! | `export` | how `tracing` and OpenTelemetry are set up |
//! | `recorder` | the `metrics` facade on OpenTelemetry's instruments |
//! | `collector`, `conventions`, `report` | the collector's double, the check, the output |

mod collector;
mod conventions;
mod export;
mod http_span;
mod recorder;
mod report;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use opentelemetry::metrics::MeterProvider;
use tokio::net::TcpListener;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_m2m::{
    Backoff, BoxError, ClientAuth, ClientCredentialsLayer, RateLimitRetryLayer, TokenEndpoint,
    rate_limit_retry::RateLimitEvent,
    test_util::{Api, ApiFault, Fault, Issuer, Quota},
};
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;

use crate::{
    collector::{Collector, Received},
    export::Export,
    http_span::{HttpSpanLayer, UrlTemplate},
    recorder::OtelRecorder,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let received = run().await?;
    print!("{}", report::tree(&received.spans));
    print!("{}", report::table(&received.metrics));
    let violations = conventions::violations(&received);
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => Err(format!("{count} violations of the semantic conventions").into()),
    }
}

/// Runs the program. Returns what its collector has received.
async fn run() -> Result<Received, BoxError> {
    let collector = Collector::start().await?;

    // Once in a program, before it builds its layers. Both are global in a program that has more than one thread:
    // `tracing::subscriber::set_global_default` and `metrics::set_global_recorder`.
    let export = Export::to(collector.url(), "orders")?;
    let meter = export.metrics.meter("otel");
    let subscriber = tracing_subscriber::registry().with(export.layer());
    let recorder = OtelRecorder::new(meter.clone());
    {
        let _tracing = tracing::subscriber::set_default(subscriber);
        let _metrics = metrics::set_default_local_recorder(&recorder);
        calls(&HttpSpanLayer::new(&meter)).await?;
    }

    export.shutdown().await?;
    Ok(collector.received())
}

/// Calls an API, while the issuer, the quota, the token and the connection fail.
async fn calls(spans: &HttpSpanLayer) -> Result<(), BoxError> {
    let issuer = Issuer::builder().client("orders", "secret").start().await?;
    let issuer = Arc::new(issuer);
    let api = Api::builder()
        .tokens(issuer.tokens())
        .quota(Quota::fixed_window(2, Duration::from_secs(2)))
        .start()
        .await?;
    let nowhere = closed_port().await?;

    // Below both layers, and below the token endpoint: what passes there is what is sent.
    let auth = ClientAuth::basic("orders", "secret");
    let endpoint = TokenEndpoint::new(issuer.token_url().parse()?, auth)
        .service(spans.layer(Client::builder(TokioExecutor::new()).build_http()));
    let credentials = ClientCredentialsLayer::builder(endpoint, api.origin().parse()?)
        .allow_origin(nowhere.parse()?)
        .name("orders")
        .build();
    let revoked = Arc::clone(&issuer);
    let limits = RateLimitRetryLayer::builder()
        .max_retries(2)
        .backoff(Backoff::new(
            Duration::from_millis(50),
            Duration::from_secs(1),
        ))
        // The token is revoked while the request waits for its quota.
        .on_event(move |event| {
            if let RateLimitEvent::Throttled { .. } = event {
                revoked.revoke_all();
            }
        })
        .build();
    let client = ServiceBuilder::new()
        .layer(limits)
        .layer(credentials)
        .layer(spans)
        .service(Client::builder(TokioExecutor::new()).build_http());

    let get = async |name: &'static str, url: String| {
        let request = Request::get(url).extension(UrlTemplate("/orders/{id}"));
        let request = request.body(Full::<Bytes>::default())?;
        let call = async {
            let response = client.clone().oneshot(request).await?;
            let status = response.status();
            response.into_body().collect().await?;
            Ok::<_, BoxError>(status)
        };
        call.instrument(info_span!("call", otel.name = name)).await
    };
    async {
        issuer.next(Fault::status(StatusCode::SERVICE_UNAVAILABLE));
        get("first call", format!("{}orders/1", api.url())).await?;
        get("within the quota", format!("{}orders/2", api.url())).await?;
        get("429, then 401", format!("{}orders/3", api.url())).await?;
        api.next(ApiFault::Reset);
        get("broken connection", format!("{}orders/4", api.url())).await?;
        let unreachable = get("no server", format!("{nowhere}/orders/5?sig=secret")).await;
        match unreachable {
            Ok(status) => Err(format!("{status} from a closed port").into()),
            Err(_) => Ok::<_, BoxError>(()),
        }
    }
    .instrument(info_span!("import"))
    .await
}

/// Returns an origin where no server listens.
async fn closed_port() -> Result<String, BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(format!("http://{}", listener.local_addr()?))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::*;
    use crate::collector::attribute;

    /// What an attempt is about: name, resend count, status and error type.
    type Attempt = (String, Option<String>, Option<String>, Option<String>);

    fn attempts_of(received: &Received, call: &Span) -> Vec<Attempt> {
        let children = received.spans.iter().filter(|span| {
            span.parent_span_id == call.span_id
                && span.trace_id == call.trace_id
                && conventions::is_client(span)
        });
        let get = |span: &Span, key| attribute(&span.attributes, key);
        children
            .map(|span| {
                (
                    span.name.clone(),
                    get(span, "http.request.resend_count"),
                    get(span, "http.response.status_code"),
                    get(span, "error.type"),
                )
            })
            .collect()
    }

    fn attempt(name: &str, resend: u32, status: u16, error: &str) -> Attempt {
        let present = |text: String, is: bool| is.then_some(text);
        (
            name.to_owned(),
            present(resend.to_string(), resend > 0),
            present(status.to_string(), status > 0),
            present(error.to_owned(), !error.is_empty()),
        )
    }

    #[tokio::test]
    async fn each_attempt_is_a_span_with_its_number_and_error() {
        let received = run().await.unwrap();

        assert_eq!(conventions::violations(&received), Vec::<String>::new());
        let named = |name: &str| -> Vec<Vec<Attempt>> {
            let spans = received.spans.iter().filter(|span| span.name == name);
            spans.map(|span| attempts_of(&received, span)).collect()
        };
        let order = "GET /orders/{id}";
        assert_eq!(named("first call"), [[attempt(order, 0, 200, "")]]);
        assert_eq!(
            named("429, then 401"),
            [[
                attempt(order, 0, 429, "429"),
                attempt(order, 1, 401, "401"),
                attempt(order, 2, 200, "")
            ]]
        );
        let broken = "hyper_util::client::legacy::client::Error";
        assert_eq!(
            named("broken connection"),
            [[attempt(order, 0, 0, broken), attempt(order, 1, 200, "")]]
        );
        let refused = |resend| attempt(order, resend, 0, "ConnectionRefused");
        assert_eq!(named("no server"), [[refused(0), refused(1), refused(2)]]);
        // A fetch is the root of its own trace, because several calls may wait for it.
        let token = |resend, status, error| attempt("POST", resend, status, error);
        assert_eq!(
            named("token fetch"),
            [
                vec![token(0, 503, "503"), token(1, 200, "")],
                vec![token(0, 200, "")]
            ]
        );
        let fetches = received.spans.iter().filter(|s| s.name == "token fetch");
        assert!({ fetches }.all(|span| span.parent_span_id.is_empty()));

        // The check notices what is missing.
        for (key, said) in [
            ("http.request.resend_count", "http.request.resend_count is"),
            ("error.type", "error.type"),
            ("server.address", "server.address is missing"),
        ] {
            let mut without = received.clone();
            for span in &mut without.spans {
                span.attributes.retain(|attribute| attribute.key != key);
            }
            let violations = conventions::violations(&without);
            assert!(
                violations.iter().any(|v| v.contains(said)),
                "{violations:?}"
            );
        }
    }

    #[test]
    fn the_code_of_the_guide_is_that_of_this_program() {
        let guide = include_str!("../../../src/docs/telemetry.md");
        let (_, section) = guide.split_once("# OpenTelemetry\n").unwrap();
        let sources = [include_str!("main.rs"), include_str!("export.rs")].concat();
        let blocks = section.split("```rust,ignore\n").skip(1);
        let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
        for line in lines.map(str::trim) {
            assert!(sources.contains(line), "{line}");
        }
    }
}
