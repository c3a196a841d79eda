//! Why there is no token.

mod kind;
mod not_sent;
mod reasons;

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use http::StatusCode;

pub(crate) use self::not_sent::NotAllowed;
pub use self::{
    kind::TokenErrorKind,
    not_sent::{CredentialPresent, OriginNotAllowed},
};
use crate::BoxError;

/// A token could not be had. Cheap to clone: every caller that waited gets the same one.
///
/// Says what failed, where, since when and when the next attempt is due, and never holds a secret or a response body.
/// Comes out of a service as a [`BoxError`]: `error.downcast_ref::<TokenError>()`.
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

#[derive(Clone)]
struct Inner {
    kind: TokenErrorKind,
    transient: bool,
    what: Cow<'static, str>,
    endpoint: Option<Cow<'static, str>>,
    status: Option<StatusCode>,
    oauth_error: Option<String>,
    description: Option<String>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    /// How many token requests the fetch has made, if it can make more than one.
    requests: Option<u32>,
    memory: Option<Memory>,
}

/// What the cell knows about a series of failures.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) credential: Option<Arc<str>>,
    pub(crate) failures: u32,
    /// Token requests, of which a fetch may make several.
    pub(crate) requests: u32,
    pub(crate) failing_for: Duration,
    pub(crate) next_attempt_in: Duration,
}

impl TokenError {
    /// A failure that may go away by itself, for a [`TokenSource`](super::TokenSource) of your own.
    ///
    /// `what` is shown to people: it must not hold a secret.
    #[must_use]
    pub fn transient(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(TokenErrorKind::Other, true, what)
    }

    /// A failure that stays until somebody changes something, for a [`TokenSource`](super::TokenSource) of your own.
    ///
    /// `what` is shown to people: it must not hold a secret.
    #[must_use]
    pub fn permanent(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(TokenErrorKind::Other, false, what)
    }

    /// Adds the error that caused this one. Its text must not hold a secret.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        let source = Arc::from(source.into());
        self.change(|inner| inner.source = Some(source))
    }

    /// Adds the time that the endpoint asked to wait before the next attempt.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.change(|inner| inner.retry_after = Some(wait))
    }

    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.0.kind
    }

    /// Whether the failure may go away by itself, without the need for any human action.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// The endpoint's HTTP status, if it answered.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// The `error` code of the answer (RFC 6749 §5.2), such as `invalid_client`.
    #[must_use]
    pub fn oauth_error(&self) -> Option<&str> {
        self.0.oauth_error.as_deref()
    }

    /// The answer's `error_description`, or its `message` or `detail`: at most 200 characters of RFC 6749 §5.2's set,
    /// with secrets and words that look like tokens replaced. Not part of `Display`.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// How long to wait before asking again: what the endpoint asked for, or what is left of the back-off.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0
            .memory
            .as_ref()
            .map(|m| m.next_attempt_in)
            .or(self.0.retry_after)
    }

    /// How many fetches in a row have failed, where the layer counts them. Each may have made several token requests.
    #[must_use]
    pub fn failures(&self) -> Option<u32> {
        self.0.memory.as_ref().map(|m| m.failures)
    }

    pub(crate) fn new(
        kind: TokenErrorKind,
        transient: bool,
        what: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            transient,
            what: what.into(),
            endpoint: None,
            status: None,
            oauth_error: None,
            description: None,
            retry_after: None,
            source: None,
            requests: None,
            memory: None,
        }))
    }

    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// How many token requests the fetch has made.
    pub(crate) fn requests(&self) -> u32 {
        self.0.requests.unwrap_or(1)
    }

    pub(crate) fn with_requests(self, requests: u32) -> Self {
        self.change(|inner| inner.requests = Some(requests))
    }

    /// The same, known not to go away by itself.
    pub(crate) fn lasting(self) -> Self {
        self.change(|inner| inner.transient = false)
    }

    pub(crate) fn with_endpoint(self, endpoint: impl Into<Cow<'static, str>>) -> Self {
        let endpoint = endpoint.into();
        self.change(|inner| inner.endpoint = Some(endpoint))
    }

    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        self.change(|inner| inner.status = Some(status))
    }

    pub(crate) fn with_oauth_error(self, code: Option<String>, text: Option<String>) -> Self {
        self.change(|inner| {
            inner.oauth_error = code;
            inner.description = text;
        })
    }

    pub(crate) fn with_memory(&self, memory: Memory) -> Self {
        self.clone().change(|inner| inner.memory = Some(memory))
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str("token request")?;
        if let Some(endpoint) = &inner.endpoint {
            write!(f, " to {endpoint}")?;
        }
        write!(f, " {}", inner.what)?;
        match (inner.status, &inner.oauth_error) {
            (Some(status), Some(code)) => write!(f, " (status {}, {code})", status.as_u16())?,
            (Some(status), None) => write!(f, " (status {})", status.as_u16())?,
            (None, Some(code)) => write!(f, " ({code})")?,
            (None, None) => {}
        }
        let Some(memory) = &inner.memory else {
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

/// The message, too, and what Display leaves out: a `main` that returns an error prints it so.
impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("kind", &self.0.kind)
            .field("transient", &self.0.transient)
            .field("message", &format_args!("{self}"))
            .field("description", &self.0.description)
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

/// Rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
