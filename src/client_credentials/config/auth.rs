//! Which way of authenticating a configuration names, and what that way needs.

use secrecy::{ExposeSecret, SecretString};

use super::{Config, ConfigError, MISSING_ID};
use crate::client_credentials::{ClientAuth, SecretSource, TokenError, TokenFile};
#[cfg(feature = "jwt")]
use crate::client_credentials::{KeyAlgorithm, SecretAlgorithm, SigningKey};

impl Config {
    pub(super) fn auth(&self) -> Result<ClientAuth, ConfigError> {
        if self.client_id.is_empty() {
            return Err(self.wrong("client_id", MISSING_ID));
        }
        let method = self.client_auth.as_deref().unwrap_or("post");
        let Some((_, keys)) = METHODS.iter().find(|(name, _)| *name == method) else {
            let names: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
            let wrong = format!("is none of {}", names.join(", "));
            return Err(self.wrong("client_auth", wrong));
        };
        if let Some(key) = self.credential_keys().find(|key| !keys.contains(key)) {
            let auth = self.key("client_auth");
            let wrong = format!("is set, but {auth} is {method}; remove it, or choose another way");
            return Err(self.wrong(key, wrong));
        }
        let id = self.client_id.as_str();
        match method {
            "post" => self.with_secret(|secret| ClientAuth::post(id, secret)),
            "basic" => self.with_secret(|secret| ClientAuth::basic(id, secret)),
            "basic_raw" => self.with_secret(|secret| ClientAuth::basic_raw(id, secret)),
            "assertion" => self.ready_assertion(),
            "tls_client_auth" => Ok(ClientAuth::tls(id)),
            "self_signed_tls_client_auth" => Ok(ClientAuth::self_signed_tls(id)),
            "none" => Ok(ClientAuth::none(id)),
            _ => self.signed(method),
        }
    }

