//! Selection of the crypto provider for rustls.
//!
//! This crate never installs a process-wide provider, and none of its default features enables one.
//!
//! | installed by the program | compiled into rustls | used |
//! |---|---|---|
//! | yes | any | the installed one |
//! | no | ring | ring |
//! | no | aws-lc-rs | aws-lc-rs |
//! | no | both | ring |
//! | no | none | none: the first https request fails with an error that names both features |
//!
//! Any crate of the program can enable a provider in rustls, because Cargo unifies features. `ClientConfig::builder()`
//! panics if two are enabled and none is installed, so the https client passes its provider explicitly.

#[cfg(feature = "https")]
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
#[cfg(feature = "https")]
use rustls::{SupportedCipherSuite, crypto::hash::HashAlgorithm};

/// Returns the provider that the process has installed, or else a compiled-in one. If both are compiled in, ring is
/// preferred.
///
/// Returns `None` if there is neither.
#[cfg(feature = "https")]
pub(crate) fn provider() -> Option<Arc<CryptoProvider>> {
    let installed = CryptoProvider::get_default().cloned();
    let [ring, aws_lc_rs] = compiled();
    installed.or_else(|| ring.or(aws_lc_rs).map(Arc::new))
}

/// Returns the SHA-256 hash of `bytes`, computed by the crypto provider.
///
/// Returns `None` without a provider, or if none of its cipher suites uses SHA-256.
#[cfg(feature = "https")]
pub(crate) fn sha256(bytes: &[u8]) -> Option<[u8; 32]> {
    let provider = provider()?;
    let hash = provider
        .cipher_suites
        .iter()
        .map(|suite| match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
            SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        })
        .find(|hash| hash.algorithm() == HashAlgorithm::SHA256)?;
    hash.hash(bytes).as_ref().try_into().ok()
}

/// Returns whether rustls can choose the process-wide provider itself: one is installed, or exactly one is compiled in.
///
/// Otherwise rustls panics when a configuration is built without an explicit provider.
#[cfg(feature = "redis-tls")]
pub(crate) fn is_determined() -> bool {
    let one = || compiled().iter().flatten().count() == 1;
    CryptoProvider::get_default().is_some() || one()
}

/// Returns the providers compiled into rustls, ring first, then aws-lc-rs. Any crate in the program may have enabled
/// them.
///
/// Cargo features of rustls are not visible here, so name resolution detects them. `rustls::crypto` has a module for
/// each enabled provider. A name that the inner block's glob import does not provide resolves in the outer block, to
/// the placeholder module in [`missing`].
fn compiled() -> [Option<CryptoProvider>; 2] {
    #[allow(unused_imports, reason = "used where rustls has no such module")]
    use self::missing::{aws_lc_rs, ring};
    {
        #[allow(unused_imports, reason = "used where rustls has such a module")]
        use rustls::crypto::*;
        let ring = ring::default_provider().found();
        [ring, aws_lc_rs::default_provider().found()]
    }
}

/// Conversion of a provider, or of its placeholder, to an `Option`.
trait Found {
    /// Returns the provider, or `None` for the placeholder.
    fn found(self) -> Option<CryptoProvider>;
}

impl Found for CryptoProvider {
    fn found(self) -> Option<CryptoProvider> {
        Some(self)
    }
}

/// Placeholders for the provider modules that rustls was compiled without.
#[allow(dead_code, reason = "used where rustls has fewer than two providers")]
mod missing {
    use rustls::crypto::CryptoProvider;

    /// The value that a placeholder module returns instead of a provider.
    pub(super) struct Missing;

    impl super::Found for Missing {
        fn found(self) -> Option<CryptoProvider> {
            None
        }
    }

    /// Placeholder for `rustls::crypto::ring`.
    pub(super) mod ring {
        pub(in super::super) fn default_provider() -> super::Missing {
            super::Missing
        }
    }

    /// Placeholder for `rustls::crypto::aws_lc_rs`.
    pub(super) mod aws_lc_rs {
        pub(in super::super) fn default_provider() -> super::Missing {
            super::Missing
        }
    }
}
