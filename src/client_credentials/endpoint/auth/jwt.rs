//! Signed assertions: `client_secret_jwt` and `private_key_jwt` (RFC 7523 §2.2, §3).
//!
//! Both methods build the same claims and differ only in the signature. The assertion is created for each attempt, and
//! never reused.
//!
//! ```text
//! BASE64URL(header) . BASE64URL(claims) . BASE64URL(signature)
//!   alg                 iss = sub = client id
//!   typ (optional)      aud = issuer, or as configured
//!   kid (if known)      iat = now, exp = now + 60 s
//!                       jti = 128 bits, new for each attempt
//! ```
//!
//! The claims `iss`, `sub`, `aud`, `exp` and `jti` are those that OpenID Connect Core §9 requires. `nbf` is left out: a
//! server whose clock is behind would reject the assertion.

use std::{
    any::Any,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::time::timeout_at;

use super::{
    ClientAuth, SecretSource,
    algorithm::{KeyAlgorithm, SecretAlgorithm},
    assertion::assert_client,
    client_authentication::{ClientAuthentication, validate_id},
    crypto::{self, CannotSign},
    key::SigningKey,
    request::TokenRequest,
    signer::{SignError, Signer, jws_signature},
};
use crate::{
    catch_panic::catch_panic,
    client_credentials::{
        CacheKey, TokenError, TokenErrorKind,
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
        let message = signing_input(request, &self.id, self.algorithm.as_str(), None)?;
        let key = secret.expose().as_bytes();
        let signed = crypto::sign_with_secret(self.algorithm, key, message.as_bytes());
        // Before the result is checked, so that no path leaves the secret unredacted.
        request.redact(secret);
        let signature = signed.map_err(|error| cannot_sign(error, self.algorithm.as_str()))?;
        add_assertion(request, &self.id, &message, &signature);
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
        validate_provider()
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

    /// Returns the key if it is in this process. It is then read once for both header and signature, with the fallback
    /// of the request.
    ///
    /// The downcast works because signers are `'static`.
    fn local_key(&self) -> Option<&SigningKey> {
        (&self.signer as &dyn Any).downcast_ref()
    }
}

impl<S: Signer> ClientAuthentication for PrivateKeyJwt<S> {
    async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
        let algorithm = self.signer.algorithm();
        let name = algorithm.as_str();
        let (message, signature) = if let Some(key) = self.local_key() {
            // The header and the signature use the same version of the key, even if its file is replaced in between.
            let key = key.current_for(request).await?;
            let message = signing_input(request, &self.id, name, key.key_id().as_deref())?;
            let signed = key.sign_now(message.as_bytes());
            (message, signed.map_err(|error| cannot_sign(error, name))?)
        } else {
            // Called immediately before `sign`, as the trait promises.
            let key_id = self.signer.key_id();
            let message = signing_input(request, &self.id, name, key_id.as_deref())?;
            let signature = signature_by(&self.signer, &message, request).await?;
            (message, signature)
        };
        add_assertion(request, &self.id, &message, &signature);
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
        match self.local_key() {
            // An external signer needs no provider in this build.
            Some(_) => validate_provider(),
            None => Ok(()),
        }
    }
}

/// Checks that this build can sign. Without a provider, a program that depends on this crate must enable one.
fn validate_provider() -> Result<(), TokenError> {
    match crypto::HAS_PROVIDER {
        true => Ok(()),
        false => Err(TokenError::configuration(NO_PROVIDER)),
    }
}

/// Converts a failed signature to an error.
///
/// The provider's own error is not used, because it may contain parts of the key.
fn cannot_sign(error: CannotSign, algorithm: &str) -> TokenError {
    match error {
        CannotSign::NoProvider => TokenError::configuration(NO_PROVIDER),
        CannotSign::UnsuitableKey => TokenError::new(
            TokenErrorKind::Configuration,
            false,
            format!(
                "was not sent: the key cannot sign with {algorithm}; check its type, its curve and its length"
            ),
        ),
    }
}

/// Calls `signer` with `message`, within the deadline of the attempt. A panic and a timeout are transient failures.
///
/// The signer gets the deadline of the attempt, not that of the fetch: a first attempt that hangs leaves time for a
/// second.
///
/// # Errors
///
/// The signer's error, a transient error after a panic or a timeout, or a permanent one, if the result is not a
/// signature.
///
/// # Cancel safety
///
/// Dropping the future drops that of the signer. No assertion is sent then, and its `jti` is not used again.
async fn signature_by<S: Signer>(
    signer: &S,
    message: &str,
    request: &TokenRequest,
) -> Result<Vec<u8>, TokenError> {
    let limit = request.deadline().saturating_duration_since(request.now());
    let signing = catch_panic(async { signer.sign(message.as_bytes()).await });
    let signed = match timeout_at(request.deadline(), signing).await {
        Ok(Some(signed)) => signed,
        Ok(None) => Err(SignError::transient("panicked; its message went to stderr")),
        Err(_) => Err(SignError::transient(format!(
            "did not respond within {limit:?}; check that it is reachable"
        ))),
    };
    let signature = signed.map_err(TokenError::from)?;
    let length = signature.len();
    jws_signature(signer.algorithm(), signature)
        .ok_or_else(|| not_a_signature(signer.algorithm(), length))
}

/// Error for a signer that returned something other than a signature.
fn not_a_signature(algorithm: KeyAlgorithm, length: usize) -> TokenError {
    TokenError::from(SignError::permanent(format!(
        "returned {length} bytes that are not a valid {} signature; check that its key is for this algorithm",
        algorithm.as_str()
    )))
}

impl From<SignError> for TokenError {
    fn from(error: SignError) -> Self {
        let text = format!("was not sent: the signer {}", error.what);
        let mut failed = Self::new(TokenErrorKind::SigningFailed, error.transient, text);
        if let Some(wait) = error.retry_after {
            failed = failed.with_retry_after(wait);
        }
        match error.source {
            Some(source) => failed.with_source(source),
            None => failed,
        }
    }
}

/// Returns the signing input: header and claims of the assertion (RFC 7515 §5.1).
///
/// Both parts are compact JSON. The order of their members has no meaning.
fn signing_input(
    request: &TokenRequest,
    id: &str,
    algorithm: &str,
    key_id: Option<&str>,
) -> Result<String, TokenError> {
    let header = part(&header(request, algorithm, key_id));
    Ok(format!("{header}.{}", part(&claims(request, id)?)))
}

/// Adds the assertion, and advice in case the server rejects it.
///
/// Replaces the advice of the request: from here on a rejection is probably about the key or the audience.
fn add_assertion(request: &mut TokenRequest, id: &str, message: &str, signature: &[u8]) {
    let assertion = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    request.advice = Some(
        "check the client id, that the key or secret is registered for it (with this `kid` and algorithm), this \
         machine's clock, and the audience that the server expects (`.assertion_audience(..)`)",
    );
    assert_client(request, id, ClientAuth::JWT_BEARER, assertion.into());
}

/// Returns the JOSE header. The explicit type is required by draft-ietf-oauth-rfc7523bis.
fn header(request: &TokenRequest, algorithm: &str, key_id: Option<&str>) -> serde_json::Value {
    let mut header = json!({ "alg": algorithm });
    if request.is_typed() {
        header["typ"] = "client-authentication+jwt".into();
    }
    if let Some(key_id) = key_id {
        header["kid"] = key_id.into();
    }
    header
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

/// Encodes a part of the assertion in base64url.
fn part(value: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Error for a build without a crypto provider.
const NO_PROVIDER: &str = "was not sent: this build has no crypto provider for JWTs; enable the feature \
     `jwt-aws-lc-rs` or `jwt-rust-crypto`, or sign with your own `Signer`";

/// Lifetime of an assertion. Tolerates a clock that is some seconds off, and is too short for a stolen assertion to be
/// useful.
const LIFETIME: Duration = Duration::from_secs(60);
