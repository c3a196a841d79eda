//! Everything about a credential from the environment or from a file of yours, in one type.
//!
//! Every value is kept by its key until it is used, so that [`keys`] is the one list of what there is.

mod api_key;
mod auth;
mod choice;
mod endpoint;
mod error;
mod grant;
mod keys;
mod read;
mod secret;
#[cfg(feature = "jwt")]
mod signing;
mod tls;
mod value;

use std::{collections::BTreeMap, fmt, time::Duration};

use http::HeaderName;

pub use self::error::ConfigError;
use self::value::Given;
use super::{ClientCredentialsLayer, ClientCredentialsLayerBuilder, SharedTokenSource};
use crate::{Origin, secret::Secret};

/// The settings of a [`TokenEndpoint`](super::TokenEndpoint) and its [`ClientCredentialsLayer`], read from the
/// environment or with serde.
///
/// Each key has one name in files (TOML, JSON, YAML: whatever your own deserializer reads) and one in the environment,
/// which is the same in capitals behind a prefix: see [the table](crate::docs::configuration). Unknown keys and
/// contradictions are errors. Line breaks, blank lines, byte order marks and NUL characters at either end of a value are
/// removed, which [`TokenEvent::ValueTrimmed`](super::TokenEvent::ValueTrimmed) reports; spaces stay. A text that is empty
/// then, or white space, counts as not set.
///
/// Deserialization looks at each key alone; what they are together is told by [`endpoint`](Self::endpoint) and
/// [`layer`](Self::layer). From the environment both happens at once. `Debug` shows which keys are set, and no values.
///
/// # Examples
///
/// ```no_run
/// use tower_m2m::client_credentials::Config;
///
/// # fn main() -> Result<(), tower_m2m::client_credentials::ConfigError> {
/// let layer = Config::from_env()?.layer()?.build();
/// # drop(layer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Config {
    /// What is not set is not there.
    given: BTreeMap<&'static str, Given>,
    /// In front of the names in the environment; `None` for a file.
    prefix: Option<String>,
    /// The keys whose values had line breaks or marks at their ends.
    trimmed: Vec<&'static str>,
}

