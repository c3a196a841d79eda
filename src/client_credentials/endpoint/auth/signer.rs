//! Signers of assertions, whose key may be outside this process: a KMS, an HSM, an agent.
//!
//! A signer outside this process receives the message rather than its hash, because KMSs differ in which of the two
//! they accept.

use std::{
    borrow::Cow,
    error::Error,
    fmt,
    future::{Future, ready},
    sync::Arc,
    time::Duration,
};

use super::{
    algorithm::KeyAlgorithm,
    certificate_header::CertificateHeader,
    der::{self, INTEGER, SEQUENCE, join},
};
use crate::{BoxError, client_credentials::CacheKey};

/// Signs assertions with a private key, which may be outside this process: a KMS, an HSM, an agent.
///
/// Pass a signer to [`ClientAuth::private_key_jwt`](super::super::ClientAuth::private_key_jwt) or
/// [`Grant::signed_jwt`](super::super::Grant::signed_jwt). For a key in this process, use
/// [`SigningKey`](super::super::SigningKey). `Arc<S>` shares a signer.
///
/// # Examples
///
/// ```
/// use std::borrow::Cow;
///
/// use tower_m2m::{
///     ClientAuth,
///     client_credentials::{KeyAlgorithm, SignError, Signer},
///     store::CacheKey,
/// };
///
/// /// A key in a KMS.
/// struct KmsKey {
///     kms: Kms,
///     name: String,
/// }
///
/// impl Signer for KmsKey {
///     fn algorithm(&self) -> KeyAlgorithm {
///         KeyAlgorithm::Es256
///     }
///
///     fn key_id(&self) -> Option<Cow<'_, str>> {
///         Some("2026-11".into())
///     }
///
///     async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
///         let signed = self.kms.sign(&self.name, message).await;
///         signed.map_err(|error| match error {
///             KmsError::Throttled(wait) => {
///                 SignError::transient("is throttled").with_retry_after(wait)
///             }
///             KmsError::AccessDenied => {
///                 SignError::permanent("may not use the key; check the role's permissions")
///             }
///             KmsError::Io(error) => {
///                 SignError::transient("could not be reached").with_source(error)
///             }
///         })
///     }
///
///     async fn cache_key(&self) -> Option<CacheKey> {
///         Some(CacheKey::new("kms").field("key", &self.name))
///     }
/// }
///
/// # let kms = Kms;
/// let key = KmsKey { kms, name: "orders/7".into() };
/// let auth = ClientAuth::private_key_jwt("my-client", key);
/// # drop(auth);
/// # struct Kms;
/// # enum KmsError { Throttled(std::time::Duration), AccessDenied, Io(std::io::Error) }
/// # impl Kms {
/// #     async fn sign(&self, _: &str, _: &[u8]) -> Result<Vec<u8>, KmsError> { Err(KmsError::AccessDenied) }
/// # }
/// ```
#[doc(alias("KMS", "HSM", "PKCS#11"))]
pub trait Signer: Send + Sync + 'static {
    /// Returns the algorithm of the key. It must not change.
    fn algorithm(&self) -> KeyAlgorithm;

    /// Returns the `kid` in the assertion's header, by which the server finds the public key. Called immediately before
    /// [`sign`](Self::sign), which must use the key with this id. Default: none.
    fn key_id(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Returns the certificate of the key, for servers that find the public key by it. Called immediately before
    /// [`sign`](Self::sign). Default: none.
    fn certificate(&self) -> Option<CertificateHeader> {
        None
    }

    /// Signs `message`, which is not hashed yet.
    ///
    /// A signature of [`Es256`](KeyAlgorithm::Es256), [`Es384`](KeyAlgorithm::Es384) or [`Es512`](KeyAlgorithm::Es512)
    /// may be the concatenated numbers (RFC 7518 §3.4) or ASN.1 DER, which KMSs return. A signature whose length does
    /// not fit the algorithm is an error.
    ///
    /// Run a blocking library, such as PKCS #11, on [`spawn_blocking`](tokio::task::spawn_blocking).
    ///
    /// # Errors
    ///
    /// A [`SignError`]. Its text must not contain a secret. The request is then not sent, and the fetch fails with a
    /// [`TokenError`](crate::client_credentials::TokenError) of kind
    /// [`SigningFailed`](crate::client_credentials::TokenErrorKind::SigningFailed).
    ///
    /// A transient failure without a time to wait is retried within the fetch; see
    /// [`TokenEndpoint::retries`](super::super::TokenEndpoint::retries). A panic is a transient failure.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the deadline of the fetch has passed, or after half of that time for the first
    /// attempt.
    fn sign(&self, message: &[u8]) -> impl Future<Output = Result<Vec<u8>, SignError>> + Send;

    /// Returns whether the next attempt would use a different key from the last one, which ends the backoff after a
    /// permanent failure. Default: `false`.
    fn changed(&self) -> impl Future<Output = bool> + Send {
        ready(false)
    }

    /// Returns the cache key of this key, such as its name in the KMS.
    ///
    /// Default: `None`, with which tokens are not shared through a
    /// [`TokenStore`](crate::client_credentials::TokenStore).
    fn cache_key(&self) -> impl Future<Output = Option<CacheKey>> + Send {
        ready(None)
    }
}

/// Delegates to the shared signer.
impl<S: Signer> Signer for Arc<S> {
    fn algorithm(&self) -> KeyAlgorithm {
        S::algorithm(self)
    }

