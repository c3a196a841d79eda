//! Built-in event sinks for operators: `tracing` events and metrics. `docs::telemetry` lists them all.
//!
//! Every layer installs them when it is built. Without the features `tracing` and `metrics`, nothing is installed.
//!
//! | events | `tracing` target | metrics |
//! |---|---|---|
//! | tokens | `tower_m2m::token` | `tower_m2m_token_*` |
//! | limits and retries | `tower_m2m::rate_limit` | all others |
//! | request bodies | `tower_m2m::replay` | `tower_m2m_replay_*` |

#[cfg(feature = "metrics")]
mod describe;
#[cfg(feature = "metrics")]
mod metrics;
pub(crate) mod span;
#[cfg(feature = "tracing")]
mod trace;

#[cfg(feature = "metrics")]
pub use self::describe::{METRIC_BUCKETS, describe_metrics};
use crate::{
    client_credentials::TokenEvents, clock::SharedClock, rate_limit_retry::RateLimitEvents,
    replay::ReplayEvents, sinks::Sinks,
};

/// Installs the sinks that this build's features provide for token events. `clock` is the layer's.
#[cfg_attr(
    not(any(feature = "tracing", feature = "metrics")),
    expect(unused_variables)
)]
pub(crate) fn install_token_sinks(sinks: &mut Sinks<TokenEvents>, clock: &SharedClock) {
    #[cfg(not(feature = "metrics"))]
    let _ = clock;
    #[cfg(feature = "tracing")]
    sinks.add(trace::token);
    #[cfg(feature = "metrics")]
    {
        describe_metrics();
        let clock = clock.clone();
        sinks.add(move |event| metrics::token(event, &clock));
    }
}

/// Installs the sinks that this build's features provide for rate-limit events.
#[cfg_attr(
    not(any(feature = "tracing", feature = "metrics")),
    expect(unused_variables)
)]
pub(crate) fn install_rate_limit_sinks(sinks: &mut Sinks<RateLimitEvents>) {
    #[cfg(feature = "tracing")]
    sinks.add(trace::rate_limit);
    #[cfg(feature = "metrics")]
    {
        describe_metrics();
        sinks.add(metrics::rate_limit);
    }
}

/// Installs the sinks that this build's features provide for events of request bodies.
#[cfg_attr(
    not(any(feature = "tracing", feature = "metrics")),
    expect(unused_variables)
)]
pub(crate) fn install_replay_sinks(sinks: &mut Sinks<ReplayEvents>) {
    #[cfg(feature = "tracing")]
    sinks.add(trace::replay);
    #[cfg(feature = "metrics")]
    {
        describe_metrics();
        sinks.add(metrics::replay);
    }
}
