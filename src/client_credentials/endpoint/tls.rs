//! Parts of TLS configurations: the crypto provider and the trusted root certificates.
//!
//! Reading the platform's roots needs blocking file access, so it happens once for the process, outside the runtime's
//! worker threads.
//!
//! Lock order: `ROOTS` is never held while another lock is taken, a waker runs, or a file is read.
//!
//! A caller of [`platform_roots`] moves through these states:
//!
//! ```text
//! loaded ───────────────────────────────▶ roots
//! not loaded ─▶ queue ─┬─ first: starts a read on a blocking thread
//!                      └─ all: wait ─┬─ read ended ─▶ roots
//!                                    └─ read failed ─▶ error; the next caller starts another read
//! ```

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    mem,
    sync::{Arc, LazyLock},
    task::Poll,
};

use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::pem;
use crate::{
    client_credentials::TokenError,
    crypto,
    sync::{Mutex, lock},
    waker_set::WakerSet,
};

/// Returns a builder with an explicit crypto provider. The process-wide default is read, and never installed.
///
/// # Errors
///
/// A configuration error without a crypto provider, or with an unusable one.
pub(in crate::client_credentials) fn builder()
-> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TokenError> {
    let provider = crypto::provider().ok_or_else(|| TokenError::configuration(NO_PROVIDER))?;
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("the crypto provider is unusable").with_source(error))
}

/// Trusted root certificates. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::client_credentials) struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Wraps a store.
    pub(in crate::client_credentials) fn new(store: RootCertStore) -> Self {
        Self(Arc::new(store))
    }

    /// Adds the certificates of `others`.
    pub(super) fn extend(&mut self, others: &Self) {
        let all = Arc::make_mut(&mut self.0);
        all.extend(others.0.roots.iter().cloned());
    }

    /// Creates a TLS configuration that trusts these roots, with the process's crypto provider.
    ///
    /// # Errors
    ///
    /// As for [`builder`].
    pub(super) fn config(&self) -> Result<ClientConfig, TokenError> {
        let builder = builder()?.with_root_certificates(Arc::clone(&self.0));
        Ok(builder.with_no_client_auth())
    }
}

/// Parses certificates in PEM or DER.
///
/// All or nothing: a file in which one certificate is damaged is an error, because the program names it explicitly.
/// Files that the configuration names are read more leniently, and each unusable certificate is reported.
///
/// # Errors
///
/// A configuration error, if there is no certificate or one of them cannot be used.
pub(super) fn roots(text: &[u8]) -> Result<Roots, TokenError> {
    let wrong = |what: &str| unusable(&format!("the root certificate {what}"));
    let certificates = match text.first() {
        // DER begins with the tag of a sequence (0x30), which is also the character `0`. The rest of a certificate is
        // not UTF-8.
        Some(0x30) if std::str::from_utf8(text).is_err() => vec![Some(text.to_vec().into())],
        _ => pem::certificates(text),
    };
    if certificates.is_empty() {
        let found = pem::found(text);
        return Err(wrong(&format!("is neither PEM nor DER: found {found}")));
    }
    let count = certificates.len();
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates) {
        let problem = match certificate.map(|der| store.add(der)) {
            Some(Ok(())) => continue,
            Some(Err(_)) => "cannot be used as a trusted root",
            None => "is damaged",
        };
        return Err(wrong(&format!("{number} of {count} {problem}")));
    }
    Ok(Roots::new(store))
}

