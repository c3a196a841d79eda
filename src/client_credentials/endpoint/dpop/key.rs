//! The key of sender-constrained tokens, and the proofs that it signs.

use std::{fmt, sync::Arc};

use http::HeaderValue;
use serde_json::{Map, Value};

use super::{
    super::auth::{JwsSigner, KeyAlgorithm, Signer, SigningKey},
    claims,
    thumbprint::{public_members, thumbprint},
};
use crate::client_credentials::{TokenError, TokenErrorKind, prover::ProofTarget};

/// The key that tokens are bound to (RFC 9449). Cheap to clone.
///
/// The public half is sent with each proof. The private half is in this process, or in a KMS.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{DpopKey, KeyAlgorithm, SigningKey};
///
/// # fn main() -> Result<(), tower_m2m::client_credentials::TokenError> {
/// # if cfg!(not(any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto"))) { return Ok(()) }
/// let key = DpopKey::generate()?;
///
/// assert_eq!(key.thumbprint().len(), 43);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DpopKey(Arc<Inner>);

/// Contents of a key, shared by its clones.
struct Inner {
    /// The private half.
    signer: Box<dyn JwsSigner>,
    /// The public half.
    jwk: Map<String, Value>,
    /// Hash of the public half (RFC 7638).
    thumbprint: String,
    /// Header of the proofs, which is the same for all.
    header: Map<String, Value>,
}

impl DpopKey {
    /// Generates a key for ES256.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`Configuration`](TokenErrorKind::Configuration), if this build has no crypto provider,
    /// or the operating system has no random numbers.
    pub fn generate() -> Result<Self, TokenError> {
        Self::new(SigningKey::generate()?)
    }

    /// Uses a key in this process. All processes with the same key can share their tokens through a store.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`Configuration`](TokenErrorKind::Configuration), if this build has no crypto provider,
    /// or the key has a [source](SigningKey::source): a token is bound to one key, which cannot change.
    pub fn new(key: SigningKey) -> Result<Self, TokenError> {
        let jwk = key.public_jwk()?;
        Self::of(key, &jwk)
    }

    /// Uses the key of a [`Signer`], such as a KMS. `jwk` is its public half as a JWK (RFC 7517); other members than
    /// the required ones are ignored.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`Configuration`](TokenErrorKind::Configuration), if `jwk` is not a public key for the
    /// algorithm of the signer.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::client_credentials::{DpopKey, Signer, TokenError};
    ///
    /// fn of_kms(kms: impl Signer, public: &[u8]) -> Result<DpopKey, TokenError> {
    ///     DpopKey::signer(kms, public)
    /// }
    /// ```
    pub fn signer(signer: impl Signer, jwk: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let jwk = serde_json::from_slice(jwk.as_ref());
        Self::of(
            signer,
            &jwk.map_err(|_| invalid("it is not a JSON object"))?,
        )
    }

    /// Creates a key from both halves.
    fn of(signer: impl Signer, jwk: &Map<String, Value>) -> Result<Self, TokenError> {
        let algorithm = signer.algorithm();
        let jwk = public_members(jwk)
            .ok_or_else(|| invalid("a required member is missing (RFC 7638 §3.2)"))?;
        let named = |name: &str| jwk.get(name).and_then(Value::as_str);
        let (kind, curve) = expected(algorithm);
        if named("kty") != Some(kind) || named("crv") != curve {
            return Err(invalid(&format!(
                "its type or curve is not that of {}",
                algorithm.as_str()
            )));
        }
        Ok(Self(Arc::new(Inner {
            signer: Box::new(signer),
            thumbprint: thumbprint(&jwk),
            header: claims::header(algorithm.as_str(), &jwk),
            jwk,
        })))
    }

    /// Returns the SHA-256 thumbprint of the public key (RFC 7638), in base64url. Tokens name it in `cnf.jkt` (RFC 9449
    /// §6.1).
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// Returns the public key as a JWK (RFC 7517).
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        Value::Object(self.0.jwk.clone())
    }

    /// Signs a proof. `token_hash` is the hash of the token that it belongs to, at an API.
    ///
    /// # Errors
    ///
    /// The error of the signer, or a transient one after a panic or a timeout.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops that of the signer.
    pub(super) async fn prove(
        &self,
        target: &ProofTarget,
        token_hash: Option<&str>,
    ) -> Result<HeaderValue, TokenError> {
        let claims = claims::claims(target, token_hash);
        let header = self.0.header.clone();
        let proof = self
            .0
            .signer
            .sign_until(header, &claims, target.now, target.deadline)
            .await?;
        // A compact serialization has only characters of base64url and dots.
        let mut proof =
            HeaderValue::try_from(proof).map_err(|_| invalid("its proof is not a header value"))?;
        proof.set_sensitive(true);
        Ok(proof)
    }
}

/// Prints the thumbprint, which is public.
impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("thumbprint", &self.0.thumbprint)
            .finish_non_exhaustive()
    }
}

/// Returns the type and the curve of keys for `algorithm`.
fn expected(algorithm: KeyAlgorithm) -> (&'static str, Option<&'static str>) {
    match algorithm {
        KeyAlgorithm::Es256 => ("EC", Some("P-256")),
        KeyAlgorithm::Es384 => ("EC", Some("P-384")),
        KeyAlgorithm::Es512 => ("EC", Some("P-521")),
        KeyAlgorithm::EdDsa => ("OKP", Some("Ed25519")),
        _ => ("RSA", None),
    }
}

/// Error for an unusable public key.
fn invalid(what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::Configuration,
        false,
        format!("was not sent: the public JWK of the DPoP key is not usable: {what}"),
    )
}
