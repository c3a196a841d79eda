//! The settings of quotas.
//!
//! All quotas of a layer have the same settings; local limits are set by partition.

use std::time::Duration;

use crate::backoff::Backoff;

/// How requests are spaced while the quota has room. Default: [`Burst`](Self::Burst).
///
/// # Examples
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::Pacing};
///
/// let layer = RateLimitRetryLayer::builder().pacing(Pacing::Even).build();
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Pacing {
    /// Sends requests at once. When the quota is exhausted, the rest of the window is spent waiting.
    #[default]
    Burst,
    /// Spaces requests evenly over the rest of the window. Waits are short, and the server sees no peaks.
    ///
    /// Needs a server that announces when its quota is reset, or one whose windows have been learned from its
    /// throttling responses. Limits set on the layer are spaced evenly, too. Pacing does not wait for a part of the
    /// quota that other clients use up sooner.
    Even,
}

/// The settings that all quotas of a layer share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotaConfig {
    /// Maximum number of requests in flight to a new partition before the first response, at least 1.
    pub(crate) initial_window: u32,
    /// Time without a response after which slow start raises or removes its limit.
    pub(crate) initial_window_timeout: Duration,
    /// Upper bound on a hold and on the time for which an exhausted quota is believed.
    pub(crate) max_hold: Duration,
    /// How requests are spaced while the quota has room.
    pub(crate) pacing: Pacing,
    /// Bounds of a hold for which the server names no end.
    pub(crate) backoff: Backoff,
    /// Whether other processes share the quotas through a store.
    pub(crate) shared: bool,
}

/// Number of consecutive responses without limits after which a partition counts as silent: the fast path is open, and
/// quotas without a reset are over.
pub(super) const MIN_SILENT_RESPONSES: u32 = 1000;
