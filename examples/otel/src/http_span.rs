//! A layer for below the layers of tower-m2m: a span and a measurement for each attempt, as OpenTelemetry's semantic
//! conventions for HTTP clients demand (<https://opentelemetry.io/docs/specs/semconv/http/>). Copy this file.
//!
//! Integers are `i64`: tracing-opentelemetry exports a `u64` as a string.
//!
//! | attribute | source | on the metric |
//! |---|---|---|
//! | `http.request.method` | the request; `_OTHER` for methods that RFC 9110 and RFC 5789 do not have | yes |
//! | `http.request.resend_count` | [`Attempts::of_request`] minus 1; absent on the first attempt | |
//! | `server.address`, `server.port` | the URI | yes |
//! | `url.full` | the URI, without user, password and signatures | |
//! | `url.template` | [`UrlTemplate`] in the request's extensions, if there is one; also in the span's name | yes |
//! | `http.response.status_code`, `network.protocol.version` | the response | yes |
//! | `error.type` | a status from 400 on, or the kind of the error; with it, the span's status is `ERROR` | yes |

use std::{
    error::Error,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response, Uri, Version};
use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter},
    propagation::TextMapPropagator,
};
use opentelemetry_http::HeaderInjector;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::{Layer, Service};
use tower_m2m::{Attempts, Clock, SystemClock};
use tracing::{Instrument, Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name of the metric.
pub(crate) const DURATION: &str = "http.client.request.duration";
/// Upper bounds of its buckets in seconds, as the conventions advise.
pub(crate) const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The path of a request with placeholders, such as `/orders/{id}`: an extension of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UrlTemplate(pub(crate) &'static str);

/// Adds a span, its `traceparent` and a measurement to each attempt.
#[derive(Clone, Debug)]
pub(crate) struct HttpSpanLayer {
    duration: Histogram<f64>,
}

impl HttpSpanLayer {
    /// Creates the layer, which measures with `meter`.
    pub(crate) fn new(meter: &Meter) -> Self {
        let duration = meter
            .f64_histogram(DURATION)
            .with_unit("s")
            .with_description("Duration of HTTP client requests.")
            .with_boundaries(BOUNDS.to_vec());
        Self {
            duration: duration.build(),
        }
    }
}

impl<S> Layer<S> for HttpSpanLayer {
    type Service = HttpSpan<S>;

    fn layer(&self, inner: S) -> HttpSpan<S> {
        let duration = self.duration.clone();
        HttpSpan { inner, duration }
    }
}

/// The service of an [`HttpSpanLayer`].
#[derive(Clone, Debug)]
pub(crate) struct HttpSpan<S> {
    inner: S,
    duration: Histogram<f64>,
}

impl<S, B, RB> Service<Request<B>> for HttpSpan<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Future: Send + 'static,
    S::Error: Error + 'static,
{
    type Response = Response<RB>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<RB>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let method = method_of(&request);
        let address = request.uri().host().unwrap_or_default().to_owned();
        let port = port_of(request.uri());
        let template = request.extensions().get().map(|UrlTemplate(path)| *path);
        let attempt = Attempts::of_request(&request);
        // The name of a span has a method, never `_OTHER`.
        let verb = if method == "_OTHER" { "HTTP" } else { method };
        let span = info_span!(
            "HTTP request",
            otel.kind = "client",
            otel.name = template.map_or_else(|| verb.to_owned(), |path| format!("{verb} {path}")),
            otel.status_code = Empty,
            http.request.method = method,
            http.request.resend_count = (attempt > 1).then(|| i64::from(attempt) - 1),
            server.address = address,
            server.port = port,
            url.full = redacted(request.uri()),
            url.template = template,
            http.response.status_code = Empty,
            network.protocol.version = Empty,
            "error.type" = Empty,
        );
        // Each attempt has its own `traceparent`: the span of the server becomes a child of this one.
        let mut headers = HeaderInjector(request.headers_mut());
        TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
        let mut labels = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("server.address", address),
            KeyValue::new("server.port", port),
        ];
        labels.extend(template.map(|path| KeyValue::new("url.template", path)));

        let duration = self.duration.clone();
        let began = SystemClock::default().now();
        let attempt = self.inner.call(request);
        Box::pin(
            async move {
                let outcome = attempt.await;
                let end = Outcome::of(&outcome);
                end.record(&Span::current());
                labels.extend(end.labels());
                let elapsed = SystemClock::default().now() - began;
                duration.record(elapsed.as_secs_f64(), &labels);
                outcome
            }
            .instrument(span),
        )
    }
}

