//! Signed JSON objects in compact serialization (RFC 7515 §7.1), by any [`Signer`].
//!
//! Client assertions and assertions that are grants are made here. They differ in their claims and in `typ`.
//!
//! ```text
//! BASE64URL(header) . BASE64URL(claims) . BASE64URL(signature)
//!   alg
//!   typ (optional)
//!   kid (if known)
//!   x5t#S256, x5t, x5c (if configured)
//! ```

use std::any::Any;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::{
    algorithm::KeyAlgorithm,
    certificate_header::CertificateHeader,
    crypto::{self, CannotSign},
    key::SigningKey,
    request::TokenRequest,
    signer::{SignError, Signer, jws_signature},
};
use crate::{
    boxed::BoxFuture,
    catch_panic::catch_panic,
    client_credentials::{CacheKey, TokenError, TokenErrorKind},
};

/// A type-erased [`Signer`] of JWSs, so that the type of the signer does not appear in the types that hold it.
pub(in super::super) trait JwsSigner: Send + Sync {
    /// Calls [`sign`].
    fn sign_boxed<'a>(
        &'a self,
        typ: Option<&'a str>,
        claims: &'a Value,
        request: &'a mut TokenRequest,
    ) -> BoxFuture<'a, Result<String, TokenError>>;

    /// Signs `claims` under `header` until `deadline`, apart from any token request. A key in this process must be
    /// fixed.
    #[cfg(feature = "dpop")]
    fn sign_until<'a>(
        &'a self,
        header: Map<String, Value>,
        claims: &'a Value,
        now: Instant,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<String, TokenError>>;

    /// Calls [`Signer::changed`].
    fn changed_boxed(&self) -> BoxFuture<'_, bool>;

    /// Calls [`Signer::cache_key`].
    fn cache_key_boxed(&self) -> BoxFuture<'_, Option<CacheKey>>;

    /// Calls [`validate`].
    fn validate_of(&self) -> Result<(), TokenError>;
}

impl<S: Signer> JwsSigner for S {
    fn sign_boxed<'a>(
        &'a self,
        typ: Option<&'a str>,
        claims: &'a Value,
        request: &'a mut TokenRequest,
    ) -> BoxFuture<'a, Result<String, TokenError>> {
        Box::pin(sign(self, typ, claims, request))
    }

    #[cfg(feature = "dpop")]
    fn sign_until<'a>(
        &'a self,
        header: Map<String, Value>,
        claims: &'a Value,
        now: Instant,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<String, TokenError>> {
        Box::pin(async move {
            let input = signing_input(header, claims);
            let signature = match local_key(self) {
                // At once, and without a timer: a program may poll its requests outside a runtime.
                Some(key) => {
                    let signed = key.sign_now(input.as_bytes());
                    signed.map_err(|error| cannot_sign(error, self.algorithm().as_str()))?
                }
                None => signature_by(self, &input, now, deadline).await?,
            };
            Ok(compact(&input, &signature))
        })
    }

    fn changed_boxed(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.changed())
    }

    fn cache_key_boxed(&self) -> BoxFuture<'_, Option<CacheKey>> {
        Box::pin(self.cache_key())
    }

    fn validate_of(&self) -> Result<(), TokenError> {
        validate(self)
    }
}

/// Signs `claims` for `request`, within the deadline of its attempt.
///
/// # Errors
///
/// The error of the signer or of its key, or a transient one after a panic or a timeout.
///
/// # Cancel safety
///
/// Dropping the future drops that of the signer.
pub(super) async fn sign<S: Signer>(
    signer: &S,
    typ: Option<&str>,
    claims: &Value,
    request: &mut TokenRequest,
) -> Result<String, TokenError> {
    let algorithm = signer.algorithm();
    let input;
    let signature = if let Some(key) = local_key(signer) {
        // The header and the signature use the same version of the key, even if its file is replaced in between.
        let key = key.current_for(request).await?;
        input = signing_input(header_of(&key, typ), claims);
        let signed = key.sign_now(input.as_bytes());
        signed.map_err(|error| cannot_sign(error, algorithm.as_str()))?
    } else {
        // Called immediately before `sign`, as the trait promises.
        input = signing_input(header_of(signer, typ), claims);
        signature_by(signer, &input, request.now(), request.deadline()).await?
    };
    Ok(compact(&input, &signature))
}

