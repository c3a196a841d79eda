//! A collector's double on loopback: decodes OTLP over HTTP, and keeps it.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::Metric,
    trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinHandle};
use tower_m2m::BoxError;

/// What a collector has received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    /// All spans, in the order of their start.
    pub(crate) spans: Vec<Span>,
    /// The metrics of the last export.
    pub(crate) metrics: Vec<Metric>,
}

/// The double. Stops when it is dropped.
pub(crate) struct Collector {
    url: String,
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts it on a free port of 127.0.0.1.
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let received = Arc::<Mutex<Received>>::default();
        let store = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let store = Arc::clone(&store);
                let service = service_fn(move |request| receive(request, Arc::clone(&store)));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Ok(Self {
            url,
            received,
            task,
        })
    }

    /// Returns its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns what has arrived.
    pub(crate) fn received(&self) -> Received {
        let received = self.received.lock();
        let mut received = received.unwrap_or_else(PoisonError::into_inner).clone();
        received.spans.sort_by_key(|span| span.start_time_unix_nano);
        received
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Stores one export.
async fn receive(
    request: Request<Incoming>,
    received: Arc<Mutex<Received>>,
) -> Result<Response<Full<Bytes>>, BoxError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut response = Response::new(Full::default());
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    let content = head.headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    match (head.uri.path(), content) {
        ("/v1/traces", Some(b"application/x-protobuf")) => {
            let export = ExportTraceServiceRequest::decode(body)?;
            let scopes = export
                .resource_spans
                .into_iter()
                .flat_map(|r| r.scope_spans);
            received.spans.extend(scopes.flat_map(|scope| scope.spans));
        }
        ("/v1/metrics", Some(b"application/x-protobuf")) => {
            let export = ExportMetricsServiceRequest::decode(body)?;
            let scopes = export
                .resource_metrics
                .into_iter()
                .flat_map(|r| r.scope_metrics);
            received.metrics = scopes.flat_map(|scope| scope.metrics).collect();
        }
        _ => *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE,
    }
    Ok(response)
}

/// Returns the value of an attribute, as text. `None` if there is none.
pub(crate) fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    found.next().map(value)
}

/// Returns the value of `attribute` as text.
pub(crate) fn value(attribute: &KeyValue) -> String {
    let value = attribute.value.as_ref();
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}
