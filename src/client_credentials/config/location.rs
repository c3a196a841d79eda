//! Where tokens are requested: at `token_url`, at the issuer, or at the issuer that the API names.

use http::Uri;

use super::{
    Config, ConfigError,
    endpoint::{assertion_audience, words},
};
use crate::{
    Origin,
    client_credentials::{AssertionAudience, ClientAuth, ProtectedResource, TokenEndpoint},
};

impl Config {
    /// Builds the endpoint from `token_url`, `issuer` or `protected_resource`, of which exactly one must be set.
    ///
    /// # Errors
    ///
    /// Names the key that is missing or invalid, that contradicts another or does not apply.
    pub(super) fn base_endpoint(&self, auth: ClientAuth) -> Result<TokenEndpoint, ConfigError> {
        let keys = &self.keys;
        for key in [ALLOWED, SUPPORTED] {
            if self.is_set(key) && keys.protected_resource.is_none() {
                let problem = "is set, but does not apply; remove it, or set {protected_resource} instead of {issuer}";
                return Err(self.invalid(key, problem));
            }
        }
        let (key, problem) = match (&keys.token_url, &keys.issuer, &keys.protected_resource) {
            (Some(url), None, None) => {
                return Ok(TokenEndpoint::new(self.url("token_url", url)?, auth));
            }
            (None, Some(issuer), None) => {
                self.issuer("issuer", issuer)?;
                return Ok(TokenEndpoint::discover(issuer.as_str(), auth));
            }
            (None, None, Some(url)) => {
                return Ok(TokenEndpoint::for_resource(self.resource(url)?, auth));
            }
            (Some(_), Some(_), _) => (
                "token_url",
                "and {issuer} are both set; keep the first, or let the issuer's metadata name the endpoint",
            ),
            (Some(_), None, Some(_)) => (
                "token_url",
                "and {protected_resource} are both set; keep the first, or let the API name its issuer",
            ),
            (None, Some(_), Some(_)) => (
                "issuer",
                "and {protected_resource} are both set; keep the first, or let the API name its issuer, and move the \
                 issuer to {allowed_issuers}",
            ),
            (None, None, None) => (
                "token_url",
                "is not set: the token endpoint's URL (or set {issuer} or {protected_resource})",
            ),
        };
        Err(self.invalid(key, problem))
    }

    /// Returns whether metadata names the issuer and its endpoints.
    pub(super) fn discovers_issuer(&self) -> bool {
        self.is_set("issuer") || self.is_set(RESOURCE)
    }

    /// Builds the API whose metadata names the issuer (RFC 9728).
    ///
    /// # Errors
    ///
    /// Names the key that is invalid, or that requires `allowed_issuers`.
    fn resource(&self, url: &str) -> Result<ProtectedResource, ConfigError> {
        let uri = self.url(RESOURCE, url)?;
        // A `Uri` has no fragment, and would be another identifier (RFC 9728 §1.2).
        if url.contains('#') {
            return Err(self.invalid(RESOURCE, "has a fragment; remove it"));
        }
        let mut resource = ProtectedResource::new(uri)
            .supported_scopes(self.keys.supported_scopes.unwrap_or_default());
        for issuer in words(&self.keys.allowed_issuers) {
            self.issuer(ALLOWED, issuer)?;
            resource = resource.allow_issuer(issuer);
        }
        // Otherwise a server of the API's choice could use the assertion at the server that it is for.
        if !self.is_set(ALLOWED) {
            let discovers_revocation =
                self.keys.revoke_on_shutdown.as_deref() == Some("discovered");
            let audiences = [
                (
                    "assertion_audience",
                    self.keys.assertion_audience.as_deref(),
                ),
                (
                    "revocation_audience",
                    (self.keys.revocation_audience.as_deref()).filter(|_| discovers_revocation),
                ),
            ];
            for (key, audience) in audiences {
                if let Some(AssertionAudience::Other(_)) = audience.map(assertion_audience) {
                    let problem = "is set, but the API chooses the server that receives the assertion; name that \
                                   issuer in {allowed_issuers}";
                    return Err(self.invalid(key, problem));
                }
            }
        }
        Ok(resource)
    }

    /// Checks an issuer identifier, which has no query and no fragment (RFC 8414 §2).
    ///
    /// # Errors
    ///
    /// Names the key.
    fn issuer(&self, key: &str, issuer: &str) -> Result<(), ConfigError> {
        self.url(key, issuer)?;
        match issuer.contains(['?', '#']) {
            true => Err(self.invalid(key, "has a query or a fragment; remove it")),
            false => Ok(()),
        }
    }

    /// Parses and checks a URL. The error does not contain it, because it may contain a password.
    ///
    /// # Errors
    ///
    /// Names the key, if its value is not an absolute https URL without user information, or an http URL that is
    /// allowed.
    pub(super) fn url(&self, key: &str, url: &str) -> Result<Uri, ConfigError> {
        let uri: Uri = url.parse().map_err(|_| self.invalid(key, "is not a URL"))?;
        let authority = uri.authority().filter(|_| uri.scheme().is_some());
        let problem = match (authority, Origin::of(&uri)) {
            (None, _) => "has no scheme or no host; it should begin with https://",
            (Some(authority), _) if authority.as_str().contains('@') => {
                "contains user information; remove it, and use {client_id} and its secret"
            }
            (_, None) => "has a scheme other than https, or an invalid host or port",
            (_, Some(origin)) => match self.plain_http(&origin, "client's secret") {
                Some(problem) => return Err(self.invalid(key, problem)),
                None => return Ok(uri),
            },
        };
        Err(self.invalid(key, problem))
    }
}

/// The API whose metadata names the issuer.
const RESOURCE: &str = "protected_resource";
/// Issuers that the API may name.
const ALLOWED: &str = "allowed_issuers";
/// Whether the scopes that the API names are requested.
const SUPPORTED: &str = "supported_scopes";
