//! What is wrong with a store.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use crate::BoxError;

/// A store did not do what it was asked to. Cheap to clone, and without secrets.
///
/// # Examples
///
/// ```
/// use std::io;
///
/// use tower_m2m::client_credentials::{StoreError, StoreErrorKind};
///
/// fn failed(error: io::Error) -> StoreError {
///     StoreError::unavailable("could not be asked").with_source(error)
/// }
///
/// let error = failed(io::ErrorKind::BrokenPipe.into());
/// assert_eq!(error.kind(), StoreErrorKind::Unavailable);
/// assert_eq!(error.to_string(), "the store could not be asked");
/// ```
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    what: Cow<'static, str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of thing is wrong with a store.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{StoreErrorKind, TokenEvent};
///
/// fn sink(event: &TokenEvent<'_>) {
///     match event {
///         TokenEvent::StoreFailed { error, .. } if error.kind() == StoreErrorKind::Unreadable => {
///             eprintln!("somebody else writes into our store: {error}");
///         }
///         _ => {}
///     }
/// }
/// # let _: fn(&TokenEvent<'_>) = sink;
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be set up like this.
    Configuration,
    /// It could not be asked, did not answer in time, or refused.
    Unavailable,
    /// It holds something under our key that is none of ours, or was changed.
    Unreadable,
}

impl StoreError {
    /// The store could not be asked, did not answer in time, or refused. `what` must not hold a secret.
    #[must_use]
    pub fn unavailable(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Unavailable, what)
    }

    /// What is under our key is none of ours. `what` must not hold a secret.
    #[must_use]
    pub fn unreadable(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Unreadable, what)
    }

    /// The store cannot be set up like this. `what` must not hold a secret.
    #[must_use]
    pub fn configuration(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Configuration, what)
    }

    fn new(kind: StoreErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            what: what.into(),
            source: None,
        }
    }

    /// Adds the error that caused this one. Its text must not hold a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What kind of thing is wrong.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    #[cfg(feature = "redis")]
    pub(crate) fn is_unreadable(&self) -> bool {
        self.kind == StoreErrorKind::Unreadable
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::unavailable(format!("gave no answer within {limit:?}"))
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
