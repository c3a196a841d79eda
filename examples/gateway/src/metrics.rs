//! What is counted for each tenant, in Prometheus' text format.

use std::{
    fmt::Write,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tower_m2m::{
    BoxError,
    client_credentials::{TokenEvent, TokenStatus},
    rate_limit_retry::{QuotaStatus, RateLimitEvent},
};

use crate::{answer::Outcome, connections::Connections};

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Records what tower-m2m's layers report, for `/metrics`. Once for a process, before the gateway starts.
///
/// # Errors
///
/// If the process has a recorder already.
pub fn record_metrics() -> Result<(), BoxError> {
    let mut recorder = PrometheusBuilder::new();
    for (name, bounds) in tower_m2m::METRIC_BUCKETS {
        recorder = recorder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)?;
    }
    let handle = recorder.install_recorder()?;
    RECORDER
        .set(handle)
        .map_err(|_| "a recorder is already installed".into())
}

/// What tower-m2m's layers have reported since: its guide `telemetry` lists it.
pub(crate) fn of_the_layers() -> String {
    RECORDER
        .get()
        .map(PrometheusHandle::render)
        .unwrap_or_default()
}

/// The counters of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: [AtomicU64; Outcome::ALL.len()],
    /// Number of requests in each bucket; not cumulated.
    latency: [AtomicU64; BOUNDS.len() + 1],
    latency_micros: AtomicU64,
    fetched: AtomicU64,
    fetch_failed: AtomicU64,
    token_rejected: AtomicU64,
    throttled: AtomicU64,
    retries: AtomicU64,
    gave_up: AtomicU64,
    /// Answers that were cut off, by each of [`CUTTERS`].
    cut: [AtomicU64; CUTTERS.len()],
}

/// Who can cut off an answer.
const CUTTERS: [&str; 3] = ["caller", "gateway", "upstream"];

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

impl Metrics {
    pub(crate) fn request(&self, outcome: Outcome, elapsed: Duration) {
        let index = Outcome::ALL.iter().position(|known| *known == outcome);
        if let Some(count) = index.and_then(|index| self.requests.get(index)) {
            count.fetch_add(1, Relaxed);
        }
        let bucket = BOUNDS.partition_point(|bound| *bound < elapsed.as_secs_f64());
        self.latency[bucket].fetch_add(1, Relaxed);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.latency_micros.fetch_add(micros, Relaxed);
    }