/// Returns the platform's trusted roots. They are read once for the whole process, on a thread for blocking work.
///
/// All callers wait for the same read. A failed read fails the callers that wait for it, and the next caller reads
/// again.
///
/// # Cancel safety
///
/// Cancel safe: dropping the future leaves the queue of waiting callers, and the read continues.
///
/// # Errors
///
/// A configuration error, if the platform has no usable root certificate, or the runtime shut down during the read.
pub(super) async fn platform_roots() -> Result<Roots, TokenError> {
    let mut waiter = RootsWaiter(None);
    poll_fn(|cx| {
        // The waker is cloned before the lock is taken, and the replaced one is dropped after the lock is released:
        // both run foreign code.
        let waker = cx.waker().clone();
        let mut roots = lock(&ROOTS);
        if let Some(read) = &roots.loaded {
            return Poll::Ready(Ok(read.clone()));
        }
        let (number, attempts) = match waiter.0 {
            Some(entered) => entered,
            None => *waiter.0.insert((roots.waiting.insert(), roots.attempts)),
        };
        // A read failed since this caller began to wait.
        if roots.attempts != attempts {
            let failure = roots.failure.clone();
            return Poll::Ready(Err(failure.unwrap_or_else(|| unusable(NO_ROOTS))));
        }
        let replaced = roots.waiting.register(number, waker);
        // Set under the lock, so that exactly one caller starts the read.
        let begins = !mem::replace(&mut roots.is_loading, true);
        drop(roots);
        drop(replaced);
        if begins {
            let reading = RootsLoader(Some(unusable(NOT_READ)));
            drop(tokio::task::spawn_blocking(move || reading.run()));
        }
        Poll::Pending
    })
    .await
}

/// The platform's roots, shared by the whole process.
static ROOTS: LazyLock<Mutex<PlatformRoots>> = LazyLock::new(Mutex::default);

/// State of reading the platform's roots.
#[derive(Default)]
struct PlatformRoots {
    /// The roots, once they have been read.
    loaded: Option<Roots>,
    /// Whether a read is in progress.
    is_loading: bool,
    /// Number of failed reads.
    attempts: u64,
    /// Error of the last failed read.
    failure: Option<TokenError>,
    /// Callers that wait for the read in progress.
    waiting: WakerSet,
}

/// A caller's position among the waiting callers, and the number of failed reads when it was taken. Leaves the queue on
/// drop.
struct RootsWaiter(Option<(u64, u64)>);

impl Drop for RootsWaiter {
    fn drop(&mut self) {
        let waker = self
            .0
            .and_then(|(number, _)| lock(&ROOTS).waiting.remove(number));
        // Dropped after the lock is released: it runs foreign code.
        drop(waker);
    }
}

/// One read of the roots. Contains the error to report unless the read succeeds, so that a runtime that shuts down and
/// drops it unfinished fails the waiting callers.
///
/// Its drop ends the read in every case, also if the blocking thread panics or is never started.
struct RootsLoader(Option<TokenError>);

impl RootsLoader {
    /// Reads the roots. Blocks.
    fn run(mut self) {
        let mut store = RootCertStore::empty();
        // Errors of single files are ignored as long as one certificate is usable.
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            self.0 = Some(unusable(NO_ROOTS));
            return;
        }
        lock(&ROOTS).loaded = Some(Roots::new(store));
        self.0 = None;
    }
}

impl Drop for RootsLoader {
    fn drop(&mut self) {
        // Collected first: wakers run foreign code, which must not run under the lock.
        let woken: Vec<_> = {
            let mut roots = lock(&ROOTS);
            roots.is_loading = false;
            if let Some(failure) = self.0.take() {
                roots.attempts += 1;
                roots.failure = Some(failure);
            }
            roots.waiting.take_all().collect()
        };
        for waker in woken {
            waker.wake();
        }
    }
}

/// Creates the configuration error of a request that was not sent.
pub(super) fn unusable(what: &str) -> TokenError {
    TokenError::configuration(format!("was not sent: {what}"))
}

const NO_PROVIDER: &str = "was not sent: this program has no crypto provider for TLS; enable the feature `ring` or \
                           `aws-lc-rs` of tower-m2m, install one for the process (rustls' \
                           `CryptoProvider::install_default`), or pass your own client with `.service(..)`";
const NO_ROOTS: &str = "no trusted root certificate was found on this system; install ca-certificates, or pass one \
                        with `.root_certificate(..)`";
const NOT_READ: &str = "the runtime shut down while the system's root certificates were read";

/// Error of a connection for which TLS could not be configured, or whose proxy failed. Carries the error of the fetch through the HTTP client.
///
/// The connector can return only a boxed error, and hyper wraps it once more. [`find`](Self::find) unwraps it.
#[derive(Debug)]
pub(super) struct SetupError(pub(super) TokenError);

impl SetupError {
    /// Returns the error of the fetch, if the chain of `error` contains one.
    pub(super) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TokenError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(Self(error)) = error.downcast_ref() {
                return Some(error);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for SetupError {}
