//! Signatures of assertions by a key that is elsewhere: a KMS, an HSM, an agent.

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
    der::{self, INTEGER, SEQUENCE, join},
};
use crate::{BoxError, client_credentials::CacheIdentity};

/// Signs assertions with a private key, which may be in another process: a KMS, an HSM, an agent.
///
/// [`ClientAuth::private_key_jwt`](super::super::ClientAuth::private_key_jwt) takes any signer.
/// [`SigningKey`](super::super::SigningKey) is the one whose key is in this process; `Arc<S>` shares one.
///
/// # Examples
///
/// ```
/// use std::borrow::Cow;
///
/// use tower_m2m::{
///     ClientAuth,
///     client_credentials::{CacheIdentity, KeyAlgorithm, SignError, Signer},
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
///         self.kms.sign(&self.name, message).await.map_err(|error| match error {
///             KmsError::Throttled(wait) => SignError::transient("is throttled").with_retry_after(wait),
///             KmsError::AccessDenied => SignError::permanent("may not use the key; check the role's permissions"),
///             KmsError::Io(error) => SignError::transient("could not be reached").with_source(error),
///         })
///     }
///
///     async fn cache_identity(&self) -> Option<CacheIdentity> {
///         Some(CacheIdentity::new("kms").field("key", &self.name))
///     }
/// }
///
/// # let kms = Kms;
/// let auth = ClientAuth::private_key_jwt("my-client", KmsKey { kms, name: "orders/7".into() });
/// # drop(auth);
/// # struct Kms;
/// # enum KmsError { Throttled(std::time::Duration), AccessDenied, Io(std::io::Error) }
/// # impl Kms {
/// #     async fn sign(&self, _: &str, _: &[u8]) -> Result<Vec<u8>, KmsError> { Err(KmsError::AccessDenied) }
/// # }
/// ```
pub trait Signer: Send + Sync + 'static {
    /// The algorithm of the key. Always the same one.
    fn algorithm(&self) -> KeyAlgorithm;

    /// The `kid` in the assertion's header, by which the server finds the public key. Called right before
    /// [`sign`](Self::sign), which must use the key of this id. The default is none.
    fn key_id(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Returns the signature over `message`, which is not hashed yet.
    ///
    /// A signature of [`Es256`](KeyAlgorithm::Es256) or [`Es384`](KeyAlgorithm::Es384) may be the two numbers in a row
    /// (RFC 7518 §3.4) or ASN.1 DER, as KMSs return it. One of another length than the algorithm's is an error.
    ///
    /// A library that blocks, such as PKCS #11, belongs on [`spawn_blocking`](tokio::task::spawn_blocking).
    ///
    /// # Errors
    ///
    /// A [`SignError`]; its text must not hold a secret. Nothing is sent then. The fetch fails with a
    /// [`TokenError`](crate::client_credentials::TokenError) of kind
    /// [`SigningFailed`](crate::client_credentials::TokenErrorKind::SigningFailed). A transient failure without a time to
    /// wait is retried within the fetch, as [`TokenEndpoint::retries`](super::super::TokenEndpoint::retries) says. A panic
    /// is a transient failure.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the fetch's deadline has passed, and after half of that time for the first attempt.
    fn sign(&self, message: &[u8]) -> impl Future<Output = Result<Vec<u8>, SignError>> + Send;

    /// Whether another key would sign now than for the last attempt, which ends the back-off of a permanent failure. The
    /// default is `false`.
    fn changed(&self) -> impl Future<Output = bool> + Send {
        ready(false)
    }

    /// What tells this key from others, such as its name in the KMS. `None`, which is the default, keeps tokens from being
    /// shared through a [`TokenStore`](crate::client_credentials::TokenStore).
    fn cache_identity(&self) -> impl Future<Output = Option<CacheIdentity>> + Send {
        ready(None)
    }
}

impl<S: Signer> Signer for Arc<S> {
    fn algorithm(&self) -> KeyAlgorithm {
        S::algorithm(self)
    }

    fn key_id(&self) -> Option<Cow<'_, str>> {
        S::key_id(self)
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        S::sign(self, message).await
    }

    async fn changed(&self) -> bool {
        S::changed(self).await
    }

    async fn cache_identity(&self) -> Option<CacheIdentity> {
        S::cache_identity(self).await
    }
}

/// A [`Signer`] returned no signature. Its text must not hold a secret.
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
    pub(super) transient: bool,
    pub(super) what: Cow<'static, str>,
    pub(super) retry_after: Option<Duration>,
    pub(super) source: Option<BoxError>,
}

impl SignError {
    /// A failure that may go away by itself: throttling, a timeout, an outage. `what` continues the sentence "the signer …"
    /// and must not hold a secret.
    #[must_use]
    pub fn transient(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(true, what)
    }

    /// A failure that stays until somebody changes something: no permission, no such key. `what` continues the sentence
    /// "the signer …" and must not hold a secret.
    #[must_use]
    pub fn permanent(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(false, what)
    }

    fn new(transient: bool, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            transient,
            what: what.into(),
            retry_after: None,
            source: None,
        }
    }

    /// Adds the error that caused this one. Its text must not hold a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the time that the signer asks to wait before the next attempt.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Whether the failure may go away by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// How long to wait before the next attempt, if the signer says so.
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

/// `signature` as a JWS has it (RFC 7518 §3.3 to §3.5, RFC 8037 §3.1); `None` if it is none of `algorithm`.
pub(super) fn jws_signature(algorithm: KeyAlgorithm, signature: Vec<u8>) -> Option<Vec<u8>> {
    let length = signature.len();
    match algorithm {
        KeyAlgorithm::Rs256 | KeyAlgorithm::Ps256 => (length >= MIN_RSA).then_some(signature),
        KeyAlgorithm::EdDsa => (length == 64).then_some(signature),
        KeyAlgorithm::Es256 if length == 2 * 32 => Some(signature),
        KeyAlgorithm::Es384 if length == 2 * 48 => Some(signature),
        KeyAlgorithm::Es256 => from_der(&signature, 32),
        KeyAlgorithm::Es384 => from_der(&signature, 48),
    }
}

/// The two numbers of a signature in DER (RFC 3279 §2.2.3), each of `length` bytes.
fn from_der(signature: &[u8], length: usize) -> Option<Vec<u8>> {
    let (pair, after) = der::content(signature, SEQUENCE)?;
    let (r, rest) = der::content(pair, INTEGER)?;
    let (s, behind) = der::content(rest, INTEGER)?;
    let padded = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        let missing = length.checked_sub(number.len())?;
        Some(join(&[&vec![0; missing], number]))
    };
    let (r, s) = (padded(r)?, padded(s)?);
    (after.is_empty() && behind.is_empty()).then(|| [r.as_slice(), s.as_slice()].concat())
}

/// Minimum length of an RSA signature: RFC 7518 §3.3 wants keys of 2048 bits or more.
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
        for (algorithm, half) in [(KeyAlgorithm::Es256, 32), (KeyAlgorithm::Es384, 48)] {
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
            (KeyAlgorithm::Ps256, 512, 0),
            (KeyAlgorithm::EdDsa, 64, 63),
        ] {
            assert!(jws_signature(algorithm, vec![7; right]).is_some());
            assert!(jws_signature(algorithm, vec![7; wrong]).is_none());
        }
    }
}
