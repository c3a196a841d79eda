//! The settings of quotas.

use std::time::Duration;

use crate::backoff::Backoff;

/// How fast requests are let go that a quota has room for.
///
/// # Examples
///
/// ```
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::Release};
///
/// let layer = RateLimitRetryLayer::builder().release(Release::Smooth).build();
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Release {
    /// At once: work is finished first, and the rest of the window is spent waiting.
    #[default]
    Burst,
    /// Spread evenly over what is left of the window: nobody waits long, and the server sees no peaks.
    ///
    /// Needs a server that tells when its quota is reset, or one whose windows have been learnt from its refusals. What
    /// is used up sooner than that, by other clients, is not waited for.
    Smooth,
}

/// The settings that a quota needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) cold_burst: u32,
    pub(crate) cold_hold: Duration,
    pub(crate) max_hold: Duration,
    pub(crate) release: Release,
    pub(crate) backoff: Backoff,
    /// Whether other processes share the quotas.
    pub(crate) shared: bool,
}

/// Number of consecutive responses without limits after which a partition is open.
pub(super) const QUIET: u32 = 1000;
