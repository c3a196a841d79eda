//! The private key of signed assertions.
//!
//! A fixed key is checked when it is created, by a signature. A key with a source is checked by the first attempt,
//! because the source may not be available earlier.

use std::{borrow::Cow, fmt, sync::Arc};

#[cfg(feature = "dpop")]
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    super::pem,
    SecretSource,
    algorithm::KeyAlgorithm,
    certificate_header::CertificateHeader,
    crypto::{self, CannotSign},
    jwk, private,
    request::TokenRequest,
    service_account_file::ServiceAccountFile,
    signer::{SignError, Signer},
};
use crate::client_credentials::{
    CacheKey, TokenError, TokenErrorKind, endpoint::secret::BoxSecretSource,
};

/// A private key and the algorithm that it signs with. Cheap to clone; zeroized when the last clone is dropped.
///
/// Signs with the crypto provider of the feature `jwt-aws-lc-rs` or `jwt-rust-crypto`. With `jwt` alone,
/// [`TokenEndpoint::validate`](super::super::TokenEndpoint::validate) fails and names both features.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     ClientAuth,
///     client_credentials::{KeyAlgorithm, SecretFile, SigningKey, TokenErrorKind},
/// };
///
/// // Read again for every attempt, so that the file may be replaced.
/// let key = SigningKey::source(KeyAlgorithm::Es256, SecretFile::new("/run/secrets/key.pem"))
///     .with_key_id("2026-11");
/// let auth = ClientAuth::private_key_jwt("my-client", key);
/// # drop(auth);
///
/// let error = SigningKey::pem(KeyAlgorithm::Es256, "no key").unwrap_err();
/// assert_eq!(error.kind(), TokenErrorKind::Configuration);
/// ```
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

/// Contents of a signing key, shared by its clones.
#[derive(Clone)]
struct Inner {
    /// Algorithm of the signatures.
    algorithm: KeyAlgorithm,
    /// `kid` that overrides the key's own.
    id: Option<String>,
    /// Certificate that the header names.
    certificate: Option<CertificateHeader>,
    /// The key or its source.
    key: Key,
}

/// A key, or the source of one.
///
/// A fixed key has been checked by a signature. A key with a source has not, and each read may return another one.
#[derive(Clone)]
enum Key {
    /// A key in memory: PKCS #1 for RSA, PKCS #8 for other algorithms.
    Fixed(Zeroizing<Vec<u8>>),
    /// A source that is read for every attempt.
    Read(BoxSecretSource),
}

impl SigningKey {
    /// Reads an unencrypted private key in PEM: PKCS #8 (`BEGIN PRIVATE KEY`), PKCS #1 (`BEGIN RSA PRIVATE KEY`) or SEC
    /// 1 (`BEGIN EC PRIVATE KEY`). If there are several, the first one is used.
    ///
    /// Certificates, EC parameters and other text around the key are ignored. Line breaks may be missing or written as
    /// `\n`, and the whole text may be encoded as base64 again.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`Configuration`](TokenErrorKind::Configuration) that describes what was found, if there is
    /// no private key for `algorithm`.
    pub fn pem(algorithm: KeyAlgorithm, pem: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let pem = pem::unwrapped(pem.as_ref());
        let (key, found) = private::read_pem(algorithm, &pem).map_err(|found| {
            // A brace begins a JWK.
            let remedy = match pem.starts_with(b"{") {
                true => "; pass a JWK to `SigningKey::jwk`",
                false => pem::remedy(&pem),
            };
            invalid(algorithm, &found, remedy)
        })?;
        Self::checked(algorithm, key, None, || found)
    }

    /// Reads an unencrypted private key in DER: PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`Configuration`](TokenErrorKind::Configuration) that describes what was found, if it is not
    /// a private key for `algorithm`.
    pub fn der(algorithm: KeyAlgorithm, der: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let der = der.as_ref();
        let (key, found) = private::read_der(algorithm, der).map_err(|found| {
            // Dashes begin PEM.
            let remedy = match der.starts_with(b"--") {
                true => "; pass PEM to `SigningKey::pem`",
                false => "",
            };
            invalid(algorithm, &found, remedy)
        })?;
        Self::checked(algorithm, key, None, || found)
    }