impl Config {
    /// The layer, for the origins in `allowed_origins`.
    ///
    /// # Errors
    ///
    /// Names the key that is missing, wrong or contradicts another, and never shows a value.
    pub fn layer(&self) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        let origins = self.words("allowed_origins").iter();
        let origins = origins.flat_map(|text| text.split(',').filter(|text| !text.is_empty()));
        let mut origins = origins
            .enumerate()
            .map(|(index, text)| self.origin("allowed_origins", index + 1, text));
        let first = origins.next().unwrap_or_else(|| {
            let missing =
                "is not set: the origins that the token may go to, such as https://api.example.com";
            Err(self.wrong("allowed_origins", missing))
        })?;
        let mut layer = self.layer_for(first)?;
        for origin in origins {
            layer = layer.allow_origin(origin?);
        }
        Ok(layer)
    }

    /// The layer for an origin that the program names itself; `allowed_origins` is not read.
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub fn layer_for(&self, origin: Origin) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        let mut layer = ClientCredentialsLayer::builder(self.source()?, origin);
        if let Some(assumed) = self.text("assume_origin") {
            layer = layer.assume_origin(self.origin("assume_origin", 1, assumed)?);
        }
        if let Some(header) = self.text("header") {
            let wrong = |_| self.wrong("header", "is not a header's name, such as x-api-key");
            layer = layer.header(header.parse::<HeaderName>().map_err(wrong)?);
        }
        if let Some(scheme) = self.text("scheme") {
            // Both are tokens (RFC 9110 §5.1, §11.1).
            let wrong = |_| self.wrong("scheme", "is not a scheme, such as Bearer");
            HeaderName::from_bytes(scheme.as_bytes()).map_err(wrong)?;
            layer = layer.scheme(scheme);
        }
        if let Some(name) = self.text("name") {
            layer = layer.name(name);
        }
        if let Some(lead) = self.seconds("refresh_before") {
            layer = layer.refresh_before(lead);
        }
        if let Some(limit) = self.seconds("fetch_timeout") {
            if limit.is_zero() {
                return Err(self.wrong("fetch_timeout", "is 0: no attempt could succeed"));
            }
            layer = layer.fetch_timeout(limit);
        }
        if let Some(longest) = self.seconds("max_token_backoff") {
            layer = layer.max_token_backoff(longest);
        }
        if let Some(cooldown) = self.seconds("refresh_cooldown") {
            layer = layer.refresh_cooldown(cooldown);
        }
        if let Some(limit) = self.number("max_waiting") {
            if limit == 0 {
                return Err(self.wrong("max_waiting", "is 0: nobody could wait for a token"));
            }
            layer = layer.max_waiting(limit as usize);
        }
        if let Some(replay) = self.boolean("replay") {
            layer = layer.replay(replay);
        }
        if self.allows_http() {
            layer = layer.dangerously_allow_http();
        }
        Ok(layer)
    }

    /// Where tokens come from.
    fn source(&self) -> Result<SharedTokenSource, ConfigError> {
        if let Some(key) = self.api_key()? {
            return Ok(SharedTokenSource::new(key));
        }
        self.check_certificate(true)?;
        self.endpoint().map(SharedTokenSource::new)
    }

    /// `number` counts from 1, and tells which one is wrong, because its text may hold a password.
    fn origin(&self, key: &str, number: usize, text: &str) -> Result<Origin, ConfigError> {
        let place = match number {
            1 => String::new(),
            number => format!("(number {number}) "),
        };
        let origin: Origin = text.parse().map_err(|error: crate::InvalidOrigin| {
            let problem = error.problem();
            let wrong =
                format!("{place}is not an origin such as https://api.example.com: {problem}");
            self.wrong(key, wrong)
        })?;
        if !origin.is_https() && !origin.is_loopback() && !self.allows_http() {
            return Err(self.wrong(key, format!("{place}{}", self.plain_http("token"))));
        }
        Ok(origin)
    }

    fn plain_http(&self, what: &str) -> String {
        let allow = self.key("dangerously_allow_http");
        format!(
            "is plain http, which shows the {what} to anybody on the way; use https, or set {allow} to true"
        )
    }

    fn allows_http(&self) -> bool {
        self.boolean("dangerously_allow_http") == Some(true)
    }

    fn is_set(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    fn boolean(&self, key: &str) -> Option<bool> {
        match self.given.get(key)? {
            Given::Bool(yes) => Some(*yes),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<u32> {
        match self.given.get(key)? {
            Given::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn seconds(&self, key: &str) -> Option<Duration> {
        match self.given.get(key)? {
            Given::Seconds(seconds) => Some(Duration::from_secs((*seconds).into())),
            _ => None,
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.secret_text(key).map(Secret::expose)
    }

    fn secret_text(&self, key: &str) -> Option<&Secret> {
        match self.given.get(key)? {
            Given::Text(text) => Some(text),
            _ => None,
        }
    }

    fn words(&self, key: &str) -> &[String] {
        match self.given.get(key) {
            Some(Given::Words(words)) => words,
            _ => &[],
        }
    }

    /// The names of the keys whose values had line breaks or marks at their ends.
    fn trimmed(&self) -> impl Iterator<Item = String> {
        self.trimmed.iter().map(|key| self.key(key))
    }

    fn wrong(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::new(self.key(key), problem)
    }

    /// The key's name where this was read.
    fn key(&self, key: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}{}", key.to_ascii_uppercase()),
            None => key.to_owned(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.given.keys().collect();
        f.debug_struct("Config")
            .field("prefix", &self.prefix)
            .field("set", &keys)
            .finish_non_exhaustive()
    }
}
