//! The private key of `private_key_jwt`.

use std::{borrow::Cow, fmt, sync::Arc};

use zeroize::Zeroizing;

use super::{
    super::pem,
    SecretSource,
    algorithm::KeyAlgorithm,
    crypto::{self, CannotSign},
    jwk, private,
    request::TokenRequest,
    signer::{SignError, Signer},
};
use crate::client_credentials::{
    CacheIdentity, TokenError, TokenErrorKind, endpoint::secret::SharedSecret,
};

/// A private key and the algorithm it signs with. Cheap to clone; zeroised when the last clone is dropped.
///
/// Signs with the crypto provider of the feature `jwt-aws-lc-rs` or `jwt-rust-crypto`; with `jwt` alone,
/// [`TokenEndpoint::check`](super::super::TokenEndpoint::check) fails and names the two.
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
/// let key = SigningKey::source(KeyAlgorithm::Es256, SecretFile::new("/run/secrets/key.pem")).with_key_id("2026-11");
/// let auth = ClientAuth::private_key_jwt("my-client", key);
/// # drop(auth);
///
/// let error = SigningKey::pem(KeyAlgorithm::Es256, "no key").unwrap_err();
/// assert_eq!(error.kind(), TokenErrorKind::WrongKey);
/// ```
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    algorithm: KeyAlgorithm,
    id: Option<String>,
    key: Key,
}

#[derive(Clone)]
enum Key {
    /// PKCS #1 for RSA, PKCS #8 for the others.
    Fixed(Zeroizing<Vec<u8>>),
    Read(SharedSecret),
}

impl SigningKey {
    /// The private key in `pem`, unencrypted: PKCS #8 (`BEGIN PRIVATE KEY`), PKCS #1 (`BEGIN RSA PRIVATE KEY`) or SEC 1
    /// (`BEGIN EC PRIVATE KEY`), the first one if there are several.
    ///
    /// Certificates, EC parameters and other text may stand around it. Line breaks may be missing or written as `\n`,
    /// and the whole may be base64 once more.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`WrongKey`](TokenErrorKind::WrongKey), if it is not a private key for `algorithm`. Its
    /// text says what was found.
    pub fn pem(algorithm: KeyAlgorithm, pem: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let pem = pem::unwrapped(pem.as_ref());
        let (key, found) = private::read_pem(algorithm, &pem).map_err(|found| {
            let remedy = match pem.starts_with(b"{") {
                true => "; pass a JWK to `SigningKey::jwk`",
                false => pem::remedy(&pem),
            };
            wrong(algorithm, &found, remedy)
        })?;
        Self::tried(algorithm, key, None, || found)
    }

    /// The private key in `der`, unencrypted: PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`WrongKey`](TokenErrorKind::WrongKey), if it is not a private key for `algorithm`. Its
    /// text says what was found.
    pub fn der(algorithm: KeyAlgorithm, der: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let der = der.as_ref();
        let (key, found) = private::read_der(algorithm, der).map_err(|found| {
            let remedy = match der.starts_with(b"--") {
                true => "; pass PEM to `SigningKey::pem`",
                false => "",
            };
            wrong(algorithm, &found, remedy)
        })?;
        Self::tried(algorithm, key, None, || found)
    }

    /// The private key in `jwk`, a JSON Web Key (RFC 7517) with its private members, or a set (JWKS) with one key that
    /// suits `algorithm`. Its `kid` becomes the [key id](Self::with_key_id).
    ///
    /// An RSA key needs no more than `n`, `e` and `d`.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of kind [`WrongKey`](TokenErrorKind::WrongKey), if it is not a private key for `algorithm`, or
    /// its `alg` is another one. Its text says what was found.
    pub fn jwk(algorithm: KeyAlgorithm, jwk: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let jwk = pem::unwrapped(jwk.as_ref());
        let (key, id) = jwk::read(algorithm, &jwk).map_err(|found| {
            let remedy = match jwk.starts_with(b"{") {
                true => "",
                false => "; pass PEM to `SigningKey::pem`",
            };
            wrong(algorithm, &found, remedy)
        })?;
        Self::tried(algorithm, key, id, || "one".to_owned())
    }

