//! A hold, and the probe that is sent alone after it.

use tokio::time::Instant;

/// A time before which no request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// End of the hold.
    pub(super) until: Instant,
    /// Whether the server named the end. Otherwise it is a guess.
    pub(super) from_server: bool,
}

/// A probe: one request that is sent alone after a hold or a reset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    /// The time at which the server had announced that it would accept more, if it did.
    pub(super) since: Option<Instant>,
    /// The time at which the probe was sent.
    pub(super) sent: Option<Instant>,
}
