//! The secrets that one token request is made with, and what its answer says about them.

use std::fmt;

use tokio::time::Instant;

use super::shared::SharedSecret;
use crate::{client_credentials::TokenError, secret::Secret};

/// Filled while the request is made.
#[derive(Default)]
pub(in super::super) struct UsedSecrets {
    secrets: Vec<(SharedSecret, Secret)>,
    /// Those from here on show who the client is.
    credentials: usize,
    /// The credentials are to be those that are kept.
    kept: bool,
    missed: Vec<TokenError>,
    /// Those that had line breaks or marks at their ends.
    trimmed: Vec<&'static str>,
}

impl UsedSecrets {
    /// What is read from now on shows who the client is; `kept` asks for the values for which a token was granted last.
    pub(in super::super) fn begin_credentials(&mut self, kept: bool) {
        self.credentials = self.secrets.len();
        self.kept = kept;
    }

    /// Why kept values stand in the place of those of now.
    pub(in super::super) fn take_missed(&mut self) -> Vec<TokenError> {
        std::mem::take(&mut self.missed)
    }

    /// Which secrets had line breaks or marks at their ends.
    pub(in super::super) fn take_trimmed(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.trimmed)
    }

    /// Whether other credentials are kept than those that were used.
    pub(in super::super) fn have_others_kept(&self) -> bool {
        let mut credentials = self.secrets[self.credentials..].iter();
        credentials.any(|(source, used)| source.keeps_another(used))
    }

    /// A token was granted.
    pub(in super::super) fn keep(self) {
        for (source, used) in self.secrets {
            source.keep(used);
        }
    }

    /// The secret of `source` to send: the one of now, or the kept one if that is wanted or the one of now is not available.
    pub(in super::super) async fn read(
        &mut self,
        source: &SharedSecret,
        now: Instant,
    ) -> Result<Secret, TokenError> {
        let secret = match source.kept_at(now) {
            Some(kept) if self.kept => kept,
            kept => match (source.read(kept.is_some(), now).await, kept) {
                (Ok((secret, trimmed)), _) => {
                    self.trimmed.extend(trimmed.then(|| source.name()));
                    secret
                }
                (Err(error), Some(kept)) => {
                    self.missed.push(error);
                    kept
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