    /// Reads a private JSON Web Key (RFC 7517), or a set (JWKS) with exactly one key for `algorithm`. Its `kid` becomes
    /// the [key id](Self::with_key_id).
    ///
    /// For an RSA key, `n`, `e` and `d` are sufficient.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`Configuration`](TokenErrorKind::Configuration) that describes what was found, if it is not
    /// a private key for `algorithm` or its `alg` names another algorithm.
    pub fn jwk(algorithm: KeyAlgorithm, jwk: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let jwk = pem::unwrapped(jwk.as_ref());
        let (key, id) = jwk::read(algorithm, &jwk).map_err(|found| {
            // Anything else may be PEM.
            let remedy = match jwk.starts_with(b"{") {
                true => "",
                false => "; pass PEM to `SigningKey::pem`",
            };
            invalid(algorithm, &found, remedy)
        })?;
        Self::checked(algorithm, key, id, || "one".to_owned())
    }

    /// Creates a key that is read from `source`, as PEM or JWK, again for every attempt. Use it for a key that is
    /// rotated, for example with a [`SecretFile`](super::super::SecretFile). The key that worked last is the fallback;
    /// see [`SecretSource`].
    ///
    /// An invalid key is reported by the first attempt.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{
    ///     ClientAuth,
    ///     client_credentials::{KeyAlgorithm, SecretFile, SigningKey},
    /// };
    ///
    /// let file = SecretFile::new("/run/secrets/signing-key.jwk");
    /// let key = SigningKey::source(KeyAlgorithm::Ps256, file);
    /// let auth = ClientAuth::private_key_jwt("orders", key);
    /// # drop(auth);
    /// ```
    #[must_use]
    pub fn source(algorithm: KeyAlgorithm, source: impl SecretSource) -> Self {
        Self(Arc::new(Inner {
            algorithm,
            id: None,
            certificate: None,
            key: Key::Read(BoxSecretSource::pem("private key", source)),
        }))
    }

    /// Reads a private key in PEM, JWK, or the JSON key file of a Google service account. JSON begins with a brace.
    ///
    /// # Errors
    ///
    /// As for [`pem`](Self::pem) and [`jwk`](Self::jwk).
    pub(in crate::client_credentials) fn pem_or_jwk(
        algorithm: KeyAlgorithm,
        text: &[u8],
    ) -> Result<Self, TokenError> {
        let text = pem::unwrapped(text);
        if !text.starts_with(b"{") {
            return Self::pem(algorithm, &*text);
        }
        match ServiceAccountFile::read(&text) {
            Ok(file) => {
                let key = Self::pem(algorithm, file.private_key.as_bytes())?;
                Ok(match file.private_key_id {
                    Some(id) => key.with_key_id(id),
                    None => key,
                })
            }
            Err(_) => Self::jwk(algorithm, &*text),
        }
    }

