//! Errors about tokens.
//!
//! | type | when | sent? |
//! |---|---|---|
//! | [`TokenError`] | a token could not be obtained | no |
//! | [`OriginNotAllowed`] | the token may not go to the destination | no |
//! | [`CredentialAlreadyPresent`] | the request already has a credential, and the layer refuses such requests | no |
//!
//! None of them is returned for a request that was sent: its 401 is a response.

mod kind;
mod not_sent;
mod reasons;

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use http::StatusCode;

pub(crate) use self::not_sent::NotAllowed;
pub use self::{
    kind::TokenErrorKind,
    not_sent::{CredentialAlreadyPresent, OriginNotAllowed},
};
use crate::BoxError;

/// Error of a token request. Cheap to clone: all callers that waited receive the same error.
///
/// Its message says what failed, where, since when, and when the next attempt is due. It never contains a secret or a
/// response body. A service returns it as a [`BoxError`]: `error.downcast_ref::<TokenError>()`.
///
/// # Whether to try again
///
/// The layer has its own back-off, so that a caller need not wait: a request during the back-off fails at once with the
/// same error. [`retry_after`](Self::retry_after) says when the next attempt is due, for example for the `Retry-After`
/// of a gateway. An error that is not [transient](Self::is_transient) needs an operator.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::TokenError;
///
/// let error = TokenError::permanent("was refused by the vault");
///
/// assert_eq!(error.to_string(), "token request was refused by the vault");
/// assert!(!error.is_transient());
/// ```
#[derive(Clone)]
pub struct TokenError(Arc<Inner>);

/// Contents of a [`TokenError`].
///
/// Copied when a part is changed and it is shared. Errors are rare, so that the size does not matter.
#[derive(Clone)]
struct Inner {
    /// What kind of failure it is.
    kind: TokenErrorKind,
    /// Whether the failure may disappear by itself.
    transient: bool,
    /// Whether a proof for a request failed, not a token request.
    of_proof: bool,
    /// What failed; continues the sentence "token request …", or "DPoP proof …".
    what: Cow<'static, str>,
    /// The endpoint, without secrets, if it is known.
    endpoint: Option<Cow<'static, str>>,
    /// HTTP status of the response.
    status: Option<StatusCode>,
    /// The `error` code of the response.
    oauth_error: Option<String>,
    /// The `error_description` of the response, sanitized.
    error_description: Option<String>,
    /// Wait that the endpoint requested.
    retry_after: Option<Duration>,
    /// The underlying error.
    source: Option<Arc<dyn Error + Send + Sync>>,
    /// Number of token requests in the fetch, if it can make more than one.
    requests: Option<u32>,
    /// State of the series of failures, if the layer counts them.
    history: Option<FailureHistory>,
}

/// State of a series of failures.
///
/// Relative to the moment at which a caller received the error, and therefore different for each caller.
#[derive(Clone, Debug)]
pub(crate) struct FailureHistory {
    /// Name of the credential.
    pub(crate) credential: Option<Arc<str>>,
    /// Number of failed fetches in a row.
    pub(crate) consecutive_failures: u32,
    /// Number of token requests in these fetches.
    pub(crate) requests: u32,
    /// Time since the first of these fetches began.
    pub(crate) failing_for: Duration,
    /// Remaining back-off.
    pub(crate) next_attempt_in: Duration,
}

impl TokenError {
    /// Creates an error that may disappear by itself, for your own [`TokenSource`](super::TokenSource).
    ///
    /// `what` is part of the message: it must not contain a secret.
    ///
    /// It continues the sentence "token request …": begin with a verb, such as "was not answered by the vault".
    ///
    /// The next fetch is after a back-off that doubles from 1 s to 60 s, less jitter.
    #[must_use]
    pub fn transient(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(TokenErrorKind::Other, true, what)
    }

    /// Creates an error that lasts until something is changed, for your own [`TokenSource`](super::TokenSource).
    ///
    /// `what` is part of the message: it must not contain a secret.
    ///
    /// The next fetch is after a back-off of 30 s to 10 min, or when
    /// [`TokenSource::changed`](super::TokenSource::changed) returns `true`.
    #[must_use]
    pub fn permanent(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(TokenErrorKind::Other, false, what)
    }

