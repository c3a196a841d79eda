//! A type-erased [`SecretSource`], with the value that it last returned and the fallback.
//!
//! The fallback makes rotations independent of their order. It is bounded in time, so that a revoked secret does not
//! stay in use.
//!
//! | the source returns | the server says | secret for the next attempt |
//! |---|---|---|
//! | the fallback's value | a token | the same |
//! | another value | a token | the new value, which becomes the fallback |
//! | another value | `invalid_client` | the fallback, at once |
//! | an error, or nothing within 5 s | – | the fallback |
//! | an error, 24 h after the value changed or failed first | – | none: the fetch fails |
//!
//! The state is updated from two places: a read records what the source returned, and an issued token sets the
//! fallback. Two fetches of the same source, such as those of two layers, share both.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{SecretSource, trim};
use crate::{
    boxed::BoxFuture,
    catch_panic::catch_panic,
    client_credentials::{TokenError, TokenErrorKind, trim::is_empty},
    secret::Secret,
    sync::{Mutex, lock},
};

/// A secret source that is read for every attempt. Clones share its state.
///
/// Used for every secret of a request: client secrets, assertions, subject tokens and keys. A client certificate has a
/// fallback of its own, because its connections stay open.
#[derive(Clone)]
pub(in super::super) struct BoxSecretSource(Arc<State<dyn Erased>>);

/// A source and its state.
struct State<S: ?Sized> {
    /// What the secret is, for errors.
    name: &'static str,
    /// Whether the value is PEM, whose line breaks at the ends are not reported.
    multiline: bool,
    /// Values of earlier reads. Every attempt writes them; the next one reads them, as does a check for changes after a
    /// failed attempt. The lock is never held across an `await`.
    history: Mutex<SecretHistory>,
    /// The source.
    source: S,
}

/// Values of earlier reads.
///
/// Secrets in it are zeroized when they are replaced.
#[derive(Default)]
struct SecretHistory {
    /// Result of the last read.
    last_read: LastRead,
    /// The fallback: the secret that last obtained a token.
    fallback: Option<Secret>,
    /// Since when the source has returned a different value than the fallback, or none.
    superseded: Option<Instant>,
    /// Whether the trimming of the current value has been reported.
    trimmed: bool,
}

/// Result of the last read of the source.
///
/// `Failed` differs from `Never`: a source that works again after a failure counts as changed, which ends a back-off.
#[derive(Default)]
enum LastRead {
    #[default]
    /// The source has not been read.
    Never,
    /// The read failed.
    Failed,
    /// The source returned this secret.
    Secret(Secret),
}

/// The object-safe counterpart of [`SecretSource`], implemented for every source.
pub(in super::super) trait Erased: Send + Sync {
    /// Reads the secret before trimming. A panic is an error.
    fn read(&self) -> BoxFuture<'_, Result<Secret, TokenError>>;
}

impl<S: SecretSource> Erased for S {
    fn read(&self) -> BoxFuture<'_, Result<Secret, TokenError>> {
        // A panic is an error like any other, so that the fallback can be used.
        Box::pin(async {
            let read = catch_panic(async { SecretSource::read_untrimmed(self).await }).await;
            read.unwrap_or_else(|| {
                let text = "was not sent: the secret source panicked";
                Err(TokenError::new(
                    TokenErrorKind::SecretUnavailable,
                    true,
                    text,
                ))
            })
        })
    }
}

impl BoxSecretSource {
    /// Creates a source whose trimmed values are reported.
    pub(in super::super) fn new(name: &'static str, source: impl SecretSource) -> Self {
        Self::of(name, source, false)
    }

    /// Creates a source of PEM, whose line breaks at the ends are not reported.
    #[cfg(feature = "jwt")]
    pub(in super::super) fn pem(name: &'static str, source: impl SecretSource) -> Self {
        Self::of(name, source, true)
    }

    /// Creates a source.
    fn of(name: &'static str, source: impl SecretSource, multiline: bool) -> Self {
        Self(Arc::new(State {
            name,
            multiline,
            history: Mutex::default(),
            source,
        }))
    }

    /// Returns whether the current value differs from that of the last attempt. Returns `false` before the first
    /// attempt, or if the source fails.
    ///
    /// Has no time limit. The caller's fetch has one.
    pub(in super::super) async fn changed(&self) -> bool {
        // Before the first attempt there is nothing to compare with, so the source is not read.
        if matches!(lock(&self.0.history).last_read, LastRead::Never) {
            return false;
        }
        let Ok(now) = self.current().await else {
            return false;
        };
        match &lock(&self.0.history).last_read {
            LastRead::Never => false,
            LastRead::Failed => true,
            LastRead::Secret(given) => given.expose() != now.expose(),
        }
    }

    /// Returns the current secret for comparison and for the cache key, without changing the state. Returns `None` if
    /// the source fails or takes more than 5 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the read, and has no other effect.
    pub(in super::super) async fn peek(&self) -> Option<Secret> {
        timeout(READ_TIMEOUT, self.current()).await.ok()?.ok()
    }

