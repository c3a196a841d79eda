//! Signed assertions: `client_secret_jwt` and `private_key_jwt` (RFC 7523 §2.2, §3).
//!
//! Both methods build the same claims and differ only in the signature. The assertion is created for each attempt, and
//! never reused.
//!
//! | claim | value |
//! |---|---|
//! | `iss`, `sub` | the client id |
//! | `aud` | the issuer, or as configured |
//! | `iat`, `exp` | now, and 60 s later |
//! | `jti` | 128 bits, new for each attempt |
//!
//! The claims `iss`, `sub`, `aud`, `exp` and `jti` are those that OpenID Connect Core §9 requires. `nbf` is left out: a
//! server whose clock is behind would reject the assertion.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::{
    ClientAuth, SecretSource,
    algorithm::SecretAlgorithm,
    assertion::assert_client,
    client_authentication::{ClientAuthentication, validate_id},
    crypto, jws,
    request::TokenRequest,
    signer::Signer,
};
use crate::{
    client_credentials::{
        CacheKey, TokenError,
        endpoint::{secret::BoxSecretSource, validate::NO_AUDIENCE},
    },
    random::unique,
};

/// Client authentication `client_secret_jwt`.
///
/// The secret is read for each attempt, so that it can be rotated. It is used as bytes, not decoded.
pub(super) struct SecretJwt {
    /// Client identifier.
    id: String,
    /// Source of the client secret.
    secret: BoxSecretSource,
    /// Algorithm of the signature.
    algorithm: SecretAlgorithm,
}

impl SecretJwt {
    /// Creates the method.
    pub(super) fn new(
        id: impl Into<String>,
        secret: impl SecretSource,
        algorithm: SecretAlgorithm,
    ) -> Self {
        Self {
            id: id.into(),
            secret: BoxSecretSource::new("client secret", secret),
            algorithm,
        }
    }
}

impl ClientAuthentication for SecretJwt {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        let secret = request.read(&self.secret).await?;
        let name = self.algorithm.as_str();
        let claims = claims(request, &self.id)?;
        let message = jws::signing_input(jws::header(name, typ(request), None, None), &claims);
        let key = secret.expose().as_bytes();
        let signed = crypto::sign_with_secret(self.algorithm, key, message.as_bytes());
        // Before the result is checked, so that no path leaves the secret unredacted.
        request.redact(secret);
        let signature = signed.map_err(|error| jws::cannot_sign(error, name))?;
        add_assertion(request, &self.id, jws::compact(&message, &signature));
        Ok(())
    }

    /// Only this method: metadata must never lead to one that sends the secret itself.
    fn methods(&self) -> &'static [&'static str] {
        &["client_secret_jwt"]
    }

    async fn changed(&self) -> bool {
        self.secret.changed().await
    }

    fn needs_audience(&self) -> bool {
        true
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        let secret = self.secret.peek().await?;
        Some(
            CacheKey::new("client_secret_jwt")
                .field("client_id", &self.id)
                .field("algorithm", self.algorithm.as_str())
                .field("secret", secret.expose()),
        )
    }

    fn validate(&self) -> Result<(), TokenError> {
        validate_id(&self.id)?;
        jws::validate_provider()
    }
}

/// Client authentication `private_key_jwt`.
///
/// Generic, so that a key in this process needs no virtual call and can be recognized by its type.
pub(super) struct PrivateKeyJwt<S> {
    /// Client identifier.
    id: String,
    /// Signer of the assertions.
    signer: S,
}

impl<S: Signer> PrivateKeyJwt<S> {
    /// Creates the method.
    pub(super) fn new(id: impl Into<String>, signer: S) -> Self {
        Self {
            id: id.into(),
            signer,
        }
    }
}

impl<S: Signer> ClientAuthentication for PrivateKeyJwt<S> {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        let claims = claims(request, &self.id)?;
        let assertion = jws::sign(&self.signer, typ(request), &claims, request).await?;
        add_assertion(request, &self.id, assertion);
        Ok(())
    }

    fn methods(&self) -> &'static [&'static str] {
        &["private_key_jwt"]
    }

    async fn changed(&self) -> bool {
        self.signer.changed().await
    }

    fn needs_audience(&self) -> bool {
        true
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        let key = self.signer.cache_key().await?;
        Some(
            CacheKey::new("private_key_jwt")
                .field("client_id", &self.id)
                .nested("key", &key),
        )
    }

    fn validate(&self) -> Result<(), TokenError> {
        validate_id(&self.id)?;
        jws::validate(&self.signer)
    }
}

/// Adds the assertion, and advice in case the server rejects it.
///
/// Replaces the advice of the request: from here on a rejection is probably about the key or the audience.
fn add_assertion(request: &mut TokenRequest, id: &str, assertion: String) {
    request.advice = Some(
        "check the client id, that the key or secret is registered for it (with this `kid` and algorithm), this \
         machine's clock, and the audience that the server expects (`.assertion_audience(..)`)",
    );
    assert_client(request, id, ClientAuth::JWT_BEARER, assertion.into());
}

/// Returns the `typ` of the header. The explicit type is required by draft-ietf-oauth-rfc7523bis.
fn typ(request: &TokenRequest) -> Option<&'static str> {
    request.is_typed().then_some("client-authentication+jwt")
}

/// Returns the claims (RFC 7523 §3). Every attempt has a new `jti`, because a server may reject one that it has seen
/// (§3, item 7).
///
/// `iat` and `exp` are whole seconds by the wall clock of the layer. The server's tolerance for a different clock is
/// unknown; most allow a minute.
///
/// # Errors
///
/// A configuration error, if the audience is unknown.
fn claims(request: &TokenRequest, id: &str) -> Result<serde_json::Value, TokenError> {
    let Some(audience) = request.audience() else {
        return Err(TokenError::configuration(NO_AUDIENCE));
    };
    // A clock before 1970 yields 0, which every server rejects as expired.
    let now = request
        .wall_clock()
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

/// Lifetime of an assertion. Tolerates a clock that is some seconds off, and is too short for a stolen assertion to be
/// useful.
const LIFETIME: Duration = Duration::from_secs(60);