    /// An answer was cut off by one of [`CUTTERS`].
    pub(crate) fn cut(&self, by: &str) {
        let index = CUTTERS.iter().position(|known| *known == by);
        if let Some(count) = index.and_then(|index| self.cut.get(index)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn token(&self, event: &TokenEvent<'_>) {
        let count = match event {
            TokenEvent::Fetched { .. } => &self.fetched,
            TokenEvent::FetchFailed { .. } => &self.fetch_failed,
            TokenEvent::Rejected { .. } => &self.token_rejected,
            _ => return,
        };
        count.fetch_add(1, Relaxed);
    }

    pub(crate) fn limit(&self, event: &RateLimitEvent<'_>) {
        let count = match event {
            RateLimitEvent::Throttled { .. } => &self.throttled,
            RateLimitEvent::Retrying { .. } => &self.retries,
            RateLimitEvent::GaveUp { .. } => &self.gave_up,
            _ => return,
        };
        count.fetch_add(1, Relaxed);
    }
}

/// What is scraped of one tenant.
pub(crate) struct Scraped<'a> {
    pub(crate) name: &'a str,
    pub(crate) metrics: &'a Metrics,
    pub(crate) token: Option<TokenStatus>,
    pub(crate) quotas: Vec<QuotaStatus>,
}

/// All tenants' metrics: the lines of one metric stand together, as the format wants it.
pub(crate) fn render(
    tenants: &[Scraped<'_>],
    callers: &Connections,
    unknown_callers: u64,
) -> String {
    let mut page = Page(String::new());
    connections(&mut page, callers);
    page.head(
        "gateway_unknown_callers_total",
        "counter",
        "Requests without a known key.",
    );
    page.line("gateway_unknown_callers_total", "", unknown_callers);

    page.head("gateway_requests_total", "counter", "Requests by outcome.");
    for tenant in tenants {
        for (outcome, count) in Outcome::ALL.iter().zip(&tenant.metrics.requests) {
            let labels = format!(
                "tenant=\"{}\",outcome=\"{}\"",
                tenant.name,
                outcome.as_str()
            );
            page.line("gateway_requests_total", &labels, count.load(Relaxed));
        }
    }
    let name = "gateway_truncated_responses_total";
    page.head(
        name,
        "counter",
        "Responses that were truncated, by the side that ended them.",
    );
    for tenant in tenants {
        for (by, count) in CUTTERS.iter().zip(&tenant.metrics.cut) {
            let labels = format!("tenant=\"{}\",by=\"{by}\"", tenant.name);
            page.line(name, &labels, count.load(Relaxed));
        }
    }
    let name = "gateway_request_seconds";
    page.head(name, "histogram", "Time until the response begins.");
    for tenant in tenants {
        histogram(&mut page, name, tenant);
    }
    for (name, help, count) in COUNTERS {
        page.head(name, "counter", help);
        for tenant in tenants {
            let count = count(tenant.metrics).load(Relaxed);
            page.line(name, &tenant.label(), count);
        }
    }
    for (name, help, value) in GAUGES {
        page.head(name, "gauge", help);
        for tenant in tenants {
            if let Some(value) = value(tenant) {
                // The sum of nothing is -0, which becomes 0.
                page.line(name, &tenant.label(), value + 0.0);
            }
        }
    }
    page.0
}

fn connections(page: &mut Page, callers: &Connections) {
    page.head(
        "gateway_connections",
        "gauge",
        "Open connections of callers.",
    );
    page.line("gateway_connections", "", callers.open());
    let name = "gateway_connections_dropped_total";
    page.head(
        name,
        "counter",
        "Connections of callers that the gateway closed, by reason.",
    );
    for (reason, count) in callers.dropped() {
        page.line(name, &format!("reason=\"{}\"", reason.as_str()), count);
    }
    let name = "gateway_malformed_requests_total";
    page.head(
        name,
        "counter",
        "Requests with a missing or malformed Host field.",
    );
    page.line(name, "", callers.malformed_requests());
}

fn histogram(page: &mut Page, name: &str, tenant: &Scraped<'_>) {
    let label = tenant.label();
    let mut sum = 0;
    for (index, count) in tenant.metrics.latency.iter().enumerate() {
        sum += count.load(Relaxed);
        let bound = BOUNDS.get(index).map_or("+Inf".to_owned(), f64::to_string);
        page.line(
            &format!("{name}_bucket"),
            &format!("{label},le=\"{bound}\""),
            sum,
        );
    }
    let micros = Duration::from_micros(tenant.metrics.latency_micros.load(Relaxed));
    page.line(&format!("{name}_sum"), &label, micros.as_secs_f64());
    page.line(&format!("{name}_count"), &label, sum);
}

type Counter = (&'static str, &'static str, fn(&Metrics) -> &AtomicU64);

const COUNTERS: [Counter; 6] = [
    ("gateway_token_fetches_total", "Tokens fetched.", |m| {
        &m.fetched
    }),
    (
        "gateway_token_fetch_failures_total",
        "Token fetches that failed.",
        |m| &m.fetch_failed,
    ),
    (
        "gateway_token_rejected_total",
        "Times that the upstream rejected the token.",
        |m| &m.token_rejected,
    ),
    (
        "gateway_throttled_total",
        "Responses that throttled a request.",
        |m| &m.throttled,
    ),
    ("gateway_retries_total", "Requests retried.", |m| &m.retries),
    (
        "gateway_gave_up_total",
        "Retryable requests that were not retried.",
        |m| &m.gave_up,
    ),
];

type Gauge = (&'static str, &'static str, fn(&Scraped<'_>) -> Option<f64>);

const GAUGES: [Gauge; 6] = [
    (
        "gateway_token_usable",
        "Whether there is a valid token.",
        |t| {
            t.token
                .as_ref()
                .map(|token| f64::from(u8::from(token.is_usable())))
        },
    ),
    (
        "gateway_token_expires_seconds",
        "Remaining lifetime of the token.",
        |t| Some(t.token.as_ref()?.expires_in()?.as_secs_f64()),
    ),
    (
        "gateway_quota_remaining",
        "Remaining requests, as announced by the upstream.",
        |t| {
            t.quotas
                .iter()
                .filter_map(|q| q.remaining())
                .min()
                .map(float)
        },
    ),
    (
        "gateway_quota_held_seconds",
        "Remaining time for which requests are held.",
        |t| {
            t.quotas
                .iter()
                .map(|q| q.held_for().unwrap_or_default().as_secs_f64())
                .reduce(f64::max)
        },
    ),
    (
        "gateway_in_flight",
        "Requests in flight to the upstream.",
        |t| Some(t.quotas.iter().map(|q| f64::from(q.in_flight())).sum()),
    ),
    ("gateway_waiting", "Requests waiting for the quota.", |t| {
        Some(t.quotas.iter().map(|q| float(q.waiting() as u64)).sum())
    }),
];

/// Counts beyond 2^53 lose their last digit.
#[expect(
    clippy::cast_precision_loss,
    reason = "all numbers in Prometheus are f64"
)]
fn float(count: u64) -> f64 {
    count as f64
}

impl Scraped<'_> {
    fn label(&self) -> String {
        format!("tenant=\"{}\"", self.name)
    }
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
    }
}
