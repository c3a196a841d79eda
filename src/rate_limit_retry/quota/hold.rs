//! A hold, and the request that is sent alone after it.

use tokio::time::Instant;

/// Before its end, nothing is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) until: Instant,
    /// Named by the server.
    pub(super) exact: bool,
}

/// One request that goes alone, after a hold or a reset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// When the server had said that it would take more.
    pub(super) since: Option<Instant>,
    pub(super) sent: Option<Instant>,
}
