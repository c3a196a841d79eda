//! The result of asking a quota for admission.

use tokio::time::Instant;

/// Whether a request may be sent.
///
/// The order of the variants is that of the delay: of two constraints, the greater one counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum SendTime {
    /// The request may be sent.
    Now,
    /// Ask again when a request in flight has ended, and at this time at the latest, if there is one.
    AfterResponse(Option<Instant>),
    /// Ask again at this time.
    NotBefore(Instant),
    /// The request can never be sent: its cost exceeds the limit that
    /// [`Quota::exceeded_limit`](super::Quota::exceeded_limit) returns.
    Never,
}
