//! `x5t#S256`, `x5t` and `x5c` in the header of an assertion.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tower_m2m::{
    ClientAuth,
    client_credentials::{
        CertificateHeader, KeyAlgorithm, SignError, Signer, SigningKey, TokenErrorKind as Kind,
    },
};

use crate::{
    RSA, header,
    support::server::{Server, handle},
    verified,
};

const CERTIFICATE: &str = include_str!("../certificates/client.pem");
const CA: &str = include_str!("../certificates/ca.pem");
/// As `openssl x509 -outform der | openssl dgst -binary | base64` computes them.
const SHA256: &str = "hmoJ0UbPC1L35IWPEOaDPYG_zZ60rJl9EE0Q7UuYZkE";
const SHA1: &str = "4OFsH2orZz6TO-__sY7Tqz3pHfw";

/// The base64 of a PEM block.
fn base64(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

async fn header_with(auth: ClientAuth) -> Value {
    let server = Server::granting();
    let endpoint = server.endpoint(auth).issuer("https://id.example");
    handle(endpoint).token().await.unwrap();
    let asked = server.last_request();
    header(asked.form_value("client_assertion").unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_header_names_the_certificate_by_its_thumbprints_and_its_chain() {
    let with_key = format!("{RSA}{CERTIFICATE}");
    let with_ca = format!("{CERTIFICATE}{CA}");
    let der = STANDARD.decode(base64(CERTIFICATE)).unwrap();
    let plain = CertificateHeader::new(CERTIFICATE).unwrap();
    assert_eq!(plain, CertificateHeader::new(with_key).unwrap());
    assert_eq!(plain, CertificateHeader::new(der).unwrap());
    for (certificate, expected) in [
        (plain.clone(), json!({ "x5t#S256": SHA256 })),
        (
            plain.clone().with_sha1(),
            json!({ "x5t#S256": SHA256, "x5t": SHA1 }),
        ),
        (
            CertificateHeader::new(with_ca).unwrap().with_chain(),
            json!({ "x5t#S256": SHA256, "x5c": [base64(CERTIFICATE), base64(CA)] }),
        ),
    ] {
        for key in [
            SigningKey::pem(KeyAlgorithm::Ps256, RSA).unwrap(),
            SigningKey::source(KeyAlgorithm::Ps256, RSA),
        ] {
            let key = key.with_certificate(certificate.clone());

            let mut header = header_with(ClientAuth::private_key_jwt("id", key)).await;

            let members = header.as_object_mut().unwrap();
            members.remove("typ").unwrap();
            assert_eq!(members.remove("alg").unwrap(), "PS256");
            assert_eq!(header, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_signer_outside_the_process_names_its_certificate_too() {
    struct Kms(SigningKey);

    impl Signer for Kms {
        fn algorithm(&self) -> KeyAlgorithm {
            KeyAlgorithm::Ps256
        }

        fn key_id(&self) -> Option<Cow<'_, str>> {
            Some("kms".into())
        }

        fn certificate(&self) -> Option<CertificateHeader> {
            CertificateHeader::new(CERTIFICATE).ok()
        }

        async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
            self.0.sign(message).await
        }
    }
    let key = SigningKey::pem(KeyAlgorithm::Ps256, RSA).unwrap();
    let server = Server::granting();
    let auth = ClientAuth::private_key_jwt("id", std::sync::Arc::new(Kms(key)));

    handle(server.endpoint(auth).issuer("https://id.example"))
        .token()
        .await
        .unwrap();

    let asked = server.last_request();
    let assertion = asked.form_value("client_assertion").unwrap();
    verified(assertion, Algorithm::PS256);
    assert_eq!(header(assertion)["x5t#S256"], SHA256);
    assert_eq!(header(assertion)["kid"], "kms");
}

#[test]
fn what_is_no_certificate_is_named() {
    let damaged = CERTIFICATE.replace("-----END CERTIFICATE-----", "");
    for (text, found) in [
        ("", "found nothing"),
        ("canary", "without a `-----BEGIN` line"),
        (RSA, "found a private key"),
        (&damaged, "a truncated or damaged certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----",
            "a truncated or damaged certificate",
        ),
    ] {
        let error = CertificateHeader::new(text).unwrap_err();

        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::Configuration, false)
        );
        let text = error.to_string();
        assert!(text.contains(found), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
