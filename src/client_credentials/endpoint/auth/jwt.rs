//! Assertions that are signed here: `client_secret_jwt` and `private_key_jwt` (RFC 7523 §2.2, §3).

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::CryptoProvider, errors};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    ClientAuth, ClientAuthentication, SecretSource, SigningKey, TokenRequest,
    assertion::assert_client, check_id,
};
use crate::{
    client_credentials::{
        CacheIdentity, TokenError, TokenErrorKind,
        endpoint::{check::NO_AUDIENCE, secret::SharedSecret},
    },
    random::unique,
};

/// An algorithm that signs with the client secret (RFC 7518 §3.2).
///
/// A secret shorter than the hash (32, 48 or 64 bytes) is weaker than the algorithm, and some servers refuse it.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, client_credentials::SecretAlgorithm};
///
/// let auth = ClientAuth::client_secret_jwt_with("my-client", "my-secret", SecretAlgorithm::Hs512);
/// # drop(auth);
/// assert_eq!(SecretAlgorithm::Hs512.as_str(), "HS512");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SecretAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

/// `client_secret_jwt`.
pub(super) struct SecretJwt {
    id: String,
    secret: SharedSecret,
    algorithm: SecretAlgorithm,
}

impl SecretJwt {
    pub(super) fn new(
        id: impl Into<String>,
        secret: impl SecretSource,
        algorithm: SecretAlgorithm,
    ) -> Self {
        Self {
            id: id.into(),
            secret: SharedSecret::new("client secret", secret),
            algorithm,
        }
    }
}

impl ClientAuthentication for SecretJwt {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        let secret = self.secret.read(request).await?;
        let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
        request.redact(secret);
        add_assertion(request, &self.id, self.algorithm.of_header(), None, &key)
    }

    /// Never one that sends the secret itself.
    fn methods(&self) -> &'static [&'static str] {
        &["client_secret_jwt"]
    }

    async fn changed(&self) -> bool {
        self.secret.changed().await
    }

    fn needs_audience(&self) -> bool {
        true
    }

    async fn cache_identity(&self) -> Option<CacheIdentity> {
        let secret = self.secret.look().await?;
        Some(
            CacheIdentity::new("client_secret_jwt")
                .field("client_id", &self.id)
                .field("algorithm", self.algorithm.as_str())
                .field("secret", secret.expose_secret()),
        )
    }

    fn check(&self) -> Result<(), TokenError> {
        check_id(&self.id)
    }
}

/// `private_key_jwt`.
pub(super) struct PrivateKeyJwt {
    id: String,
    key: SigningKey,
}

impl PrivateKeyJwt {
    pub(super) fn new(id: impl Into<String>, key: SigningKey) -> Self {
        Self { id: id.into(), key }
    }
}

impl ClientAuthentication for PrivateKeyJwt {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        let algorithm = self.key.algorithm().of_header();
        let sign = |request: &mut TokenRequest, key_id: Option<&str>, key: &EncodingKey| {
            add_assertion(request, &self.id, algorithm, key_id, key)
        };
        self.key.with(request, sign).await
    }

    fn methods(&self) -> &'static [&'static str] {
        &["private_key_jwt"]
    }

    async fn changed(&self) -> bool {
        self.key.changed().await
    }

    fn needs_audience(&self) -> bool {
        true
    }

    async fn cache_identity(&self) -> Option<CacheIdentity> {
        let key = self.key.cache_identity().await?;
        Some(
            CacheIdentity::new("private_key_jwt")
                .field("client_id", &self.id)
                .nested("key", &key),
        )
    }

    fn check(&self) -> Result<(), TokenError> {
        check_id(&self.id)
    }
}

impl SecretAlgorithm {
    /// The name in the IANA registry, such as `HS256`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    fn of_header(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Hs384 => Algorithm::HS384,
            Self::Hs512 => Algorithm::HS512,
        }
    }
}

/// The provider that the features of this build bring.
pub(in super::super) fn built_in() -> Option<&'static CryptoProvider> {
    #[cfg(feature = "jwt-aws-lc-rs")]
    return Some(&jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER);
    #[cfg(all(feature = "jwt-rust-crypto", not(feature = "jwt-aws-lc-rs")))]
    return Some(&jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER);
    #[cfg(not(any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto")))]
    return None;
}

/// The signature over `message`, by `provider`: jsonwebtoken's own functions would use the process-wide default, and
/// panic where there is none.
pub(super) fn sign(
    message: &[u8],
    algorithm: Algorithm,
    key: &EncodingKey,
    provider: &CryptoProvider,
) -> Result<Vec<u8>, errors::Error> {
    let signer = (provider.signer_factory)(&algorithm, key)?;
    Ok(signer.try_sign(message)?)
}

fn add_assertion(
    request: &mut TokenRequest,
    id: &str,
    algorithm: Algorithm,
    key_id: Option<&str>,
    key: &EncodingKey,
) -> Result<(), TokenError> {
    let provider = request
        .provider()
        .ok_or_else(|| TokenError::configuration(NO_PROVIDER))?;
    let message = format!(
        "{}.{}",
        part(&header(request, algorithm, key_id)),
        part(&claims(request, id)?)
    );
    // The library's error may name the key's contents: it is not passed on.
    let signature = sign(message.as_bytes(), algorithm, key, provider).map_err(|_| {
        TokenError::new(
            TokenErrorKind::WrongKey,
            false,
            format!("was not sent: the key cannot sign with {algorithm:?}; check its type, its curve and its length"),
        )
    })?;
    let assertion = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    request.advice = Some(
        "check the client id, that the key or secret is registered for it (with this `kid` and algorithm), this \
         machine's clock, and the audience that the server expects (`.assertion_audience(..)`)",
    );
    assert_client(request, id, ClientAuth::JWT_BEARER, assertion.into());
    Ok(())
}

/// draft-ietf-oauth-rfc7523bis asks for the explicit type.
fn header(request: &TokenRequest, algorithm: Algorithm, key_id: Option<&str>) -> serde_json::Value {
    let mut header = json!({ "alg": algorithm });
    if request.is_typed() {
        header["typ"] = "client-authentication+jwt".into();
    }
    if let Some(key_id) = key_id {
        header["kid"] = key_id.into();
    }
    header
}

/// RFC 7523 §3. `jti` is new for every attempt: a server may refuse one that it has seen (§3, item 7).
fn claims(request: &TokenRequest, id: &str) -> Result<serde_json::Value, TokenError> {
    let Some(audience) = request.audience() else {
        return Err(TokenError::configuration(NO_AUDIENCE));
    };
    let now = request
        .wall()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let jti = unique().to_be_bytes();
    Ok(json!({
        "iss": id,
        "sub": id,
        "aud": audience,
        "iat": now.as_secs(),
        "exp": (now + LIFETIME).as_secs(),
        "jti": URL_SAFE_NO_PAD.encode(jti),
    }))
}

fn part(value: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

pub(in super::super) const NO_PROVIDER: &str = "was not sent: this build has no crypto provider for JWTs; enable the feature `jwt-aws-lc-rs` or \
     `jwt-rust-crypto`, or pass one with `.crypto_provider(..)`";

/// Long enough for a clock that is some seconds off, and too short to be of use to a thief.
const LIFETIME: Duration = Duration::from_secs(60);
