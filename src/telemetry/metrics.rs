//! Records events as counters, gauges and histograms of the `metrics` facade. `docs::telemetry` lists them all.
//!
//! Labels are the credential's name, the partition, and fixed words (reason, outcome, kind of error, status). An event that
//! has no metric is ignored here, and emitted by the `tracing` sink if that feature is enabled.
//!
//! The number of time series is bounded by the number of credentials and partitions: all other labels have a fixed set
//! of values. Errors appear by kind, never by text.

use std::time::{Duration, SystemTime};

use metrics::{counter, gauge, histogram};

use crate::{
    client_credentials::{FetchReason, RejectionAction, TokenError, TokenEvent},
    clock::SharedClock,
    rate_limit_retry::RateLimitEvent,
    replay::ReplayEvent,
};

/// Records a token event. `clock` is the layer's; it converts a token's lifetime to the date at which it expires.
pub(crate) fn token(event: &TokenEvent<'_>, clock: &SharedClock) {
    match *event {
        TokenEvent::Fetched {
            credential,
            reason,
            elapsed,
            expires_in,
        } => {
            // The recorder may have been installed after the layer was built.
            super::describe_metrics();
            fetch(credential, reason, "fetched", None, elapsed);
            expires(credential, expires_in, clock);
        }
        TokenEvent::LoadedFromStore {
            credential,
            reason,
            elapsed,
            expires_in,
        } => {
            fetch(credential, reason, "loaded_from_store", None, elapsed);
            expires(credential, expires_in, clock);
        }
        TokenEvent::FetchFailed {
            credential,
            reason,
            elapsed,
            error,
        } => fetch(credential, reason, "failed", Some(error), elapsed),
        TokenEvent::FetchRetrying {
            credential, error, ..
        } => {
            counter!("tower_m2m_token_fetch_retries_total", "credential" => name(credential), "error" => error.kind().as_str())
                .increment(1);
        }
        TokenEvent::Rejected {
            credential, action, ..
        } => {
            // A fixed string per variant, so that the number of series is bounded.
            let action = match action {
                RejectionAction::Replayed => "replayed",
                RejectionAction::RefreshedOnly => "refreshed_only",
                RejectionAction::Returned => "returned",
            };
            counter!("tower_m2m_token_rejections_total", "credential" => name(credential), "action" => action)
                .increment(1);
        }
        TokenEvent::StoreFailed { credential, .. } => {
            gauge!("tower_m2m_token_store_up", "credential" => name(credential)).set(0.0);
        }
        TokenEvent::StoreRecovered { credential } => {
            gauge!("tower_m2m_token_store_up", "credential" => name(credential)).set(1.0);
        }
        // The other events are `tracing` events only.
        _ => {}
    }
}

/// Records a rate-limit event.
pub(crate) fn rate_limit(event: &RateLimitEvent<'_>) {
    match *event {
        RateLimitEvent::Throttled {
            partition,
            status,
            held_for,
        } => {
            let partition = partition.as_str().to_owned();
            counter!("tower_m2m_throttled_total", "partition" => partition.clone(), "status" => status.as_str().to_owned())
                .increment(1);
            histogram!("tower_m2m_hold_seconds", "partition" => partition).record(held_for);
        }
        RateLimitEvent::Dequeued { partition, waited } => {
            histogram!("tower_m2m_wait_seconds", "partition" => partition.as_str().to_owned())
                .record(waited);
        }
        RateLimitEvent::Retrying { partition, .. } => {
            counter!("tower_m2m_retries_total", "partition" => partition.as_str().to_owned())
                .increment(1);
        }
        RateLimitEvent::GaveUp {
            partition, reason, ..
        } => {
            counter!("tower_m2m_gave_up_total", "partition" => partition.as_str().to_owned(), "reason" => reason.as_str())
                .increment(1);
        }
        RateLimitEvent::Rejected { partition, .. } => {
            counter!("tower_m2m_rejected_total", "partition" => partition.as_str().to_owned())
                .increment(1);
        }
        RateLimitEvent::RemoteHold {
            partition,
            held_for,
        } => {
            let partition = partition.as_str().to_owned();
            counter!("tower_m2m_remote_holds_total", "partition" => partition.clone()).increment(1);
            histogram!("tower_m2m_hold_seconds", "partition" => partition).record(held_for);
        }
        RateLimitEvent::StoreFailed { .. } => gauge!("tower_m2m_quota_store_up").set(0.0),
        RateLimitEvent::StoreRecovered { .. } => gauge!("tower_m2m_quota_store_up").set(1.0),
        // The other events are `tracing` events only.
        _ => {}
    }
}

/// Records an event of a request body.
pub(crate) fn replay(event: &ReplayEvent) {
    match *event {
        ReplayEvent::OverBudget { .. } => {
            counter!("tower_m2m_replay_over_budget_total").increment(1);
        }
    }
}

/// Records a token fetch that ended, in the counter and the histogram of token fetches.
///
/// The labels `error` and `transient` are empty unless it failed, so that all series of the counter have the same
/// labels.
fn fetch(
    credential: Option<&str>,
    reason: FetchReason,
    outcome: &'static str,
    error: Option<&TokenError>,
    elapsed: Duration,
) {
    let credential = name(credential);
    let transient = error.map_or("", |error| {
        if error.is_transient() {
            "true"
        } else {
            "false"
        }
    });
    counter!(
        "tower_m2m_token_fetches_total",
        "credential" => credential.clone(),
        "reason" => reason.as_str(),
        "outcome" => outcome,
        "error" => error.map_or("", |error| error.kind().as_str()),
        "transient" => transient,
    )
    .increment(1);
    histogram!("tower_m2m_token_fetch_seconds", "credential" => credential, "outcome" => outcome)
        .record(elapsed);
}

/// Records when the token expires, in seconds since 1970; infinity for a token that does not expire.
///
/// A wall clock before 1970 counts as 1970.
fn expires(credential: Option<&str>, life: Option<Duration>, clock: &SharedClock) {
    let since_epoch = clock.wall_clock().duration_since(SystemTime::UNIX_EPOCH);
    let now = since_epoch.unwrap_or_default().as_secs_f64();
    let at = life.map_or(f64::INFINITY, |life| now + life.as_secs_f64());
    gauge!("tower_m2m_token_expiry_timestamp_seconds", "credential" => name(credential)).set(at);
}

/// Returns the label of a credential: its name, or `default` for a credential without one.
fn name(credential: Option<&str>) -> String {
    credential.unwrap_or("default").to_owned()
}
