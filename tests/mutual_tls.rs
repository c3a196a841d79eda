//! `tls_client_auth` over real handshakes on loopback, through the crate's own client.
#![cfg(feature = "https")]

mod support;

use std::sync::{Arc, Mutex};

use base64::{Engine, engine::general_purpose::STANDARD};
use support::{
    origin,
    temp_file::TempFile,
    tls::{CA, CLIENT, CLIENT_EXPIRED, Pair, SERVER, SERVER_EXPIRED, TlsServer, with_certificates},
};
use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        AccessToken, Config, TokenError, TokenErrorKind as Kind, TokenEvent, TokenHandle,
    },
    test_util::MemoryTokenStore,
};

#[tokio::test]
async fn a_certificate_and_a_client_id_are_enough() {
    let token = fetch(SERVER, Some(CLIENT)).await.unwrap();

    assert_eq!(token.expose(), Some("token"));
}

#[tokio::test]
async fn an_expired_client_certificate_is_named() {
    let error = fetch(SERVER, Some(CLIENT_EXPIRED)).await.unwrap_err();

    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Certificate, false)
    );
    assert!(
        error
            .to_string()
            .contains("the client certificate has expired"),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_client_certificate_is_named() {
    let error = fetch(SERVER, None).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Certificate);
    assert!(
        error
            .to_string()
            .contains("the client certificate, or requires one"),
        "{error}"
    );
}

#[tokio::test]
async fn an_expired_server_certificate_is_named() {
    let error = fetch(SERVER_EXPIRED, Some(CLIENT)).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Certificate);
    assert!(
        error
            .to_string()
            .contains("the server's certificate has expired"),
        "{error}"
    );
}

#[tokio::test]
async fn a_rotated_certificate_is_used_for_new_connections() {
    let chain = Arc::new(Mutex::new(CLIENT_EXPIRED.0));
    let now = Arc::clone(&chain);
    let chains = move || {
        let pem = std::str::from_utf8(*now.lock().unwrap()).unwrap();
        std::future::ready(Ok(pem.into()))
    };
    let key = std::str::from_utf8(CLIENT.1).unwrap();
    let (handle, _server) = started(SERVER, |url| {
        TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"))
            .client_certificate(chains, key)
            .root_certificate(CA)
            .unwrap()
    })
    .await;

    let expired = handle.token().await.unwrap_err();
    *chain.lock().unwrap() = CLIENT.0;
    let renewed = handle.refresh_now().await;
    *chain.lock().unwrap() = b"half of a cert";
    let damaged = handle.refresh_now().await;
    *chain.lock().unwrap() = CLIENT_EXPIRED.0;
    let worse = handle.refresh_now().await.unwrap_err();

    assert_eq!(expired.kind(), Kind::Certificate);
    assert!(renewed.is_ok(), "{renewed:?}");
    assert!(damaged.is_ok(), "{damaged:?}");
    assert_eq!(worse.kind(), Kind::Certificate);
}

#[tokio::test]
async fn a_token_issued_for_an_older_certificate_is_not_stored_under_the_new_one() {
    let server = TlsServer::start(SERVER).await;
    let url = format!("https://127.0.0.1:{}/token", server.port);
    let chain = Arc::new(Mutex::new(CLIENT.0));
    let store = MemoryTokenStore::new();
    let process = || {
        let now = Arc::clone(&chain);
        let chains = move || {
            let pem = std::str::from_utf8(*now.lock().unwrap()).unwrap();
            std::future::ready(Ok(pem.into()))
        };
        let key = std::str::from_utf8(CLIENT.1).unwrap();
        let endpoint = TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"))
            .client_certificate(chains, key)
            .root_certificate(CA)
            .unwrap();
        ClientCredentialsLayer::builder(endpoint, origin())
            .store(store.clone())
            .build()
            .handle()
    };
    let first = process();
    first.token().await.unwrap();
    // The file is half written: the certificate of before is shown.
    *chain.lock().unwrap() = b"half of a cert";
    first.refresh_now().await.unwrap();

    let other = process().token().await.unwrap_err();

    assert_eq!(other.kind(), Kind::Configuration);
}

#[tokio::test]
async fn a_key_that_does_not_match_the_certificate_is_named() {
    let error = fetch_with(SERVER, |url| {
        let pem = |pem| std::str::from_utf8(pem).unwrap();
        TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"))
            .client_certificate(pem(CLIENT.0), pem(SERVER.1))
            .root_certificate(CA)
            .unwrap()
    })
    .await
    .unwrap_err();

    assert_eq!(error.kind(), Kind::Configuration);
    assert!(error.to_string().contains("does not match"), "{error}");
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

    let token = fetch_with(SERVER, endpoint).await.unwrap();

    assert_eq!(token.expose(), Some("token"));
}

#[tokio::test]
async fn a_damaged_trusted_certificate_is_reported_and_skipped() {
    let damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let ca = std::str::from_utf8(CA).unwrap();
    let roots = TempFile::with_content("roots", &format!("# ours\n{damaged}\n{ca}"));
    let mut keys = serde_json::json!({
        "client_id": "id", "client_auth": "tls_client_auth", "token_url": "https://id.example/token",
        "ca_file": roots.path(), "certificate_file": "tests/certificates/client.pem",
        "private_key_file": "tests/certificates/client.key",
    });
    let server = TlsServer::start(SERVER).await;
    keys["token_url"] = format!("https://127.0.0.1:{}/token", server.port).into();
    let config: Config = serde_json::from_value(keys).unwrap();
    let skipped = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&skipped);
    let layer = ClientCredentialsLayer::builder(config.endpoint().unwrap(), origin())
        .on_event(move |event| {
            if let TokenEvent::CertificateSkipped {
                setting, problem, ..
            } = event
            {
                seen.lock().unwrap().push(format!("{setting}: {problem}"));
            }
        })
        .build();

    layer.handle().token().await.unwrap();

    let skipped = skipped.lock().unwrap();
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert!(
        skipped[0].starts_with("ca_file: certificate 1 of 2"),
        "{skipped:?}"
    );
}

