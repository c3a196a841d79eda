//! A recorder of the `metrics` facade that measures with OpenTelemetry's instruments.
//!
//! It remembers the descriptions: instruments of one name with different units or descriptions are different metrics to
//! OpenTelemetry.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use opentelemetry::{KeyValue, metrics::Meter};

/// The recorder.
#[derive(Debug)]
pub(crate) struct OtelRecorder {
    meter: Meter,
    /// Unit and description of each metric.
    described: Mutex<HashMap<KeyName, (&'static str, SharedString)>>,
}

impl OtelRecorder {
    /// Creates a recorder that measures with `meter`.
    pub(crate) fn new(meter: Meter) -> Self {
        let described = Mutex::default();
        Self { meter, described }
    }

    fn describe(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        let unit = unit.map_or("", |unit| unit.as_canonical_label());
        let mut described = self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        described.insert(name, (unit, description));
    }

    fn description(&self, key: &Key) -> (&'static str, String) {
        let described = self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = described.get(key.name());
        known.map_or_else(Default::default, |(unit, text)| (*unit, text.to_string()))
    }
}

/// Creates an instrument with the description of its metric, and the labels of the key.
macro_rules! instrument {
    ($recorder:expr, $kind:ident, $key:expr) => {{
        let (unit, description) = $recorder.description($key);
        let builder = $recorder.meter.$kind($key.name().to_owned());
        let instrument = builder.with_unit(unit).with_description(description);
        let labels = $key.labels();
        let labels =
            labels.map(|label| KeyValue::new(label.key().to_owned(), label.value().to_owned()));
        Arc::new(Labelled(instrument.build(), labels.collect()))
    }};
}

impl Recorder for OtelRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(name, unit, text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(instrument!(self, u64_counter, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(instrument!(self, f64_gauge, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(instrument!(self, f64_histogram, key))
    }
}

/// An instrument, and the labels of one time series.
struct Labelled<T>(T, Vec<KeyValue>);

impl CounterFn for Labelled<opentelemetry::metrics::Counter<u64>> {
    fn increment(&self, value: u64) {
        self.0.add(value, &self.1);
    }

    /// Ignored: OpenTelemetry's counters can only be incremented, as tower-m2m does.
    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Labelled<opentelemetry::metrics::Gauge<f64>> {
    /// Ignored, like `decrement`: OpenTelemetry's gauges can only be set, as tower-m2m does.
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        self.0.record(value, &self.1);
    }
}

impl HistogramFn for Labelled<opentelemetry::metrics::Histogram<f64>> {
    fn record(&self, value: f64) {
        self.0.record(value, &self.1);
    }
}
