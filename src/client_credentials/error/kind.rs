//! The kinds of reasons why there is no token.

/// What kind of thing went wrong.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{TokenError, TokenErrorKind};
///
/// /// Whether somebody here has to do something.
/// fn is_ours(error: &TokenError) -> bool {
///     matches!(error.kind(), TokenErrorKind::CredentialsRefused | TokenErrorKind::Secret)
/// }
///
/// assert!(!is_ours(&TokenError::transient("failed")));
/// assert_eq!(TokenErrorKind::CredentialsRefused.as_str(), "credentials_refused");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// The attempt ended without an outcome, because its runtime ended.
    Abandoned,
    /// TLS failed for a certificate: ours was refused or has expired, or the server's cannot be trusted.
    Certificate,
    /// The token endpoint or the credential is configured wrongly; nothing was sent.
    Configuration,
    /// The client's credentials were refused: `invalid_client`, or a 401 without an error code.
    CredentialsRefused,
    /// The token's life was over before it arrived.
    Expired,
    /// The metadata at the issuer's well-known place names another issuer (RFC 8414 §3.3).
    IssuerMismatch,
    /// The answer was not an RFC 6749 §5.1 token response.
    Malformed,
    /// Renewed metadata moves the token endpoint or drops the method in use, and was not adopted.
    MetadataChanged,
    /// The issuer has no metadata at its well-known places (RFC 8414 §3).
    NoMetadata,
    /// There is no tokio runtime to fetch a token on.
    NoRuntime,
    /// The answer holds something that RFC 6749 forbids, and the endpoint is set to be
    /// [`strict`](super::super::TokenEndpoint::strict).
    NotStrict,
    /// The answer is not UTF-8.
    NotUtf8,
    /// Another reason, given by a [`TokenSource`](super::super::TokenSource) of your own.
    Other,
    /// The token source panicked.
    Panicked,
    /// The endpoint answered with a redirect, which is never followed.
    Redirected,
    /// The endpoint refused the request: RFC 6749 §5.2, or another 4xx status.
    Refused,
    /// The scope was refused: `invalid_scope`.
    ScopeRefused,
    /// The client secret could not be read.
    Secret,
    /// The endpoint failed: a 5xx status.
    Server,
    /// [`TokenHandle::shutdown`](super::super::TokenHandle::shutdown) was called.
    ShutDown,
    /// The `Signer` of `private_key_jwt` failed, or did not answer in time; nothing was sent.
    SigningFailed,
    /// The endpoint asked to slow down: status 429, `Retry-After` on a refusal, or words that say so.
    Throttled,
    /// No answer within the time limit.
    Timeout,
    /// The answer was larger than the size cap.
    TooLarge,
    /// As many callers as [`max_waiting`](super::super::ClientCredentialsLayerBuilder::max_waiting) allows wait for the
    /// token already.
    TooManyWaiting,
    /// The endpoint could not be reached, or the connection broke.
    Transport,
    /// The endpoint gave a token of a type that cannot be sent (RFC 6749 §7.1).
    UnsupportedTokenType,
    /// The key does not suit the algorithm, or cannot be read.
    WrongKey,
}

impl TokenErrorKind {
    /// A short name for metrics and logs, such as `credentials_refused`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Certificate => "certificate",
            Self::Configuration => "configuration",
            Self::CredentialsRefused => "credentials_refused",
            Self::Expired => "expired",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::Malformed => "malformed",
            Self::MetadataChanged => "metadata_changed",
            Self::NoMetadata => "no_metadata",
            Self::NoRuntime => "no_runtime",
            Self::NotStrict => "not_strict",
            Self::NotUtf8 => "not_utf8",
            Self::Other => "other",
            Self::Panicked => "panicked",
            Self::Redirected => "redirected",
            Self::Refused => "refused",
            Self::ScopeRefused => "scope_refused",
            Self::Secret => "secret",
            Self::Server => "server",
            Self::ShutDown => "shut_down",
            Self::SigningFailed => "signing_failed",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::TooManyWaiting => "too_many_waiting",
            Self::Transport => "transport",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::WrongKey => "wrong_key",
        }
    }
}
