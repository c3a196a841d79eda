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
    /// The fetch ended without a result, because its runtime shut down.
    Abandoned,
    /// TLS failed because of a certificate: ours was rejected or has expired, or the server's is not trusted.
    Certificate,
    /// The token endpoint or the credential is configured wrongly. Nothing was sent.
    Configuration,
    /// The client's credentials were rejected: `invalid_client` (RFC 6749 §5.2), or a 401 without an error code.
    InvalidClient,
    /// The token expired before it arrived.
    Expired,
    /// The metadata at the issuer's well-known location names another issuer (RFC 8414 §3.3).
    IssuerMismatch,
    /// The response was not a token response (RFC 6749 §5.1).
    Malformed,
    /// Refreshed metadata moves the token endpoint or drops the method in use, and was rejected.
    MetadataChanged,
    /// The issuer has no metadata at its well-known locations (RFC 8414 §3).
    NoMetadata,
    /// There is no tokio runtime to fetch a token on.
    NoRuntime,
    /// The response contains something that RFC 6749 forbids, and the endpoint is
    /// [`strict`](super::super::TokenEndpoint::strict).
    NonConforming,
    /// The response is not UTF-8.
    NotUtf8,
    /// Another reason, from your own [`TokenSource`](super::super::TokenSource).
    Other,
    /// The token source panicked.
    Panicked,
    /// The endpoint responded with a redirect. Redirects are never followed.
    Redirected,
    /// The endpoint rejected the request: an error code of RFC 6749 §5.2, or another 4xx status.
    Rejected,
    /// The scope was rejected: `invalid_scope` (RFC 6749 §5.2).
    InvalidScope,
    /// The client secret could not be read.
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
    /// The response exceeded the size limit.
    TooLarge,
    /// As many callers as [`max_waiting`](super::super::ClientCredentialsLayerBuilder::max_waiting) allows already wait
    /// for the token.
    QueueFull,
    /// The endpoint could not be reached, or the connection failed.
    Transport,
    /// The endpoint issued a token of a type that cannot be sent (RFC 6749 §7.1).
    UnsupportedTokenType,
    /// The key does not suit the algorithm, or cannot be read.
    InvalidKey,
}

impl TokenErrorKind {
    /// Returns a short name for metrics and logs, such as `invalid_client`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Certificate => "certificate",
            Self::Configuration => "configuration",
            Self::InvalidClient => "invalid_client",
            Self::Expired => "expired",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::Malformed => "malformed",
            Self::MetadataChanged => "metadata_changed",
            Self::NoMetadata => "no_metadata",
            Self::NoRuntime => "no_runtime",
            Self::NonConforming => "non_conforming",
            Self::NotUtf8 => "not_utf8",
            Self::Other => "other",
            Self::Panicked => "panicked",
            Self::Redirected => "redirected",
            Self::Rejected => "rejected",
            Self::InvalidScope => "invalid_scope",
            Self::SecretUnavailable => "secret_unavailable",
            Self::Server => "server",
            Self::ShutDown => "shut_down",
            Self::SigningFailed => "signing_failed",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::QueueFull => "queue_full",
            Self::Transport => "transport",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::InvalidKey => "invalid_key",
        }
    }
}
