//! Signature algorithms of assertions, by their names in the IANA registry. [pure]

/// A signature algorithm that uses a private key (RFC 7518 §3.1, RFC 8037 §3.1).
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
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl KeyAlgorithm {
    /// Returns the name in the IANA registry, such as `ES256`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Returns whether the key is an RSA key. All such algorithms use the same keys.
    pub(super) fn is_rsa(self) -> bool {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => {
                true
            }
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => false,
        }
    }

    /// Returns the length of a coordinate and of a scalar of the curve, in bytes (RFC 7518 §6.2.1.2). `None` for keys
    /// that are not on a curve of that section.
    pub(super) fn coordinate_length(self) -> Option<usize> {
        match self {
            Self::Es256 => Some(32),
            Self::Es384 => Some(48),
            // 521 bits.
            Self::Es512 => Some(66),
            _ => None,
        }
    }
}

/// A signature algorithm that uses the client secret (RFC 7518 §3.2).
///
/// A secret that is shorter than the hash (32, 48 or 64 bytes) is weaker than the algorithm, and some servers reject
/// it.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, client_credentials::SecretAlgorithm};
///
/// let auth =
///     ClientAuth::client_secret_jwt_with("my-client", "my-secret", SecretAlgorithm::Hs512);
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

impl SecretAlgorithm {
    /// Returns the name in the IANA registry, such as `HS256`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }
}
