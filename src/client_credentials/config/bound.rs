//! Tokens that are bound to a key (RFC 9449) or to the client's certificate (RFC 8705 §3).
//!
//! The two keys that turn them on have the names under which clients are registered (RFC 9449 §5.2, RFC 8705 §3.4).

use super::{Config, ConfigError};
use crate::client_credentials::TokenEndpoint;

impl Config {
    /// Requests bound tokens, if a key says so.
    ///
    /// # Errors
    ///
    /// Names the key that cannot be used, that does not apply, or whose feature is disabled.
    pub(super) fn with_bound_tokens(
        &self,
        endpoint: TokenEndpoint,
    ) -> Result<TokenEndpoint, ConfigError> {
        let [by_key, by_certificate] = [
            (DPOP, self.keys.dpop_bound_access_tokens),
            (
                CERTIFICATE,
                self.keys.tls_client_certificate_bound_access_tokens,
            ),
        ]
        .map(|(key, value)| (key, value == Some(true)));
        for ((key, is_on), dependent) in [
            (by_key, &["dpop_key_file", "dpop_signing_algorithm"][..]),
            (by_certificate, &["api_certificate_file"]),
        ] {
            if let Some(stray) = dependent.iter().find(|name| !is_on && self.is_set(name)) {
                let problem =
                    format!("is set, but does not apply; remove it, or set {{{key}}} to true");
                return Err(self.invalid(stray, problem));
            }
        }
        match (by_key.1, by_certificate.1) {
            (false, false) => Ok(endpoint),
            (true, false) => self.with_key_binding(endpoint),
            (false, true) => self.with_certificate_binding(endpoint),
            (true, true) => {
                let problem = "and {tls_client_certificate_bound_access_tokens} are both true; a token is bound to a \
                               key or to a certificate, so keep one of them";
                Err(self.invalid(DPOP, problem))
            }
        }
    }

    /// Requests tokens that are bound to a key: that of `dpop_key_file`, which is read now, or one for each token.
    ///
    /// # Errors
    ///
    /// Names the key whose value is not usable.
    #[cfg(feature = "dpop")]
    fn with_key_binding(&self, endpoint: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        use crate::client_credentials::{Dpop, DpopKey, KeyAlgorithm};

        let name = self.keys.dpop_signing_algorithm.as_deref();
        let dpop = match &self.keys.dpop_key_file {
            None if name.is_some() => {
                let problem = "is set, but {dpop_key_file} is not; generated keys are for ES256";
                return Err(self.invalid("dpop_signing_algorithm", problem));
            }
            None => Dpop::generated(),
            Some(path) => {
                let algorithm = match name {
                    Some(name) => self.key_algorithm("dpop_signing_algorithm", Some(name))?,
                    None => KeyAlgorithm::Es256,
                };
                let content = self.content("dpop_key_file", path)?;
                let other = "{dpop_signing_algorithm}";
                let key = self.signing_key("dpop_key_file", algorithm, &content, other)?;
                let unusable = |_| self.invalid("dpop_key_file", "has no public half");
                Dpop::key(DpopKey::new(key).map_err(unusable)?)
            }
        };
        let endpoint = endpoint.dpop(dpop);
        // Everything else has been checked.
        let problem = "requires the feature `jwt-aws-lc-rs` or `jwt-rust-crypto` of tower-m2m";
        let checked = endpoint.validate();
        checked.map_err(|_| self.invalid(DPOP, problem))?;
        Ok(endpoint)
    }

    /// Reports the missing feature.
    #[cfg(not(feature = "dpop"))]
    fn with_key_binding(&self, _: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        Err(self.invalid(
            DPOP,
            "is true, which requires the feature `dpop` of tower-m2m",
        ))
    }

    /// Requests tokens that are bound to the client's certificate.
    ///
    /// # Errors
    ///
    /// Names the key, if there is no certificate.
    #[cfg(feature = "https")]
    fn with_certificate_binding(
        &self,
        endpoint: TokenEndpoint,
    ) -> Result<TokenEndpoint, ConfigError> {
        use crate::client_credentials::CertificateBound;

        if !self.is_set("certificate_file") {
            let problem = "is true, but {certificate_file} is not set: the certificate that tokens are bound to";
            return Err(self.invalid(CERTIFICATE, problem));
        }
        let bound = CertificateBound::new();
        Ok(
            endpoint.certificate_bound(match &self.keys.api_certificate_file {
                Some(path) => bound.api_certificate(self.file_at("api_certificate_file", path)),
                None => bound,
            }),
        )
    }

    /// Reports the missing feature.
    #[cfg(not(feature = "https"))]
    fn with_certificate_binding(&self, _: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        let problem =
            "is true, which requires the feature `https`, `ring` or `aws-lc-rs` of tower-m2m";
        Err(self.invalid(CERTIFICATE, problem))
    }
}

/// Binds tokens to a key.
const DPOP: &str = "dpop_bound_access_tokens";
/// Binds tokens to the client's certificate.
const CERTIFICATE: &str = "tls_client_certificate_bound_access_tokens";
