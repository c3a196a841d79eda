//! `tls_client_auth` over real handshakes on loopback, through the crate's own client.
#![cfg(feature = "ring")]

mod support;

use std::sync::{Arc, Mutex};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use support::{origin, server::GRANTED};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{AccessToken, Config, TokenError, TokenErrorKind as Kind, TokenHandle},
};

#[tokio::test]
async fn a_certificate_and_a_client_id_are_enough() {
    let token = ask(SERVER, Some(CLIENT)).await.unwrap();

    assert_eq!(token.expose(), Some("token"));
}

#[tokio::test]
async fn an_expired_client_certificate_is_named() {
    let error = ask(SERVER, Some(CLIENT_EXPIRED)).await.unwrap_err();

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Certificate, false)
    );
    assert!(
        error
            .to_string()
            .contains("our client certificate has expired"),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_client_certificate_is_named() {
    let error = ask(SERVER, None).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Certificate);
    assert!(
        error
            .to_string()
            .contains("our client certificate, or wants one"),
        "{error}"
    );
}

#[tokio::test]
async fn an_expired_server_certificate_is_named() {
    let error = ask(SERVER_EXPIRED, Some(CLIENT)).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Certificate);
    assert!(
        error
            .to_string()
            .contains("the server's certificate has expired"),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_shown_on_new_connections_at_once() {
    let chain = Arc::new(Mutex::new(CLIENT_EXPIRED.0));
    let now = Arc::clone(&chain);
    let chains = move || {
        let pem = std::str::from_utf8(*now.lock().unwrap()).unwrap();
        std::future::ready(Ok(pem.into()))
    };
    let key = std::str::from_utf8(CLIENT.1).unwrap();
    let (handle, serving) = started(SERVER, |url| {
        TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"))
            .client_certificate(chains, key)
            .tls_config(presenting(None))
    })
    .await;

    let expired = handle.token().await.unwrap_err();
    *chain.lock().unwrap() = CLIENT.0;
    let renewed = handle.refresh_now().await;
    *chain.lock().unwrap() = b"half of a cert";
    let damaged = handle.refresh_now().await;
    *chain.lock().unwrap() = CLIENT_EXPIRED.0;
    let worse = handle.refresh_now().await.unwrap_err();

    serving.abort();
    assert_eq!(expired.kind(), Kind::Certificate);
    assert!(renewed.is_ok(), "{renewed:?}");
    assert!(damaged.is_ok(), "{damaged:?}");
    assert_eq!(worse.kind(), Kind::Certificate);
}

#[tokio::test]
async fn a_key_that_does_not_belong_to_the_certificate_is_named() {
    let error = ask_with(SERVER, |url| {
        let pem = |pem| std::str::from_utf8(pem).unwrap();
        TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"))
            .client_certificate(pem(CLIENT.0), pem(SERVER.1))
            .tls_config(presenting(None))
    })
    .await
    .unwrap_err();

    assert_eq!(error.kind(), Kind::WrongKey);
    assert!(error.to_string().contains("does not belong"), "{error}");
}

#[tokio::test]
async fn a_configuration_names_the_files() {
    let keys = r#"{
        "client_id": "id", "client_auth": "tls_client_auth", "token_url": "URL",
        "ca_file": "tests/certificates/ca.pem", "certificate_file": "tests/certificates/client.pem",
        "private_key_file": "tests/certificates/client.key"
    }"#;
    let endpoint = |url: &str| {
        let config: Config = serde_json::from_str(&keys.replace("URL", url)).unwrap();
        config.endpoint().unwrap()
    };

    let token = ask_with(SERVER, endpoint).await.unwrap();

    assert_eq!(token.expose(), Some("token"));
}

