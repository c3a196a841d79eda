//! What became of a request, as far as quotas are concerned.

use std::time::Duration;

use crate::rate_limit_retry::headers::Signals;

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Learnt<'a> {
    /// It was answered.
    Answer {
        throttled: bool,
        signals: &'a Signals,
    },
    /// It was answered with an error that is no refusal of this kind: that is no proof that it was accepted.
    Failed { signals: &'a Signals },
    /// The server is unavailable for this kind of request for so long; whether it is for others is to be found out.
    Unavailable { wait: Duration },
    /// A cache answered it: the server has not seen it.
    Cached,
    /// It was not sent.
    NotSent,
    /// It was sent, and what became of it says nothing about quotas.
    Sent,
    /// The outcome is not known: the caller left, or the connection broke.
    Unknown,
}

/// What an answer is about, as far as the request tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum About {
    /// This partition.
    This,
    /// One of several that count the request.
    OneOfSeveral,
    /// All partitions of the origin, and their own quotas no more than others'.
    All,
}
