//! The crate's own client for the token endpoint: HTTP/1.1 and h2 over rustls, never a redirect.

use std::sync::Arc;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::ClientConfig;

use super::{
    identity::{Identity, Pair},
    transport::{Certificate, Ready, Transport},
};
use crate::{
    client_credentials::TokenError,
    sync::{Mutex, lock},
};

/// Made at the first use, and made again after a failure, and for another certificate.
#[derive(Clone, Default)]
pub(super) struct OwnClient {
    /// `None` for the platform's roots and the provider built in.
    config: Option<Box<ClientConfig>>,
    identity: Option<Arc<Identity>>,
    /// Written by the fetch that makes a client, read by every fetch.
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// The certificate that was read last, whatever became of it.
    seen: Option<Pair>,
    /// The client in use, and the certificate that it shows.
    made: Option<(Option<Pair>, Transport)>,
}

impl OwnClient {
    pub(super) fn configure(&mut self, config: ClientConfig) {
        self.config = Some(Box::new(config));
        self.memory = Arc::default();
    }

    pub(super) fn identify(&mut self, identity: Identity) {
        self.identity = Some(Arc::new(identity));
        self.memory = Arc::default();
    }

    pub(super) async fn ready(&self) -> Result<Ready, TokenError> {
        let pair = match &self.identity {
            Some(identity) => identity.read().await.map(Some),
            None => Ok(None),
        };
        let made = pair.and_then(|pair| self.made_for(pair));
        made.map(Ready::from).or_else(|error| self.former(error))
    }

    pub(super) async fn changed(&self) -> bool {
        let Some(identity) = &self.identity else {
            return false;
        };
        let read = identity.read().await.ok();
        read.is_some() && lock(&self.memory).seen != read
    }

    /// The certificate of now: the source's, or what the configuration's resolver gives to a server that names no
    /// authorities.
    pub(super) async fn certificate(&self) -> Certificate {
        if let Some(identity) = &self.identity {
            let pair = identity.read().await;
            return pair.map_or(Certificate::Unknown, |pair| pair.certificate());
        }
        let Some(config) = &self.config else {
            return Certificate::None;
        };
        let resolver = &config.client_auth_cert_resolver;
        if !resolver.has_certs() {
            return Certificate::None;
        }
        let algorithms = config.crypto_provider().signature_verification_algorithms;
        let key = resolver.resolve(&[], &algorithms.supported_schemes());
        let certificate = key.as_ref().and_then(|key| key.cert.first());
        certificate.map_or(Certificate::Unknown, |der| Certificate::Known(der.to_vec()))
    }

    /// The client at hand, if it was made for `pair`, or a new one: its connections show the new certificate.
    fn made_for(&self, pair: Option<Pair>) -> Result<Transport, TokenError> {
        let mut memory = lock(&self.memory);
        memory.seen.clone_from(&pair);
        if let Some((shown, made)) = &memory.made
            && *shown == pair
        {
            return Ok(made.clone());
        }
        drop(memory);
        // Made outside the lock: it reads files.
        let mut config = self.config.as_deref().cloned().map_or_else(platform, Ok)?;
        if let Some(pair) = &pair {
            pair.enter(&mut config)?;
        }
        let made = over(config);
        lock(&self.memory).made = Some((pair, made.clone()));
        Ok(made)
    }

    /// The client made before, where `error` keeps another from being made: a certificate may be read while somebody
    /// replaces it.
    fn former(&self, error: TokenError) -> Result<Ready, TokenError> {
        let former = lock(&self.memory).made.clone();
        let Some((_, transport)) = former else {
            return Err(error);
        };
        Ok(Ready {
            transport,
            missed: Some(error),
        })
    }
}

fn over(config: ClientConfig) -> Transport {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .build();
    Transport::new(Client::builder(TokioExecutor::new()).build(connector))
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
fn platform() -> Result<ClientConfig, TokenError> {
    let builder = super::tls::builder()?;
    let roots = super::tls::platform_roots()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
fn platform() -> Result<ClientConfig, TokenError> {
    Err(TokenError::configuration(
        "was not sent: this build has no crypto provider; enable the feature `ring` or `aws-lc-rs`, or pass a \
         configuration with `.tls_config(..)`",
    ))
}