    fn key_id(&self) -> Option<Cow<'_, str>> {
        S::key_id(self)
    }

    fn certificate(&self) -> Option<CertificateHeader> {
        S::certificate(self)
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        S::sign(self, message).await
    }

    async fn changed(&self) -> bool {
        S::changed(self).await
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        S::cache_key(self).await
    }
}

/// An error of a [`Signer`]. Its text must not contain a secret.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::client_credentials::SignError;
///
/// let error = SignError::transient("is throttled").with_retry_after(Duration::from_secs(2));
///
/// assert_eq!(error.to_string(), "the signer is throttled");
/// assert!(error.is_transient());
/// ```
#[derive(Debug)]
pub struct SignError {
    /// Whether the failure is transient.
    pub(super) transient: bool,
    /// Description that completes a sentence beginning with "the signer".
    pub(super) what: Cow<'static, str>,
    /// Time to wait before the next attempt.
    pub(super) retry_after: Option<Duration>,
    /// The underlying error.
    pub(super) source: Option<BoxError>,
}

impl SignError {
    /// Creates an error for a failure that may resolve by itself, such as throttling, a timeout or an outage. `what`
    /// completes the sentence "the signer …" and must not contain a secret.
    #[must_use]
    pub fn transient(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(true, what)
    }

    /// Creates an error for a failure that needs intervention, such as a missing permission or key. `what` completes
    /// the sentence "the signer …" and must not contain a secret.
    #[must_use]
    pub fn permanent(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(false, what)
    }

    /// Creates an error without a source.
    fn new(transient: bool, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            transient,
            what: what.into(),
            retry_after: None,
            source: None,
        }
    }

    /// Adds the underlying error as the source. Its text must not contain a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the time that the signer asks to wait before the next attempt.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Returns whether the failure may resolve by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// Returns the time to wait before the next attempt, if the signer specifies one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the signer {}", self.what)
    }
}

impl Error for SignError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_ref()?;
        Some(&**source)
    }
}

/// Converts `signature` to the form of a JWS (RFC 7518 §3.3 to §3.5, RFC 8037 §3.1). Returns `None` if it is not a
/// signature of `algorithm`.
pub(super) fn jws_signature(algorithm: KeyAlgorithm, signature: Vec<u8>) -> Option<Vec<u8>> {
    let length = signature.len();
    match algorithm.coordinate_length() {
        // A DER signature is practically always longer, by the 6 bytes of its headers.
        Some(half) if length == 2 * half => Some(signature),
        Some(half) => from_der(&signature, half),
        None if algorithm.is_rsa() => (length >= MIN_RSA).then_some(signature),
        None => (length == 64).then_some(signature),
    }
}

/// Converts a DER signature (RFC 3279 §2.2.3) to two concatenated numbers of `length` bytes each.
fn from_der(signature: &[u8], length: usize) -> Option<Vec<u8>> {
    let (pair, after) = der::content(signature, SEQUENCE)?;
    let (r, rest) = der::content(pair, INTEGER)?;
    let (s, behind) = der::content(rest, INTEGER)?;
    // DER omits leading zeros, and adds one before a set first bit. JWS has a fixed length.
    let padded = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        let missing = length.checked_sub(number.len())?;
        Some(join(&[&vec![0; missing], number]))
    };
    let (r, s) = (padded(r)?, padded(s)?);
    // Bytes after the signature mean that it is something else.
    (after.is_empty() && behind.is_empty()).then(|| [r.as_slice(), s.as_slice()].concat())
}

/// Minimum length of an RSA signature, in bytes: RFC 7518 §3.3 requires keys of at least 2048 bits.
const MIN_RSA: usize = 2048 / 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// `r` and `s` in DER.
    fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
        let pair = join(&[&der::integer(r), &der::integer(s)]);
        der::element(SEQUENCE, &pair).to_vec()
    }

    #[test]
    fn ecdsa_signatures_in_der_become_two_numbers_of_fixed_length() {
        for (algorithm, half) in [
            (KeyAlgorithm::Es256, 32),
            (KeyAlgorithm::Es384, 48),
            (KeyAlgorithm::Es512, 66),
        ] {
            for (r, s) in [
                (vec![0xFF; half], vec![0x7F; half]),
                (vec![1], vec![0x80]),
                (vec![3; half - 1], vec![0x80; half - 2]),
            ] {
                let expected = [
                    vec![0; half - r.len()],
                    r.clone(),
                    vec![0; half - s.len()],
                    s.clone(),
                ];
                let expected = expected.concat();

                assert_eq!(
                    jws_signature(algorithm, der(&r, &s)).as_ref(),
                    Some(&expected)
                );
                assert_eq!(jws_signature(algorithm, expected.clone()), Some(expected));
            }
            for wrong in [
                Vec::new(),
                vec![1; 2 * half - 1],
                vec![0x30],
                der(&vec![1; half + 1], &[1]),
                [der(&[1], &[2]), vec![0]].concat(),
                der(&[1], &[2])[..6].to_vec(),
            ] {
                assert_eq!(jws_signature(algorithm, wrong.clone()), None, "{wrong:?}");
            }
        }
    }

    #[test]
    fn a_signature_of_another_length_is_none() {
        for (algorithm, right, wrong) in [
            (KeyAlgorithm::Rs256, 256, 128),
            (KeyAlgorithm::Rs512, 256, 255),
            (KeyAlgorithm::Ps256, 512, 0),
            (KeyAlgorithm::EdDsa, 64, 63),
        ] {
            assert!(jws_signature(algorithm, vec![7; right]).is_some());
            assert!(jws_signature(algorithm, vec![7; wrong]).is_none());
        }
    }
}