    /// Makes `secret`, which obtained a token, the fallback.
    ///
    /// Called with the value that was sent, which may be older than the one that the source returns now.
    pub(super) fn set_fallback(&self, secret: Secret) {
        // Unchanged is the usual case.
        if !self.has_other_fallback(&secret) && lock(&self.0.history).fallback.is_some() {
            return;
        }
        let mut memory = lock(&self.0.history);
        memory.superseded = None;
        let former = memory.fallback.replace(secret);
        drop(memory);
        // Zeroized after the lock is released.
        drop(former);
    }

    /// Returns whether the fallback differs from `secret`.
    ///
    /// Compares in variable time. Both values belong to this process, and no response depends on the comparison.
    pub(super) fn has_other_fallback(&self, secret: &Secret) -> bool {
        let memory = lock(&self.0.history);
        let fallback = memory.fallback.as_ref();
        fallback.is_some_and(|fallback| fallback.expose() != secret.expose())
    }

    /// Reads the current value, trimmed. An empty value is an error.
    async fn current(&self) -> Result<Secret, TokenError> {
        let secret = self.0.source.read().await?;
        self.normalize(secret).map(|(secret, _)| secret)
    }

    /// Reads the current value, trimmed, and returns whether to report the trimming: once for consecutive trimmed
    /// values.
    async fn current_for_request(&self) -> Result<(Secret, bool), TokenError> {
        let secret = self.0.source.read().await?;
        let (secret, trimmed) = self.normalize(secret)?;
        let trimmed = trimmed && !self.0.multiline;
        let mut memory = lock(&self.0.history);
        let reported = std::mem::replace(&mut memory.trimmed, trimmed);
        drop(memory);
        Ok((secret, trimmed && !reported))
    }

    /// Reads the current secret for a request, and returns whether to report that it was trimmed. If `bounded`, the
    /// read is limited to 5 s, because there is a fallback.
    ///
    /// Without a fallback, a slow source is limited by the deadline of the attempt only: there is nothing better to
    /// use.
    ///
    /// # Errors
    ///
    /// The error of the source, or a transient one if a bounded read takes too long.
    ///
    /// # Cancel safety
    ///
    /// A read that is dropped is not recorded: it neither counts as a failure nor starts the expiration of the
    /// fallback.
    pub(super) async fn read(
        &self,
        bounded: bool,
        now: Instant,
    ) -> Result<(Secret, bool), TokenError> {
        let read = match bounded {
            false => self.current_for_request().await,
            true => timeout(READ_TIMEOUT, self.current_for_request())
                .await
                .unwrap_or_else(|_| Err(self.timed_out())),
        };
        // A failed read is recorded as well: it starts the expiration of the fallback.
        let given = read.as_ref().ok().map(|(secret, _)| secret);
        lock(&self.0.history).note(given, now);
        read
    }

    /// Returns the fallback, unless it has expired.
    pub(super) fn fallback_at(&self, now: Instant) -> Option<Secret> {
        lock(&self.0.history).fallback_at(now)
    }

    /// Returns what the secret is, for errors.
    pub(super) fn name(&self) -> &'static str {
        self.0.name
    }

    /// Trims `secret`. Returns the result and whether it differs. An empty secret is an error.
    ///
    /// An empty secret is permanent: a source that returns one does so on purpose, or is configured wrongly.
    fn normalize(&self, secret: Secret) -> Result<(Secret, bool), TokenError> {
        if is_empty(secret.expose()) {
            return Err(self.unavailable(false, "is empty"));
        }
        Ok(match trim(&secret) {
            Some(trimmed) => (trimmed, true),
            None => (secret, false),
        })
    }

    /// Creates the error for a source that took too long.
    fn timed_out(&self) -> TokenError {
        self.unavailable(true, "could not be read in time")
    }

    /// Creates the error for a secret that is not available.
    fn unavailable(&self, transient: bool, what: &str) -> TokenError {
        let text = format!("was not sent: the {} {what}", self.0.name);
        TokenError::new(TokenErrorKind::SecretUnavailable, transient, text)
    }
}

impl SecretHistory {
    /// Records the result of a read. Starts or stops the expiration of the fallback.
    ///
    /// The 24 h begin with the first read that does not return the fallback's value, and end with one that does.
    fn note(&mut self, given: Option<&Secret>, now: Instant) {
        let given_now = given.map(Secret::expose);
        let fallback = self.fallback.as_ref().map(Secret::expose);
        self.superseded = match fallback.is_none() || given_now == fallback {
            true => None,
            false => self.superseded.or(Some(now)),
        };
        self.last_read = given.cloned().map_or(LastRead::Failed, LastRead::Secret);
    }

    /// Returns the fallback. Discards it if it has expired.
    fn fallback_at(&mut self, now: Instant) -> Option<Secret> {
        let old = |since| now.saturating_duration_since(since) >= MAX_FALLBACK_AGE;
        if self.superseded.is_some_and(old) {
            self.fallback = None;
            self.superseded = None;
        }
        self.fallback.clone()
    }
}

impl fmt::Debug for BoxSecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoxSecretSource({})", self.0.name)
    }
}

/// Maximum duration of a read if there is a fallback, and of a read for comparison.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Retention of the fallback after the source began to return a different secret, or to fail.
const MAX_FALLBACK_AGE: Duration = Duration::from_secs(24 * 3600);
