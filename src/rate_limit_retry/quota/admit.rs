//! Whether a request may be sent.

use tokio::time::Instant;

/// Whether a request may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admit {
    Now,
    /// When a request in flight has been answered, and at this time at the latest.
    AfterAnswer(Option<Instant>),
    NotBefore(Instant),
}
