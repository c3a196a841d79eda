//! What the collector has received, as text.

use std::fmt::Write;

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{Metric, metric::Data, number_data_point},
    trace::v1::Span,
};

use crate::collector::{attribute, value};

/// Width of a line.
const WIDTH: usize = 94;
/// Returns the spans as a tree of each trace, with their durations, attributes and events.
pub(crate) fn tree(spans: &[Span]) -> String {
    let mut out = String::new();
    for root in spans.iter().filter(|span| span.parent_span_id.is_empty()) {
        branch(&mut out, spans, root, 0);
        out.push('\n');
    }
    out
}

fn branch(out: &mut String, spans: &[Span], span: &Span, depth: usize) {
    let indent = "  ".repeat(depth);
    let name = format!("{indent}{}", span.name);
    let millis = millis(span.start_time_unix_nano, span.end_time_unix_nano);
    let result = FIRST.iter().filter_map(|(key, label)| {
        attribute(&span.attributes, key).map(|value| format!("  {label}{value}"))
    });
    let result: String = result.collect();
    let _ = writeln!(out, "{name:<30}{millis:>6} ms{result}");
    let shown = span
        .attributes
        .iter()
        .filter(|a| FIRST.iter().all(|(key, _)| *key != a.key));
    wrap(out, &format!("{indent}    "), shown.map(pair));
    for event in &span.events {
        let at = self::millis(span.start_time_unix_nano, event.time_unix_nano);
        let _ = writeln!(out, "{indent}    at {at} ms: {}", event.name);
    }
    let children = spans
        .iter()
        .filter(|child| child.parent_span_id == span.span_id);
    children.for_each(|child| branch(out, spans, child, depth + 1));
}

/// Attributes of the first line, and what stands before the value.
const FIRST: [(&str, &str); 2] = [
    ("http.request.resend_count", "resend "),
    ("error.type", "error.type "),
];

/// Indentation of the labels of a time series.
const INDENT: &str = "                  ";

/// Returns an attribute as `key=value`.
fn pair(attribute: &KeyValue) -> String {
    format!("{}={}", attribute.key, value(attribute))
}

/// Writes words in lines that begin with `indent`.
fn wrap(out: &mut String, indent: &str, words: impl Iterator<Item = String>) {
    let mut line = String::new();
    for word in words {
        if !line.is_empty() && indent.len() + line.len() + word.len() > WIDTH {
            let _ = writeln!(out, "{indent}{}", line.trim_end());
            line.clear();
        }
        line.push_str(&word);
        line.push_str("  ");
    }
    if !line.is_empty() {
        let _ = writeln!(out, "{indent}{}", line.trim_end());
    }
}

fn millis(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / 1_000_000
}

/// Returns the metrics as a table: one line for each time series.
pub(crate) fn table(metrics: &[Metric]) -> String {
    let mut metrics: Vec<_> = metrics.iter().collect();
    metrics.sort_by_key(|metric| &metric.name);
    let mut out = String::new();
    for metric in metrics {
        let unit = if metric.unit.is_empty() {
            "1"
        } else {
            &metric.unit
        };
        let _ = writeln!(out, "{} [{unit}]: {}", metric.name, metric.description);
        for (value, attributes) in series(metric) {
            let mut labels: Vec<_> = attributes.iter().map(pair).collect();
            labels.sort();
            let mut lines = String::new();
            wrap(&mut lines, INDENT, labels.into_iter());
            let lines = lines.get(INDENT.len()..).unwrap_or("\n");
            let _ = write!(out, "{value:>16}  {lines}");
        }
    }
    out
}

/// Returns value and labels of each time series.
fn series(metric: &Metric) -> Vec<(String, &[KeyValue])> {
    let points = match &metric.data {
        Some(Data::Sum(sum)) => &sum.data_points,
        Some(Data::Gauge(gauge)) => &gauge.data_points,
        Some(Data::Histogram(histogram)) => {
            let points = histogram.data_points.iter().map(|point| {
                let mean = point.sum.unwrap_or_default() / point.count.max(1) as f64;
                let text = format!("{} × {mean:.3}", point.count);
                (text, &*point.attributes)
            });
            return points.collect();
        }
        _ => return Vec::new(),
    };
    let points = points.iter().map(|point| {
        let value = match point.value {
            Some(number_data_point::Value::AsInt(value)) => value.to_string(),
            Some(number_data_point::Value::AsDouble(value)) => format!("{value:.0}"),
            None => String::new(),
        };
        (value, &*point.attributes)
    });
    points.collect()
}