    /// Adds the error that caused this one. Its text must not contain a secret.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        let source = Arc::from(source.into());
        self.change(|inner| inner.source = Some(source))
    }

    /// Adds the wait before the next attempt that the endpoint requested.
    ///
    /// The layer waits at least that long, up to its
    /// [`max_token_backoff`](super::ClientCredentialsLayerBuilder::max_token_backoff).
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.change(|inner| inner.retry_after = Some(wait))
    }

    /// Returns the kind of the error.
    ///
    /// For decisions and metrics. The text of the message is for people and may change.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.0.kind
    }

    /// Returns whether the failure may disappear by itself, without human action.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// Returns the HTTP status of the endpoint's response, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// Returns the `error` code of the response (RFC 6749 §5.2), such as `invalid_client`.
    #[must_use]
    pub fn oauth_error(&self) -> Option<&str> {
        self.0.oauth_error.as_deref()
    }

    /// Returns the `error_description` of the response, or its `message` or `detail`. At most 200 characters of the set
    /// of RFC 6749 §5.2, with secrets and words that look like tokens replaced. Not part of `Display`.
    #[must_use]
    pub fn error_description(&self) -> Option<&str> {
        self.0.error_description.as_deref()
    }

    /// Returns how long to wait before the next attempt: the remaining back-off, or the wait that the endpoint
    /// requested if the layer does not count failures.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0
            .history
            .as_ref()
            .map(|m| m.next_attempt_in)
            .or(self.0.retry_after)
    }

    /// Returns the number of failed fetches in a row, if the layer counts them. Each may have made several token
    /// requests.
    ///
    /// 1 for the first failure after a success.
    #[must_use]
    pub fn consecutive_failures(&self) -> Option<u32> {
        self.0.history.as_ref().map(|m| m.consecutive_failures)
    }

    /// Creates an error with a message only.
    pub(crate) fn new(
        kind: TokenErrorKind,
        transient: bool,
        what: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            transient,
            of_proof: false,
            what: what.into(),
            endpoint: None,
            status: None,
            oauth_error: None,
            error_description: None,
            retry_after: None,
            source: None,
            requests: None,
            history: None,
        }))
    }

    /// Returns the endpoint, if it is known.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// Returns the number of token requests in the fetch.
    pub(crate) fn requests(&self) -> u32 {
        self.0.requests.unwrap_or(1)
    }

    /// Sets the number of token requests in the fetch.
    ///
    /// Counts all attempts within the fetch, for the message and for the history.
    pub(crate) fn with_requests(self, requests: u32) -> Self {
        self.change(|inner| inner.requests = Some(requests))
    }

    /// Makes the error permanent.
    pub(crate) fn into_permanent(self) -> Self {
        self.change(|inner| inner.transient = false)
    }

    /// Adds the endpoint. It must not contain a secret.
    pub(crate) fn with_endpoint(self, endpoint: impl Into<Cow<'static, str>>) -> Self {
        let endpoint = endpoint.into();
        self.change(|inner| inner.endpoint = Some(endpoint))
    }

    /// Adds the HTTP status.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        self.change(|inner| inner.status = Some(status))
    }

    /// Adds the `error` code and the description.
    pub(crate) fn with_oauth_error(self, code: Option<String>, text: Option<String>) -> Self {
        self.change(|inner| {
            inner.oauth_error = code;
            inner.error_description = text;
        })
    }

    /// Returns the error with the state of a series of failures.
    ///
    /// Replaces an earlier history: a source may itself use the tokens of another layer.
    pub(crate) fn with_history(&self, memory: FailureHistory) -> Self {
        self.clone().change(|inner| inner.history = Some(memory))
    }

    /// Converts the error of a signer to that of the proof for a request.
    pub(crate) fn of_proof(self) -> Self {
        self.change(|inner| inner.of_proof = true)
    }

    /// Changes the contents, of a copy if they are shared.
    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

/// Writes the known parts of this message:
///
/// ```text
/// token request to {endpoint} {what} (status {status}, {error code})
/// [credential {name}, attempt {requests}, failing for {seconds} s, next attempt in {seconds} s]
/// ```
impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str(match inner.of_proof {
            true => "DPoP proof",
            false => "token request",
        })?;
        if let Some(endpoint) = &inner.endpoint {
            write!(f, " to {endpoint}")?;
        }
        // The endpoint's `error_description` is not part of the message.
        write!(f, " {}", inner.what)?;
        match (inner.status, &inner.oauth_error) {
            (Some(status), Some(code)) => write!(f, " (status {}, {code})", status.as_u16())?,
            (Some(status), None) => write!(f, " (status {})", status.as_u16())?,
            (None, Some(code)) => write!(f, " ({code})")?,
            (None, None) => {}
        }
        let Some(memory) = &inner.history else {
            return Ok(());
        };
        f.write_str(" [")?;
        if let Some(name) = &memory.credential {
            write!(f, "credential {name:?}, ")?;
        }
        write!(
            f,
            "attempt {}, failing for {} s, next attempt in {} s]",
            memory.requests,
            whole_seconds(memory.failing_for),
            whole_seconds(memory.next_attempt_in),
        )
    }
}

/// Includes the message, and what `Display` omits: a `main` that returns an error prints its `Debug` form.
impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("kind", &self.0.kind)
            .field("transient", &self.0.transient)
            .field("message", &format_args!("{self}"))
            .field("error_description", &self.0.error_description)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| &**source as &(dyn Error + 'static))
    }
}

/// Converts to seconds, rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
