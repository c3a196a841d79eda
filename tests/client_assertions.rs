//! Signed assertions, verified with their public keys by another crypto provider than the one that signed.
#![cfg(all(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto"))]

mod support;

use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation, crypto::rust_crypto};
use serde_json::Value;
use support::server::{Asked, CIVIL_SECONDS, Server, TOKEN_URL, handle};
use tower_m2m::{
    ClientAuth, TokenEndpoint,
    client_credentials::{
        AssertionAudience, KeyAlgorithm, SecretAlgorithm, SigningKey, TokenErrorKind as Kind,
    },
};

const ISSUER: &str = "https://id.example";
const SECRET: &str = "a secret of at least sixty-four bytes, as the longest of the hashes wants it";

#[tokio::test(start_paused = true)]
async fn a_private_key_signs_in_every_algorithm_from_pem_and_from_jwk() {
    for (algorithm, pem, jwk, public) in keys() {
        let name = algorithm.as_str();
        for (key, id) in [
            (
                SigningKey::pem(algorithm, pem).unwrap().key_id("by-hand"),
                "by-hand",
            ),
            (SigningKey::jwk(algorithm, jwk).unwrap(), "-1"),
        ] {
            let server = Server::granting();
            let endpoint = server
                .endpoint(ClientAuth::private_key_jwt("id", key))
                .issuer(ISSUER);

            handle(endpoint).token().await.unwrap();

            let verified = verified(&server.last(), name.parse().unwrap(), &public);
            assert!(verified.header.kid.unwrap().ends_with(id), "{name}");
            assert_eq!(
                verified.header.typ.as_deref(),
                Some("client-authentication+jwt")
            );
            assert_eq!(verified.claims["iss"], "id", "{name}");
            assert_eq!(verified.claims["sub"], "id", "{name}");
            assert_eq!(verified.claims["aud"], ISSUER, "{name}");
            assert_eq!(verified.claims["iat"], CIVIL_SECONDS, "{name}");
            assert_eq!(verified.claims["exp"], CIVIL_SECONDS + 60, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_secret_signs_and_stays_here() {
    let public = DecodingKey::from_secret(SECRET.as_bytes());
    for (algorithm, name) in [
        (SecretAlgorithm::Hs256, Algorithm::HS256),
        (SecretAlgorithm::Hs384, Algorithm::HS384),
        (SecretAlgorithm::Hs512, Algorithm::HS512),
    ] {
        let server = Server::granting();
        let auth = ClientAuth::client_secret_jwt_with("id", SECRET, algorithm);

        handle(server.endpoint(auth).issuer(ISSUER))
            .token()
            .await
            .unwrap();

        let asked = server.last();
        assert_eq!(verified(&asked, name, &public).claims["sub"], "id");
        assert_eq!(asked.one("client_secret"), None);
        assert!(!asked.headers.contains_key("authorization"));
        assert!(!format!("{asked:?}").contains(SECRET));
    }
}

#[tokio::test(start_paused = true)]
async fn a_private_key_that_is_replaced_is_read_again_and_one_that_is_damaged_changes_nothing() {
    let text = Arc::new(Mutex::new(include_str!("keys/ec.pem")));
    let now = Arc::clone(&text);
    let source = move || {
        let text = *now.lock().unwrap();
        std::future::ready(Ok(text.into()))
    };
    let key = SigningKey::source(KeyAlgorithm::Es256, source);
    let server = Server::granting();
    let handle = handle(
        server
            .endpoint(ClientAuth::private_key_jwt("id", key))
            .issuer(ISSUER),
    );

    let mut ids = Vec::new();
    let public = DecodingKey::from_ec_pem(include_bytes!("keys/ec.pub")).unwrap();
    for replaced in [None, Some(include_str!("keys/ec.jwk"))] {
        if let Some(replaced) = replaced {
            *text.lock().unwrap() = replaced;
        }
        handle.refresh_now().await.unwrap();
        let header = verified(&server.last(), Algorithm::ES256, &public).header;
        ids.push(header.kid);
    }
    *text.lock().unwrap() = "no key";
    let damaged = handle.refresh_now().await.unwrap_err();

    assert_eq!(ids[0], None);
    assert!(ids[1].as_deref().is_some_and(|id| id.ends_with("-1")));
    assert_eq!(damaged.kind(), Kind::WrongKey);
    assert_eq!(server.asked().len(), 2);
    assert!(handle.token().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn every_attempt_has_a_new_jti() {
    let server = Server::granting();
    let public = DecodingKey::from_secret(SECRET.as_bytes());
    let auth = ClientAuth::client_secret_jwt("id", SECRET);
    let handle = handle(server.endpoint(auth).issuer(ISSUER));

    handle.refresh_now().await.unwrap();
    handle.refresh_now().await.unwrap();

    let [first, second] = [0, 1].map(|n| {
        let claims = verified(&server.asked()[n], Algorithm::HS256, &public).claims;
        claims["jti"].as_str().unwrap().to_owned()
    });
    assert_eq!(first.len(), 22);
    assert_ne!(first, second);
}

#[tokio::test(start_paused = true)]
async fn audience_and_type_follow_the_settings() {
    let public = DecodingKey::from_secret(SECRET.as_bytes());
    let audiences = [
        (AssertionAudience::TokenEndpoint, TOKEN_URL),
        ("https://other.example".into(), "https://other.example"),
    ];
    for (audience, sent) in audiences {
        let server = Server::granting();
        let endpoint = server
            .endpoint(ClientAuth::client_secret_jwt("id", SECRET))
            .assertion_audience(audience)
            .assertion_typ(false);

        handle(endpoint).token().await.unwrap();

        let verified = verified(&server.last(), Algorithm::HS256, &public);
        assert_eq!(verified.claims["aud"], sent);
        assert_eq!(verified.header.typ, None);
    }
}

#[test]
fn an_assertion_without_a_known_audience_is_an_error_before_anything_is_sent() {
    let key = SigningKey::pem(KeyAlgorithm::Es256, include_bytes!("keys/ec.pem")).unwrap();
    for auth in [
        ClientAuth::private_key_jwt("id", key),
        ClientAuth::client_secret_jwt("id", SECRET),
    ] {
        let endpoint = TokenEndpoint::new(TOKEN_URL.parse().unwrap(), auth);

        let error = endpoint.check().unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(
            error.to_string().contains(".assertion_audience(..)"),
            "{error}"
        );
    }
}

#[test]
fn a_key_of_another_type_is_an_error_that_says_what_to_pass() {
    let rsa: &[u8] = include_bytes!("keys/rsa.pem");
    let ec: &[u8] = include_bytes!("keys/ec.pem");
    let mut for_ps256: Value = serde_json::from_str(include_str!("keys/rsa.jwk")).unwrap();
    for_ps256["alg"] = "PS256".into();
    let errors = [
        SigningKey::jwk(KeyAlgorithm::Rs256, for_ps256.to_string()),
        SigningKey::pem(KeyAlgorithm::Es256, rsa),
        SigningKey::pem(KeyAlgorithm::Rs256, ec),
        SigningKey::pem(KeyAlgorithm::EdDsa, ec),
        SigningKey::pem(KeyAlgorithm::Es384, ec),
        SigningKey::pem(KeyAlgorithm::Es256, include_bytes!("keys/ec.pub")),
        SigningKey::pem(KeyAlgorithm::Es256, "-----BEGIN PRIVATE KEY-----\ncanary"),
        SigningKey::pem(KeyAlgorithm::Es256, [0xFF, 0x00]),
        SigningKey::jwk(KeyAlgorithm::Rs256, include_bytes!("keys/ec.jwk")),
        SigningKey::jwk(KeyAlgorithm::Es256, include_bytes!("keys/ec384.jwk")),
        SigningKey::jwk(
            KeyAlgorithm::Es256,
            r#"{"kty":"EC","crv":"P-256","d":"canary"}"#,
        ),
        SigningKey::jwk(KeyAlgorithm::EdDsa, "{}"),
    ];
    for error in errors.map(Result::unwrap_err) {
        assert_eq!(
            (error.kind(), error.is_transient()),
            (Kind::WrongKey, false)
        );
        assert!(
            error.to_string().contains("is not a private key for"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }

    let sec1 = SigningKey::pem(KeyAlgorithm::Es256, include_bytes!("keys/ec_sec1.pem"));
    assert!(
        sec1.unwrap_err()
            .to_string()
            .contains("openssl pkcs8 -topk8")
    );
}

#[test]
fn keys_do_not_show() {
    let jwk = include_str!("keys/ec.jwk");
    let key = SigningKey::jwk(KeyAlgorithm::Es256, jwk).unwrap();
    let private = serde_json::from_str::<Value>(jwk).unwrap()["d"].clone();

    let printed = format!(
        "{key:?} {:?}",
        ClientAuth::private_key_jwt("id", key.clone())
    );

    assert!(!printed.contains(private.as_str().unwrap()), "{printed}");
    assert!(printed.contains("private_key_jwt"), "{printed}");
}

/// The assertion's header and claims, its signature verified.
fn verified(asked: &Asked, algorithm: Algorithm, key: &DecodingKey) -> TokenData<Value> {
    assert_eq!(
        asked.one("client_assertion_type"),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
    );
    assert_eq!(asked.one("client_id"), Some("id"));
    // An error means that another test of this process was first.
    let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
    let mut validation = Validation::new(algorithm);
    validation.validate_aud = false;
    // The time of these tests stands still.
    validation.validate_exp = false;
    jsonwebtoken::decode(asked.one("client_assertion").unwrap(), key, &validation).unwrap()
}

/// Algorithm, private key as PEM and as JWK, public key.
fn keys() -> [(KeyAlgorithm, &'static [u8], &'static [u8], DecodingKey); 5] {
    let rsa = || DecodingKey::from_rsa_pem(include_bytes!("keys/rsa.pub")).unwrap();
    let ec = |pem: &[u8]| DecodingKey::from_ec_pem(pem).unwrap();
    let ed = DecodingKey::from_ed_pem(include_bytes!("keys/ed.pub")).unwrap();
    let rsa_pem = include_bytes!("keys/rsa.pem").as_slice();
    let rsa_jwk = include_bytes!("keys/rsa.jwk").as_slice();
    [
        (KeyAlgorithm::Rs256, rsa_pem, rsa_jwk, rsa()),
        (KeyAlgorithm::Ps256, rsa_pem, rsa_jwk, rsa()),
        (
            KeyAlgorithm::Es256,
            include_bytes!("keys/ec.pem"),
            include_bytes!("keys/ec.jwk"),
            ec(include_bytes!("keys/ec.pub")),
        ),
        (
            KeyAlgorithm::Es384,
            include_bytes!("keys/ec384.pem"),
            include_bytes!("keys/ec384.jwk"),
            ec(include_bytes!("keys/ec384.pub")),
        ),
        (
            KeyAlgorithm::EdDsa,
            include_bytes!("keys/ed.pem"),
            include_bytes!("keys/ed.jwk"),
            ed,
        ),
    ]
}
