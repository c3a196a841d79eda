//! The token endpoint of a configuration: where it is, and what it is asked for.

use http::Uri;

use super::{Config, ConfigError, schema::Method};
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
            let problem = "is set: there is no token endpoint to ask; use `Config::layer`";
            return Err(self.invalid("api_key", problem));
        }
        let (keys, auth) = (&self.keys, self.auth()?);
        self.check_certificate(false)?;
        let endpoint = self.located(auth)?.grant(self.grant()?);
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
        endpoint = words(&keys.bearer_types).fold(endpoint, TokenEndpoint::bearer_type);
        for setting in &self.trimmed {
            endpoint.note_trimmed(setting.clone());
        }
        self.asked(endpoint)
    }

    /// A key alone is of no use to the methods with a certificate, and [`layer`](Self::layer) has no other way to pass a
    /// certificate in.
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

    fn revocation(&self) -> Result<Option<RevocationEndpoint>, ConfigError> {
        const KEY: &str = "revoke_on_shutdown";
        match self.keys.revoke_on_shutdown.as_deref() {
            None => Ok(None),
            Some("discovered") if self.is_set("issuer") => Ok(Some(RevocationEndpoint::Discovered)),
            Some("discovered") => {
                let problem = "is `discovered`, which needs {issuer}; name the URL instead";
                Err(self.invalid(KEY, problem))
            }
            Some(url) => Ok(Some(self.url(KEY, url)?.into())),
        }
    }

    fn located(&self, auth: ClientAuth) -> Result<TokenEndpoint, ConfigError> {
        let (key, problem) = match (&self.keys.token_url, &self.keys.issuer) {
            (Some(url), None) => {
                return Ok(TokenEndpoint::new(self.url("token_url", url)?, auth));
            }
            (None, Some(issuer)) => {
                self.url("issuer", issuer)?;
                // RFC 8414 §2.
                if !issuer.contains(['?', '#']) {
                    return Ok(TokenEndpoint::discover(issuer.as_str(), auth));
                }
                ("issuer", "has a query or a fragment; remove it")
            }
            (Some(_), Some(_)) => (
                "token_url",
                "and {issuer} are both set; keep the first, or let the issuer's metadata name the endpoint",
            ),
            (None, None) => (
                "token_url",
                "is not set: the token endpoint's URL (or set {issuer})",
            ),
        };
        Err(self.invalid(key, problem))
    }

    fn url(&self, key: &str, url: &str) -> Result<Uri, ConfigError> {
        let uri: Uri = url.parse().map_err(|_| self.invalid(key, "is not a URL"))?;
        let authority = uri.authority().filter(|_| uri.scheme().is_some());
        let problem = match (authority, Origin::of(&uri)) {
            (None, _) => "has no scheme or no host; it should begin with https://",
            (Some(authority), _) if authority.as_str().contains('@') => {
                "holds user information; remove it, and use {client_id} and its secret"
            }
            (_, None) => "has another scheme than https, or a host or port that cannot be",
            (_, Some(origin)) => match self.plain_http(&origin, "client's secret") {
                Some(problem) => return Err(self.invalid(key, problem)),
                None => return Ok(uri),
            },
        };
        Err(self.invalid(key, problem))
    }

    /// With what a token is asked for.
    fn asked(&self, mut endpoint: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        let keys = &self.keys;
        // The endpoint's own words would show values.
        let usable = |endpoint: TokenEndpoint, key, problem: &str| {
            let checked = endpoint.check().map_err(|_| self.invalid(key, problem));
            checked.map(|()| endpoint)
        };
        endpoint = usable(endpoint, "client_auth", "is not usable with this client")?;
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
            let taken = REPEATABLE.contains(&name.as_str()) && self.is_set(name);
            // Only names that are taken fail.
            if taken || endpoint.check().is_err() {
                let problem = format!("holds {name}, which has a key of its own; remove it");
                return Err(self.invalid("parameters", problem));
            }
        }
        Ok(endpoint)
    }

    #[cfg(not(feature = "https"))]
    fn with_tls(&self, endpoint: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        let problem =
            "is set, for which tower-m2m needs its feature `https`, `ring` or `aws-lc-rs`";
        let mut keys = ["ca_file", "certificate_file"].into_iter();
        match keys.find(|key| self.is_set(key)) {
            Some(key) => Err(self.invalid(key, problem)),
            None => Ok(endpoint),
        }
    }
}

/// The words in `texts`, with white space between them.
fn words(texts: &Option<Vec<String>>) -> impl Iterator<Item = &str> {
    let texts = texts.iter().flatten();
    texts.flat_map(|text| text.split_whitespace())
}

fn assertion_audience(text: &str) -> AssertionAudience {
    match text {
        "token_endpoint" => AssertionAudience::TokenEndpoint,
        "requested_endpoint" => AssertionAudience::RequestedEndpoint,
        audience => audience.into(),
    }
}

const DETAILS: &str = "must be an array of objects, each with a `type` (RFC 9396 §2)";
