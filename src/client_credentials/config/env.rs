//! A configuration from variables.

use serde_json::Value;

use super::{
    Config, ConfigError,
    value::{Secret, Words},
};

impl Config {
    /// From the variables `OAUTH_CLIENT_ID`, `OAUTH_CLIENT_SECRET` and so on.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_env_with_prefix("OAUTH_")
    }

    /// The same with another prefix, such as `ORDERS_`.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_env_with_prefix(prefix: &str) -> Result<Self, ConfigError> {
        Self::read(prefix, |name| {
            let value = std::env::var_os(name).map(std::ffi::OsString::into_string);
            let wrong = |_| ConfigError::new(name.to_owned(), "is not valid UTF-8");
            value.transpose().map_err(wrong)
        })
    }

    /// The same from anything that has values by name, such as a map in a test.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_vars(
        prefix: &str,
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Self::read(prefix, |name| Ok(get(name)))
    }

    fn read(
        prefix: &str,
        get: impl Fn(&str) -> Result<Option<String>, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let name = |key: &str| format!("{prefix}{}", key.to_ascii_uppercase());
        let text = |key: &str| Ok(get(&name(key))?.filter(|value| !value.is_empty()));
        let words = |key: &str| Ok(text(key)?.map(|text| Words::of(&text)).unwrap_or_default());
        let seconds = |key: &str| {
            let wrong = |_| ConfigError::new(name(key), "is not a whole number of seconds");
            let parse = |text: String| text.trim().parse().map_err(wrong);
            text(key)?.map(parse).transpose()
        };
        let json = |key: &str| {
            let wrong = |_| ConfigError::new(name(key), "is not JSON");
            let parse = |text: String| serde_json::from_str::<Value>(&text).map_err(wrong);
            text(key)?.map(parse).transpose()
        };
        let config = Self {
            client_id: text("client_id")?.unwrap_or_default(),
            client_secret: text("client_secret")?.map(|text| Secret(text.into())),
            client_secret_file: text("client_secret_file")?.map(Into::into),
            client_secret_variable: text("client_secret_variable")?,
            client_auth: text("client_auth")?,
            private_key_file: text("private_key_file")?.map(Into::into),
            key_id: text("key_id")?,
            signing_algorithm: text("signing_algorithm")?,
            assertion_file: text("assertion_file")?.map(Into::into),
            assertion_type: text("assertion_type")?,
            assertion_audience: text("assertion_audience")?,
            token_url: text("token_url")?,
            issuer: text("issuer")?,
            scope: words("scope")?,
            audience: text("audience")?,
            resource: words("resource")?,
            authorization_details: json("authorization_details")?,
            // A form of its own in one variable would need a syntax of its own.
            parameters: Default::default(),
            allowed_origins: words("allowed_origins")?,
            assume_origin: text("assume_origin")?,
            header: text("header")?,
            scheme: text("scheme")?,
            name: text("name")?,
            refresh_before: seconds("refresh_before")?,
            fetch_timeout: seconds("fetch_timeout")?,
            default_lifetime: seconds("default_lifetime")?,
            prefix: Some(prefix.to_owned()),
        };
        config.endpoint()?;
        Ok(config)
    }
}
