//! The token endpoint of a configuration, and the parameters of token requests.
//!
//! The order of checks determines which of several mistakes is reported: first the client authentication, then the
//! location, the grant, TLS and the parameters.

use super::{Config, ConfigError, schema::Method};
use crate::client_credentials::{
    AssertionAudience, RevocationEndpoint, TokenEndpoint, endpoint::REPEATABLE,
};

impl Config {
    /// Builds the token endpoint alone, for programs that also need settings that a configuration cannot express, such
    /// as [`service`](TokenEndpoint::service).
    ///
    /// # Errors
    ///
    /// Names the key that is missing or invalid, or that contradicts another, and never contains a value. Files with
    /// keys and certificates are read by this call.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::client_credentials::Config;
    ///
    /// let vars = |name: &str| match name {
    ///     "OAUTH_ISSUER" => Some("https://issuer.example".to_owned()),
    ///     "OAUTH_CLIENT_ID" => Some("orders".to_owned()),
    ///     "OAUTH_CLIENT_SECRET" => Some("secret".to_owned()),
    ///     _ => None,
    /// };
    /// let endpoint = Config::from_vars("OAUTH_", vars)?.endpoint()?.retries(0);
    /// # drop(endpoint);
    /// # Ok::<(), tower_m2m::client_credentials::ConfigError>(())
    /// ```
    pub fn endpoint(&self) -> Result<TokenEndpoint, ConfigError> {
        if self.api_key()?.is_some() {
            let problem = "is set, so there is no token endpoint; use `Config::layer`";
            return Err(self.invalid("api_key", problem));
        }
        let (keys, auth) = (&self.keys, self.auth()?);
        self.check_certificate(false)?;
        let endpoint = self.base_endpoint(auth)?.grant(self.grant()?);
        let mut endpoint = self.with_tls(endpoint)?;
        if self.allows_http() {
            endpoint = endpoint.dangerously_allow_http();
        }
        set!(endpoint {
            assertion_audience: keys.assertion_audience.as_deref().map(assertion_audience),
            assertion_typ: keys.assertion_typ,
            default_lifetime: keys.default_lifetime,
            retries: keys.token_retries,
            revoke_on_shutdown: self.revocation()?,
            revocation_audience: keys.revocation_audience.as_deref().map(assertion_audience),
        });
        endpoint = self.with_bound_tokens(endpoint)?;
        endpoint = words(&keys.bearer_types).fold(endpoint, TokenEndpoint::bearer_type);
        // The first fetch reports them, because the layer's sinks are not known yet.
        for setting in &self.trimmed {
            endpoint.note_trimmed(setting.clone());
        }
        self.with_request_parameters(endpoint)
    }

    /// Checks that a method that presents a certificate has one.
    ///
    /// A private key without a certificate is always an error. With `required`, so is the absence of both:
    /// [`layer`](Self::layer) offers no other way to pass a certificate.
    ///
    /// # Errors
    ///
    /// Names `certificate_file`, if it is not set.
    pub(super) fn check_certificate(&self, required: bool) -> Result<(), ConfigError> {
        let method = self.keys.client_auth.unwrap_or_default();
        let presents = matches!(
            method,
            Method::TlsClientAuth | Method::SelfSignedTlsClientAuth
        );
        if presents && (required || self.keys.private_key.is_some()) {
            let what = "the file with the client's certificate, PEM (or pass one to \
                        `Config::endpoint()?.client_certificate(..)`)";
            self.required("certificate_file", &self.keys.certificate_file, what)?;
        }
        Ok(())
    }

    /// Returns the revocation endpoint: a URL, or the one that the issuer's metadata names.
    ///
    /// # Errors
    ///
    /// Names `revoke_on_shutdown`, if it is not a URL, or it is `discovered` without metadata of an issuer.
    fn revocation(&self) -> Result<Option<RevocationEndpoint>, ConfigError> {
        const KEY: &str = "revoke_on_shutdown";
        match self.keys.revoke_on_shutdown.as_deref() {
            None => Ok(None),
            Some("discovered") if self.discovers_issuer() => {
                Ok(Some(RevocationEndpoint::Discovered))
            }
            Some("discovered") => {
                let problem = "is `discovered`, which requires {issuer} or {protected_resource}; set the URL instead";
                Err(self.invalid(KEY, problem))
            }
            Some(url) => Ok(Some(self.url(KEY, url)?.into())),
        }
    }

    /// Adds the grant's parameters: scopes, audiences, resources, authorization details and further parameters.
    ///
    /// Each group is validated after it was added, so that an error names the key of the group that caused it.
    ///
    /// # Errors
    ///
    /// Names the key whose value is invalid, or `parameters` if a name has a key of its own.
    fn with_request_parameters(
        &self,
        mut endpoint: TokenEndpoint,
    ) -> Result<TokenEndpoint, ConfigError> {
        let keys = &self.keys;
        // The endpoint's own error is replaced, because it would contain values.
        let usable = |endpoint: TokenEndpoint, key, problem: &str| {
            let checked = endpoint.validate().map_err(|_| self.invalid(key, problem));
            checked.map(|()| endpoint)
        };
        // Checked before parameters are added, so that a later failure is known to concern a parameter.
        endpoint = usable(endpoint, "client_auth", "cannot be used with this client")?;
        endpoint = words(&keys.scope).fold(endpoint, TokenEndpoint::scope);
        let audiences = keys.audience.iter().flatten();
        endpoint = audiences.fold(endpoint, TokenEndpoint::audience);
        endpoint = words(&keys.resource).fold(endpoint, TokenEndpoint::resource);
        if let Some(details) = &keys.authorization_details {
            endpoint = endpoint.authorization_details(details.clone());
            endpoint = usable(endpoint, "authorization_details", DETAILS)?;
        }
        for (name, value) in keys.parameters.iter().flatten() {
            endpoint = endpoint.parameter(name, value.clone());
            // The endpoint itself allows these to be repeated, but here the key and the parameter would be merged
            // silently.
            let taken = REPEATABLE.contains(&name.as_str()) && self.is_set(name);
            // At this point only a reserved parameter name fails the check.
            if taken || endpoint.validate().is_err() {
                let problem = format!("contains {name}, which has its own key; remove it");
                return Err(self.invalid("parameters", problem));
            }
        }
        Ok(endpoint)
    }

    /// Without the feature `https`, keys with certificates report the missing feature.
    #[cfg(not(feature = "https"))]
    fn with_tls(&self, endpoint: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        let problem =
            "is set, which requires the feature `https`, `ring` or `aws-lc-rs` of tower-m2m";
        let mut keys = ["ca_file", "proxy", "no_proxy", "certificate_file"].into_iter();
        match keys.find(|key| self.is_set(key)) {
            Some(key) => Err(self.invalid(key, problem)),
            None => Ok(endpoint),
        }
    }
}

/// Splits `texts` at white space.
pub(super) fn words(texts: &Option<Vec<String>>) -> impl Iterator<Item = &str> {
    let texts = texts.iter().flatten();
    texts.flat_map(|text| text.split_whitespace())
}

/// Parses the audience of assertions: a keyword, or the audience itself.
pub(super) fn assertion_audience(text: &str) -> AssertionAudience {
    match text {
        "token_endpoint" => AssertionAudience::TokenEndpoint,
        "requested_endpoint" => AssertionAudience::RequestedEndpoint,
        audience => audience.into(),
    }
}

/// Requirement for `authorization_details`, as part of an error.
const DETAILS: &str = "must be an array of objects, each with a `type` (RFC 9396 §2)";