/// How an attempt ended.
struct Outcome {
    status: Option<i64>,
    version: Option<&'static str>,
    error: Option<String>,
}

impl Outcome {
    fn of<RB, E: Error + 'static>(outcome: &Result<Response<RB>, E>) -> Self {
        match outcome {
            Ok(response) => {
                let status = response.status().as_u16();
                Self {
                    status: Some(status.into()),
                    version: version_of(response.version()),
                    error: (status >= 400).then(|| status.to_string()),
                }
            }
            Err(error) => Self {
                status: None,
                version: None,
                error: Some(kind_of(error)),
            },
        }
    }

    fn record(&self, span: &Span) {
        span.record("http.response.status_code", self.status);
        span.record("network.protocol.version", self.version);
        if let Some(error) = &self.error {
            span.record("error.type", error.as_str());
            span.record("otel.status_code", "ERROR");
        }
    }

    fn labels(self) -> impl Iterator<Item = KeyValue> {
        let status = self.status;
        let status = status.map(|status| KeyValue::new("http.response.status_code", status));
        let version = self.version;
        let version = version.map(|version| KeyValue::new("network.protocol.version", version));
        let error = self.error.map(|error| KeyValue::new("error.type", error));
        [status, version, error].into_iter().flatten()
    }
}

/// The method, or `_OTHER`: clients of any kind must not create any number of time series.
fn method_of<B>(request: &Request<B>) -> &'static str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
    ];
    const NAMES: [&str; 9] = [
        "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT",
    ];
    let known = KNOWN.iter().position(|method| method == request.method());
    known.map_or("_OTHER", |index| NAMES[index])
}

fn port_of(uri: &Uri) -> i64 {
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    uri.port_u16().map_or(default, i64::from)
}

fn version_of(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

/// The kind of the I/O error that is the cause, such as `ConnectionRefused`; else the type of the error. Both are few,
/// unlike the texts of errors.
fn kind_of<E: Error + 'static>(error: &E) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return format!("{:?}", error.kind());
        }
        cause = error.source();
    }
    std::any::type_name::<E>().to_owned()
}

/// The URI without what must not be in a trace: user and password, and signatures in the query.
fn redacted(uri: &Uri) -> String {
    const SIGNATURES: [&str; 4] = ["AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature"];
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("REDACTED:REDACTED@{host}"),
        None => authority.to_owned(),
    };
    let query = uri.query().map(|query| {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if SIGNATURES.contains(&name) => format!("{name}=REDACTED"),
            _ => pair.to_owned(),
        });
        format!("?{}", pairs.collect::<Vec<_>>().join("&"))
    });
    let query = query.unwrap_or_default();
    format!("{scheme}://{authority}{}{query}", uri.path())
}

#[cfg(test)]
mod tests {
    use opentelemetry::{global, trace::TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tower::{ServiceExt, service_fn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[tokio::test]
    async fn each_attempt_has_its_own_traceparent() {
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let traces = tracing_opentelemetry::layer().with_tracer(tracer);
        let _tracing =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(traces));
        let echo = service_fn(|request: Request<()>| async move {
            let header = request.headers()["traceparent"]
                .to_str()
                .unwrap()
                .to_owned();
            Ok::<_, io::Error>(Response::new(header))
        });
        let service = HttpSpanLayer::new(&global::meter("test")).layer(echo);

        let call = info_span!("call");
        let mut seen = Vec::new();
        for _ in 0..2 {
            let sent = service.clone().oneshot(Request::new(()));
            let header = sent.instrument(call.clone()).await.unwrap().into_body();
            let parts: Vec<_> = header.split('-').map(str::to_owned).collect();
            seen.push((parts[1].clone(), parts[2].clone()));
        }

        assert_eq!(seen[0].0, seen[1].0, "the trace");
        assert_ne!(seen[0].1, seen[1].1, "the span");
    }

    #[test]
    fn urls_contain_no_credentials() {
        for (uri, expected) in [
            ("https://api.example/a?b=c", "https://api.example/a?b=c"),
            (
                "https://user:pass@api.example:8443/",
                "https://REDACTED:REDACTED@api.example:8443/",
            ),
            (
                "https://api.example/blob?se=1&sig=secret&sp=r",
                "https://api.example/blob?se=1&sig=REDACTED&sp=r",
            ),
        ] {
            assert_eq!(redacted(&uri.parse().unwrap()), expected);
        }
    }

    #[test]
    fn an_unknown_method_is_other() {
        let request = |method| Request::builder().method(method).body(()).unwrap();
        assert_eq!(method_of(&request("PATCH")), "PATCH");
        assert_eq!(method_of(&request("PROPFIND")), "_OTHER");
    }
}
