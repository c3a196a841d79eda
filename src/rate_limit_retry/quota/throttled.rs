//! The state of a quota that throttles.

use std::time::Duration;

use tokio::time::Instant;

/// The state after a throttle, until a request is accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttled {
    /// The time of the first throttle.
    pub(super) since: Instant,
    /// The last time at which the quota was known to be exhausted.
    pub(super) last_confirmed: Instant,
    /// The limit that the throttling response named.
    pub(super) limit: Option<u64>,
    /// The wait that the last throttling response named.
    pub(super) hint: Option<Duration>,
    /// Number of probes that were throttled since.
    pub(super) probes: u64,
    /// Whether a sliding window that also counts throttled requests would explain the throttle.
    pub(super) sliding: bool,
}