    /// Sets the `kid` in the assertion's header, by which the server finds the public key. Default: that of the JWK, or
    /// none.
    ///
    /// Set it if the server has several public keys for the client. A key with a source keeps this id across rotations;
    /// leave it unset if each JWK has its own.
    #[must_use]
    pub fn with_key_id(mut self, id: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).id = Some(id.into());
        self
    }

    /// Names the certificate of the key in the assertion's header. Default: none.
    ///
    /// Set it for servers that find the public key by the certificate, such as Microsoft Entra. With a key that has a
    /// [source](Self::source), the certificate stays the same: renew both by building a new layer, or implement
    /// [`Signer`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use tower_m2m::{
    ///     ClientAuth,
    ///     client_credentials::{CertificateHeader, KeyAlgorithm, SigningKey},
    /// };
    ///
    /// # fn main() -> Result<(), tower_m2m::BoxError> {
    /// let pem = std::fs::read("/run/secrets/key-and-certificate.pem")?;
    /// let key = SigningKey::pem(KeyAlgorithm::Ps256, &pem)?
    ///     .with_certificate(CertificateHeader::new(&pem)?);
    /// let auth = ClientAuth::private_key_jwt("orders", key);
    /// # drop(auth);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_certificate(mut self, certificate: CertificateHeader) -> Self {
        Arc::make_mut(&mut self.0).certificate = Some(certificate);
        self
    }

    /// Generates a key on P-256 for ES256.
    ///
    /// # Errors
    ///
    /// A configuration error, if this build has no provider, or the operating system has no random numbers.
    #[cfg(feature = "dpop")]
    pub(in super::super) fn generate() -> Result<Self, TokenError> {
        let mut scalar = Zeroizing::new([0; 32]);
        for _ in 0..MAX_GENERATION_ATTEMPTS {
            getrandom::fill(&mut *scalar).map_err(|error| {
                TokenError::configuration(
                    "was not sent: the operating system has no random numbers for a key",
                )
                .with_source(error)
            })?;
            let key = jwk::p256(&scalar);
            match crypto::public_jwk(KeyAlgorithm::Es256, &key) {
                Ok(_) => return Self::checked(KeyAlgorithm::Es256, key, None, || "one".to_owned()),
                // Zero, or not less than the order of the curve. Practically never happens.
                Err(CannotSign::UnsuitableKey) => {}
                Err(error) => return Err(jws_error(error)),
            }
        }
        Err(jws_error(CannotSign::UnsuitableKey))
    }

    /// Returns the public half as a JWK (RFC 7517).
    ///
    /// # Errors
    ///
    /// A configuration error, if the key has a source, or this build has no provider.
    #[cfg(feature = "dpop")]
    pub(in super::super) fn public_jwk(&self) -> Result<Map<String, Value>, TokenError> {
        match &self.0.key {
            Key::Fixed(key) => crypto::public_jwk(self.0.algorithm, key).map_err(jws_error),
            Key::Read(_) => Err(TokenError::configuration(
                "was not sent: a DPoP key must not change, and cannot have a source; use `SigningKey::pem` or \
                 `SigningKey::jwk`",
            )),
        }
    }

    /// Creates a key after a trial signature, if this build can sign: only a signature reveals a key that is damaged or
    /// too short.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`Configuration`](TokenErrorKind::Configuration), if the key cannot sign.
    fn checked(
        algorithm: KeyAlgorithm,
        key: Zeroizing<Vec<u8>>,
        id: Option<String>,
        found: impl FnOnce() -> String,
    ) -> Result<Self, TokenError> {
        if crypto::sign(algorithm, &key, b"") == Err(CannotSign::UnsuitableKey) {
            let found = format!("{} that cannot sign: it is damaged or too short", found());
            return Err(invalid(algorithm, &found, ""));
        }
        let key = Key::Fixed(key);
        Ok(Self(Arc::new(Inner {
            algorithm,
            id,
            certificate: None,
            key,
        })))
    }

    /// Returns the key for `request`. Reads it from its source, if it has one.
    ///
    /// # Errors
    ///
    /// The error of the source, or of a key that does not fit the algorithm.
    pub(super) async fn current_for(&self, request: &mut TokenRequest) -> Result<Self, TokenError> {
        match &self.0.key {
            Key::Fixed(_) => Ok(self.clone()),
            Key::Read(source) => {
                let text = request.read(source).await?;
                self.fixed(text.expose().as_bytes())
            }
        }
    }

    /// Signs with a key that is in memory.
    ///
    /// # Panics
    ///
    /// Panics if the key has a source. Call [`current_for`](Self::current_for) or [`fixed`](Self::fixed) first.
    ///
    /// # Errors
    ///
    /// [`CannotSign`], if this build has no provider or the provider rejects the key.
    pub(super) fn sign_now(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        match &self.0.key {
            Key::Fixed(key) => crypto::sign(self.0.algorithm, key, message),
            Key::Read(_) => unreachable!("the key has been read"),
        }
    }

    /// Reads the key in `text`. Its id is the configured one, or else its own.
    fn fixed(&self, text: &[u8]) -> Result<Self, TokenError> {
        let mut read = Self::pem_or_jwk(self.0.algorithm, text)?;
        // The configured id and certificate also apply to the next key of the source.
        if let Some(id) = &self.0.id {
            read = read.with_key_id(id.as_str());
        }
        if let Some(certificate) = &self.0.certificate {
            read = read.with_certificate(certificate.clone());
        }
        Ok(read)
    }
}

