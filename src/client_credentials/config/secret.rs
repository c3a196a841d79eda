//! Secrets by value, by file or by variable, and an API key in place of a token.

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

/// A value, or a file that is read for every attempt.
pub(super) enum ConfiguredSecret {
    File(SecretFile),
    Value(Secret),
}

impl Config {
    /// A secret that may change in its file. `what` says what is missing without it.
    pub(super) fn secret(&self, key: &str, what: &str) -> Result<ConfiguredSecret, ConfigError> {
        let (key, value) = self.located_secret(key, what)?;
        Ok(match key.ends_with("_file") {
            true => ConfiguredSecret::File(self.file_at(&key, value.expose())),
            false => ConfiguredSecret::Value(value.clone()),
        })
    }

    /// A secret that is read now, and its key.
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

    /// The value of a secret, and the one of its three keys that is set.
    fn located_secret(&self, key: &str, what: &str) -> Result<(String, &Secret), ConfigError> {
        let missing = format!("is not set, and neither is {{{key}_file}}: {what}");
        let mut keys = SECRET_ENDS.into_iter().map(|end| format!("{key}{end}"));
        let set = keys.find(|key| self.is_set(key)).zip(self.keys.secret(key));
        set.ok_or_else(|| self.invalid(key, missing))
    }

    /// A file that must be set, and is read for every attempt.
    pub(super) fn token_file(
        &self,
        key: &str,
        path: &Option<String>,
        what: &str,
    ) -> Result<SecretFile, ConfigError> {
        Ok(self.file_at(key, self.required(key, path, what)?))
    }

    /// A file whose errors name the key: what stands there may not be a path at all.
    pub(super) fn file_at(&self, key: &str, path: &str) -> SecretFile {
        SecretFile::new(path).named(format!("that {} names", self.name(key)))
    }

    /// `value`, or what the file holds now that it names.
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
        // Without the path: what stands there may be the secret itself.
        let problem = |error| format!("names a file that cannot be read: {error}");
        let read = read.map_err(|error| self.invalid(key, problem(error)));
        read.map(zeroize::Zeroizing::new)
    }

    /// `None` if there is a token endpoint.
    pub(super) fn api_key(&self) -> Result<Option<ApiKey>, ConfigError> {
        if self.keys.api_key.is_none() {
            return Ok(None);
        }
        let (key, _) = self.located_secret("api_key", "the API key")?;
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

/// Sent as it is. Its file is read at the first use, and again when the API rejects the key.
pub(super) struct ApiKey {
    secret: ConfiguredSecret,
    /// The keys whose values had line breaks or marks at their ends; reported with the first fetch.
    trimmed: Vec<String>,
    reported: AtomicBool,
}

impl TokenSource for ApiKey {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        let cx = cx.surroundings();
        let key = self.secret.read_untrimmed().await?;
        let trimmed = trim(&key);
        if !self.reported.swap(true, Relaxed) {
            let held = trimmed.is_some().then_some("API key");
            for setting in self.trimmed.iter().map(String::as_str).chain(held) {
                report_trimmed(setting, cx);
            }
        }
        Ok(AccessToken::new(trimmed.unwrap_or(key)))
    }
}
