//! Spans and metrics go to a collector by OTLP over HTTP: what a program does once, before it builds its layers.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::{Aggregation, Instrument, SdkMeterProvider, Stream},
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::{runtime::Handle, time::timeout};
use tower_m2m::BoxError;
use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

/// How long an export may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The providers of traces and metrics.
pub(crate) struct Export {
    traces: SdkTracerProvider,
    pub(crate) metrics: SdkMeterProvider,
}

impl Export {
    /// Creates providers that export to the collector at this address.
    ///
    /// # Errors
    ///
    /// The address is not a URL.
    pub(crate) fn to(collector: &str, service: &'static str) -> Result<Self, BoxError> {
        let client = OtlpClient::new();
        let spans = SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(format!("{collector}/v1/traces"))
            .build()?;
        let metrics = MetricExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{collector}/v1/metrics"))
            .build()?;
        let resource = Resource::builder().with_service_name(service).build();
        Ok(Self {
            traces: SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(spans)
                .build(),
            metrics: SdkMeterProvider::builder()
                .with_resource(resource)
                .with_periodic_exporter(metrics)
                .with_view(buckets)
                .build(),
        })
    }

    /// Returns the layer of the subscriber that turns `tracing` spans, and events within them, into those of
    /// OpenTelemetry: those of this program, and of tower-m2m.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer: SdkTracer = self.traces.tracer("otel");
        let targets = Targets::new()
            .with_target("otel", Level::INFO)
            .with_target("tower_m2m", Level::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(targets)
    }

    /// Exports what is left. A program does so before it ends.
    ///
    /// # Errors
    ///
    /// The collector did not accept it.
    pub(crate) async fn shutdown(self) -> Result<(), BoxError> {
        // Both calls block until the exports, which run on this runtime, are done.
        let shutdown = tokio::task::spawn_blocking(move || {
            self.traces.shutdown()?;
            self.metrics.shutdown()
        });
        Ok(shutdown.await??)
    }
}

/// A view with the bounds of tower-m2m's histograms. Instruments that set theirs, and all others, stay as they are.
fn buckets(instrument: &Instrument) -> Option<Stream> {
    let mut known = tower_m2m::METRIC_BUCKETS.iter();
    let (_, bounds) = known.find(|(name, _)| *name == instrument.name())?;
    let aggregation = Aggregation::ExplicitBucketHistogram {
        boundaries: bounds.to_vec(),
        record_min_max: true,
    };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

/// Sends exports on the program's runtime: the SDK calls it from threads that have none.
#[derive(Clone, Debug)]
struct OtlpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: Handle,
}

impl OtlpClient {
    fn new() -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            runtime: Handle::current(),
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.request(request.map(Full::new));
        let exchange = async {
            let (head, body) = response.await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        // The timer needs the runtime as well.
        let sending = self
            .runtime
            .spawn(async { timeout(TIMEOUT, exchange).await? });
        sending.await?
    }
}