/// A key with a [source](SigningKey::source) is read for every signature. `private_key_jwt` reads it only once for each
/// assertion, and falls back to the key that worked last.
impl Signer for SigningKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm
    }

    /// Returns the configured id. The `kid` of a key with a source is known only after it is read.
    fn key_id(&self) -> Option<Cow<'_, str>> {
        self.0.id.as_deref().map(Cow::Borrowed)
    }

    fn certificate(&self) -> Option<CertificateHeader> {
        self.0.certificate.clone()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let read;
        let key = match &self.0.key {
            Key::Fixed(_) => self,
            Key::Read(source) => {
                // Without a fallback: a caller that uses the key as a `Signer` has no request to record it in.
                let text = source.peek().await;
                let text = text.ok_or_else(|| SignError::transient("could not read its key"))?;
                let fixed = self.fixed(text.expose().as_bytes());
                read = fixed.map_err(|error| {
                    SignError::permanent("has no usable key").with_source(error)
                })?;
                &read
            }
        };
        key.sign_now(message).map_err(|error| {
            SignError::permanent(match error {
                CannotSign::NoProvider => NO_PROVIDER,
                CannotSign::UnsuitableKey => "cannot sign with its key",
            })
        })
    }

    async fn changed(&self) -> bool {
        match &self.0.key {
            Key::Fixed(_) => false,
            Key::Read(source) => source.changed().await,
        }
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        let identity = CacheKey::new("key")
            .field("algorithm", self.0.algorithm.as_str())
            .field("kid", self.0.id.as_deref().unwrap_or_default());
        Some(match &self.0.key {
            Key::Fixed(key) => identity.field("fixed", key.as_slice()),
            Key::Read(key) => identity.field("read", key.peek().await?.expose()),
        })
    }
}

/// Omits the key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.0.algorithm)
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

/// Converts the error of a key whose public half is needed.
#[cfg(feature = "dpop")]
fn jws_error(error: CannotSign) -> TokenError {
    TokenError::configuration(match error {
        CannotSign::NoProvider => {
            "was not sent: this build has no crypto provider for DPoP keys; enable the feature `jwt-aws-lc-rs` or \
             `jwt-rust-crypto`, or use `DpopKey::signer`"
        }
        CannotSign::UnsuitableKey => {
            "was not sent: the key has no public half; check that it is not damaged"
        }
    })
}

/// Describes the key that `algorithm` requires.
fn needed(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::Es256 => "an EC key on P-256",
        KeyAlgorithm::Es384 => "an EC key on P-384",
        KeyAlgorithm::Es512 => "an EC key on P-521",
        KeyAlgorithm::EdDsa => "an Ed25519 key",
        _ => "an RSA key of at least 2048 bits",
    }
}

/// Error for an unsuitable key. Describes the kind of what was found, without its content.
fn invalid(algorithm: KeyAlgorithm, found: &str, remedy: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::Configuration,
        false,
        format!(
            "was not sent: the key is not a private key for {}: found {found}; expected {}, unencrypted, in PEM or JWK \
             format{remedy}",
            algorithm.as_str(),
            needed(algorithm)
        ),
    )
}

/// Maximum number of random numbers that are tried as a key.
#[cfg(feature = "dpop")]
const MAX_GENERATION_ATTEMPTS: usize = 8;
/// Error for a build without a crypto provider.
const NO_PROVIDER: &str =
    "has no crypto provider in this build; enable the feature `jwt-aws-lc-rs` or `jwt-rust-crypto`";
