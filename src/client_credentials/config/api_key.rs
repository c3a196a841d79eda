//! An API key in the place of a token.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{
    Config, ConfigError,
    keys::{API_KEY, NAMES},
    secret::ConfiguredSecret,
};
use crate::client_credentials::{
    AccessToken, FetchContext, SecretSource, TokenError, TokenSource,
    endpoint::{report_trimmed, trim},
};

/// Sent as it is. Its file is read at the first use, and again when the API refuses the key.
pub(super) struct ApiKey {
    secret: ConfiguredSecret,
    /// The keys whose values had line breaks or marks at their ends; reported with the first fetch.
    trimmed: Vec<String>,
    reported: AtomicBool,
}

impl Config {
    /// `None` if there is a token endpoint.
    pub(super) fn api_key(&self) -> Result<Option<ApiKey>, ConfigError> {
        let Some(key) = API_KEY.into_iter().find(|key| self.is_set(key)) else {
            return Ok(None);
        };
        let secret = self.secret(&API_KEY, "the API key")?;
        let endpoint = NAMES.iter().take_while(|name| **name != API_KEY[0]);
        let mut endpoint = endpoint.filter(|name| self.is_set(name));
        match endpoint.next() {
            None => Ok(Some(ApiKey {
                secret,
                trimmed: self.trimmed().collect(),
                reported: AtomicBool::new(false),
            })),
            Some(stray) => {
                let wrong = format!(
                    "and {} are both set, and an API key needs no token endpoint; remove one of them",
                    self.key(stray)
                );
                Err(self.wrong(key, wrong))
            }
        }
    }
}

impl TokenSource for ApiKey {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        let cx = cx.surroundings();
        let key = self.secret.read_untrimmed().await?;
        let trimmed = trim(&key);
        if !self.reported.swap(true, Relaxed) {
            for setting in &self.trimmed {
                report_trimmed(setting, cx);
            }
            if trimmed.is_some() {
                report_trimmed("API key", cx);
            }
        }
        Ok(AccessToken::new(trimmed.unwrap_or(key)))
    }
}
