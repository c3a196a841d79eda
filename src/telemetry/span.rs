//! Spans of operations that take time: token fetches, and waits for a permit.
//!
//! Requests that wait for nothing have no span of this crate.
//!
//! | span | level | parent | covers |
//! |---|---|---|---|
//! | `token fetch` | info | none | one fetch, with its retries and the calls of a store |
//! | `waiting for permit` | debug | the current span of the request | one wait for a hold or a quota |
//!
//! Both functions return the future unchanged without the feature `tracing`, so that callers need no `cfg`.

use std::future::Future;

use crate::rate_limit_retry::PartitionKey;

/// Runs `fetch` in a root span: several requests may wait for one fetch, so it belongs to none of them.
#[cfg(feature = "tracing")]
pub(crate) fn fetch_span<F: Future>(
    credential: Option<&str>,
    reason: &'static str,
    fetch: F,
) -> impl Future<Output = F::Output> + use<F> {
    use tracing::Instrument;
    fetch.instrument(tracing::info_span!(
        target: "tower_m2m::token",
        parent: None,
        "token fetch",
        credential,
        reason
    ))
}

/// Runs `wait` in a child of the current span, which is that of the waiting request.
#[cfg(feature = "tracing")]
pub(crate) fn wait_span<F: Future>(
    partition: Option<&PartitionKey>,
    wait: F,
) -> impl Future<Output = F::Output> + use<F> {
    use tracing::Instrument;
    wait.instrument(tracing::debug_span!(
        target: "tower_m2m::rate_limit",
        "waiting for permit",
        partition = partition.map(PartitionKey::as_str)
    ))
}

/// Returns `fetch`: without the feature `tracing` there are no spans.
#[cfg(not(feature = "tracing"))]
pub(crate) fn fetch_span<F: Future>(_: Option<&str>, _: &'static str, fetch: F) -> F {
    fetch
}

/// Returns `wait`: without the feature `tracing` there are no spans.
#[cfg(not(feature = "tracing"))]
pub(crate) fn wait_span<F: Future>(_: Option<&PartitionKey>, wait: F) -> F {
    wait
}
