//! The error type of token stores and quota stores.
//!
//! Both kinds of stores use one error type, so that health and retries need not distinguish them.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use crate::BoxError;

/// A failure of a store. Cheap to clone; contains no secrets.
///
/// `Display` prints `the store`, followed by the text that the error was created with. The cause, if known, is the
/// [`source`](Error::source).
///
/// # Examples
///
/// ```
/// use std::io;
///
/// use tower_m2m::{store::{StoreError, StoreErrorKind}};
///
/// fn failed(error: io::Error) -> StoreError {
///     StoreError::unavailable("could not be reached").with_source(error)
/// }
///
/// let error = failed(io::ErrorKind::BrokenPipe.into());
/// assert_eq!(error.kind(), StoreErrorKind::Unavailable);
/// assert_eq!(error.to_string(), "the store could not be reached");
/// ```
#[derive(Clone, Debug)]
pub struct StoreError {
    /// Category of the failure.
    kind: StoreErrorKind,
    /// Description that completes a sentence beginning with "the store".
    what: Cow<'static, str>,
    /// The underlying error. Shared, so that the error stays cheap to clone.
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// Category of a [`StoreError`].
///
/// | kind | retry helps | what to check |
/// |---|---|---|
/// | `Configuration` | no | URL, keys, certificate |
/// | `Unavailable` | yes | the server, the network, the user's permissions |
/// | `Unreadable` | no | another program under the same prefix, or different keys |
///
/// `Configuration` is returned when a store is created. The other two do not fail requests: the process continues
/// without the store, and an event reports the failure once.
///
/// # Examples
///
/// ```
/// use tower_m2m::{client_credentials::TokenEvent, store::StoreErrorKind};
///
/// fn sink(event: &TokenEvent<'_>) {
///     match event {
///         TokenEvent::StoreFailed { error, .. }
///             if error.kind() == StoreErrorKind::Unreadable =>
///         {
///             eprintln!("another program writes into our store: {error}");
///         }
///         _ => {}
///     }
/// }
/// # let _: fn(&TokenEvent<'_>) = sink;
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be set up with the given configuration.
    Configuration,
    /// The store was unreachable, timed out or returned an error.
    Unavailable,
    /// The entry under the key was not written by this crate, or it was modified.
    Unreadable,
}

impl StoreError {
    /// Creates an error for a store that was unreachable, timed out or returned an error. `what` completes the sentence
    /// "the store …" and must not contain a secret.
    #[must_use]
    pub fn unavailable(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Unavailable, what)
    }

    /// Creates an error for an entry that this crate did not write. `what` must not contain a secret.
    #[must_use]
    pub fn unreadable(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Unreadable, what)
    }

    /// Creates an error for a store that cannot be set up as configured. `what` must not contain a secret.
    #[must_use]
    pub fn configuration(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Configuration, what)
    }

    /// Creates an error without a source.
    fn new(kind: StoreErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            what: what.into(),
            source: None,
        }
    }

    /// Adds the underlying error as the source. Its text must not contain a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Returns the category of the error.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns whether the entry is foreign or was modified; the store itself works.
    #[cfg(feature = "redis")]
    pub(crate) fn is_unreadable(&self) -> bool {
        self.kind == StoreErrorKind::Unreadable
    }

    /// Creates an error for a store that did not respond within `limit`.
    ///
    /// The kind is `Unavailable`: a server that is too slow is treated like one that is down.
    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::unavailable(format!("did not respond within {limit:?}"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store {}", self.what)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_ref()?;
        Some(&**source)
    }
}
