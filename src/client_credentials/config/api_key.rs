//! An API key in the place of a token.

use super::{
    Config, ConfigError,
    keys::{API_KEY, NAMES},
    secret::ConfiguredSecret,
};
use crate::client_credentials::{AccessToken, FetchContext, SecretSource, TokenError, TokenSource};

/// Sent as it is. Its file is read at the first use, and again when the API refuses the key.
pub(super) struct ApiKey(ConfiguredSecret);

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
            None => Ok(Some(ApiKey(secret))),
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
    async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        self.0.read().await.map(AccessToken::new)
    }
}
