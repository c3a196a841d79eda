//! What the semantic conventions demand, checked on what the collector has received.
//!
//! Spans: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span>. Metrics:
//! <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpclientrequestduration>.

use std::collections::HashMap;

use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};

use crate::{
    collector::{Received, attribute},
    http_span::{BOUNDS, DURATION},
};

/// Returns what violates the conventions, one line each.
///
/// Each call of a program has a span of its own here, so that its attempts are the requests among the children of one
/// span.
pub(crate) fn violations(received: &Received) -> Vec<String> {
    let requests: Vec<_> = received.spans.iter().filter(|s| is_client(s)).collect();
    let mut found = Vec::new();
    let mut attempts = HashMap::<_, u32>::new();
    for span in &requests {
        let call = (&span.trace_id, &span.parent_span_id);
        let earlier = attempts.entry(call).or_default();
        let problems = of_span(span, *earlier);
        found.extend(problems.map(|problem| format!("span {}: {problem}", span.name)));
        *earlier += 1;
    }
    for metric in &received.metrics {
        let problems = of_metric(metric, requests.len() as u64);
        found.extend(problems.map(|problem| format!("metric {}: {problem}", metric.name)));
    }
    if !received
        .metrics
        .iter()
        .any(|metric| metric.name == DURATION)
    {
        found.push(format!("there is no metric {DURATION}"));
    }
    found
}

/// Returns whether this is the span of a request.
pub(crate) fn is_client(span: &Span) -> bool {
    span.kind() == SpanKind::Client
}

/// Returns what is wrong with the span of an attempt, which comes after so many of the same call.
fn of_span(span: &Span, earlier: u32) -> impl Iterator<Item = String> {
    let get = |key: &str| attribute(&span.attributes, key);
    let mut found = missing(
        &span.attributes,
        &[
            "http.request.method",
            "server.address",
            "server.port",
            "url.full",
        ],
    );
    let method = get("http.request.method").unwrap_or_default();
    let template = get("url.template").map(|path| format!("{method} {path}"));
    let numbers = [
        "http.request.resend_count",
        "http.response.status_code",
        "server.port",
    ];
    found.extend(not_integers(&span.attributes, &numbers));
    if span.name != *template.as_ref().unwrap_or(&method) {
        found.push("its name is not the method and the template".to_owned());
    }
    if get("url.full").is_some_and(|url| url.replace("REDACTED:REDACTED@", "").contains('@')) {
        found.push("url.full contains credentials".to_owned());
    }
    let resends = (earlier > 0).then(|| earlier.to_string());
    if get("http.request.resend_count") != resends {
        let count = get("http.request.resend_count");
        found.push(format!(
            "http.request.resend_count is {count:?} instead of {resends:?}"
        ));
    }
    let error = get("error.type");
    match get("http.response.status_code") {
        None if error.is_none() => found.push("neither a status nor error.type".to_owned()),
        Some(status) if status.as_str() >= "400" && error.as_ref() != Some(&status) => {
            found.push(format!("error.type of status {status} is {error:?}"));
        }
        Some(status) if status.as_str() < "400" && error.is_some() => {
            found.push(format!("status {status} has error.type {error:?}"));
        }
        _ => {}
    }
    let status = span
        .status
        .as_ref()
        .map_or(StatusCode::Unset, |status| status.code());
    if (status == StatusCode::Error) != error.is_some() {
        found.push(format!(
            "the status of the span is {status:?} with error.type {error:?}"
        ));
    }
    found.into_iter()
}

/// Returns what is wrong with a metric: one for all requests, and those of tower-m2m.
fn of_metric(metric: &Metric, requests: u64) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    if metric.description.is_empty() {
        found.push("it has no description".to_owned());
    }
    if let Some(Data::Histogram(histogram)) = &metric.data {
        let known = tower_m2m::METRIC_BUCKETS
            .into_iter()
            .chain([(DURATION, &BOUNDS[..])]);
        let mut bounds = known
            .filter(|(name, _)| *name == metric.name)
            .map(|(_, bounds)| bounds);
        let bounds = bounds.next_back().unwrap_or_default();
        if metric.unit != "s"
            || histogram
                .data_points
                .iter()
                .any(|p| p.explicit_bounds != bounds)
        {
            found.push("it is not in seconds, or has other buckets".to_owned());
        }
        if metric.name == DURATION {
            for point in &histogram.data_points {
                let labels = ["http.request.method", "server.address", "server.port"];
                found.extend(missing(&point.attributes, &labels));
            }
            let count: u64 = histogram.data_points.iter().map(|point| point.count).sum();
            if count != requests {
                found.push(format!("it has counted {count} of {requests} requests"));
            }
        }
    }
    found.into_iter()
}

/// Returns which of the required attributes are missing.
fn missing(attributes: &[KeyValue], required: &[&str]) -> Vec<String> {
    let missing = required
        .iter()
        .filter(|key| attribute(attributes, key).is_none());
    missing.map(|key| format!("{key} is missing")).collect()
}

/// Returns which attributes with these keys are not integers.
fn not_integers(attributes: &[KeyValue], keys: &[&str]) -> Vec<String> {
    let others = attributes.iter().filter(|attribute| {
        let value = attribute
            .value
            .as_ref()
            .and_then(|value| value.value.as_ref());
        keys.contains(&&*attribute.key) && !matches!(value, Some(Value::IntValue(_)))
    });
    others
        .map(|attribute| format!("{} is not an integer", attribute.key))
        .collect()
}
