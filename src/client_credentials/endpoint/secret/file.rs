//! Secrets in files.
//!
//! The file is read on a thread for blocking work, because it may be on a network file system.
//!
//! A read is not atomic with its replacement. Replace the file by a rename, as Kubernetes and Vault do; a file that is
//! overwritten in place may be read half-written, which the fallback then covers.

use std::{error::Error, path::PathBuf};

use zeroize::Zeroizing;

use super::{SecretSource, trim};
use crate::{
    client_credentials::{TokenError, TokenErrorKind, trim::is_empty},
    secret::Secret,
};

/// A file that contains a secret. It is read again for every attempt, because its writer may replace it: a client
/// secret from Vault or Kubernetes, a projected service account token, a SPIFFE JWT-SVID.
///
/// Line breaks, blank lines, a byte order mark and NUL characters at either end of the file are removed. Spaces on the
/// secret's own line are kept. A file that is empty, is not UTF-8 or cannot be read is a transient error.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, client_credentials::SecretFile};
///
/// let auth = ClientAuth::basic("orders", SecretFile::new("/run/secrets/orders"));
/// # drop(auth);
/// ```
#[derive(Clone, Debug)]
pub struct SecretFile {
    /// Path of the file.
    path: PathBuf,
    /// Replaces the path in errors.
    name: Option<String>,
}

impl SecretFile {
    /// Creates a source that reads the file at `path`. Does not access the file.
    ///
    /// A relative path is resolved against the working directory at each read.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            name: None,
        }
    }

    /// Sets a name that replaces the path in errors.
    pub(in crate::client_credentials) fn named(self, name: String) -> Self {
        let name = Some(name);
        Self { name, ..self }
    }

    /// Creates a transient error: the file may be in the middle of a replacement.
    fn unreadable(&self, what: &str) -> TokenError {
        let path = || self.path.display().to_string();
        let name = self.name.clone().unwrap_or_else(path);
        TokenError::new(
            TokenErrorKind::SecretUnavailable,
            true,
            format!("was not sent: the file {name} {what}"),
        )
    }
}

impl SecretSource for SecretFile {
    async fn read(&self) -> Result<Secret, TokenError> {
        let content = self.read_untrimmed().await?;
        Ok(trim(&content).unwrap_or(content))
    }

    /// Removes only the final line break, which is part of the file format rather than the secret.
    async fn read_untrimmed(&self) -> Result<Secret, TokenError> {
        let failed = |error: Box<dyn Error + Send + Sync>| {
            self.unreadable("could not be read").with_source(error)
        };
        let path = self.path.clone();
        let content = tokio::task::spawn_blocking(move || std::fs::read(path))
            .await
            .map_err(|error| failed(error.into()))?
            .map(Zeroizing::new)
            .map_err(|error| failed(error.into()))?;
        let content = std::str::from_utf8(&content).map_err(|_| {
            // The byte order mark that Windows tools write.
            self.unreadable(match content.starts_with(&[0xFF, 0xFE]) {
                true => "is UTF-16; save it as UTF-8",
                false => "is not UTF-8",
            })
        })?;
        let line = content.strip_suffix('\n');
        let line = line.map_or(content, |line| line.strip_suffix('\r').unwrap_or(line));
        match is_empty(line) {
            true => Err(self.unreadable("is empty")),
            false => Ok(line.into()),
        }
    }
}
