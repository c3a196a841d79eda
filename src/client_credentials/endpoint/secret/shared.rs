//! A [`SecretSource`], erased, with the memory of what it gave last and what was of use last.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{SecretSource, trim};
use crate::{
    boxed::BoxFuture,
    client_credentials::{TokenError, TokenErrorKind, trim::is_empty},
    panics::surviving,
    secret::Secret,
    sync::{Mutex, lock},
};

/// Read for every attempt; clones share what they remember.
#[derive(Clone)]
pub(in super::super) struct SharedSecret(Arc<State<dyn Erased>>);

struct State<S: ?Sized> {
    /// What it is, for people.
    name: &'static str,
    /// Line breaks at the ends are nothing to report: it is PEM.
    multiline: bool,
    /// Written by every attempt; read by the next, and when a failed attempt's value is compared with the one of now.
    memory: Mutex<Memory>,
    source: S,
}

#[derive(Default)]
struct Memory {
    given: Given,
    /// What a token was last granted for.
    kept: Option<Secret>,
    /// Since when the source has given another value than the one kept, or none.
    superseded: Option<Instant>,
    /// It was reported that what the source gives is trimmed.
    trimmed: bool,
}

/// What the source gave for the last attempt.
#[derive(Default)]
enum Given {
    #[default]
    NotAsked,
    Nothing,
    Secret(Secret),
}

/// A [`SecretSource`] without its type.
pub(in super::super) trait Erased: Send + Sync {
    fn read(&self) -> BoxFuture<'_, Result<Secret, TokenError>>;
}

impl<S: SecretSource> Erased for S {
    fn read(&self) -> BoxFuture<'_, Result<Secret, TokenError>> {
        // A panic is a failure like another: the secret kept from before may be used instead.
        Box::pin(async {
            let read = surviving(async { SecretSource::read_untrimmed(self).await }).await;
            read.unwrap_or_else(|| {
                let text = "was not sent: the secret's source panicked";
                Err(TokenError::new(TokenErrorKind::Secret, true, text))
            })
        })
    }
}

impl SharedSecret {
    pub(in super::super) fn new(name: &'static str, source: impl SecretSource) -> Self {
        Self::of(name, source, false)
    }

    /// One that has several lines.
    #[cfg(feature = "jwt")]
    pub(in super::super) fn pem(name: &'static str, source: impl SecretSource) -> Self {
        Self::of(name, source, true)
    }

    fn of(name: &'static str, source: impl SecretSource, multiline: bool) -> Self {
        Self(Arc::new(State {
            name,
            multiline,
            memory: Mutex::default(),
            source,
        }))
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
            Given::Secret(given) => given.expose() != now.expose(),
        }
    }

    /// The secret of now, for nothing but telling it from others. `None` if it is not to be had in time.
    pub(in super::super) async fn look(&self) -> Option<Secret> {
        timeout(LONGEST_READ, self.current()).await.ok()?.ok()
    }

    /// Remembers `secret`, for which a token was granted.
    pub(super) fn keep(&self, secret: Secret) {
        if !self.keeps_another(&secret) && lock(&self.0.memory).kept.is_some() {
            return;
        }
        let mut memory = lock(&self.0.memory);
        memory.superseded = None;
        let former = memory.kept.replace(secret);
        drop(memory);
        // Zeroised outside the lock.
        drop(former);
    }

    /// Whether another value than `secret` is kept.
    pub(super) fn keeps_another(&self, secret: &Secret) -> bool {
        let memory = lock(&self.0.memory);
        let kept = memory.kept.as_ref();
        kept.is_some_and(|kept| kept.expose() != secret.expose())
    }

    /// What the source gives, without line breaks and marks at its ends; an empty value is an error.
    async fn current(&self) -> Result<Secret, TokenError> {
        let secret = self.0.source.read().await?;
        self.usable(secret).map(|(secret, _)| secret)
    }

    /// The same, and whether it is to be reported that something was removed: once.
    async fn current_for_request(&self) -> Result<(Secret, bool), TokenError> {
        let secret = self.0.source.read().await?;
        let (secret, trimmed) = self.usable(secret)?;
        let trimmed = trimmed && !self.0.multiline;
        let mut memory = lock(&self.0.memory);
        let reported = std::mem::replace(&mut memory.trimmed, trimmed);
        drop(memory);
        Ok((secret, trimmed && !reported))
    }

    /// The secret of now for a request, and whether to report that something was removed from it. Bounded in time if
    /// another one is kept.
    pub(super) async fn read(
        &self,
        bounded: bool,
        now: Instant,
    ) -> Result<(Secret, bool), TokenError> {
        let read = match bounded {
            false => self.current_for_request().await,
            true => timeout(LONGEST_READ, self.current_for_request())
                .await
                .unwrap_or_else(|_| Err(self.silent())),
        };
        let given = read.as_ref().ok().map(|(secret, _)| secret);
        lock(&self.0.memory).note(given, now);
        read
    }

    /// The value for which a token was granted, as long as it may be used.
    pub(super) fn kept_at(&self, now: Instant) -> Option<Secret> {
        lock(&self.0.memory).kept_at(now)
    }

    pub(super) fn name(&self) -> &'static str {
        self.0.name
    }

    /// The secret to send, and whether it is another than `secret`.
    fn usable(&self, secret: Secret) -> Result<(Secret, bool), TokenError> {
        if is_empty(secret.expose()) {
            return Err(self.missing(false, "is empty"));
        }
        Ok(match trim(&secret) {
            Some(trimmed) => (trimmed, true),
            None => (secret, false),
        })
    }

    fn silent(&self) -> TokenError {
        self.missing(true, "could not be read in time")
    }

    fn missing(&self, transient: bool, what: &str) -> TokenError {
        let text = format!("was not sent: the {} {what}", self.0.name);
        TokenError::new(TokenErrorKind::Secret, transient, text)
    }
}

impl Memory {
    fn note(&mut self, given: Option<&Secret>, now: Instant) {
        let given_now = given.map(Secret::expose);
        let kept = self.kept.as_ref().map(Secret::expose);
        self.superseded = match kept.is_none() || given_now == kept {
            true => None,
            false => self.superseded.or(Some(now)),
        };
        self.given = given.cloned().map_or(Given::Nothing, Given::Secret);
    }

    /// What is kept, unless it is too old to be of use.
    fn kept_at(&mut self, now: Instant) -> Option<Secret> {
        let old = |since| now.saturating_duration_since(since) >= LONGEST_KEPT;
        if self.superseded.is_some_and(old) {
            self.kept = None;
            self.superseded = None;
        }
        self.kept.clone()
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSecret({})", self.0.name)
    }
}

/// How long a source may take where there is a kept secret to fall back on.
const LONGEST_READ: Duration = Duration::from_secs(5);

/// How long the secret that worked last is kept once the source gives another, or none.
const LONGEST_KEPT: Duration = Duration::from_secs(24 * 3600);
