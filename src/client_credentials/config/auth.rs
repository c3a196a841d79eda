//! Client authentication and grant of a configuration, and the keys that each of them requires.
//!
//! Each method accepts only its own keys. A key that belongs to another method is an error rather than ignored, because
//! it usually means that `client_auth` was forgotten.

use serde::Serialize;

use super::{
    Config, ConfigError,
    schema::{GrantType, Method, belonging},
    secret::ConfiguredSecret,
};
use crate::client_credentials::{ClientAuth, Grant, TokenExchange};

impl Config {
    /// Builds the client authentication method.
    ///
    /// The default method is `post`. A secret that is set without `client_auth` is therefore sent in the form.
    ///
    /// # Errors
    ///
    /// Names the key that is missing or invalid, or that does not apply to the method.
    pub(super) fn auth(&self) -> Result<ClientAuth, ConfigError> {
        let keys = &self.keys;
        let method = self.chosen("client_auth", keys.client_auth)?;
        let what = "the client id registered at the authorization server";
        let id = match method {
            Method::Anonymous => return Ok(ClientAuth::anonymous()),
            _ => self.required("client_id", &keys.client_id, what)?,
        };
        Ok(match method {
            Method::Post | Method::ClientSecretPost => ClientAuth::post(id, self.client_secret()?),
            Method::Basic | Method::ClientSecretBasic => {
                ClientAuth::basic(id, self.client_secret()?)
            }
            // In `id:secret` the first colon separates the two, so the id must not contain one.
            Method::BasicRaw if id.contains(':') => {
                let problem =
                    "contains a colon, which basic_raw cannot send; set {client_auth} to basic";
                return Err(self.invalid("client_id", problem));
            }
            Method::BasicRaw => ClientAuth::basic_raw(id, self.client_secret()?),
            Method::ClientSecretJwt => self.secret_jwt(id)?,
            Method::PrivateKeyJwt => self.key_jwt(id)?,
            Method::Assertion => {
                let what = "the file with the externally signed assertion";
                let file = self.token_file("assertion_file", &keys.assertion_file, what)?;
                let kind = keys.assertion_type.as_deref();
                ClientAuth::assertion_of_type(id, file, kind.unwrap_or(ClientAuth::JWT_BEARER))
            }
            Method::TlsClientAuth => ClientAuth::tls(id),
            Method::SelfSignedTlsClientAuth => ClientAuth::self_signed_tls(id),
            Method::None | Method::Anonymous => ClientAuth::none(id),
        })
    }

    /// Builds the grant.
    ///
    /// # Errors
    ///
    /// As for [`auth`](Self::auth), for the keys of the grant.
    pub(super) fn grant(&self) -> Result<Grant, ConfigError> {
        let keys = &self.keys;
        Ok(match self.chosen("grant", keys.grant)? {
            GrantType::ClientCredentials => Grant::client_credentials(),
            GrantType::JwtBearer => {
                let (key, path) = ("grant_assertion_file", &keys.grant_assertion_file);
                let what = "the file with the JWT to exchange for a token";
                Grant::jwt_bearer(self.token_file(key, path, what)?)
            }
            GrantType::TokenExchange => {
                let (key, path) = ("subject_token_file", &keys.subject_token_file);
                let file = self.token_file(key, path, "the file with the token to exchange")?;
                let kind = keys.subject_token_type.as_deref();
                let exchange = TokenExchange::new(file, kind.unwrap_or(TokenExchange::JWT));
                match &keys.requested_token_type {
                    Some(kind) => exchange.requested_token_type(kind.as_str()).into(),
                    None => exchange.into(),
                }
            }
        })
    }

    /// Returns the client secret, which the method requires.
    fn client_secret(&self) -> Result<ConfiguredSecret, ConfigError> {
        self.secret("client_secret", "the client's secret")
    }

    /// Returns the value of `key`, or its default. Fails if a key is set that only applies to other values of `key`.
    ///
    /// If several keys do not apply, the first in the order of the table is reported.
    ///
    /// # Errors
    ///
    /// Names the key that does not apply, and the values with which it would.
    fn chosen<C: Copy + Default + Serialize>(
        &self,
        key: &str,
        given: Option<C>,
    ) -> Result<C, ConfigError> {
        let chosen = given.unwrap_or_default();
        // The name by which the value is written in a configuration.
        let name = serde_json::json!(chosen);
        let name = name.as_str().unwrap_or_default();
        let by_default = if given.is_some() { "" } else { " by default" };
        for (of, values, keys) in belonging() {
            let stray = keys.split(' ').find(|key| self.is_set(key));
            let fits = of != key || values.split(", ").any(|value| value == name);
            if let Some(stray) = stray.filter(|_| !fits) {
                let problem = format!(
                    "is set, but does not apply to {{{key}}}, which is {name}{by_default}; remove it, or set {{{key}}} \
                     to {values}"
                );
                // The error is about the stray key, because that is the one that is set.
                return Err(self.invalid(stray, problem));
            }
        }
        Ok(chosen)
    }
}

/// Without the feature `jwt`, the methods that sign assertions report the missing feature.
#[cfg(not(feature = "jwt"))]
impl Config {
    /// Reports the missing feature for `client_secret_jwt`.
    fn secret_jwt(&self, _: &str) -> Result<ClientAuth, ConfigError> {
        Err(self.without_jwt("client_secret_jwt"))
    }

