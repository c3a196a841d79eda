//! A signer that behaves like a KMS: slow, throttled, unreachable, denied.

use std::{
    borrow::Cow,
    fmt,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::{fault_target::FaultTarget, script::Script};
use crate::{
    client_credentials::{CertificateHeader, KeyAlgorithm, SignError, Signer},
    store::CacheKey,
};

/// A [`Signer`] that forwards to another one, with the faults that a test sets. For programs whose keys are in a KMS or
/// an HSM. Clones share the faults and the count.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::{
///     client_credentials::{KeyAlgorithm, SignError, Signer},
///     test_util::{FaultySigner, SignerFault},
/// };
///
/// struct Kms;
///
/// impl Signer for Kms {
///     fn algorithm(&self) -> KeyAlgorithm {
///         KeyAlgorithm::Es256
///     }
///
///     async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
///         Ok(vec![7; 64])
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let signer = FaultySigner::new(Kms);
/// signer.next(SignerFault::Throttled(Duration::from_secs(2)));
///
/// let error = signer.sign(b"message").await.unwrap_err();
/// assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
/// assert!(signer.sign(b"message").await.is_ok());
/// assert_eq!(signer.calls(), 2);
/// # }
/// ```
pub struct FaultySigner<S>(Arc<Shared<S>>);

/// What clones share.
struct Shared<S> {
    /// The signer.
    signer: S,
    /// Faults of the calls.
    script: Script<SignerFault>,
    /// Number of calls.
    calls: AtomicUsize,
}

/// A fault of one call of a [`FaultySigner`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::test_util::SignerFault;
///
/// let faults = [SignerFault::Delayed(Duration::from_secs(3)), SignerFault::Hangs];
/// # drop(faults);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SignerFault {
    /// The signature takes this long.
    Delayed(Duration),
    /// The call never returns.
    Hangs,
    /// A transient error with this time to wait.
    Throttled(Duration),
    /// A transient error, like that of a connection that was refused.
    Unreachable,
    /// A permanent error, like that of a missing permission.
    Denied,
    /// A signature that is too short for any algorithm.
    Malformed,
    /// The call panics.
    Panics,
}

impl<S: Signer> FaultySigner<S> {
    /// Wraps `signer`. Without faults, it only counts calls.
    #[must_use]
    pub fn new(signer: S) -> Self {
        Self(Arc::new(Shared {
            signer,
            script: Script::new(),
            calls: AtomicUsize::new(0),
        }))
    }

    /// Sets the fault of the next call. Further calls of this method set those of the calls after it.
    pub fn next(&self, fault: SignerFault) {
        self.0.script.push(FaultTarget::any(), fault);
    }

    /// Sets the fault of every call for which [`next`](Self::next) has set none. Default: none.
    pub fn always(&self, fault: Option<SignerFault>) {
        self.0.script.always(FaultTarget::any(), fault);
    }

    /// Returns the number of calls of [`sign`](Signer::sign).
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }
}

impl<S: Signer> Signer for FaultySigner<S> {
    fn algorithm(&self) -> KeyAlgorithm {
        self.0.signer.algorithm()
    }

    fn key_id(&self) -> Option<Cow<'_, str>> {
        self.0.signer.key_id()
    }

    fn certificate(&self) -> Option<CertificateHeader> {
        self.0.signer.certificate()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        match self.0.script.take(|_| true) {
            None => {}
            Some(SignerFault::Delayed(time)) => sleep(time).await,
            Some(SignerFault::Hangs) => pending().await,
            Some(SignerFault::Throttled(wait)) => {
                return Err(SignError::transient("is throttled").with_retry_after(wait));
            }
            Some(SignerFault::Unreachable) => {
                let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
                return Err(SignError::transient("could not be reached").with_source(cause));
            }
            Some(SignerFault::Denied) => {
                return Err(SignError::permanent("may not use the key"));
            }
            Some(SignerFault::Malformed) => return Ok(vec![7; 8]),
            Some(SignerFault::Panics) => panic!("the signer panics, as the test wants it"),
        }
        self.0.signer.sign(message).await
    }

    async fn changed(&self) -> bool {
        self.0.signer.changed().await
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        self.0.signer.cache_key().await
    }
}

impl<S> Clone for FaultySigner<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for FaultySigner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultySigner").finish_non_exhaustive()
    }
}
