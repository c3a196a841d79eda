//! Secrets given by value, by file or by variable, and an API key in place of a token.
//!
//! A file is not read until it is needed, so that a program can start before its secret is mounted. Private keys and
//! certificates are an exception, because their format is checked at startup.
//!
//! | key | value | read |
//! |---|---|---|
//! | `client_secret` | the secret | once, with the configuration |
//! | `client_secret_file` | a path | for every attempt |
//! | `client_secret_variable` | the name of a variable | once, with the configuration |
//!
//! `private_key` and `api_key` have the same three forms.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::secret::Secret;

use super::{
    Config, ConfigError,
    schema::{SECRET_ENDS, names},
};
use crate::client_credentials::{
    AccessToken, FetchContext, SecretFile, SecretSource, TokenError, TokenSource,
    endpoint::{report_trimmed, trim},
};

/// A secret given by value, or a file that is read for every attempt.
///
/// A variable is read with the configuration, because the environment of a process does not change by itself.
pub(super) enum ConfiguredSecret {
    /// A file, so that the secret can be rotated.
    File(SecretFile),
    /// A fixed value, which also stands for the value of a variable.
    Value(Secret),
}

impl Config {
    /// Returns a secret that may be rotated in its file. If it is missing, `what` describes it in the error.
    ///
    /// # Errors
    ///
    /// Names the key, if none of the three forms is set.
    pub(super) fn secret(&self, key: &str, what: &str) -> Result<ConfiguredSecret, ConfigError> {
        let (key, value) = self.located_secret(key, what)?;
        Ok(match key.ends_with("_file") {
            true => ConfiguredSecret::File(self.file_at(&key, value.expose())),
            false => ConfiguredSecret::Value(value.clone()),
        })
    }

    /// Reads a secret now. Returns the key that is set and the content.
    ///
    /// # Errors
    ///
    /// Names the key, if it is not set or its file cannot be read.
    #[cfg(any(feature = "jwt", feature = "https"))]
    pub(super) fn secret_now(
        &self,
        key: &str,
        what: &str,
    ) -> Result<(String, zeroize::Zeroizing<Vec<u8>>), ConfigError> {
        let (key, value) = self.located_secret(key, what)?;
        let content = self.content(&key, value.expose())?;
        Ok((key, content))
    }

    /// Returns the key of a secret that is set, and its value: the secret itself or a path.
    ///
    /// # Errors
    ///
    /// Names the key, if none of the three is set.
    fn located_secret(&self, key: &str, what: &str) -> Result<(String, &Secret), ConfigError> {
        let missing = format!("is not set, and neither is {{{key}_file}}: {what}");
        let mut keys = SECRET_ENDS.into_iter().map(|end| format!("{key}{end}"));
        // At most one of the three is set, which `read` has checked.
        let set = keys.find(|key| self.is_set(key)).zip(self.keys.secret(key));
        set.ok_or_else(|| self.invalid(key, missing))
    }

    /// Returns a required file, which is read for every attempt.
    ///
    /// # Errors
    ///
    /// Names the key, if it is not set. A file that does not exist is an error of the first attempt.
    pub(super) fn token_file(
        &self,
        key: &str,
        path: &Option<String>,
        what: &str,
    ) -> Result<SecretFile, ConfigError> {
        Ok(self.file_at(key, self.required(key, path, what)?))
    }

    /// Returns a file whose errors name the key instead of the path: the value may be the secret itself.
    pub(super) fn file_at(&self, key: &str, path: &str) -> SecretFile {
        SecretFile::new(path).named(format!("that {} names", self.name(key)))
    }

    /// Returns `value`, or, for a key that ends in `_file`, the current content of the file.
    ///
    /// # Errors
    ///
    /// Names the key, if the file cannot be read.
    #[cfg(any(feature = "jwt", feature = "https"))]
    pub(super) fn content(
        &self,
        key: &str,
        value: &str,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, ConfigError> {
        let read = match key.ends_with("_file") {
            true => std::fs::read(value),
            false => Ok(value.into()),
        };
        // The error omits the path: the value may be the secret itself.
        let problem = |error| format!("names a file that cannot be read: {error}");
        let read = read.map_err(|error| self.invalid(key, problem(error)));
        read.map(zeroize::Zeroizing::new)
    }

    /// Returns the API key, or `None` if none is set. An API key excludes all keys of a token endpoint.
    ///
    /// # Errors
    ///
    /// Names the key, if a key of a token endpoint is set as well.
    pub(super) fn api_key(&self) -> Result<Option<ApiKey>, ConfigError> {
        if self.keys.api_key.is_none() {
            return Ok(None);
        }
        let (key, _) = self.located_secret("api_key", "the API key")?;
        // The schema lists the keys of the token endpoint before `api_key`.
        let mut endpoint = names().iter().take_while(|name| **name != "api_key");
        if let Some(stray) = endpoint.find(|name| self.is_set(name)) {
            let problem = format!(
                "and {{{stray}}} are both set, and an API key needs no token endpoint; remove one of them"
            );
            return Err(self.invalid(&key, problem));
        }
        Ok(Some(ApiKey {
            secret: self.secret("api_key", "the API key")?,
            trimmed: self.trimmed.clone(),
            reported: AtomicBool::new(false),
        }))
    }
}

impl SecretSource for ConfiguredSecret {
    async fn read(&self) -> Result<Secret, TokenError> {
        match self {
            Self::File(file) => file.read().await,
            Self::Value(value) => Ok(value.clone()),
        }
    }

    async fn read_untrimmed(&self) -> Result<Secret, TokenError> {
        match self {
            Self::File(file) => file.read_untrimmed().await,
            Self::Value(value) => Ok(value.clone()),
        }
    }
}

/// A token source that returns an API key unchanged. A file is read at the first use, and again when the API rejects
/// the key.
///
/// Its tokens do not expire: only a 401, or a forced refresh, leads to another read. With a fixed value that read
/// returns the same key, and the 401 is returned to the caller.
pub(super) struct ApiKey {
    /// The API key.
    secret: ConfiguredSecret,
    /// Names of the keys whose values were trimmed. Reported by the first fetch.
    trimmed: Vec<String>,
    /// Whether they have been reported.
    reported: AtomicBool,
}

impl TokenSource for ApiKey {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        let cx = cx.surroundings();
        let key = self.secret.read_untrimmed().await?;
        let trimmed = trim(&key);
        // Relaxed: the flag guards no other data, and `swap` lets exactly one fetch report.
        if !self.reported.swap(true, Relaxed) {
            let held = trimmed.is_some().then_some("API key");
            for setting in self.trimmed.iter().map(String::as_str).chain(held) {
                report_trimmed(setting, cx);
            }
        }
        Ok(AccessToken::new(trimmed.unwrap_or(key)))
    }
}
