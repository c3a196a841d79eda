//! What is wrong with a store.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use crate::BoxError;

/// A token store did not do what it was asked to. Cheap to clone, and without secrets.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    what: Cow<'static, str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of thing is wrong with a store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It could not be asked, did not answer in time, or refused.
    Unavailable,
    /// It holds something under our key that is none of ours, or was changed.
    Unreadable,
}

impl StoreError {
    /// The store could not be asked, did not answer in time, or refused. `what` must not hold a secret.
    #[must_use]
    pub fn unavailable(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: StoreErrorKind::Unavailable,
            what: what.into(),
            source: None,
        }
    }

    /// What is under our key is none of ours. `what` must not hold a secret.
    #[must_use]
    pub fn unreadable(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: StoreErrorKind::Unreadable,
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

    pub(super) fn timeout(limit: Duration) -> Self {
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
