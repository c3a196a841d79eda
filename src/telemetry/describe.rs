//! Descriptions of the metrics for the recorder; `docs::telemetry` describes them in more detail.
//!
//! Describing a metric again replaces its description, so it does no harm to do so for each layer.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Describes the metrics of this crate to the installed recorder.
///
/// Each layer does so when it is built, and whenever it has fetched a token. Call this once if the recorder is
/// installed after the layers are built.
///
/// # Examples
///
/// ```
/// // After the recorder is installed.
/// tower_m2m::describe_metrics();
/// ```
pub fn describe_metrics() {
    for (name, description) in COUNTERS {
        describe_counter!(name, Unit::Count, description);
    }
    for (name, unit, description) in GAUGES {
        describe_gauge!(name, unit, description);
    }
    for (name, description) in HISTOGRAMS {
        describe_histogram!(name, Unit::Seconds, description);
    }
}

/// Upper bounds, in seconds, of histogram buckets that suit this crate's histograms, by the histogram's name.
///
/// The limits of the layers are bounds: 30 s is the default `fetch_timeout`, and 3600 s the default `max_hold`.
/// Exporters with exponential or native histograms do not need them.
///
/// # Examples
///
/// ```
/// // With `metrics-exporter-prometheus`:
/// // `builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)?`.
/// for (name, bounds) in tower_m2m::METRIC_BUCKETS {
///     println!("{name}: {bounds:?}");
/// }
/// ```
pub const METRIC_BUCKETS: [(&str, &[f64]); 3] = [
    (
        "tower_m2m_token_fetch_seconds",
        &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0],
    ),
    (
        "tower_m2m_hold_seconds",
        &[0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0],
    ),
    (
        "tower_m2m_wait_seconds",
        &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0],
    ),
];

/// Counters: name and description.
///
/// The names are public: dashboards and alerts use them.
const COUNTERS: [(&str, &str); 9] = [
    (
        "tower_m2m_token_fetches_total",
        "Token fetches that ended, by reason, outcome and kind of error",
    ),
    (
        "tower_m2m_token_fetch_retries_total",
        "Token requests retried within one fetch",
    ),
    (
        "tower_m2m_token_rejections_total",
        "401 responses that rejected the token, by action",
    ),
    (
        "tower_m2m_throttled_total",
        "Responses that throttled a request, by status",
    ),
    (
        "tower_m2m_remote_holds_total",
        "Holds reported by another process through the quota store",
    ),
    ("tower_m2m_retries_total", "Requests retried"),
    (
        "tower_m2m_gave_up_total",
        "Retryable requests that were not retried, by reason",
    ),
    (
        "tower_m2m_rejected_total",
        "Requests rejected because the hold was too long, the queue was full or the cost exceeded a limit",
    ),
    (
        "tower_m2m_replay_over_budget_total",
        "Request bodies not buffered because the replay budget was exhausted",
    ),
];

/// Gauges: name, unit and description.
const GAUGES: [(&str, Unit, &str); 3] = [
    (
        "tower_m2m_token_expiry_timestamp_seconds",
        Unit::Seconds,
        "When the token in use expires, in seconds since 1970",
    ),
    (
        "tower_m2m_token_store_up",
        Unit::Count,
        "1 if the token store works, else 0",
    ),
    (
        "tower_m2m_quota_store_up",
        Unit::Count,
        "1 if the quota store works, else 0",
    ),
];

/// Histograms, in seconds: name and description.
const HISTOGRAMS: [(&str, &str); 3] = [
    (
        "tower_m2m_token_fetch_seconds",
        "Duration of token fetches, by outcome",
    ),
    (
        "tower_m2m_hold_seconds",
        "How long a partition was held after a throttling response",
    ),
    (
        "tower_m2m_wait_seconds",
        "Time queued requests waited for a permit",
    ),
];