#[tokio::test]
async fn certificates_and_keys_are_read_in_common_formats() {
    let text = |pem| std::str::from_utf8(pem).unwrap().to_owned();
    let (chain, key) = (text(CLIENT.0), text(CLIENT.1));
    let bag = "Bag Attributes\n    localKeyID: 01\n";
    for (chain, key) in [
        (chain.replace('\n', "\\n"), key.replace('\n', "\\n")),
        (chain.replace('\n', " "), key.replace('\n', " ")),
        (format!("\u{FEFF}{chain}"), format!("\u{FEFF}{key}")),
        (format!("{bag}{chain}"), format!("{chain}{bag}{key}")),
    ] {
        let token = fetch_with(SERVER, |url| {
            TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"))
                .client_certificate(chain, key)
                .root_certificate(CA)
                .unwrap()
        });
        assert_eq!(token.await.unwrap().expose(), Some("token"));
    }
}

#[tokio::test]
async fn an_invalid_certificate_error_names_what_was_found() {
    let text = |pem| std::str::from_utf8(pem).unwrap().to_owned();
    let (chain, key) = (text(CLIENT.0), text(CLIENT.1));
    for (chain, key, says) in [
        (key.clone(), key.clone(), "is not PEM: found a private key"),
        (
            chain.clone(),
            chain.clone(),
            "is not a private key in PEM: found a certificate",
        ),
        (
            chain,
            include_str!("keys/ec_encrypted.pem").to_owned(),
            "found an encrypted private key; decrypt it",
        ),
    ] {
        let error = fetch_with(SERVER, |url| {
            TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"))
                .client_certificate(chain, key)
                .root_certificate(CA)
                .unwrap()
        });
        let error = error.await.unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn configuration_errors_name_the_file() {
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
            "not an unencrypted private key in PEM",
        ),
        (
            ("private_key_file", "tests/keys/ec.pem"),
            "private_key_file",
            "does not match",
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

/// One token request to a server that wants a client certificate.
async fn fetch(server: Pair, client: Option<Pair>) -> Result<AccessToken, TokenError> {
    fetch_with(server, |url| {
        let endpoint = TokenEndpoint::new(url.parse().unwrap(), ClientAuth::tls("id"));
        with_certificates(endpoint, CA, client)
    })
    .await
}

async fn fetch_with(
    server: Pair,
    endpoint: impl FnOnce(&str) -> TokenEndpoint,
) -> Result<AccessToken, TokenError> {
    let (handle, server) = started(server, endpoint).await;

    let outcome = handle.token().await;

    if outcome.is_ok() {
        let seen = server.stats();
        let request = String::from_utf8_lossy(&seen.read);
        assert!(request.ends_with("client_id=id"), "{request}");
    }
    outcome
}

async fn started(
    server: Pair,
    endpoint: impl FnOnce(&str) -> TokenEndpoint,
) -> (TokenHandle, TlsServer) {
    let server = TlsServer::start(server).await;
    let url = format!("https://127.0.0.1:{}/token", server.port);
    let handle = ClientCredentialsLayer::builder(endpoint(&url), origin())
        .build()
        .handle();
    (handle, server)
}

#[tokio::test]
async fn certificates_to_trust_may_be_pem_or_der_and_are_all_needed() {
    let ca = String::from_utf8(CA.to_vec()).unwrap();
    let base64: String = ca.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(base64).unwrap();
    let unrelated = include_bytes!("certificates/self_signed.pem");
    let both = [CA, unrelated].concat();
    let endpoint = |url: &str| {
        let auth = ClientAuth::tls("id");
        TokenEndpoint::new(url.parse().unwrap(), auth)
    };
    for certificates in [CA, &der, &both] {
        let token = fetch_with(SERVER, |url| {
            with_certificates(endpoint(url), certificates, Some(CLIENT))
        });
        assert_eq!(token.await.unwrap().expose(), Some("token"));
    }
    // Setting one after the other equals setting both together.
    let token = fetch_with(SERVER, |url| {
        let endpoint = endpoint(url).root_certificate(unrelated).unwrap();
        with_certificates(endpoint, CA, Some(CLIENT))
    });
    assert_eq!(token.await.unwrap().expose(), Some("token"));

    let damaged = format!("{ca}-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    for (certificates, says) in [
        (damaged.as_bytes(), "2 of 2 is damaged"),
        (
            &der[..der.len() / 2],
            "1 of 1 cannot be used as a trusted root",
        ),
        (
            &include_bytes!("keys/ec.pem")[..],
            "neither PEM nor DER: found a private key",
        ),
        (b"/etc/ssl/ca.pem", "what may be a file path"),
        (b"", "found nothing"),
    ] {
        let error = endpoint("https://id.example/")
            .root_certificate(certificates)
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::Configuration, false)
        );
        assert!(error.to_string().contains(says), "{error}");
    }
}
