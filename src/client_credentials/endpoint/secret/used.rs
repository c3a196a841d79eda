//! Secrets that one token request uses. A successful response makes them the fallback.
//!
//! The grant's tokens and the client's credentials are recorded separately, because the server rejects only the latter
//! with `invalid_client`.

use std::fmt;

use tokio::time::Instant;

use super::boxed::BoxSecretSource;
use crate::{client_credentials::TokenError, secret::Secret};

/// Secrets that one token request uses, in the order in which they were read.
///
/// Lives for one attempt. If the attempt fails it is dropped, and nothing becomes the fallback.
#[derive(Default)]
pub(in super::super) struct UsedSecrets {
    /// Each source with the value that was used.
    secrets: Vec<(BoxSecretSource, Secret)>,
    /// Index of the first secret that authenticates the client. Earlier ones belong to the grant.
    credentials: usize,
    /// Whether to use the fallback of the credentials instead of the current values.
    use_fallback: bool,
    /// Errors of sources that were replaced by their fallback.
    read_errors: Vec<TokenError>,
    /// Names of the secrets that were trimmed.
    trimmed: Vec<&'static str>,
}

impl UsedSecrets {
    /// Marks the secrets that are read from now on as the client's credentials. With `fallback`, their fallback is used
    /// instead of the current values.
    pub(in super::super) fn begin_credentials(&mut self, fallback: bool) {
        self.credentials = self.secrets.len();
        self.use_fallback = fallback;
    }

    /// Returns, and clears, the errors of sources that were replaced by their fallback.
    pub(in super::super) fn take_read_errors(&mut self) -> Vec<TokenError> {
        std::mem::take(&mut self.read_errors)
    }

    /// Returns, and clears, the names of the secrets that were trimmed.
    pub(in super::super) fn take_trimmed(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.trimmed)
    }

    /// Returns whether a fallback differs from the credentials that were used.
    ///
    /// Secrets of the grant do not count: another assertion does not help against `invalid_client`.
    pub(in super::super) fn has_fallback(&self) -> bool {
        let mut credentials = self.secrets[self.credentials..].iter();
        credentials.any(|(source, used)| source.has_other_fallback(used))
    }

    /// Makes the used secrets the fallback, after they obtained a token.
    pub(in super::super) fn set_fallbacks(self) {
        for (source, used) in self.secrets {
            source.set_fallback(used);
        }
    }

    /// Reads the secret to send: the current value, or the fallback if it is requested or the source fails.
    ///
    /// Several secrets may be read for one request, and each falls back on its own.
    ///
    /// # Errors
    ///
    /// The error of the source, if there is no fallback.
    pub(in super::super) async fn read(
        &mut self,
        source: &BoxSecretSource,
        now: Instant,
    ) -> Result<Secret, TokenError> {
        let secret = match source.fallback_at(now) {
            // The source is not read at all: its current value has just been rejected.
            Some(fallback) if self.use_fallback => fallback,
            fallback => match (source.read(fallback.is_some(), now).await, fallback) {
                (Ok((secret, trimmed)), _) => {
                    self.trimmed.extend(trimmed.then(|| source.name()));
                    secret
                }
                (Err(error), Some(fallback)) => {
                    self.read_errors.push(error);
                    fallback
                }
                (Err(error), None) => return Err(error),
            },
        };
        self.secrets.push((source.clone(), secret.clone()));
        Ok(secret)
    }
}

impl fmt::Debug for UsedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UsedSecrets({})", self.secrets.len())
    }
}