/// Checks that this build can sign with `signer`. A signer outside this process needs no provider.
///
/// # Errors
///
/// A configuration error, if the build has no provider for a key in this process.
pub(super) fn validate<S: Signer>(signer: &S) -> Result<(), TokenError> {
    match local_key(signer) {
        Some(_) => validate_provider(),
        None => Ok(()),
    }
}

/// Checks that this build can sign. Without a provider, a program that depends on this crate must enable one.
pub(in super::super) fn validate_provider() -> Result<(), TokenError> {
    match crypto::HAS_PROVIDER {
        true => Ok(()),
        false => Err(TokenError::configuration(NO_PROVIDER)),
    }
}

/// Converts a failed signature to an error.
///
/// The provider's own error is not used, because it may contain parts of the key.
pub(super) fn cannot_sign(error: CannotSign, algorithm: &str) -> TokenError {
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

/// Returns the signing input: header and claims (RFC 7515 §5.1).
///
/// Both parts are compact JSON. The order of their members has no meaning.
pub(super) fn signing_input(header: Map<String, Value>, claims: &Value) -> String {
    format!("{}.{}", part(&Value::Object(header)), part(claims))
}

/// Returns the compact serialization of a signing input and its signature.
pub(super) fn compact(input: &str, signature: &[u8]) -> String {
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Returns a header for `algorithm`.
pub(super) fn header(
    algorithm: &str,
    typ: Option<&str>,
    key_id: Option<&str>,
    certificate: Option<&CertificateHeader>,
) -> Map<String, Value> {
    let mut header = Map::new();
    header.insert("alg".to_owned(), algorithm.into());
    if let Some(typ) = typ {
        header.insert("typ".to_owned(), typ.into());
    }
    if let Some(key_id) = key_id {
        header.insert("kid".to_owned(), key_id.into());
    }
    if let Some(certificate) = certificate {
        certificate.add_to(&mut header);
    }
    header
}

/// Returns the header of what `signer` signs.
fn header_of<S: Signer>(signer: &S, typ: Option<&str>) -> Map<String, Value> {
    header(
        signer.algorithm().as_str(),
        typ,
        signer.key_id().as_deref(),
        signer.certificate().as_ref(),
    )
}

/// Returns the key if it is in this process. It is then read once for both header and signature, with the fallback of
/// the request.
///
/// The downcast works because signers are `'static`.
fn local_key<S: Signer>(signer: &S) -> Option<&SigningKey> {
    (signer as &dyn Any).downcast_ref()
}

/// Calls `signer` with `message` until `deadline`. A panic and a timeout are transient failures.
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
/// Dropping the future drops that of the signer. Nothing is sent then, and its `jti` is not used again.
pub(super) async fn signature_by<S: Signer>(
    signer: &S,
    message: &str,
    now: Instant,
    deadline: Instant,
) -> Result<Vec<u8>, TokenError> {
    let limit = deadline.saturating_duration_since(now);
    let signing = catch_panic(async { signer.sign(message.as_bytes()).await });
    let signed = match timeout_at(deadline, signing).await {
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

/// Encodes a part in base64url.
fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Error for a build without a crypto provider.
const NO_PROVIDER: &str = "was not sent: this build has no crypto provider for JWTs; enable the feature \
     `jwt-aws-lc-rs` or `jwt-rust-crypto`, or sign with your own `Signer`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signing_input_is_base64url_without_padding() {
        // RFC 7515 Appendix A.1, whose JSON is written with line breaks there and without them here.
        let header = Map::from_iter([
            ("typ".to_owned(), Value::from("JWT")),
            ("alg".to_owned(), Value::from("HS256")),
        ]);
        let claims = serde_json::json!({ "iss": "joe" });

        assert_eq!(
            signing_input(header, &claims),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJqb2UifQ"
        );
        assert_eq!(compact("a.b", &[0xFF, 0xFE]), "a.b.__4");
    }
}
