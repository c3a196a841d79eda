//! Grant types that this crate does not know.

use super::{SecretSource, TokenRequest, secret::BoxSecretSource};
use crate::client_credentials::{CacheKey, TokenError};

/// A grant type and its parameters, each of which counts as a secret. Cheap to clone.
#[derive(Clone)]
pub(super) struct CustomGrant {
    /// Value of `grant_type`.
    name: String,
    /// Parameters in the order in which they are sent.
    parameters: Vec<(String, BoxSecretSource)>,
}

impl CustomGrant {
    /// Creates the grant.
    pub(super) fn new<N: Into<String>, S: SecretSource>(
        name: impl Into<String>,
        parameters: impl IntoIterator<Item = (N, S)>,
    ) -> Self {
        let parameters = parameters.into_iter();
        Self {
            name: name.into(),
            parameters: parameters
                .map(|(name, value)| (name.into(), BoxSecretSource::new("grant parameter", value)))
                .collect(),
        }
    }

    /// Returns the value of `grant_type`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes the parameters.
    ///
    /// # Errors
    ///
    /// The error of a parameter that cannot be read.
    pub(super) async fn write(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        for (name, source) in &self.parameters {
            let value = request.read(source).await?;
            request.parameter(name.as_str(), value.expose());
            // A server may quote it in its error.
            request.redact(value);
        }
        Ok(())
    }

    /// Returns whether a parameter has changed since it was last used.
    pub(super) async fn changed(&self) -> bool {
        for (_, source) in &self.parameters {
            if source.changed().await {
                return true;
            }
        }
        false
    }

    /// Adds the parameters to a cache key. `None` if one cannot be read.
    pub(super) async fn add_to_cache_key(&self, mut cache_key: CacheKey) -> Option<CacheKey> {
        for (name, source) in &self.parameters {
            let value = source.peek().await?;
            cache_key = cache_key
                .field("parameter", name)
                .field("value", value.expose());
        }
        Some(cache_key)
    }

    /// Returns the problem with the name or the parameters. `others` are the parameters that a setting adds.
    pub(super) fn problem(&self, others: impl Fn(&str) -> bool) -> Option<String> {
        if self.name.trim().is_empty() {
            return Some("the name of the grant is empty".to_owned());
        }
        let names = self.parameters.iter().map(|(name, _)| name.as_str());
        let twice = names.enumerate().find(|(index, name)| {
            let mut before = self.parameters.iter().take(*index);
            RESERVED.contains(name) || others(name) || before.any(|(known, _)| known == name)
        });
        twice.map(|(_, name)| {
            format!("the parameter {name:?} is set twice; it has its own setting, or must not be repeated")
        })
    }
}

/// Parameters that the endpoint or the client authentication sets, whatever the grant is.
const RESERVED: [&str; 6] = [
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "grant_type",
    "scope",
];
