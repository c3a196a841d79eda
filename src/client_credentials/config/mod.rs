//! Everything about a credential from the environment or from a file of yours, in one type.

mod auth;
mod env;
mod error;
mod value;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;
use serde_json::Value;

pub use self::error::ConfigError;
use self::value::{Secret, Words};
use super::{ClientCredentialsLayer, ClientCredentialsLayerBuilder, TokenEndpoint};
use crate::Origin;

/// The settings of a [`TokenEndpoint`] and its [`ClientCredentialsLayer`], read from the environment or with serde.
///
/// Each key has one name in files (TOML, JSON, YAML: whatever your own deserializer reads) and one in the environment,
/// which is the same in capitals behind a prefix: see [the table](crate::docs::configuration). Unknown keys in files
/// are errors, and so are contradictions. A variable that is empty counts as not set.
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
    client_secret: Option<Secret>,
    client_secret_file: Option<PathBuf>,
    client_secret_variable: Option<String>,
    client_auth: Option<String>,
    private_key_file: Option<PathBuf>,
    key_id: Option<String>,
    signing_algorithm: Option<String>,
    assertion_file: Option<PathBuf>,
    assertion_type: Option<String>,
    assertion_audience: Option<String>,
    token_url: Option<String>,
    issuer: Option<String>,
    #[serde(default)]
    scope: Words,
    audience: Option<String>,
    #[serde(default)]
    resource: Words,
    authorization_details: Option<Value>,
    #[serde(default)]
    parameters: BTreeMap<String, Secret>,
    #[serde(default)]
    allowed_origins: Words,
    assume_origin: Option<String>,
    header: Option<String>,
    scheme: Option<String>,
    name: Option<String>,
    refresh_before: Option<u64>,
    fetch_timeout: Option<u64>,
    default_lifetime: Option<u64>,
    /// In front of the names in the environment; `None` for a file.
    #[serde(skip)]
    prefix: Option<String>,
}

impl Config {
    /// The token endpoint, for settings that a file cannot hold, such as
    /// [`tls_config`](TokenEndpoint::tls_config).
    ///
    /// # Errors
    ///
    /// Names the key that is missing, wrong or contradicts another. Secrets are never part of the text.
    pub fn endpoint(&self) -> Result<TokenEndpoint, ConfigError> {
        let mut endpoint = self.located()?;
        endpoint = self.checked("scope", endpoint.scope(self.scope.0.join(" ")))?;
        if let Some(audience) = &self.audience {
            endpoint = self.checked("audience", endpoint.audience(audience))?;
        }
        for resource in &self.resource.0 {
            endpoint = self.checked("resource", endpoint.resource(resource))?;
        }
        if let Some(details) = &self.authorization_details {
            let detailed = endpoint.authorization_details(details.clone());
            endpoint = self.checked("authorization_details", detailed)?;
        }
        for (name, value) in &self.parameters {
            let extended = endpoint.parameter(name, value.0.clone());
            endpoint = self.checked("parameters", extended)?;
        }
        if let Some(lifetime) = self.default_lifetime {
            endpoint = endpoint.default_lifetime(Duration::from_secs(lifetime));
        }
        Ok(endpoint)
    }

    /// The layer, for the origins in `allowed_origins`.
    ///
    /// # Errors
    ///
    /// As [`endpoint`](Self::endpoint), and if no origin is named.
    pub fn layer(&self) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        let origins = self.allowed_origins.0.iter();
        let origins = origins.flat_map(|text| text.split(',').filter(|text| !text.is_empty()));
        let mut origins = origins.map(|text| self.origin("allowed_origins", text));
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
    /// As [`endpoint`](Self::endpoint).
    pub fn layer_for(&self, origin: Origin) -> Result<ClientCredentialsLayerBuilder, ConfigError> {
        let mut layer = ClientCredentialsLayer::builder(self.endpoint()?, origin);
        if let Some(assumed) = &self.assume_origin {
            layer = layer.assume_origin(self.origin("assume_origin", assumed)?);
        }
        if let Some(header) = &self.header {
            let wrong = |_| self.wrong("header", "is not a header's name");
            layer = layer.header(header.parse::<HeaderName>().map_err(wrong)?);
        }
        if let Some(scheme) = &self.scheme {
            let wrong = |_| self.wrong("scheme", "cannot stand in a header");
            HeaderValue::from_str(scheme).map_err(wrong)?;
            layer = layer.scheme(scheme.as_str());
        }
        if let Some(name) = &self.name {
            layer = layer.name(name.as_str());
        }
        if let Some(lead) = self.refresh_before {
            layer = layer.refresh_before(Duration::from_secs(lead));
        }
        if let Some(limit) = self.fetch_timeout {
            layer = layer.fetch_timeout(Duration::from_secs(limit));
        }
        Ok(layer)
    }

    /// Where it is and who asks, without what is asked for.
    fn located(&self) -> Result<TokenEndpoint, ConfigError> {
        let auth = self.auth()?;
        let (key, mut endpoint) = match (&self.token_url, &self.issuer) {
            (Some(url), None) => {
                let uri = url.parse::<Uri>();
                let uri = uri.map_err(|_| self.wrong("token_url", "is not a URL"))?;
                ("token_url", TokenEndpoint::new(uri, auth))
            }
            (None, Some(issuer)) => ("issuer", TokenEndpoint::discover(issuer.as_str(), auth)),
            (Some(_), Some(_)) => {
                let issuer = self.key("issuer");
                let wrong = format!("and {issuer} are both set; keep one of them");
                return Err(self.wrong("token_url", wrong));
            }
            (None, None) => {
                let issuer = self.key("issuer");
                let missing = format!("is not set: the token endpoint's URL (or set {issuer})");
                return Err(self.wrong("token_url", missing));
            }
        };
        if let Some(audience) = &self.assertion_audience {
            endpoint = endpoint.assertion_audience(audience.as_str());
        }
        self.checked(key, endpoint)
    }

    /// What the endpoint itself finds wrong is told with the key that was set last.
    fn checked(&self, key: &str, endpoint: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        match endpoint.check() {
            Ok(()) => Ok(endpoint),
            Err(error) => Err(self.wrong(key, format!("is not usable: {error}"))),
        }
    }

    fn origin(&self, key: &str, text: &str) -> Result<Origin, ConfigError> {
        // The error repeats the text without user information and query.
        text.parse()
            .map_err(|error| self.wrong(key, format!("is not usable: {error}")))
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

/// Without URLs: one that is wrong may hold a password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("client_id", &self.client_id)
            .field("client_auth", &self.client_auth)
            .field("scope", &self.scope.0)
            .finish_non_exhaustive()
    }
}

const MISSING_ID: &str = "is not set: the client's id at the authorization server";
