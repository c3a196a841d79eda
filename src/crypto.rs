//! The crypto provider that rustls uses in this program. It is never installed from here, and no default feature brings one.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The provider that the process has installed, or else one that is compiled in; of two, ring.
#[cfg(feature = "https")]
pub(crate) fn provider() -> Option<Arc<CryptoProvider>> {
    let installed = CryptoProvider::get_default().cloned();
    let [ring, aws_lc_rs] = compiled();
    installed.or_else(|| ring.or(aws_lc_rs).map(Arc::new))
}

/// Whether rustls finds the provider of the process by itself. Where it does not, it panics.
#[cfg(feature = "redis-tls")]
pub(crate) fn is_determined() -> bool {
    let one = || compiled().iter().flatten().count() == 1;
    CryptoProvider::get_default().is_some() || one()
}

/// The providers that are compiled into rustls, whichever crates of the program have enabled them: ring and aws-lc-rs.
///
/// `rustls::crypto` has a module for each provider that is enabled. A name that the inner block's glob import does not
/// find is looked up in the outer block, where a module stands that has none.
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

trait Found {
    fn found(self) -> Option<CryptoProvider>;
}

impl Found for CryptoProvider {
    fn found(self) -> Option<CryptoProvider> {
        Some(self)
    }
}

/// In place of a provider that is not compiled in.
#[allow(dead_code, reason = "used where rustls has fewer than two providers")]
mod missing {
    use rustls::crypto::CryptoProvider;

    pub(super) struct Missing;

    impl super::Found for Missing {
        fn found(self) -> Option<CryptoProvider> {
            None
        }
    }

    pub(super) mod ring {
        pub(in super::super) fn default_provider() -> super::Missing {
            super::Missing
        }
    }

    pub(super) mod aws_lc_rs {
        pub(in super::super) fn default_provider() -> super::Missing {
            super::Missing
        }
    }
}
