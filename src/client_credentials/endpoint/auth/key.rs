//! The private key of `private_key_jwt`.

use std::{fmt, sync::Arc};

use jsonwebtoken::{Algorithm, EncodingKey};

use secrecy::ExposeSecret;

use super::{
    super::pem,
    SecretSource, TokenRequest,
    der::{P256, P384},
    jwk, jwt,
    private::{self, PrivateKey},
};
use crate::client_credentials::{
    CacheIdentity, TokenError, TokenErrorKind, endpoint::secret::SharedSecret,
};

/// A private key and the algorithm it signs with. Cheap to clone; zeroised when the last clone is dropped.
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
/// let key = SigningKey::source(KeyAlgorithm::Es256, SecretFile::new("/run/secrets/key.pem")).key_id("2026-11");
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
    Fixed(EncodingKey),
    Read(SharedSecret),
}

/// An algorithm that signs with a private key (RFC 7518 §3.1, RFC 8037 §3.1).
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{KeyAlgorithm, SigningKey};
///
/// let jwk = std::env::var("SIGNING_KEY").unwrap_or_default();
/// if let Err(error) = SigningKey::jwk(KeyAlgorithm::EdDsa, jwk) {
///     eprintln!("{} with this key: {error}", KeyAlgorithm::EdDsa.as_str());
/// }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// RSA, PSS, SHA-256.
    Ps256,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// ECDSA on P-384, SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
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
        let read = private::read(&pem, |key| {
            algorithm
                .encoding(key)
                .map(|encoding| (encoding, key.describe()))
        });
        let (key, found) = read.map_err(|found| {
            let remedy = match pem.starts_with(b"{") {
                true => "; pass a JWK to `SigningKey::jwk`",
                false => pem::remedy(&pem),
            };
            wrong(algorithm, &found, remedy)
        })?;
        Self::tried(algorithm, key, None, || found)
    }

    /// The private key in `jwk`, a JSON Web Key (RFC 7517) with its private members, or a set (JWKS) with one key that
    /// suits `algorithm`. Its `kid` becomes the [`key_id`](Self::key_id).
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
    pub fn key_id(mut self, id: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).id = Some(id.into());
        self
    }

    /// What tells this key from others; `None` if it cannot be read now.
    pub(super) async fn cache_identity(&self) -> Option<CacheIdentity> {
        let identity = CacheIdentity::new("key")
            .field("algorithm", self.0.algorithm.as_str())
            .field("kid", self.0.id.as_deref().unwrap_or_default());
        Some(match &self.0.key {
            Key::Fixed(key) => identity.field("fixed", key.as_bytes()),
            Key::Read(key) => identity.field("read", key.look().await?.expose_secret()),
        })
    }

    /// Signs once, if this build can: a damaged key, or one that is too short, shows only then.
    fn tried(
        algorithm: KeyAlgorithm,
        key: EncodingKey,
        id: Option<String>,
        found: impl FnOnce() -> String,
    ) -> Result<Self, TokenError> {
        if let Some(provider) = jwt::built_in() {
            jwt::sign(b"", algorithm.of_header(), &key, provider).map_err(|_| {
                let found = format!("{} that does not sign: damaged, or too short", found());
                wrong(algorithm, &found, "")
            })?;
        }
        let key = Key::Fixed(key);
        Ok(Self(Arc::new(Inner { algorithm, id, key })))
    }

    pub(super) fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm
    }

    /// Calls `sign` with the key as it is for `request`, and with its id.
    pub(super) async fn with<R>(
        &self,
        request: &mut TokenRequest,
        sign: impl FnOnce(&mut TokenRequest, Option<&str>, &EncodingKey) -> Result<R, TokenError>,
    ) -> Result<R, TokenError> {
        let source = match &self.0.key {
            Key::Fixed(key) => return sign(request, self.0.id.as_deref(), key),
            Key::Read(source) => source,
        };
        let text = source.read(request).await?;
        let read = Self::pem_or_jwk(self.0.algorithm, text.expose_secret().as_bytes())?;
        let id = self.0.id.as_deref().or(read.0.id.as_deref());
        match &read.0.key {
            Key::Fixed(key) => sign(request, id, key),
            Key::Read(_) => unreachable!("a text holds a fixed key"),
        }
    }

    pub(super) async fn changed(&self) -> bool {
        match &self.0.key {
            Key::Fixed(_) => false,
            Key::Read(source) => source.changed().await,
        }
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

impl KeyAlgorithm {
    /// The name in the IANA registry, such as `ES256`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// `key`, if it is one for this algorithm.
    fn encoding(self, key: &PrivateKey<'_>) -> Option<EncodingKey> {
        match (self, key) {
            (Self::Rs256 | Self::Ps256, PrivateKey::Rsa(pkcs1)) => {
                Some(EncodingKey::from_rsa_der(pkcs1))
            }
            (Self::Es256, PrivateKey::Ec(key)) if key.is_on(P256) => Some(key.encoding()),
            (Self::Es384, PrivateKey::Ec(key)) if key.is_on(P384) => Some(key.encoding()),
            (Self::EdDsa, PrivateKey::Ed25519(pkcs8)) => Some(EncodingKey::from_ed_der(pkcs8)),
            _ => None,
        }
    }

    /// The key that it needs.
    fn wants(self) -> &'static str {
        match self {
            Self::Rs256 | Self::Ps256 => "an RSA key of at least 2048 bits",
            Self::Es256 => "an EC key on P-256",
            Self::Es384 => "an EC key on P-384",
            Self::EdDsa => "an Ed25519 key",
        }
    }

    pub(super) fn of_header(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Ps256 => Algorithm::PS256,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
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
            algorithm.wants()
        ),
    )
}