    /// Reports the missing feature for `private_key_jwt`.
    fn key_jwt(&self, _: &str) -> Result<ClientAuth, ConfigError> {
        Err(self.without_jwt("private_key_jwt"))
    }

    /// Creates the error that names the features to enable.
    fn without_jwt(&self, method: &str) -> ConfigError {
        let needed = "the feature `jwt-aws-lc-rs` or `jwt-rust-crypto` of tower-m2m";
        self.invalid(
            "client_auth",
            format!("is {method}, which requires {needed}"),
        )
    }
}

/// Methods that sign assertions (RFC 7523 §2.2, OpenID Connect Core §9).
#[cfg(feature = "jwt")]
mod signed {
    use super::{ClientAuth, Config, ConfigError};
    use crate::client_credentials::{KeyAlgorithm, SecretAlgorithm, SigningKey};

    impl Config {
        /// Builds `client_secret_jwt`. Default algorithm: `HS256`.
        ///
        /// # Errors
        ///
        /// Names the secret or the audience that is missing, or `signing_algorithm`, if it is not one for a secret.
        pub(super) fn secret_jwt(&self, id: &str) -> Result<ClientAuth, ConfigError> {
            self.check_audience()?;
            let algorithm = match self.keys.signing_algorithm.as_deref() {
                None | Some("HS256") => SecretAlgorithm::Hs256,
                Some("HS384") => SecretAlgorithm::Hs384,
                Some("HS512") => SecretAlgorithm::Hs512,
                Some(_) => {
                    let problem = "is not one of HS256, HS384, HS512";
                    return Err(self.invalid("signing_algorithm", problem));
                }
            };
            let secret = self.client_secret()?;
            Ok(ClientAuth::client_secret_jwt_with(id, secret, algorithm))
        }

        /// Builds `private_key_jwt`. Reads and checks the key now, so that an invalid key is reported at startup.
        ///
        /// # Errors
        ///
        /// Names the key that is missing, and describes what was found in place of a private key for the algorithm.
        pub(super) fn key_jwt(&self, id: &str) -> Result<ClientAuth, ConfigError> {
            self.check_audience()?;
            let what = "the private key, PEM or JWK";
            let (key, content) = self.secret_now("private_key", what)?;
            let name = self.keys.signing_algorithm.as_deref();
            let algorithm = self.key_algorithm("signing_algorithm", name)?;
            let mut signing = self.signing_key(&key, algorithm, &content, "{signing_algorithm}")?;
            // The key was read above only to check it. A file is read again for use, so that it can be rotated.
            if self.is_set("private_key_file") {
                signing = SigningKey::source(algorithm, self.secret("private_key", what)?);
            }
            if let Some(key_id) = &self.keys.key_id {
                signing = signing.with_key_id(key_id);
            }
            Ok(ClientAuth::private_key_jwt(id, signing))
        }

        /// Returns the algorithm with this name.
        ///
        /// # Errors
        ///
        /// Names `key`, and lists the algorithms.
        pub(in super::super) fn key_algorithm(
            &self,
            key: &str,
            name: Option<&str>,
        ) -> Result<KeyAlgorithm, ConfigError> {
            let algorithm = ALGORITHMS.into_iter().find(|a| Some(a.as_str()) == name);
            algorithm.ok_or_else(|| {
                let names = ALGORITHMS.map(KeyAlgorithm::as_str).join(", ");
                self.invalid(key, format!("must be one of {names}"))
            })
        }

        /// Reads a private key. `setting` is the key that names the algorithm.
        ///
        /// # Errors
        ///
        /// Names `key`, and describes what was found instead.
        pub(in super::super) fn signing_key(
            &self,
            key: &str,
            algorithm: KeyAlgorithm,
            content: &[u8],
            setting: &str,
        ) -> Result<SigningKey, ConfigError> {
            SigningKey::pem_or_jwk(algorithm, content).map_err(|error| {
                // Only the description of what was found is kept: the rest of the text names API calls instead of
                // configuration keys.
                let error = error.to_string();
                let found = error.split_once(": found ").map_or("", |(_, found)| found);
                let problem = format!(
                    "is not a private key for {}: found {found}; for another type of key, set {setting}",
                    algorithm.as_str(),
                );
                self.invalid(key, problem)
            })
        }

        /// Checks that the audience of assertions is known: the issuer, which an API may name, or an explicit value.
        ///
        /// # Errors
        ///
        /// Names `assertion_audience`, if neither it nor `issuer` is set.
        fn check_audience(&self) -> Result<(), ConfigError> {
            let problem = "is not set, and neither is {issuer}; one of them must name the audience of the signed \
                           assertion";
            match self.discovers_issuer() || self.is_set("assertion_audience") {
                true => Ok(()),
                false => Err(self.invalid("assertion_audience", problem)),
            }
        }
    }

    /// Values of `signing_algorithm` for a private key.
    const ALGORITHMS: [KeyAlgorithm; 10] = [
        KeyAlgorithm::Rs256,
        KeyAlgorithm::Rs384,
        KeyAlgorithm::Rs512,
        KeyAlgorithm::Ps256,
        KeyAlgorithm::Ps384,
        KeyAlgorithm::Ps512,
        KeyAlgorithm::Es256,
        KeyAlgorithm::Es384,
        KeyAlgorithm::Es512,
        KeyAlgorithm::EdDsa,
    ];
}
