//! Settings and request data for reading a response.

use std::time::{Duration, SystemTime};

use super::text;
use crate::secret::Secret;

/// Settings and request data for reading a response.
///
/// Everything that reading a response depends on, apart from the response. So the readers are pure functions, and their
/// tests need neither a clock nor a server.
#[derive(Debug)]
pub(in super::super) struct Context<'a> {
    /// Wall clock time of the response.
    pub(in super::super) wall: SystemTime,
    /// Lifetime of a token whose response has none.
    pub(in super::super) default_lifetime: Duration,
    /// Whether violations of RFC 6749 are errors.
    pub(in super::super) strict: bool,
    /// Token types that are sent as bearer tokens, in addition to `Bearer`.
    pub(in super::super) bearer_types: &'a [String],
    /// Required binding of the token.
    pub(in super::super) binding: Binding,
    /// What to check if the server rejects the credentials.
    pub(in super::super) advice: Option<&'static str>,
    /// Values to redact from quotations of the response.
    pub(in super::super) secrets: &'a [Secret],
}

/// Required binding of a token, which `token_type` names (RFC 9449 §5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(feature = "dpop"), expect(dead_code))]
pub(in super::super) enum Binding {
    /// A bearer token.
    None,
    /// A token that is bound to the key of the proof.
    Required,
    /// Either: the response says which.
    Preferred,
}

/// Returns whether the body is a web page or other markup.
pub(super) fn is_page(body: &[u8]) -> bool {
    text::trimmed(body).starts_with(b"<")
}

/// Returns the texts of `secrets`.
pub(super) fn exposed(secrets: &[Secret]) -> Vec<&str> {
    secrets.iter().map(Secret::expose).collect()
}
