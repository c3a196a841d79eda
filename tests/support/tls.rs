//! A TLS server on loopback with the certificates of the test CA, and what a client presents to it.

use std::sync::{Arc, Mutex, MutexGuard};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tower_m2m::TokenEndpoint;

use super::server::GRANTED;

/// A certificate and its key.
pub(crate) type Pair = (&'static [u8], &'static [u8]);

pub(crate) const CA: &[u8] = include_bytes!("../certificates/ca.pem");
pub(crate) const CLIENT: Pair = (
    include_bytes!("../certificates/client.pem"),
    include_bytes!("../certificates/client.key"),
);
pub(crate) const CLIENT_EXPIRED: Pair = (
    include_bytes!("../certificates/client_expired.pem"),
    include_bytes!("../certificates/client.key"),
);
/// Of no CA.
pub(crate) const CLIENT_UNKNOWN: Pair = (
    include_bytes!("../certificates/self_signed.pem"),
    include_bytes!("../certificates/client.key"),
);
/// For 127.0.0.1.
pub(crate) const SERVER: Pair = (
    include_bytes!("../certificates/server.pem"),
    include_bytes!("../certificates/server.key"),
);
pub(crate) const SERVER_EXPIRED: Pair = (
    include_bytes!("../certificates/server_expired.pem"),
    include_bytes!("../certificates/server.key"),
);

/// Grants a token to any client that completes the handshake, which takes a certificate of the test CA, and sends a
/// request.
pub(crate) struct TlsServer {
    pub(crate) port: u16,
    stats: Arc<Mutex<ServerStats>>,
    task: JoinHandle<()>,
}

/// What has reached the server.
#[derive(Default)]
pub(crate) struct ServerStats {
    pub(crate) connections: usize,
    /// Connections that did not begin with a TLS handshake.
    pub(crate) plain: usize,
    /// Everything that was sent after a handshake.
    pub(crate) read: Vec<u8>,
}

impl TlsServer {
    pub(crate) async fn start(identity: Pair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(accepting(identity)));
        let seen = Arc::<Mutex<ServerStats>>::default();
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serve(stream, &acceptor, &log).await;
            }
        });
        Self {
            port,
            stats: seen,
            task,
        }
    }

    pub(crate) fn stats(&self) -> MutexGuard<'_, ServerStats> {
        self.stats.lock().unwrap()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// TLS before a server on loopback that speaks `protocol` without it.
pub(crate) struct Forwarder {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Forwarder {
    pub(crate) async fn start(identity: Pair, protocol: &[u8], to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut config = accepting(identity);
        config.alpn_protocols = vec![protocol.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut near = acceptor.accept(stream).await.unwrap();
                    let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    // Either side may close at any time.
                    drop(copy_bidirectional(&mut near, &mut far).await);
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, acceptor: &TlsAcceptor, seen: &Mutex<ServerStats>) {
    let mut first = [0];
    let handshake = stream.peek(&mut first).await.unwrap_or(0) == 0 || first == [0x16];
    {
        let mut seen = seen.lock().unwrap();
        seen.connections += 1;
        seen.plain += usize::from(!handshake);
    }
    let mut stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((_, mut stream)) => {
            // Read to the end: closing before that resets the connection, and the alert may be lost.
            drop(stream.shutdown().await);
            while stream.read(&mut [0; 4096]).await.unwrap_or(0) > 0 {}
            return;
        }
    };
    let mut request = Vec::new();
    while !is_complete(&request) {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            break;
        }
    }
    seen.lock().unwrap().read.extend(request);
    let length = GRANTED.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{GRANTED}");
    drop(stream.write_all(answer.as_bytes()).await);
    drop(stream.flush().await);
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
        let digits = rest.split("\r\n").next().unwrap();
        digits.parse().unwrap()
    });
    body.len() >= length
}

fn accepting((certificate, key): Pair) -> ServerConfig {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(CA).into(), provider());
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain(certificate), private(key))
        .unwrap()
}

/// A server that asks for a client certificate, and accepts a client without one.
pub(crate) fn server_config((certificate, key): Pair) -> ServerConfig {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(CA).into(), provider());
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(chain(certificate), private(key))
        .unwrap()
}

/// A client that trusts `ca` and presents `client`.
pub(crate) fn presenting(ca: &[u8], client: Option<Pair>) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca));
    match client {
        Some((certificate, key)) => config
            .with_client_auth_cert(chain(certificate), private(key))
            .unwrap(),
        None => config.with_no_client_auth(),
    }
}

/// `endpoint` with the crate's own client, which trusts `ca` and presents `client`.
pub(crate) fn with_certificates(
    endpoint: TokenEndpoint,
    ca: &[u8],
    client: Option<Pair>,
) -> TokenEndpoint {
    let text = |pem: &[u8]| String::from_utf8(pem.to_vec()).unwrap();
    let endpoint = endpoint.root_certificate(ca).unwrap();
    match client {
        Some((certificate, key)) => endpoint.client_certificate(text(certificate), text(key)),
        None => endpoint,
    }
}

fn roots(ca: &[u8]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(ca));
    roots
}

fn chain(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .map(Result::unwrap)
        .collect()
}

fn private(pem: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem).unwrap()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