    /// A private key that somebody replaces, as PEM or JWK, with a [`SecretFile`](super::super::SecretFile) as its source,
    /// for example. It is read again for every attempt, and the one that worked last is kept, as [`SecretSource`] says.
    ///
    /// What is wrong with it shows at the first attempt only.
    #[must_use]
    pub fn source(algorithm: KeyAlgorithm, source: impl SecretSource) -> Self {
        Self(Arc::new(Inner {
            algorithm,
            id: None,
            key: Key::Read(SharedSecret::pem("private key", source)),
        }))
    }

    /// The private key in `text`, whose first character tells whether it is a JWK.
    pub(in crate::client_credentials) fn pem_or_jwk(
        algorithm: KeyAlgorithm,
        text: &[u8],
    ) -> Result<Self, TokenError> {
        let text = pem::unwrapped(text);
        match text.starts_with(b"{") {
            true => Self::jwk(algorithm, &*text),
            false => Self::pem(algorithm, &*text),
        }
    }

    /// The `kid` in the assertion's header, by which the server finds the public key. Default: the JWK's own, or none.
    #[must_use]
    pub fn with_key_id(mut self, id: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).id = Some(id.into());
        self
    }

    /// Signs once, if this build can: a damaged key, or one that is too short, shows only then.
    fn tried(
        algorithm: KeyAlgorithm,
        key: Zeroizing<Vec<u8>>,
        id: Option<String>,
        found: impl FnOnce() -> String,
    ) -> Result<Self, TokenError> {
        if crypto::sign(algorithm, &key, b"") == Err(CannotSign::UnsuitableKey) {
            let found = format!("{} that does not sign: damaged, or too short", found());
            return Err(wrong(algorithm, &found, ""));
        }
        let key = Key::Fixed(key);
        Ok(Self(Arc::new(Inner { algorithm, id, key })))
    }

    /// The key as it is for `request`.
    pub(super) async fn current_for(&self, request: &mut TokenRequest) -> Result<Self, TokenError> {
        match &self.0.key {
            Key::Fixed(_) => Ok(self.clone()),
            Key::Read(source) => {
                let text = request.read(source).await?;
                self.fixed(text.expose().as_bytes())
            }
        }
    }

    /// The signature of a key that is at hand.
    pub(super) fn sign_now(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        match &self.0.key {
            Key::Fixed(key) => crypto::sign(self.0.algorithm, key, message),
            Key::Read(_) => unreachable!("the key has been read"),
        }
    }

    /// The key in `text`, with the id that is set here or else its own.
    fn fixed(&self, text: &[u8]) -> Result<Self, TokenError> {
        let read = Self::pem_or_jwk(self.0.algorithm, text)?;
        Ok(match &self.0.id {
            Some(id) => read.with_key_id(id.as_str()),
            None => read,
        })
    }
}

/// A key that is [read](SigningKey::source) is read anew for every signature. `private_key_jwt` reads it only once for an
/// assertion, and falls back on the key that worked last.
impl Signer for SigningKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm
    }

    fn key_id(&self) -> Option<Cow<'_, str>> {
        self.0.id.as_deref().map(Cow::Borrowed)
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let read;
        let key = match &self.0.key {
            Key::Fixed(_) => self,
            Key::Read(source) => {
                let text = source.look().await;
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

    async fn cache_identity(&self) -> Option<CacheIdentity> {
        let identity = CacheIdentity::new("key")
            .field("algorithm", self.0.algorithm.as_str())
            .field("kid", self.0.id.as_deref().unwrap_or_default());
        Some(match &self.0.key {
            Key::Fixed(key) => identity.field("fixed", key.as_slice()),
            Key::Read(key) => identity.field("read", key.look().await?.expose()),
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.0.algorithm)
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

/// The key that `algorithm` needs.
fn needed(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::Rs256 | KeyAlgorithm::Ps256 => "an RSA key of at least 2048 bits",
        KeyAlgorithm::Es256 => "an EC key on P-256",
        KeyAlgorithm::Es384 => "an EC key on P-384",
        KeyAlgorithm::EdDsa => "an Ed25519 key",
    }
}

/// Says what kind of thing was found, and nothing of its content.
fn wrong(algorithm: KeyAlgorithm, found: &str, remedy: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::WrongKey,
        false,
        format!(
            "was not sent: the key is not a private key for {}: found {found}; needed is {}, unencrypted, as PEM or \
             JWK{remedy}",
            algorithm.as_str(),
            needed(algorithm)
        ),
    )
}

const NO_PROVIDER: &str =
    "has no crypto provider in this build; enable the feature `jwt-aws-lc-rs` or `jwt-rust-crypto`";
