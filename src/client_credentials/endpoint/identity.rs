//! The client certificate for the token endpoint (RFC 8705 §2), read again for every fetch.
//!
//! Certificate and key are compared with those of the last fetch. Only a change leads to a new TLS configuration and
//! new connections.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::time::timeout;

use super::{
    pem,
    secret::{Erased, SecretSource},
    transport::Certificate,
    x5t,
};
use crate::{
    client_credentials::{CertificateThumbprint, TokenError, TokenErrorKind},
    secret::Secret,
};

/// Sources of the certificate chain and the private key, both in PEM.
///
/// The two sources are read one after the other. A renewal in between yields a pair that does not match; that is a
/// transient error, and the next fetch reads both again.
pub(super) struct Identity {
    /// Source of the chain, with the client's certificate first.
    chain: Box<dyn Erased>,
    /// Source of the private key.
    key: Box<dyn Erased>,
}

/// A certificate chain and its private key, in PEM.
///
/// Kept in the form in which it was read, because only that form can be compared with the next read.
#[derive(Clone)]
pub(super) struct ClientCertificate {
    /// The certificate chain.
    chain: Secret,
    /// The private key.
    key: Secret,
}

impl Identity {
    /// Creates an identity from two sources.
    pub(super) fn new(chain: impl SecretSource, key: impl SecretSource) -> Self {
        Self {
            chain: Box::new(chain),
            key: Box::new(key),
        }
    }

    /// Reads both. Fails after [`READ_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// The error of a source, or a transient one after the time limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the reads. No state is kept.
    pub(super) async fn read(&self) -> Result<ClientCertificate, TokenError> {
        let both = async {
            Ok(ClientCertificate {
                chain: self.chain.read().await?,
                key: self.key.read().await?,
            })
        };
        // Transient: a slow source may respond the next time.
        let late = || {
            let text = "was not sent: the client certificate could not be read in time";
            TokenError::new(TokenErrorKind::SecretUnavailable, true, text)
        };
        timeout(READ_TIMEOUT, both)
            .await
            .unwrap_or_else(|_| Err(late()))
    }
}

impl ClientCertificate {
    /// Returns the thumbprint of the client's own certificate. `None` if the chain is not usable.
    pub(super) fn thumbprint(&self) -> Option<CertificateThumbprint> {
        x5t::of_pem(self.chain.expose().as_bytes()).ok()
    }

    /// Returns the certificate, for the cache key.
    pub(super) fn certificate(&self) -> Certificate {
        self.thumbprint()
            .map_or(Certificate::Unknown, Certificate::Known)
    }

    /// Configures `config` to present this certificate.
    ///
    /// Replaces the resolver of `config`: the client presents this certificate to every server that asks for one.
    ///
    /// # Errors
    ///
    /// Describes what was found, if the chain or the key is not usable PEM, or they do not belong together.
    pub(super) fn apply_to(&self, config: &mut ClientConfig) -> Result<(), TokenError> {
        let chain = pem::chain(self.chain.expose().as_bytes())
            .map_err(|found| invalid(&format!("the client certificate is not PEM: {found}")))?;
        let key = pem::private_key(self.key.expose().as_bytes()).map_err(|found| {
            invalid(&format!(
                "the certificate's key is not a private key in PEM: {found}"
            ))
        })?;
        // Checks that the key belongs to the certificate.
        let both = CertifiedKey::from_der(chain, key, config.crypto_provider())
            .map_err(|_| invalid("the private key does not match the client certificate"))?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(both));
        Ok(())
    }
}

/// Compares both contents, so that a renewed certificate with the same key counts as different.
impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.chain.expose() == other.chain.expose() && self.key.expose() == other.key.expose()
    }
}

/// Creates a transient error: certificate and key may be replaced one after the other, and were read in between.
fn invalid(what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::Configuration,
        true,
        format!("was not sent: {what}"),
    )
}

/// Maximum duration of reading both sources.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
