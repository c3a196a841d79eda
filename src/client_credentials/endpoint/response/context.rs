//! What reading a response needs besides its bytes.

use std::time::{Duration, SystemTime};

use super::text;
use crate::secret::Secret;

/// What the reader knows besides the answer.
#[derive(Debug)]
pub(in super::super) struct Context<'a> {
    pub(in super::super) wall: SystemTime,
    pub(in super::super) default_lifetime: Duration,
    /// Refuses what RFC 6749 forbids.
    pub(in super::super) strict: bool,
    /// Token types that are sent as bearer tokens, besides `Bearer`.
    pub(in super::super) bearer_types: &'a [String],
    pub(in super::super) advice: Option<&'static str>,
    pub(in super::super) secrets: &'a [Secret],
}

pub(super) fn is_page(body: &[u8]) -> bool {
    text::trimmed(body).starts_with(b"<")
}

pub(super) fn exposed(secrets: &[Secret]) -> Vec<&str> {
    secrets.iter().map(Secret::expose).collect()
}
