//! What a TLS configuration of the crate's own begins with: a crypto provider, and the platform's root certificates.

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

/// With a provider that is passed on explicitly: the process-wide default is read, and never installed.
pub(in crate::client_credentials) fn builder()
-> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TokenError> {
    let provider = crypto::provider().ok_or_else(|| TokenError::configuration(NO_PROVIDER))?;
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("the crypto provider is unusable").with_source(error))
}

/// Certificates to trust.
#[derive(Clone, Debug)]
pub(in crate::client_credentials) struct Roots(Arc<RootCertStore>);

impl Roots {
    pub(in crate::client_credentials) fn new(store: RootCertStore) -> Self {
        Self(Arc::new(store))
    }

    pub(super) fn extend(&mut self, others: &Self) {
        let all = Arc::make_mut(&mut self.0);
        all.extend(others.0.roots.iter().cloned());
    }

    /// A TLS configuration that trusts these, with the crypto provider of the process.
    pub(super) fn config(&self) -> Result<ClientConfig, TokenError> {
        let builder = builder()?.with_root_certificates(Arc::clone(&self.0));
        Ok(builder.with_no_client_auth())
    }
}

/// The certificates in `text`, PEM or DER, all of which must be usable.
pub(super) fn roots(text: &[u8]) -> Result<Roots, TokenError> {
    let wrong = |what: &str| unusable(&format!("the root certificate {what}"));
    let certificates = match text.first() {
        // A sequence, as long as that of a certificate is no text.
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
            Some(Err(_)) => "cannot be a trusted root",
            None => "is damaged",
        };
        return Err(wrong(&format!("{number} of {count} {problem}")));
    }
    Ok(Roots::new(store))
}

/// The certificates that the platform trusts: read once for the whole process, on a thread for blocking work.
pub(super) async fn platform_roots() -> Result<Roots, TokenError> {
    let mut place = Place(None);
    poll_fn(|cx| {
        // Cloned before the lock is taken; the one that it replaces is dropped after it is released.
        let waker = cx.waker().clone();
        let mut roots = lock(&ROOTS);
        if let Some(read) = &roots.read {
            return Poll::Ready(Ok(read.clone()));
        }
        let (number, attempts) = match place.0 {
            Some(entered) => entered,
            None => *place.0.insert((roots.waiting.enter(), roots.attempts)),
        };
        if roots.attempts != attempts {
            let failure = roots.failure.clone();
            return Poll::Ready(Err(failure.unwrap_or_else(|| unusable(NO_ROOTS))));
        }
        let replaced = roots.waiting.register(number, waker);
        let begins = !mem::replace(&mut roots.is_being_read, true);
        drop(roots);
        drop(replaced);
        if begins {
            let reading = Reading(Some(unusable(NOT_READ)));
            drop(tokio::task::spawn_blocking(move || reading.carry_out()));
        }
        Poll::Pending
    })
    .await
}

static ROOTS: LazyLock<Mutex<PlatformRoots>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct PlatformRoots {
    read: Option<Roots>,
    is_being_read: bool,
    /// Number of failed attempts, and why the last one failed.
    attempts: u64,
    failure: Option<TokenError>,
    waiting: WakerSet,
}

/// A place among those that wait for the certificates, and the number of failed attempts when it was taken.
struct Place(Option<(u64, u64)>);

impl Drop for Place {
    fn drop(&mut self) {
        let waker = self
            .0
            .and_then(|(number, _)| lock(&ROOTS).waiting.leave(number));
        // Dropped outside the lock.
        drop(waker);
    }
}

/// The one attempt to read the certificates. Dropped unfinished, with its runtime, it has failed.
struct Reading(Option<TokenError>);

impl Reading {
    fn carry_out(mut self) {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            self.0 = Some(unusable(NO_ROOTS));
            return;
        }
        lock(&ROOTS).read = Some(Roots::new(store));
        self.0 = None;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let woken: Vec<_> = {
            let mut roots = lock(&ROOTS);
            roots.is_being_read = false;
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

pub(super) fn unusable(what: &str) -> TokenError {
    TokenError::configuration(format!("was not sent: {what}"))
}

const NO_PROVIDER: &str = "was not sent: this program has no crypto provider for TLS; enable the feature `ring` or \
                           `aws-lc-rs` of tower-m2m, install one for the process (rustls' \
                           `CryptoProvider::install_default`), or pass a client of yours with `.service(..)`";
const NO_ROOTS: &str = "no trusted root certificate was found on this system; install ca-certificates, or pass yours with \
                        `.root_certificate(..)`";
const NOT_READ: &str = "the runtime ended while the system's root certificates were read";

/// TLS could not be set up: the error of the fetch, on its way through the HTTP client.
#[derive(Debug)]
pub(super) struct NoTls(pub(super) TokenError);

impl NoTls {
    /// The error of the fetch, if this is why a request failed.
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

impl fmt::Display for NoTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for NoTls {}