    /// The keys that belong to some ways of authenticating only, and are set.
    fn credential_keys(&self) -> impl Iterator<Item = &'static str> {
        let set = [
            ("client_secret", self.client_secret.is_some()),
            ("client_secret_file", self.client_secret_file.is_some()),
            (
                "client_secret_variable",
                self.client_secret_variable.is_some(),
            ),
            ("private_key_file", self.private_key_file.is_some()),
            ("key_id", self.key_id.is_some()),
            ("signing_algorithm", self.signing_algorithm.is_some()),
            ("assertion_file", self.assertion_file.is_some()),
            ("assertion_type", self.assertion_type.is_some()),
            ("assertion_audience", self.assertion_audience.is_some()),
        ];
        set.into_iter().filter(|(_, set)| *set).map(|(key, _)| key)
    }

    fn with_secret(
        &self,
        auth: impl FnOnce(ConfiguredSecret) -> ClientAuth,
    ) -> Result<ClientAuth, ConfigError> {
        let mut set = self.credential_keys().filter(|key| SECRET.contains(key));
        let Some(key) = set.next() else {
            let file = self.key("client_secret_file");
            let missing = format!("is not set, and neither is {file}: the client's secret");
            return Err(self.wrong("client_secret", missing));
        };
        if let Some(other) = set.next() {
            let wrong = format!("and {} are both set; keep one of them", self.key(other));
            return Err(self.wrong(key, wrong));
        }
        if let Some(file) = &self.client_secret_file {
            return Ok(auth(ConfiguredSecret::File(TokenFile::new(file))));
        }
        let secret = match &self.client_secret_variable {
            Some(variable) => std::env::var(variable)
                .map(Into::into)
                .map_err(|_| self.wrong(key, "names a variable that is not set"))?,
            None => match &self.client_secret {
                Some(secret) => secret.0.clone(),
                None => SecretString::default(),
            },
        };
        if secret.expose_secret().is_empty() {
            return Err(self.wrong(key, "is empty: the client's secret"));
        }
        Ok(auth(ConfiguredSecret::Value(secret)))
    }

    fn ready_assertion(&self) -> Result<ClientAuth, ConfigError> {
        let file = self.assertion_file.as_ref().ok_or_else(|| {
            let missing = "is not set: the file with the assertion that somebody else signs";
            self.wrong("assertion_file", missing)
        })?;
        let kind = self.assertion_type.as_deref();
        let kind = kind.unwrap_or(ClientAuth::JWT_BEARER);
        let id = self.client_id.as_str();
        Ok(ClientAuth::assertion_of_type(
            id,
            TokenFile::new(file),
            kind,
        ))
    }

    #[cfg(not(feature = "jwt"))]
    fn signed(&self, method: &str) -> Result<ClientAuth, ConfigError> {
        let wrong = format!(
            "is {method}, for which tower-m2m needs its feature `jwt-aws-lc-rs` or `jwt-rust-crypto`"
        );
        Err(self.wrong("client_auth", wrong))
    }

    #[cfg(feature = "jwt")]
    fn signed(&self, method: &str) -> Result<ClientAuth, ConfigError> {
        if self.issuer.is_none() && self.assertion_audience.is_none() {
            let missing = format!(
                "is not set, and neither is {}: whom a signed assertion is for",
                self.key("issuer")
            );
            return Err(self.wrong("assertion_audience", missing));
        }
        let id = self.client_id.as_str();
        if method == "private_key_jwt" {
            return Ok(ClientAuth::private_key_jwt(id, self.signing_key()?));
        }
        let algorithm = match self.signing_algorithm.as_deref() {
            None | Some("HS256") => SecretAlgorithm::Hs256,
            Some("HS384") => SecretAlgorithm::Hs384,
            Some("HS512") => SecretAlgorithm::Hs512,
            Some(_) => {
                return Err(self.wrong("signing_algorithm", "is none of HS256, HS384, HS512"));
            }
        };
        self.with_secret(|secret| ClientAuth::client_secret_jwt_with(id, secret, algorithm))
    }

    #[cfg(feature = "jwt")]
    fn signing_key(&self) -> Result<SigningKey, ConfigError> {
        let file = self.private_key_file.as_ref().ok_or_else(|| {
            let missing = "is not set: the file with the private key, PEM (PKCS #8) or JWK";
            self.wrong("private_key_file", missing)
        })?;
        let name = self.signing_algorithm.as_deref();
        let algorithm = KEY_ALGORITHMS
            .into_iter()
            .find(|algorithm| Some(algorithm.as_str()) == name);
        let algorithm = algorithm.ok_or_else(|| {
            let names = KEY_ALGORITHMS.map(KeyAlgorithm::as_str).join(", ");
            self.wrong("signing_algorithm", format!("must be one of {names}"))
        })?;
        let unusable = |error: &dyn std::error::Error| {
            let wrong = format!("names a file that cannot be used: {error}");
            self.wrong("private_key_file", wrong)
        };
        let content = std::fs::read(file).map(zeroize::Zeroizing::new);
        let content = content.map_err(|error| unusable(&error))?;
        let key = match content.trim_ascii_start().starts_with(b"{") {
            true => SigningKey::jwk(algorithm, &*content),
            false => SigningKey::pem(algorithm, &*content),
        };
        let key = key.map_err(|error| unusable(&error))?;
        Ok(match &self.key_id {
            Some(id) => key.key_id(id),
            None => key,
        })
    }
}

/// A value, or a file that is read for every attempt.
enum ConfiguredSecret {
    File(TokenFile),
    Value(SecretString),
}

impl SecretSource for ConfiguredSecret {
    async fn read(&self) -> Result<SecretString, TokenError> {
        match self {
            Self::File(file) => file.read().await,
            Self::Value(value) => Ok(value.clone()),
        }
    }
}

const SECRET: [&str; 3] = [
    "client_secret",
    "client_secret_file",
    "client_secret_variable",
];

/// Each way, and the keys that belong to it.
const METHODS: [(&str, &[&str]); 9] = [
    ("post", &SECRET),
    ("basic", &SECRET),
    ("basic_raw", &SECRET),
    (
        "client_secret_jwt",
        &[
            "client_secret",
            "client_secret_file",
            "client_secret_variable",
            "signing_algorithm",
            "assertion_audience",
        ],
    ),
    (
        "private_key_jwt",
        &[
            "private_key_file",
            "key_id",
            "signing_algorithm",
            "assertion_audience",
        ],
    ),
    ("assertion", &["assertion_file", "assertion_type"]),
    ("tls_client_auth", &[]),
    ("self_signed_tls_client_auth", &[]),
    ("none", &[]),
];

#[cfg(feature = "jwt")]
const KEY_ALGORITHMS: [KeyAlgorithm; 5] = [
    KeyAlgorithm::Rs256,
    KeyAlgorithm::Ps256,
    KeyAlgorithm::Es256,
    KeyAlgorithm::Es384,
    KeyAlgorithm::EdDsa,
];
