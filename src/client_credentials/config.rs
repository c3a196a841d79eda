//! Everything about a credential from the environment or from a file of yours, in one type.

use std::{error::Error, fmt, path::PathBuf, time::Duration};

use http::Uri;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use super::{
    ClientAuth, ClientCredentialsLayer, ClientCredentialsLayerBuilder, SecretSource, TokenEndpoint,
    TokenFile,
};
use crate::Origin;

/// The settings of a [`TokenEndpoint`] and its [`ClientCredentialsLayer`], read from the environment or with serde.
///
/// Each key has one name in files (TOML, JSON, YAML: whatever your own deserializer reads) and one in the environment,
/// which is the same in capitals behind a prefix. Unknown keys in files are errors. A variable that is empty counts as
/// not set.
///
/// | key | variable | meaning | default |
/// |---|---|---|---|
/// | `client_id` | `OAUTH_CLIENT_ID` | the client's id | required |
/// | `client_secret` | `OAUTH_CLIENT_SECRET` | its secret | this or the next, unless `client_auth` is `none` |
/// | `client_secret_file` | `OAUTH_CLIENT_SECRET_FILE` | a file with it, read for every token request | |
/// | `token_url` | `OAUTH_TOKEN_URL` | the token endpoint | this or the next |
/// | `issuer` | `OAUTH_ISSUER` | the authorization server, whose metadata names the endpoint (RFC 8414) | |
/// | `client_auth` | `OAUTH_CLIENT_AUTH` | `post`, `basic`, `basic_raw` or `none` | `post` |
/// | `scope` | `OAUTH_SCOPE` | scopes, with spaces between them | none |
/// | `audience` | `OAUTH_AUDIENCE` | the `audience` parameter | none |
/// | `resource` | `OAUTH_RESOURCE` | the `resource` parameter (RFC 8707) | none |
/// | `allowed_origins` | `OAUTH_ALLOWED_ORIGINS` | where the token may go, with spaces between them | required for [`layer`](Self::layer) |
/// | `refresh_before` | `OAUTH_REFRESH_BEFORE` | seconds before its end at which a token is renewed | 30 |
/// | `fetch_timeout` | `OAUTH_FETCH_TIMEOUT` | seconds that one token request may take | 30 |
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
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    client_id: String,
    #[serde(default, deserialize_with = "secret")]
    client_secret: Option<SecretString>,
    client_secret_file: Option<PathBuf>,
    token_url: Option<String>,
    issuer: Option<String>,
    client_auth: Option<String>,
    scope: Option<String>,
    audience: Option<String>,
    resource: Option<String>,
    allowed_origins: Option<String>,
    refresh_before: Option<u64>,
    fetch_timeout: Option<u64>,
    /// In front of the names in the environment; `None` for a file.
    #[serde(skip)]
    prefix: Option<String>,
}

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
        Self::from_vars(prefix, |name| std::env::var(name).ok())
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
        let name = |key: &str| format!("{prefix}{}", key.to_ascii_uppercase());
        let get = |key: &str| get(&name(key)).filter(|value| !value.is_empty());
        let seconds = |key: &'static str| {
            let parse = |text: String| {
                let wrong = || ConfigError::new(name(key), "is not a whole number of seconds");
                text.trim().parse().map_err(|_| wrong())
            };
            get(key).map(parse).transpose()
        };
        let config = Self {
            client_id: get("client_id")
                .ok_or_else(|| ConfigError::new(name("client_id"), MISSING_ID))?,
            client_secret: get("client_secret").map(Into::into),
            client_secret_file: get("client_secret_file").map(Into::into),
            token_url: get("token_url"),
            issuer: get("issuer"),
            client_auth: get("client_auth"),
            scope: get("scope"),
            audience: get("audience"),
            resource: get("resource"),
            allowed_origins: get("allowed_origins"),
            refresh_before: seconds("refresh_before")?,
            fetch_timeout: seconds("fetch_timeout")?,
            prefix: Some(prefix.to_owned()),
        };
        config.endpoint()?;
        Ok(config)
    }

    /// The token endpoint.
    ///
    /// # Errors
    ///
    /// Names the key that is missing, wrong or contradicts another. Secrets are never part of the text.
    pub fn endpoint(&self) -> Result<TokenEndpoint, ConfigError> {
        if self.client_id.is_empty() {
            return Err(self.wrong("client_id", MISSING_ID));
        }
        let auth = self.auth()?;
        let mut endpoint = match (&self.token_url, &self.issuer) {
            (Some(url), None) => TokenEndpoint::new(self.token_uri(url)?, auth),
            (None, Some(issuer)) => TokenEndpoint::discover(issuer.as_str(), auth),
            (Some(_), Some(_)) => {
                return Err(self.wrong("token_url", "and `issuer` are both set; keep one of them"));
            }
            (None, None) => {
                let missing = "is not set: the token endpoint's URL (or set `issuer`)";
                return Err(self.wrong("token_url", missing));
            }
        };
        if let Some(scope) = &self.scope {
            if !scope.bytes().all(is_scope_byte) {
                let wrong =
                    "holds a character that no scope may hold (RFC 6749 §3.3), such as a quote";
                return Err(self.wrong("scope", wrong));
            }
            endpoint = endpoint.scope(scope);
        }
        if let Some(audience) = &self.audience {
            endpoint = endpoint.audience(audience);
        }
        if let Some(resource) = &self.resource {
            endpoint = endpoint.resource(resource);
        }
        let checked = endpoint.check();
        checked.map_err(|error| self.wrong("token_url", &format!("is not usable: {error}")))?;
        Ok(endpoint)
    }

    /// The layer, for the origins in `allowed_origins`.
    ///
    /// # Errors
    ///
    /// As [`endpoint`](Self::endpoint), and if no origin is named.
    pub fn layer(&self) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        let origins = self.allowed_origins.as_deref().unwrap_or_default();
        let mut origins = origins.split([' ', ',']).filter(|text| !text.is_empty());
        let parse = |text: &str| {
            text.parse::<Origin>()
                .map_err(|error| self.wrong("allowed_origins", &format!("holds `{text}`: {error}")))
        };
        let missing =
            "is not set: the origins that the token may go to, such as `https://api.example.com`";
        let first = origins
            .next()
            .ok_or_else(|| self.wrong("allowed_origins", missing))?;
        let mut layer = self.layer_for(parse(first)?)?;
        for origin in origins {
            layer = layer.allow_origin(parse(origin)?);
        }
        Ok(layer)
    }

    /// The layer for an origin that the program names itself; `allowed_origins` is not read.
    ///
    /// # Errors
    ///
    /// As [`endpoint`](Self::endpoint).
    pub fn layer_for(&self, origin: Origin) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        let mut layer = ClientCredentialsLayer::builder(self.endpoint()?, origin);
        if let Some(lead) = self.refresh_before {
            layer = layer.refresh_before(Duration::from_secs(lead));
        }
        if let Some(limit) = self.fetch_timeout {
            layer = layer.fetch_timeout(Duration::from_secs(limit));
        }
        Ok(layer)
    }

    fn auth(&self) -> Result<ClientAuth, ConfigError> {
        let method = self.client_auth.as_deref().unwrap_or("post");
        if method == "none" {
            if self.client_secret.is_some() || self.client_secret_file.is_some() {
                let wrong = "is `none`, and a client secret is set; remove one of them";
                return Err(self.wrong("client_auth", wrong));
            }
            return Ok(ClientAuth::none(&self.client_id));
        }
        match (&self.client_secret, &self.client_secret_file) {
            (Some(_), Some(_)) => {
                let wrong = "and `client_secret_file` are both set; keep one of them";
                Err(self.wrong("client_secret", wrong))
            }
            (Some(secret), None) if secret.expose_secret().is_empty() => {
                Err(self.wrong("client_secret", "is empty"))
            }
            (Some(secret), None) => self.with_secret(method, secret.clone()),
            (None, Some(file)) => self.with_secret(method, TokenFile::new(file)),
            (None, None) => {
                let missing =
                    "is not set, and neither is `client_secret_file`: the client's secret";
                Err(self.wrong("client_secret", missing))
            }
        }
    }

    fn with_secret(
        &self,
        method: &str,
        secret: impl SecretSource,
    ) -> Result<ClientAuth, ConfigError> {
        let id = &self.client_id;
        match method {
            "post" => Ok(ClientAuth::post(id, secret)),
            "basic" => Ok(ClientAuth::basic(id, secret)),
            "basic_raw" => Ok(ClientAuth::basic_raw(id, secret)),
            _ => {
                let wrong = "is none of `post`, `basic`, `basic_raw` and `none`";
                Err(self.wrong("client_auth", wrong))
            }
        }
    }

    fn token_uri(&self, url: &str) -> Result<Uri, ConfigError> {
        let uri: Uri = url
            .parse()
            .map_err(|_| self.wrong("token_url", "is not a URL"))?;
        if uri.scheme().is_none() || uri.authority().is_none() {
            return Err(self.wrong(
                "token_url",
                "has no scheme or no host; it should begin with https://",
            ));
        }
        Ok(uri)
    }

    fn wrong(&self, key: &str, problem: &str) -> ConfigError {
        let name = match &self.prefix {
            Some(prefix) => format!("{prefix}{}", key.to_ascii_uppercase()),
            None => key.to_owned(),
        };
        ConfigError::new(name, problem)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("client_id", &self.client_id)
            .field("token_url", &self.token_url)
            .field("issuer", &self.issuer)
            .field("client_auth", &self.client_auth)
            .field("scope", &self.scope)
            .field("allowed_origins", &self.allowed_origins)
            .finish_non_exhaustive()
    }
}

/// A key that is missing, wrong, or contradicts another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    key: String,
    problem: String,
}

impl ConfigError {
    fn new(key: String, problem: impl Into<String>) -> Self {
        Self {
            key,
            problem: problem.into(),
        }
    }

    /// The key's name in the file, or the variable's in the environment.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.problem)
    }
}

impl Error for ConfigError {}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Into::into))
}

/// RFC 6749 §3.3, and the space between scopes.
fn is_scope_byte(byte: u8) -> bool {
    matches!(byte, 0x20 | 0x21 | 0x23..=0x5B | 0x5D..=0x7E)
}

const MISSING_ID: &str = "is not set: the client's id at the authorization server";
