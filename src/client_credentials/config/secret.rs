//! Secrets by value, by file or by variable.

use super::{Config, ConfigError, keys::SecretKeys};
use crate::{
    client_credentials::{SecretFile, SecretSource, TokenError},
    secret::Secret,
};

/// A value, or a file that is read for every attempt.
pub(super) enum ConfiguredSecret {
    File(SecretFile),
    Value(Secret),
}

impl Config {
    /// A secret that may change in its file. `what` says what is missing without it.
    pub(super) fn secret(
        &self,
        keys: &SecretKeys,
        what: &str,
    ) -> Result<ConfiguredSecret, ConfigError> {
        let key = self.one_of(keys, what)?;
        if key == keys[1] {
            return self.token_file(key, what).map(ConfiguredSecret::File);
        }
        let value = self.secret_text(key).cloned();
        let value = value.unwrap_or_else(|| Secret::new(""));
        Ok(ConfiguredSecret::Value(value))
    }

    /// A secret that is read now.
    #[cfg(any(feature = "jwt", feature = "https"))]
    pub(super) fn secret_now(
        &self,
        keys: &SecretKeys,
        what: &str,
    ) -> Result<(&'static str, zeroize::Zeroizing<Vec<u8>>), ConfigError> {
        let key = self.one_of(keys, what)?;
        if key == keys[1] {
            return Ok((key, self.file(key)?));
        }
        let value = self.text(key).unwrap_or_default();
        Ok((key, zeroize::Zeroizing::new(value.as_bytes().to_vec())))
    }

    /// A file that is read for every attempt. Its errors name the key: what stands there may not be a path at all.
    pub(super) fn token_file(&self, key: &str, what: &str) -> Result<SecretFile, ConfigError> {
        let missing = || self.wrong(key, format!("is not set: {what}"));
        let path = self.text(key).ok_or_else(missing)?;
        Ok(SecretFile::new(path).named(format!("that {} names", self.key(key))))
    }

    /// A file that is read now.
    #[cfg(any(feature = "jwt", feature = "https"))]
    pub(super) fn file(&self, key: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, ConfigError> {
        let read = std::fs::read(self.text(key).unwrap_or_default());
        read.map(zeroize::Zeroizing::new).map_err(|error| {
            // Without the path: what stands there may be the secret itself.
            let wrong = format!("names a file that cannot be read: {error}");
            self.wrong(key, wrong)
        })
    }

    /// The one key of the three that is set.
    fn one_of(&self, keys: &SecretKeys, what: &str) -> Result<&'static str, ConfigError> {
        let mut set = keys.iter().copied().filter(|key| self.is_set(key));
        match (set.next(), set.next()) {
            (Some(key), None) => Ok(key),
            (Some(key), Some(other)) => {
                let wrong = format!("and {} are both set; keep one of them", self.key(other));
                Err(self.wrong(key, wrong))
            }
            (None, _) => {
                let file = self.key(keys[1]);
                let missing = format!("is not set, and neither is {file}: {what}");
                Err(self.wrong(keys[0], missing))
            }
        }
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