#[test]
fn a_configuration_tells_which_file_is_wrong() {
    for (change, key, says) in [
        (
            ("ca_file", "tests/keys/ec.jwk"),
            "ca_file",
            "no PEM certificate",
        ),
        (("ca_file", "/nowhere"), "ca_file", "cannot be read"),
        (
            ("certificate_file", "tests/keys/ec.jwk"),
            "certificate_file",
            "no PEM certificate",
        ),
        (
            ("private_key_file", "tests/keys/ec.jwk"),
            "private_key_file",
            "no private key in PEM",
        ),
        (
            ("private_key_file", "tests/keys/ec.pem"),
            "private_key_file",
            "does not belong",
        ),
        (("private_key_file", ""), "private_key", "is not set"),
        (("certificate_file", ""), "certificate_file", "is not set"),
    ] {
        let keys = std::collections::HashMap::from([
            ("client_id", "id"),
            ("client_auth", "self_signed_tls_client_auth"),
            ("token_url", "https://id.example/token"),
            ("ca_file", "tests/certificates/ca.pem"),
            ("certificate_file", "tests/certificates/client.pem"),
            ("private_key_file", "tests/certificates/client.key"),
        ]);
        let changed = keys.into_iter().chain([change]);
        let keys: serde_json::Map<_, _> = changed
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        let config: Config = serde_json::from_value(keys.into()).unwrap();

        let error = config.endpoint().unwrap_err();

        assert_eq!(error.key(), key, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

type Pair = (&'static [u8], &'static [u8]);

/// One token request to a server that wants a client certificate.
async fn ask(server: Pair, client: Option<Pair>) -> Result<AccessToken, TokenError> {
    ask_with(server, |url| {
        TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"))
            .tls_config(presenting(client))
    })
    .await
}

async fn ask_with(
    server: Pair,
    endpoint: impl FnOnce(&str) -> TokenEndpoint,
) -> Result<AccessToken, TokenError> {
    let (handle, serving) = started(server, endpoint).await;

    let outcome = handle.token().await;

    serving.abort();
    outcome
}

async fn started(
    server: Pair,
    endpoint: impl FnOnce(&str) -> TokenEndpoint,
) -> (TokenHandle, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/token", listener.local_addr().unwrap());
    let serving = tokio::spawn(serve(
        listener,
        TlsAcceptor::from(Arc::new(accepting(server))),
    ));
    let handle = ClientCredentialsLayer::builder(endpoint(&url), origin())
        .build()
        .handle();
    (handle, serving)
}

/// Grants a token to whoever completes the handshake and sends its `client_id`.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((_, mut stream)) => {
                // Read to the end: closing before that resets the connection, and the alert may be lost.
                drop(stream.shutdown().await);
                while stream.read(&mut [0; 4096]).await.unwrap_or(0) > 0 {}
                continue;
            }
        };
        let mut request = Vec::new();
        while !request.ends_with(b"client_id=id") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                break;
            }
        }
        let length = GRANTED.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{GRANTED}");
        drop(stream.write_all(answer.as_bytes()).await);
        drop(stream.flush().await);
    }
}

fn accepting((certificate, key): Pair) -> ServerConfig {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots().into(), provider());
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain(certificate), private(key))
        .unwrap()
}

fn presenting(client: Option<Pair>) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots());
    match client {
        Some((certificate, key)) => config
            .with_client_auth_cert(chain(certificate), private(key))
            .unwrap(),
        None => config.with_no_client_auth(),
    }
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(include_bytes!("certificates/ca.pem")));
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

const CLIENT: Pair = (
    include_bytes!("certificates/client.pem"),
    include_bytes!("certificates/client.key"),
);
const CLIENT_EXPIRED: Pair = (
    include_bytes!("certificates/client_expired.pem"),
    include_bytes!("certificates/client.key"),
);
const SERVER: Pair = (
    include_bytes!("certificates/server.pem"),
    include_bytes!("certificates/server.key"),
);
const SERVER_EXPIRED: Pair = (
    include_bytes!("certificates/server_expired.pem"),
    include_bytes!("certificates/server.key"),
);
