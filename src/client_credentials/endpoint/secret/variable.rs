//! Secrets in environment variables.

use zeroize::Zeroizing;

use super::{SecretSource, trim};
use crate::{
    client_credentials::{TokenError, TokenErrorKind, trim::is_empty},
    secret::Secret,
};

/// An environment variable that contains a secret. It is read again for every attempt.
///
/// Line breaks, blank lines, a byte order mark and NUL characters at either end are removed, because Kubernetes copies
/// the final line break of a secret's file into the variable. Spaces on the secret's own line are kept. A variable that
/// is not set, is empty or is not UTF-8 is a permanent error.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, client_credentials::SecretVariable};
///
/// let auth = ClientAuth::basic("orders", SecretVariable::new("OAUTH_CLIENT_SECRET"));
/// # drop(auth);
/// ```
#[derive(Clone, Debug)]
pub struct SecretVariable {
    /// Name of the variable.
    name: String,
}

impl SecretVariable {
    /// Creates a source that reads the variable `name`.
    ///
    /// Nothing is read before the first attempt. To fail at startup instead, call
    /// [`TokenHandle::prefetch`](super::super::super::TokenHandle::prefetch).
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Creates a permanent error: a process's environment does not change by itself.
    fn unreadable(&self, what: &str) -> TokenError {
        TokenError::new(
            TokenErrorKind::SecretUnavailable,
            false,
            format!("was not sent: the variable {} {what}", self.name),
        )
    }
}

impl SecretSource for SecretVariable {
    async fn read(&self) -> Result<Secret, TokenError> {
        let value = self.read_untrimmed().await?;
        Ok(trim(&value).unwrap_or(value))
    }

    async fn read_untrimmed(&self) -> Result<Secret, TokenError> {
        let value = std::env::var_os(&self.name).ok_or_else(|| self.unreadable("is not set"))?;
        let value = value
            .into_string()
            .map(Zeroizing::new)
            .map_err(|_| self.unreadable("is not UTF-8"))?;
        match is_empty(&value) {
            true => Err(self.unreadable("is empty")),
            false => Ok(value.as_str().into()),
        }
    }
}
