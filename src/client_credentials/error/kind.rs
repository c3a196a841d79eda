//! Kinds of token errors.

/// Kind of a [`TokenError`](super::super::TokenError).
///
/// The kind says what failed, and not whether it is transient: an `invalid_client` may be either. See
/// [`TokenError::is_transient`](super::super::TokenError::is_transient).
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{TokenError, TokenErrorKind};
///
/// /// Whether somebody here has to do something.
/// fn is_ours(error: &TokenError) -> bool {
///     matches!(error.kind(), TokenErrorKind::InvalidClient | TokenErrorKind::SecretUnavailable)
/// }
///
/// assert!(!is_ours(&TokenError::transient("failed")));
/// assert_eq!(TokenErrorKind::InvalidClient.as_str(), "invalid_client");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// The fetch ended without a result: its runtime shut down, or the token source panicked.
    Aborted,
    /// TLS failed because of a certificate: ours was rejected or has expired, or the server's is not trusted.
    Certificate,
    /// The token endpoint, the credential, a key or the process is set up wrongly: a setting is missing, a key does not
    /// suit its algorithm, or there is no tokio runtime. Nothing was sent.
    Configuration,
    /// The issuer's metadata (RFC 8414 §3) was not found, names another issuer, or has changed in a way that must be
    /// confirmed: it moves the token endpoint or drops the method in use.
    Discovery,
    /// The client's credentials were rejected: `invalid_client` (RFC 6749 §5.2), or a 401 without an error code.
    InvalidClient,
    /// The endpoint did not return a usable token: the response is not a token response (RFC 6749 §5.1), is too large or
    /// a redirect, or the token has expired, has a type that cannot be sent (§7.1), or violates the RFC while the
    /// endpoint is [`strict`](super::super::TokenEndpoint::strict).
    InvalidResponse,
    /// The scope was rejected: `invalid_scope` (RFC 6749 §5.2).
    InvalidScope,
    /// Another reason, from your own [`TokenSource`](super::super::TokenSource).
    Other,
    /// As many callers as [`max_waiting`](super::super::ClientCredentialsLayerBuilder::max_waiting) allows already wait
    /// for the token.
    QueueFull,
    /// The endpoint rejected the request: another error code of RFC 6749 §5.2, which
    /// [`oauth_error`](super::super::TokenError::oauth_error) returns, or another 4xx status.
    Rejected,
    /// The client secret could not be read. Nothing was sent.
    SecretUnavailable,
    /// The endpoint failed with a 5xx status.
    Server,
    /// [`TokenHandle::shutdown`](super::super::TokenHandle::shutdown) was called.
    ShutDown,
    /// The `Signer` of `private_key_jwt` failed or did not respond in time. Nothing was sent.
    SigningFailed,
    /// The endpoint limits its rate: status 429, `Retry-After` on a rejection, or a message that says so.
    Throttled,
    /// There was no response within the time limit.
    Timeout,
    /// The endpoint could not be reached, or the connection failed.
    Transport,
}

impl TokenErrorKind {
    /// Returns a short name for metrics and logs, such as `invalid_client`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Certificate => "certificate",
            Self::Configuration => "configuration",
            Self::Discovery => "discovery",
            Self::InvalidClient => "invalid_client",
            Self::InvalidResponse => "invalid_response",
            Self::InvalidScope => "invalid_scope",
            Self::Other => "other",
            Self::QueueFull => "queue_full",
            Self::Rejected => "rejected",
            Self::SecretUnavailable => "secret_unavailable",
            Self::Server => "server",
            Self::ShutDown => "shut_down",
            Self::SigningFailed => "signing_failed",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Transport => "transport",
        }
    }
}
