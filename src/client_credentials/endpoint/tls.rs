//! What a TLS configuration of the crate's own begins with.

use std::sync::Arc;

#[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
use rustls::crypto::aws_lc_rs::default_provider;
#[cfg(feature = "ring")]
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::client_credentials::TokenError;

/// With the provider built in, passed on explicitly: the process-wide default is neither read nor installed.
pub(in crate::client_credentials) fn builder()
-> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TokenError> {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("the crypto provider is unusable").with_source(error))
}

/// The certificates that the platform trusts.
pub(in crate::client_credentials) fn platform_roots() -> Result<RootCertStore, TokenError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(unusable(
            "no trusted root certificate was found on this system; install ca-certificates, or pass yours with \
             `.tls_config(..)`",
        ));
    }
    Ok(roots)
}

fn unusable(what: &str) -> TokenError {
    TokenError::configuration(format!("was not sent: {what}"))
}
