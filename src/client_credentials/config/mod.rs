//! Everything about a credential from the environment or from a file of yours, in one type.
//!
//! ```text
//! file ─ serde ──┐
//!                ├─▶ Entries (read.rs) ─▶ Keys (schema.rs) ─▶ endpoint(), layer(): what the keys are together
//! environment ───┘    each value as a Value (value.rs), whose errors show no values
//! ```

/// Calls each setter whose value is set.
macro_rules! set {
    ($builder:ident { $($setter:ident: $value:expr),+ $(,)? }) => {
        $(if let Some(value) = $value {
            $builder = $builder.$setter(value);
        })+
    };
}

mod auth;
mod endpoint;
mod error;
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
use super::{ClientCredentialsLayer, ClientCredentialsLayerBuilder, SharedTokenSource};
use crate::Origin;

/// The settings of a [`TokenEndpoint`](super::TokenEndpoint) and its [`ClientCredentialsLayer`], read from the
/// environment or with serde.
///
/// Each key has one name in files (TOML, JSON, YAML: whatever your own deserializer reads) and one in the environment,
/// which is the same in capitals behind a prefix: see [the table](crate::docs::configuration). Unknown keys and
/// contradictions are errors. Line breaks, blank lines, byte order marks and NUL characters at either end of a value are
/// removed, which [`TokenEvent::ValueTrimmed`](super::TokenEvent::ValueTrimmed) reports; spaces stay. A text that is empty
/// then, or white space, counts as not set.
///
/// Deserialization checks each key alone, and that one key of a secret is set; [`endpoint`](Self::endpoint) and
/// [`layer`](Self::layer) check what the keys are together. From the environment both happens at once. `Debug` shows which
/// keys are set, and no values.
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
    keys: Keys,
    /// The names of the keys that are set.
    set: BTreeSet<String>,
    /// In front of the names in the environment; `None` for a file.
    prefix: Option<String>,
    /// The keys, as they are called there, whose values had line breaks or marks at their ends.
    trimmed: Vec<String>,
}

impl Config {
    /// The layer, for the origins in `allowed_origins`.
    ///
    /// # Errors
    ///
    /// Names the key that is missing, wrong or contradicts another, and never shows a value.
    pub fn layer(&self) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        const KEY: &str = "allowed_origins";
        let texts = self.keys.allowed_origins.iter().flatten();
        let texts = texts.flat_map(|text| text.split(|c: char| c == ',' || c.is_whitespace()));
        let texts = (1..).zip(texts.filter(|text| !text.is_empty()));
        let mut origins = texts.map(|(number, text)| self.origin(KEY, number, text));
        let missing =
            "is not set: the origins that the token may go to, such as https://api.example.com";
        let first = origins.next().ok_or_else(|| self.invalid(KEY, missing))??;
        let layer = self.layer_for(first)?;
        origins.try_fold(layer, |layer, origin| Ok(layer.allow_origin(origin?)))
    }

    /// The layer for an origin that the program names itself; `allowed_origins` is not read.
    ///
    /// # Errors
    ///
    /// As [`layer`](Self::layer).
    pub fn layer_for(&self, origin: Origin) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        let keys = &self.keys;
        let mut layer = ClientCredentialsLayer::builder(self.source()?, origin);
        let assumed = keys.assume_origin.as_deref();
        let assumed = assumed.map(|text| self.origin("assume_origin", 1, text));
        // A scheme is a token like a header's name (RFC 9110 §5.1, §11.1).
        let token = |key: &str, text: &Option<String>, problem: &str| {
            let name = text.as_deref().map(str::parse::<HeaderName>).transpose();
            name.map_err(|_| self.invalid(key, problem))
        };
        let no_header = "is not a header's name, such as x-api-key";
        let header = token("header", &keys.header, no_header)?;
        token("scheme", &keys.scheme, "is not a scheme, such as Bearer")?;
        if keys.fetch_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(self.invalid("fetch_timeout", "is 0: no attempt could succeed"));
        }
        if keys.max_waiting == Some(0) {
            let problem = "is 0: nobody could wait for a token";
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

    /// Where tokens come from.
    fn source(&self) -> Result<SharedTokenSource, ConfigError> {
        if let Some(key) = self.api_key()? {
            return Ok(SharedTokenSource::new(key));
        }
        self.check_certificate(true)?;
        self.endpoint().map(SharedTokenSource::new)
    }

    /// `number` counts from 1, and is shown instead of the text, which may hold a password.
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

    /// What is wrong with `origin` if it is reached over plain http, which shows `what`.
    fn plain_http(&self, origin: &Origin, what: &str) -> Option<String> {
        let allowed = origin.is_https() || origin.is_loopback() || self.allows_http();
        (!allowed).then(|| {
            format!(
                "is plain http, which shows the {what} to anybody on the way; use https, or set \
                 {{dangerously_allow_http}} to true"
            )
        })
    }

    fn allows_http(&self) -> bool {
        self.keys.dangerously_allow_http == Some(true)
    }

    fn is_set(&self, key: &str) -> bool {
        self.set.contains(key)
    }

    /// The value of `key`; `what` says what is missing without it.
    fn required<'a>(
        &self,
        key: &str,
        value: &'a Option<String>,
        what: &str,
    ) -> Result<&'a str, ConfigError> {
        let missing = || self.invalid(key, format!("is not set: {what}"));
        value.as_deref().ok_or_else(missing)
    }

    /// Keys in braces in `problem` become their names where this was read.
    fn invalid(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let mut problem = problem.into();
        for other in names() {
            problem = problem.replace(&format!("{{{other}}}"), &self.name(other));
        }
        ConfigError::new(&self.name(key), &problem)
    }

    /// The key's name where this was read.
    fn name(&self, key: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}{}", key.to_ascii_uppercase()),
            None => key.to_owned(),
        }
    }
}

const NO_ORIGIN: &str = "is not an origin such as https://api.example.com";

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("prefix", &self.prefix)
            .field("set", &self.set)
            .finish_non_exhaustive()
    }
}
