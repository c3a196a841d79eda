//! Configuration of a credential, from the environment or from a file.
//!
//! ```text
//! file ─ serde ──┐
//!                ├─▶ Entries (read.rs) ─▶ Keys (schema.rs) ─▶ endpoint(), layer(): what the keys are together
//! environment ───┘    each value as a Value (value.rs), whose errors show no values
//! ```
//!
//! | module | task |
//! |---|---|
//! | `read` | entries of a file or of the environment, one at a time |
//! | `schema` | the keys, their types, and which keys belong to which method |
//! | `value` | one value, from text or from a typed format |
//! | `auth`, `bound`, `endpoint`, `location`, `tls`, `secret` | what the keys are together |
//! | `error` | an error that names a key and shows no value |
//!
//! To add a key: declare it in `schema`, use it here or in one of `auth`, `bound`, `endpoint`, `location`, `tls` and
//! `secret`, and add it to the table of the guide.

/// Calls each setter whose value is set.
macro_rules! set {
    ($builder:ident { $($setter:ident: $value:expr),+ $(,)? }) => {
        $(if let Some(value) = $value {
            $builder = $builder.$setter(value);
        })+
    };
}

mod auth;
mod bound;
mod endpoint;
mod error;
mod location;
mod read;
mod schema;
mod secret;
#[cfg(feature = "https")]
mod tls;
mod value;

use std::{collections::BTreeSet, fmt};

use http::HeaderName;

pub use self::error::ConfigError;
use self::schema::{Keys, names};
use super::{BoxTokenSource, ClientCredentialsLayer, ClientCredentialsLayerBuilder};
use crate::Origin;

/// Settings of a [`TokenEndpoint`](super::TokenEndpoint) and its [`ClientCredentialsLayer`], read from the environment
/// or with serde.
///
/// Each key has one name in files (TOML, JSON, YAML or any other format with a serde deserializer) and one in the
/// environment: the same name in upper case, with a prefix. See [the table](crate::docs::configuration). Unknown keys
/// and contradictions are errors.
///
/// Line breaks, blank lines, byte order marks and NUL characters at either end of a value are removed, which
/// [`TokenEvent::ValueTrimmed`](super::TokenEvent::ValueTrimmed) reports. Spaces are kept. A text that is then empty or
/// only white space counts as not set.
///
/// Deserialization checks each key on its own, and that at most one key of a secret is set.
/// [`endpoint`](Self::endpoint) and [`layer`](Self::layer) check the keys together. [`from_env`](Self::from_env) does
/// both. `Debug` prints the names of the keys that are set, and no values.
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
///
/// From a file, here in JSON:
///
/// ```
/// use tower_m2m::client_credentials::Config;
///
/// let config: Config = serde_json::from_str(
///     r#"{
///         "token_url": "https://issuer.example/oauth/token",
///         "client_id": "orders",
///         "client_secret": "secret",
///         "allowed_origins": ["https://api.example.com"]
///     }"#,
/// )?;
/// let layer = config.layer()?.build();
/// # drop(layer);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[doc(alias("environment variables", "YAML", "TOML"))]
#[derive(Clone, Default)]
pub struct Config {
    /// Values of the keys.
    keys: Keys,
    /// Names of the keys that are set.
    set: BTreeSet<String>,
    /// Prefix of the variables. `None` if the configuration was read from a file.
    prefix: Option<String>,
    /// Names, as in the environment or the file, of the keys whose values were trimmed.
    trimmed: Vec<String>,
}

