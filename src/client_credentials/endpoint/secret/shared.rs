//! A [`SecretSource`], erased, with the memory of what it gave last and what was of use last.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{
    super::auth::{BoxFuture, TokenRequest},
    SecretSource,
};
use crate::{
    client_credentials::{TokenError, TokenErrorKind},
    sync::{Mutex, lock},
};

/// Read for every attempt; clones share what they remember.
#[derive(Clone)]
pub(in super::super) struct SharedSecret(Arc<State<dyn Read>>);

struct State<S: ?Sized> {
    /// What it is, for people.
    name: &'static str,
    /// Written by every attempt; read by the next, and when a failed attempt's value is compared with the one of now.
    memory: Mutex<Memory>,
    source: S,
}

#[derive(Default)]
struct Memory {
    given: Given,
    /// What a token was last granted for.
    kept: Option<SecretString>,
}

/// What the source gave for the last attempt.
#[derive(Default)]
enum Given {
    #[default]
    NotAsked,
    Nothing,
    Secret(SecretString),
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
    pub(in super::super) fn new(name: &'static str, source: impl SecretSource) -> Self {
        Self(Arc::new(State {
            name,
            memory: Mutex::default(),
            source,
        }))
    }

    /// The secret for `request`: the one of now, or the kept one if that is wanted or the one of now is not to be had.
    pub(in super::super) async fn read(
        &self,
        request: &mut TokenRequest,
    ) -> Result<SecretString, TokenError> {
        let kept = lock(&self.0.memory).kept.clone();
        let secret = match kept {
            None => self.note(self.current().await)?,
            Some(kept) if request.used.wants_kept() => kept,
            Some(kept) => {
                let current = timeout(LONGEST_READ, self.current()).await;
                let current = current.unwrap_or_else(|_| Err(self.silent()));
                self.note(current).unwrap_or_else(|error| {
                    request.used.missed(error);
                    kept
                })
            }
        };
        request.used.add(self.clone(), secret.clone());
        Ok(secret)
    }

    /// Whether it is another value now than in the last attempt.
    pub(in super::super) async fn changed(&self) -> bool {
        if matches!(lock(&self.0.memory).given, Given::NotAsked) {
            return false;
        }
        let Ok(now) = self.current().await else {
            return false;
        };
        match &lock(&self.0.memory).given {
            Given::NotAsked => false,
            Given::Nothing => true,
            Given::Secret(given) => given.expose_secret() != now.expose_secret(),
        }
    }

    /// Remembers `secret`, for which a token was granted.
    pub(super) fn keep(&self, secret: SecretString) {
        let former = lock(&self.0.memory).kept.replace(secret);
        // Zeroised outside the lock.
        drop(former);
    }

    /// Whether another value than `secret` is kept.
    pub(super) fn keeps_another(&self, secret: &SecretString) -> bool {
        let memory = lock(&self.0.memory);
        let kept = memory.kept.as_ref();
        kept.is_some_and(|kept| kept.expose_secret() != secret.expose_secret())
    }

    /// What the source gives; an empty value is an error.
    async fn current(&self) -> Result<SecretString, TokenError> {
        let secret = self.0.source.read().await?;
        if secret.expose_secret().is_empty() {
            return Err(self.missing(false, "is empty"));
        }
        Ok(secret)
    }

    fn note(&self, given: Result<SecretString, TokenError>) -> Result<SecretString, TokenError> {
        lock(&self.0.memory).given = match &given {
            Ok(secret) => Given::Secret(secret.clone()),
            Err(_) => Given::Nothing,
        };
        given
    }

    fn silent(&self) -> TokenError {
        self.missing(true, "could not be read in time")
    }

    fn missing(&self, transient: bool, what: &str) -> TokenError {
        let text = format!("was not sent: the {} {what}", self.0.name);
        TokenError::new(TokenErrorKind::Secret, transient, text)
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSecret({})", self.0.name)
    }
}

/// How long a source may take where there is a kept secret to fall back on.
const LONGEST_READ: Duration = Duration::from_secs(5);
