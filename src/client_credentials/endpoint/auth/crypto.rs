//! Signatures with the crypto provider that the features of this build select. The only file, besides the verifier of
//! `test_util`, that depends on jsonwebtoken, and for ES512, which jsonwebtoken lacks, on the crates that it signs with.
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
    #[cfg(feature = "dpop")]
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    #[cfg(feature = "jwt-aws-lc-rs")]
    use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
    #[cfg(not(feature = "jwt-aws-lc-rs"))]
    use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
    use jsonwebtoken::{Algorithm, EncodingKey};
    #[cfg(feature = "dpop")]
    use serde_json::{Map, Value};

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

    /// Returns the public half of a private key as a JWK (RFC 7518 §6, RFC 8037 §2).
    ///
    /// # Errors
    ///
    /// [`CannotSign::UnsuitableKey`], if the provider rejects the key.
    #[cfg(feature = "dpop")]
    pub(in super::super) fn public_jwk(
        algorithm: KeyAlgorithm,
        key: &[u8],
    ) -> Result<Map<String, Value>, CannotSign> {
        use jsonwebtoken::jwk::EllipticCurve;

        let utils = &DEFAULT_PROVIDER.key_utils;
        let ec = |algorithm| {
            let parts = (utils.ec_pub_components_from_private_key)(key, algorithm).ok()?;
            Some((parts.1, parts.2))
        };
        let members = match algorithm {
            KeyAlgorithm::Es256 => ec(Algorithm::ES256).map(|point| of_point("P-256", &point)),
            KeyAlgorithm::Es384 => ec(Algorithm::ES384).map(|point| of_point("P-384", &point)),
            KeyAlgorithm::Es512 => p521_point(key).map(|point| of_point("P-521", &point)),
            KeyAlgorithm::EdDsa => {
                let read = utils.ed_pub_components_from_private_key;
                let x = read(key, &EllipticCurve::Ed25519).ok();
                x.map(|x| {
                    vec![
                        ("kty", "OKP".into()),
                        ("crv", "Ed25519".into()),
                        ("x", encode(&x)),
                    ]
                })
            }
            _ => {
                let parts = (utils.rsa_pub_components_from_private_key)(key).ok();
                parts.map(|(n, e)| {
                    vec![
                        ("kty", "RSA".to_owned()),
                        ("n", encode(&n)),
                        ("e", encode(&e)),
                    ]
                })
            }
        };
        let members = members.ok_or(CannotSign::UnsuitableKey)?;
        let members = members.into_iter();
        Ok(members
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect())
    }

    /// Returns the members of a JWK for a point on `curve`.
    #[cfg(feature = "dpop")]
    fn of_point(curve: &str, (x, y): &(Vec<u8>, Vec<u8>)) -> Vec<(&'static str, String)> {
        vec![
            ("kty", "EC".to_owned()),
            ("crv", curve.to_owned()),
            ("x", encode(x)),
            ("y", encode(y)),
        ]
    }

    /// Encodes a number in base64url.
    #[cfg(feature = "dpop")]
    fn encode(number: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(number)
    }

    /// Returns the public point of a key on P-521 in PKCS #8.
    #[cfg(all(feature = "dpop", feature = "jwt-aws-lc-rs"))]
    fn p521_point(key: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, key).ok()?;
        // An uncompressed point: one byte, and two coordinates of equal length.
        let (x, y) = key.public_key().as_ref().get(1..)?.split_at_checked(66)?;
        Some((x.to_vec(), y.to_vec()))
    }

    /// Returns the public point of a key on P-521 in PKCS #8.
    #[cfg(all(feature = "dpop", not(feature = "jwt-aws-lc-rs")))]
    fn p521_point(key: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        use p521::{SecretKey, elliptic_curve::sec1::ToEncodedPoint, pkcs8::DecodePrivateKey};

        let key = SecretKey::from_pkcs8_der(key).ok()?;
        let point = key.public_key().to_encoded_point(false);
        Some((point.x()?.to_vec(), point.y()?.to_vec()))
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
    #[cfg(feature = "dpop")]
    pub(in super::super) fn public_jwk(
        _: KeyAlgorithm,
        _: &[u8],
    ) -> Result<serde_json::Map<String, serde_json::Value>, CannotSign> {
        Err(CannotSign::NoProvider)
    }

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

#[cfg(feature = "dpop")]
pub(super) use self::provider::public_jwk;
pub(super) use self::provider::{sign, sign_with_secret};
