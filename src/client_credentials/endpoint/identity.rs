//! The client's certificate for the token endpoint (RFC 8705 §2), read again for every fetch.

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
};
use crate::{
    client_credentials::{TokenError, TokenErrorKind},
    secret::Secret,
};

/// Where certificate and key come from, both as PEM.
pub(super) struct Identity {
    chain: Box<dyn Erased>,
    key: Box<dyn Erased>,
}

/// A certificate chain and its private key.
#[derive(Clone)]
pub(super) struct Pair {
    chain: Secret,
    key: Secret,
}

impl Identity {
    pub(super) fn new(chain: impl SecretSource, key: impl SecretSource) -> Self {
        Self {
            chain: Box::new(chain),
            key: Box::new(key),
        }
    }

    pub(super) async fn read(&self) -> Result<Pair, TokenError> {
        let both = async {
            Ok(Pair {
                chain: self.chain.read().await?,
                key: self.key.read().await?,
            })
        };
        let late = || {
            let text = "was not sent: the client certificate could not be read in time";
            TokenError::new(TokenErrorKind::Secret, true, text)
        };
        timeout(LONGEST_READ, both)
            .await
            .unwrap_or_else(|_| Err(late()))
    }
}

impl Pair {
    pub(super) fn certificate(&self) -> Certificate {
        Certificate::Known(self.chain.expose().as_bytes().to_vec())
    }

    /// Has connections with `config` show this certificate.
    pub(super) fn enter(&self, config: &mut ClientConfig) -> Result<(), TokenError> {
        let chain = pem::chain(self.chain.expose().as_bytes())
            .map_err(|found| wrong(&format!("the client certificate is not PEM: {found}")))?;
        let key = pem::private_key(self.key.expose().as_bytes()).map_err(|found| {
            wrong(&format!(
                "the certificate's key is not a private key in PEM: {found}"
            ))
        })?;
        let both = CertifiedKey::from_der(chain, key, config.crypto_provider())
            .map_err(|_| wrong("the private key does not belong to the client certificate"))?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(both));
        Ok(())
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.chain.expose() == other.chain.expose() && self.key.expose() == other.key.expose()
    }
}

/// Certificate and key may be read while somebody replaces them one after the other: transient.
fn wrong(what: &str) -> TokenError {
    TokenError::new(
        TokenErrorKind::WrongKey,
        true,
        format!("was not sent: {what}"),
    )
}

const LONGEST_READ: Duration = Duration::from_secs(5);
