//! A [`SecretSource`], erased, that remembers what it gave last.

use std::{fmt, sync::Arc};

use secrecy::{ExposeSecret, SecretString};

use super::{SecretSource, auth::BoxFuture};
use crate::{
    client_credentials::{TokenError, TokenErrorKind},
    sync::{Mutex, lock},
};

/// Read for every attempt; clones share what was read last.
#[derive(Clone)]
pub(super) struct SharedSecret(Arc<State<dyn Read>>);

struct State<S: ?Sized> {
    /// What it is, for people.
    name: &'static str,
    /// Written by every attempt, read when a failed attempt's value is compared with the one of now.
    used: Mutex<Option<SecretString>>,
    source: S,
}

trait Read: Send + Sync {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, TokenError>>;
}

impl<S: SecretSource> Read for S {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, TokenError>> {
        Box::pin(SecretSource::read(self))
    }
}

impl SharedSecret {
    pub(super) fn new(name: &'static str, source: impl SecretSource) -> Self {
        Self(Arc::new(State {
            name,
            used: Mutex::new(None),
            source,
        }))
    }

    /// The value as it is now; an empty one is an error.
    pub(super) async fn read(&self) -> Result<SecretString, TokenError> {
        let secret = self.0.source.read().await?;
        if secret.expose_secret().is_empty() {
            return Err(TokenError::new(
                TokenErrorKind::Secret,
                false,
                format!("was not sent: the {} is empty", self.0.name),
            ));
        }
        *lock(&self.0.used) = Some(secret.clone());
        Ok(secret)
    }

    /// Whether it is another value now than in the last attempt.
    pub(super) async fn changed(&self) -> bool {
        let Ok(now) = self.0.source.read().await else {
            return false;
        };
        lock(&self.0.used)
            .as_ref()
            .is_some_and(|used| used.expose_secret() != now.expose_secret())
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSecret({})", self.0.name)
    }
}
