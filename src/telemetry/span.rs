//! Spans of what takes its time: fetches, and waits for a turn.

use std::future::Future;

use crate::rate_limit_retry::PartitionKey;

/// `fetch` within a span of its own, which belongs to none of the requests that wait for it.
#[cfg(feature = "tracing")]
pub(crate) fn of_fetch<F: Future>(
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

/// `wait` within a span of the request that waits.
#[cfg(feature = "tracing")]
pub(crate) fn of_wait<F: Future>(
    partition: Option<&PartitionKey>,
    wait: F,
) -> impl Future<Output = F::Output> + use<F> {
    use tracing::Instrument;
    wait.instrument(tracing::debug_span!(
        target: "tower_m2m::rate_limit",
        "waiting for its turn",
        partition = partition.map(PartitionKey::as_str)
    ))
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn of_fetch<F: Future>(_: Option<&str>, _: &'static str, fetch: F) -> F {
    fetch
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn of_wait<F: Future>(_: Option<&PartitionKey>, wait: F) -> F {
    wait
}
