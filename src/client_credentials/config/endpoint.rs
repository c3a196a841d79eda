//! The token endpoint of a configuration: where it is, and what it is asked for.

use http::Uri;

use super::{Config, ConfigError, value::Given};
use crate::{
    Origin,
    client_credentials::{
        AssertionAudience, ClientAuth, RevocationEndpoint, TokenEndpoint, endpoint::REPEATABLE,
    },
};

impl Config {
    /// The token endpoint, for settings that a configuration cannot hold, such as
    /// [`service`](TokenEndpoint::service).
    ///
    /// # Errors
    ///
    /// Names the key that is missing, wrong or contradicts another, and never shows a value. Files with keys and
    /// certificates are read now.
    pub fn endpoint(&self) -> Result<TokenEndpoint, ConfigError> {
        if self.api_key()?.is_some() {
            let wrong = "is set: there is no token endpoint to ask; use `Config::layer`";
            return Err(self.wrong("api_key", wrong));
        }
        let auth = self.auth()?;
        self.check_certificate(false)?;
        let mut endpoint = self.located(auth)?.grant(self.grant()?);
        #[cfg(feature = "https")]
        if let Some((roots, skipped)) = self.tls()? {
            endpoint.trust(roots);
            for problem in skipped {
                endpoint.note_certificate(self.key("ca_file"), problem);
            }
        }
        #[cfg(feature = "https")]
        if let Some((chain, key)) = self.certificate()? {
            endpoint = endpoint.client_certificate(chain, key);
        }
        #[cfg(not(feature = "https"))]
        self.check_no_tls()?;
        if self.allows_http() {
            endpoint = endpoint.dangerously_allow_http();
        }
        if let Some(audience) = self.text("assertion_audience") {
            endpoint = endpoint.assertion_audience(assertion_audience(audience));
        }
        if let Some(typed) = self.boolean("assertion_typ") {
            endpoint = endpoint.assertion_typ(typed);
        }
        if let Some(lifetime) = self.seconds("default_lifetime") {
            endpoint = endpoint.default_lifetime(lifetime);
        }
        if let Some(retries) = self.number("token_retries") {
            endpoint = endpoint.retries(retries);
        }
        if let Some(revocation) = self.revocation()? {
            endpoint = endpoint.revoke_on_shutdown(revocation);
        }
        if let Some(audience) = self.text("revocation_audience") {
            endpoint = endpoint.revocation_audience(assertion_audience(audience));
        }
        for kind in self.words("bearer_types") {
            endpoint = endpoint.bearer_type(kind);
        }
        for setting in self.trimmed() {
            endpoint.note_trimmed(setting);
        }
        self.asked(endpoint)
    }

    fn revocation(&self) -> Result<Option<RevocationEndpoint>, ConfigError> {
        const KEY: &str = "revoke_on_shutdown";
        match self.text(KEY) {
            None => Ok(None),
            Some("discovered") if self.is_set("issuer") => Ok(Some(RevocationEndpoint::Discovered)),
            Some("discovered") => {
                let issuer = self.key("issuer");
                let wrong = format!("is `discovered`, which needs {issuer}; name the URL instead");
                Err(self.wrong(KEY, wrong))
            }
            Some(url) => Ok(Some(self.url(KEY, url)?.into())),
        }
    }

    fn located(&self, auth: ClientAuth) -> Result<TokenEndpoint, ConfigError> {
        match (self.text("token_url"), self.text("issuer")) {
            (Some(url), None) => Ok(TokenEndpoint::new(self.url("token_url", url)?, auth)),
            (None, Some(issuer)) => {
                self.url("issuer", issuer)?;
                // RFC 8414 §2.
                if issuer.contains(['?', '#']) {
                    return Err(self.wrong("issuer", "has a query or a fragment; remove it"));
                }
                Ok(TokenEndpoint::discover(issuer, auth))
            }
            (Some(_), Some(_)) => {
                let wrong = format!(
                    "and {} are both set; keep the first, or let the issuer's metadata name the endpoint",
                    self.key("issuer")
                );
                Err(self.wrong("token_url", wrong))
            }
            (None, None) => {
                let issuer = self.key("issuer");
                let missing = format!("is not set: the token endpoint's URL (or set {issuer})");
                Err(self.wrong("token_url", missing))
            }
        }
    }

    fn url(&self, key: &str, url: &str) -> Result<Uri, ConfigError> {
        let uri: Uri = url.parse().map_err(|_| self.wrong(key, "is not a URL"))?;
        let Some(authority) = uri.authority().filter(|_| uri.scheme().is_some()) else {
            let wrong = "has no scheme or no host; it should begin with https://";
            return Err(self.wrong(key, wrong));
        };
        if authority.as_str().contains('@') {
            let id = self.key("client_id");
            let wrong = format!("holds user information; remove it, and use {id} and its secret");
            return Err(self.wrong(key, wrong));
        }
        let Some(origin) = Origin::of(&uri) else {
            let wrong = "has another scheme than https, or a host or port that cannot be";
            return Err(self.wrong(key, wrong));
        };
        if !origin.is_https() && !origin.is_loopback() && !self.allows_http() {
            return Err(self.wrong(key, self.plain_http("client's secret")));
        }
        Ok(uri)
    }

    /// With what a token is asked for.
    fn asked(&self, mut endpoint: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        endpoint = self.usable(endpoint, "client_auth", "is not usable with this client")?;
        for scope in self.words("scope") {
            endpoint = endpoint.scope(scope);
        }
        for audience in self.words("audience") {
            endpoint = endpoint.audience(audience);
        }
        for resource in self.words("resource") {
            endpoint = endpoint.resource(resource);
        }
        if let Some(Given::Json(details)) = self.given.get("authorization_details") {
            let endpoint_of = endpoint.authorization_details(details.clone());
            endpoint = self.usable(endpoint_of, "authorization_details", DETAILS)?;
        }
        if let Some(Given::Table(parameters)) = self.given.get("parameters") {
            for (name, value) in parameters {
                endpoint = endpoint.parameter(name, value.clone());
                let taken = REPEATABLE.contains(&name.as_str()) && self.is_set(name);
                // Only names that are taken fail.
                if taken || endpoint.check().is_err() {
                    let wrong = format!("holds {name}, which has a key of its own; remove it");
                    return Err(self.wrong("parameters", wrong));
                }
            }
        }
        Ok(endpoint)
    }

    /// `problem` takes the place of the endpoint's own words, which show values.
    fn usable(
        &self,
        endpoint: TokenEndpoint,
        key: &str,
        problem: &str,
    ) -> Result<TokenEndpoint, ConfigError> {
        let checked = endpoint.check().map_err(|_| self.wrong(key, problem));
        checked.map(|()| endpoint)
    }
}

fn assertion_audience(text: &str) -> AssertionAudience {
    match text {
        "token_endpoint" => AssertionAudience::TokenEndpoint,
        "requested_endpoint" => AssertionAudience::RequestedEndpoint,
        audience => audience.into(),
    }
}

const DETAILS: &str = "must be an array of objects, each with a `type` (RFC 9396 §2)";