impl Config {
    /// Builds a layer for the origins in `allowed_origins`.
    ///
    /// The settings that a configuration cannot express, such as a store or a sink for events, are set on the builder.
    ///
    /// # Errors
    ///
    /// Names the key that is missing or invalid, or that contradicts another, and never contains a value.
    pub fn layer(&self) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        const KEY: &str = "allowed_origins";
        let texts = self.keys.allowed_origins.iter().flatten();
        let texts = texts.flat_map(|text| text.split(|c: char| c == ',' || c.is_whitespace()));
        // Numbered for errors, which must not contain the text.
        let texts = (1..).zip(texts.filter(|text| !text.is_empty()));
        let mut origins = texts.map(|(number, text)| self.origin(KEY, number, text));
        let missing =
            "is not set: the origins that may receive the token, such as https://api.example.com";
        let first = origins.next().ok_or_else(|| self.invalid(KEY, missing))??;
        let layer = self.layer_for(first)?;
        origins.try_fold(layer, |layer, origin| Ok(layer.allow_origin(origin?)))
    }

    /// Builds a layer for an origin that the program names itself. Ignores `allowed_origins`.
    ///
    /// Use it if the destination is part of the program rather than of its deployment.
    ///
    /// # Errors
    ///
    /// As for [`layer`](Self::layer).
    pub fn layer_for(&self, origin: Origin) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        let keys = &self.keys;
        let mut layer = ClientCredentialsLayer::builder(self.source()?, origin);
        let assumed = keys.assume_origin.as_deref();
        let assumed = assumed.map(|text| self.origin("assume_origin", 1, text));
        // A scheme has the syntax of a field name: both are tokens (RFC 9110 §5.1, §11.1).
        let token = |key: &str, text: &Option<String>, problem: &str| {
            let name = text.as_deref().map(str::parse::<HeaderName>).transpose();
            name.map_err(|_| self.invalid(key, problem))
        };
        let no_header = "is not a header name, such as x-api-key";
        let header = token("header", &keys.header, no_header)?;
        token(
            "scheme",
            &keys.scheme,
            "is not an authentication scheme, such as Bearer",
        )?;
        if keys.fetch_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(self.invalid("fetch_timeout", "is 0: no attempt could succeed"));
        }
        if keys.max_waiting == Some(0) {
            let problem = "is 0: no caller could wait for a token";
            return Err(self.invalid("max_waiting", problem));
        }
        set!(layer {
            assume_origin: assumed.transpose()?,
            header: header,
            scheme: keys.scheme.as_deref(),
            name: keys.name.as_deref(),
            refresh_before: keys.refresh_before,
            fetch_timeout: keys.fetch_timeout,
            max_token_backoff: keys.max_token_backoff,
            refresh_cooldown: keys.refresh_cooldown,
            max_waiting: keys.max_waiting.map(|limit| limit as usize),
            replay: keys.replay,
        });
        if self.allows_http() {
            layer = layer.dangerously_allow_http();
        }
        Ok(layer)
    }

    /// Builds the token source: an API key or a token endpoint.
    ///
    /// # Errors
    ///
    /// As for [`endpoint`](Self::endpoint). An API key and a token endpoint exclude each other.
    fn source(&self) -> Result<BoxTokenSource, ConfigError> {
        if let Some(key) = self.api_key()? {
            return Ok(BoxTokenSource::new(key));
        }
        self.check_certificate(true)?;
        self.endpoint().map(BoxTokenSource::new)
    }

    /// Parses an origin. `number` is its position in the list, from 1. Errors contain the position instead of the text,
    /// which may contain a password.
    ///
    /// # Errors
    ///
    /// Names the key and the position, if the text is not an origin, or it uses plain http that is not allowed.
    fn origin(&self, key: &str, number: usize, text: &str) -> Result<Origin, ConfigError> {
        let problem = match text.parse::<Origin>() {
            Ok(origin) => match self.plain_http(&origin, "token") {
                Some(problem) => problem,
                None => return Ok(origin),
            },
            Err(error) => format!("{NO_ORIGIN}: {}", error.problem()),
        };
        Err(match number {
            1 => self.invalid(key, problem),
            number => self.invalid(key, format!("(number {number}) {problem}")),
        })
    }

    /// Returns the problem if `origin` uses plain http, which would expose `what`, and that is not allowed.
    ///
    /// Loopback is allowed in any case.
    fn plain_http(&self, origin: &Origin, what: &str) -> Option<String> {
        let allowed = origin.is_https() || origin.is_loopback() || self.allows_http();
        (!allowed).then(|| {
            format!(
                "uses plain http, which exposes the {what} to the network; use https, or set \
                 {{dangerously_allow_http}} to true"
            )
        })
    }

    /// Returns whether plain http is allowed to any host. Default: `false`.
    fn allows_http(&self) -> bool {
        self.keys.dangerously_allow_http == Some(true)
    }

    /// Returns whether a key is set.
    fn is_set(&self, key: &str) -> bool {
        self.set.contains(key)
    }

    /// Returns the value of `key`. If it is missing, `what` describes it in the error.
    ///
    /// # Errors
    ///
    /// Names the key, if it is not set.
    fn required<'a>(
        &self,
        key: &str,
        value: &'a Option<String>,
        what: &str,
    ) -> Result<&'a str, ConfigError> {
        let missing = || self.invalid(key, format!("is not set: {what}"));
        value.as_deref().ok_or_else(missing)
    }

    /// Creates an error for `key`. Each key in braces in `problem` is replaced by its name as in the environment or the
    /// file.
    ///
    /// `problem` must not contain a value, only names of keys and descriptions.
    fn invalid(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let mut problem = problem.into();
        for other in names() {
            problem = problem.replace(&format!("{{{other}}}"), &self.name(other));
        }
        ConfigError::new(&self.name(key), &problem)
    }

    /// Returns the name of `key`: as in the file, or that of its variable.
    fn name(&self, key: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}{}", key.to_ascii_uppercase()),
            None => key.to_owned(),
        }
    }
}

/// Beginning of the error for a text that is not an origin.
const NO_ORIGIN: &str = "is not an origin such as https://api.example.com";

/// Prints the names of the keys that are set, but no values.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("prefix", &self.prefix)
            .field("set", &self.set)
            .finish_non_exhaustive()
    }
}
