//! Signatures with the crypto provider that the features of this build select. The only file that depends on
//! jsonwebtoken, and for ES512, which jsonwebtoken lacks, on the crates that it signs with.
//!
//! The provider is selected by the features of this crate rather than by the process, so that a signature does not
//! depend on what other crates install.

use super::algorithm::{KeyAlgorithm, SecretAlgorithm};

/// Error of a signature that could not be created.
///
/// Carries no detail on purpose: the texts of crypto libraries may contain parts of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CannotSign {
    /// The build has no crypto provider.
    #[cfg_attr(
        any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto"),
        expect(dead_code, reason = "this build has a provider")
    )]
    NoProvider,
    /// The key does not fit the algorithm, or it is damaged.
    UnsuitableKey,
}

/// Whether the features of this build include a crypto provider.
///
/// A build without one compiles: a [`Signer`](super::Signer) of the program needs none.
pub(super) const HAS_PROVIDER: bool =
    cfg!(any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto"));

/// Signatures with jsonwebtoken's provider. If both features are enabled, aws-lc-rs is used.
#[cfg(any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto"))]
mod provider {
    #[cfg(feature = "jwt-aws-lc-rs")]
    use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
    #[cfg(not(feature = "jwt-aws-lc-rs"))]
    use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
    use jsonwebtoken::{Algorithm, EncodingKey};

    use super::{CannotSign, KeyAlgorithm, SecretAlgorithm};

    /// Signs `message`. `key` is in PKCS #1 for RSA, and in PKCS #8 for other algorithms.
    ///
    /// # Errors
    ///
    /// [`CannotSign::UnsuitableKey`], if the provider rejects the key.
    pub(in super::super) fn sign(
        algorithm: KeyAlgorithm,
        key: &[u8],
        message: &[u8],
    ) -> Result<Vec<u8>, CannotSign> {
        let (algorithm, key) = match algorithm {
            KeyAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_der(key)),
            KeyAlgorithm::Rs384 => (Algorithm::RS384, EncodingKey::from_rsa_der(key)),
            KeyAlgorithm::Rs512 => (Algorithm::RS512, EncodingKey::from_rsa_der(key)),
            KeyAlgorithm::Ps256 => (Algorithm::PS256, EncodingKey::from_rsa_der(key)),
            KeyAlgorithm::Ps384 => (Algorithm::PS384, EncodingKey::from_rsa_der(key)),
            KeyAlgorithm::Ps512 => (Algorithm::PS512, EncodingKey::from_rsa_der(key)),
            KeyAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_der(key)),
            KeyAlgorithm::Es384 => (Algorithm::ES384, EncodingKey::from_ec_der(key)),
            KeyAlgorithm::Es512 => return sign_es512(key, message),
            KeyAlgorithm::EdDsa => (Algorithm::EdDSA, EncodingKey::from_ed_der(key)),
        };
        sign_with(algorithm, &key, message)
    }

    /// Signs `message` with a key on P-521 in PKCS #8.
    #[cfg(feature = "jwt-aws-lc-rs")]
    fn sign_es512(key: &[u8], message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        use aws_lc_rs::{
            rand::SystemRandom,
            signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair},
        };

        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, key);
        let key = key.map_err(|_| CannotSign::UnsuitableKey)?;
        let signed = key.sign(&SystemRandom::new(), message);
        let signed = signed.map_err(|_| CannotSign::UnsuitableKey)?;
        Ok(signed.as_ref().to_vec())
    }

    /// Signs `message` with a key on P-521 in PKCS #8.
    #[cfg(not(feature = "jwt-aws-lc-rs"))]
    fn sign_es512(key: &[u8], message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        use p521::{
            SecretKey,
            ecdsa::{Signature, SigningKey, signature::Signer},
            pkcs8::DecodePrivateKey,
        };

        let key = SecretKey::from_pkcs8_der(key).map_err(|_| CannotSign::UnsuitableKey)?;
        let key = SigningKey::from_bytes(&key.to_bytes()).map_err(|_| CannotSign::UnsuitableKey)?;
        let signed: Signature = key
            .try_sign(message)
            .map_err(|_| CannotSign::UnsuitableKey)?;
        Ok(signed.to_vec())
    }

    /// Returns the HMAC of `message` with a secret.
    pub(in super::super) fn sign_with_secret(
        algorithm: SecretAlgorithm,
        secret: &[u8],
        message: &[u8],
    ) -> Result<Vec<u8>, CannotSign> {
        let algorithm = match algorithm {
            SecretAlgorithm::Hs256 => Algorithm::HS256,
            SecretAlgorithm::Hs384 => Algorithm::HS384,
            SecretAlgorithm::Hs512 => Algorithm::HS512,
        };
        sign_with(algorithm, &EncodingKey::from_secret(secret), message)
    }

    /// Calls the provider directly: jsonwebtoken's own functions use the process-wide default, and panic without one.
    /// The library's error is dropped, because it may contain parts of the key.
    fn sign_with(
        algorithm: Algorithm,
        key: &EncodingKey,
        message: &[u8],
    ) -> Result<Vec<u8>, CannotSign> {
        let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm, key);
        let signer = signer.map_err(|_| CannotSign::UnsuitableKey)?;
        let signed = signer.try_sign(message);
        signed.map_err(|_| CannotSign::UnsuitableKey)
    }
}

/// Placeholder without a provider: every signature fails.
#[cfg(not(any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto")))]
mod provider {
    use super::{CannotSign, KeyAlgorithm, SecretAlgorithm};

    /// Fails, because the build has no provider.
    pub(in super::super) fn sign(
        _: KeyAlgorithm,
        _: &[u8],
        _: &[u8],
    ) -> Result<Vec<u8>, CannotSign> {
        Err(CannotSign::NoProvider)
    }

    /// Fails, because the build has no provider.
    pub(in super::super) fn sign_with_secret(
        _: SecretAlgorithm,
        _: &[u8],
        _: &[u8],
    ) -> Result<Vec<u8>, CannotSign> {
        Err(CannotSign::NoProvider)
    }
}

pub(super) use self::provider::{sign, sign_with_secret};
