//! Signed assertions, verified with their public keys by another crypto provider than the one that signed.
#![cfg(all(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto"))]

mod support;

use std::sync::{Arc, Mutex};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation, crypto::rust_crypto};
use serde_json::Value;
use support::server::{FIXED_SECONDS, RecordedRequest, Server, TOKEN_URL, handle};
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
                SigningKey::pem(algorithm, pem)
                    .unwrap()
                    .with_key_id("by-hand"),
                "by-hand",
            ),
            (SigningKey::jwk(algorithm, jwk).unwrap(), "-1"),
        ] {
            let server = Server::granting();
            let endpoint = server
                .endpoint(ClientAuth::private_key_jwt("id", key))
                .issuer(ISSUER);

            handle(endpoint).token().await.unwrap();

            let verified = verified(&server.last_request(), name.parse().unwrap(), &public);
            assert!(verified.header.kid.unwrap().ends_with(id), "{name}");
            assert_eq!(
                verified.header.typ.as_deref(),
                Some("client-authentication+jwt")
            );
            assert_eq!(verified.claims["iss"], "id", "{name}");
            assert_eq!(verified.claims["sub"], "id", "{name}");
            assert_eq!(verified.claims["aud"], ISSUER, "{name}");
            assert_eq!(verified.claims["iat"], FIXED_SECONDS, "{name}");
            assert_eq!(verified.claims["exp"], FIXED_SECONDS + 60, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_on_p521_signs_from_pem_and_from_jwk() {
    use p521::{
        ecdsa::{Signature, VerifyingKey, signature::Verifier},
        pkcs8::DecodePublicKey,
    };

    let pem = include_str!("keys/ec521.pem");
    let jwk = include_str!("keys/ec521.jwk");
    let sec1 = include_str!("keys/ec521_sec1.pem");
    let public = p521::PublicKey::from_public_key_pem(include_str!("keys/ec521.pub")).unwrap();
    let public = VerifyingKey::from_affine(*public.as_affine()).unwrap();
    for key in [
        SigningKey::pem(KeyAlgorithm::Es512, pem),
        SigningKey::pem(KeyAlgorithm::Es512, sec1),
        SigningKey::jwk(KeyAlgorithm::Es512, jwk),
        Ok(SigningKey::source(KeyAlgorithm::Es512, pem)),
    ] {
        let server = Server::granting();
        let auth = ClientAuth::private_key_jwt("id", key.unwrap());

        handle(server.endpoint(auth).issuer(ISSUER))
            .token()
            .await
            .unwrap();

        let asked = server.last_request();
        let assertion = asked.form_value("client_assertion").unwrap();
        let (message, signature) = assertion.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        public.verify(message.as_bytes(), &signature).unwrap();
        let header = header_of(assertion);
        assert_eq!(header["alg"], "ES512");
    }
    let error = SigningKey::pem(KeyAlgorithm::Es256, pem).unwrap_err();
    assert!(
        error.to_string().contains("found an EC key on P-521"),
        "{error}"
    );
}

/// The header of a JWT, not verified.
fn header_of(token: &str) -> Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_private_key_signs_from_der_and_behind_a_signer_as_well() {
    let texts = [
        (KeyAlgorithm::Es256, include_str!("keys/ec.pem")),
        (KeyAlgorithm::Es256, include_str!("keys/ec_sec1.pem")),
        (KeyAlgorithm::Ps256, include_str!("keys/rsa_pkcs1.pem")),
        (KeyAlgorithm::EdDsa, include_str!("keys/ed.pem")),
    ];
    for (algorithm, pem) in texts {
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(base64).unwrap();
        let (_, _, _, public) = keys().into_iter().find(|key| key.0 == algorithm).unwrap();
        let key = SigningKey::der(algorithm, &der).unwrap();
        for auth in [
            ClientAuth::private_key_jwt("id", key.clone()),
            ClientAuth::private_key_jwt("id", Arc::new(key)),
        ] {
            let server = Server::granting();

            handle(server.endpoint(auth).issuer(ISSUER))
                .token()
                .await
                .unwrap();

            verified(
                &server.last_request(),
                algorithm.as_str().parse().unwrap(),
                &public,
            );
        }
        for wrong in [
            &der[..der.len() / 2],
            pem.as_bytes(),
            &[0x30, 0x82, 0xFF],
            &[],
        ] {
            let error = SigningKey::der(algorithm, wrong).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration);
        }
    }
    let source = SigningKey::source(KeyAlgorithm::Es256, include_str!("keys/ec.jwk"));
    let server = Server::granting();
    let auth = ClientAuth::private_key_jwt("id", Arc::new(source));

    handle(server.endpoint(auth).issuer(ISSUER))
        .token()
        .await
        .unwrap();

    let public = DecodingKey::from_ec_pem(include_bytes!("keys/ec.pub")).unwrap();
    verified(&server.last_request(), Algorithm::ES256, &public);
}

#[tokio::test(start_paused = true)]
async fn a_client_secret_signs_and_is_not_sent() {
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

        let asked = server.last_request();
        assert_eq!(verified(&asked, name, &public).claims["sub"], "id");
        assert_eq!(asked.form_value("client_secret"), None);
        assert!(!asked.headers.contains_key("authorization"));
        assert!(!format!("{asked:?}").contains(SECRET));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_private_key_is_reloaded_and_a_damaged_one_ignored() {
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
        let header = verified(&server.last_request(), Algorithm::ES256, &public).header;
        ids.push(header.kid);
    }
    *text.lock().unwrap() = "no key";
    let damaged = handle.refresh_now().await.unwrap_err();

    assert_eq!(ids[0], None);
    assert!(ids[1].as_deref().is_some_and(|id| id.ends_with("-1")));
    assert_eq!(damaged.kind(), Kind::Configuration);
    assert_eq!(server.requests().len(), 2);
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
        let claims = verified(&server.requests()[n], Algorithm::HS256, &public).claims;
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

        let verified = verified(&server.last_request(), Algorithm::HS256, &public);
        assert_eq!(verified.claims["aud"], sent);
        assert_eq!(verified.header.typ, None);
    }
}

#[test]
fn an_assertion_without_an_audience_fails_before_sending() {
    let key = SigningKey::pem(KeyAlgorithm::Es256, include_bytes!("keys/ec.pem")).unwrap();
    for auth in [
        ClientAuth::private_key_jwt("id", key),
        ClientAuth::client_secret_jwt("id", SECRET),
    ] {
        let endpoint = TokenEndpoint::new(TOKEN_URL.parse().unwrap(), auth);

        let error = endpoint.validate().unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(
            error.to_string().contains(".assertion_audience(..)"),
            "{error}"
        );
    }
}

#[test]
fn a_key_of_the_wrong_type_names_the_expected_one() {
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
            (Kind::Configuration, false)
        );
        assert!(
            error.to_string().contains("is not a private key for"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn private_keys_are_read_in_common_formats() {
    let ec = include_str!("keys/ec.pem");
    let sec1 = include_str!("keys/ec_sec1.pem");
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let certificate = include_str!("certificates/client.pem");
    let bag = "Bag Attributes\n    friendlyName: orders\n    localKeyID: 01 02\nKey Attributes: <No Attributes>\n";
    let ec_jwk = include_str!("keys/ec.jwk");
    let texts = [
        sec1.to_owned(),
        format!("{parameters}{sec1}"),
        format!("{parameters}{ec}"),
        format!("{certificate}{ec}"),
        format!("{bag}{ec}{certificate}"),
        ec.replace('\n', "\\n"),
        format!("\"{}\"", ec.replace('\n', "\\r\\n")),
        ec.replace('\n', " "),
        ec.replace('\n', ""),
        ec.replace('\n', "\r\n"),
        format!("\u{FEFF}{ec}"),
        STANDARD.encode(ec),
        STANDARD.encode(ec_jwk),
        format!("\u{FEFF}{ec_jwk}\r\n"),
        format!(r#"{{"keys":[{ec_jwk}]}}"#),
        format!(
            r#"{{"keys":[{},{ec_jwk},{{"kty":"oct","k":"YQ"}}]}}"#,
            include_str!("keys/rsa.jwk")
        ),
    ];
    let public = DecodingKey::from_ec_pem(include_bytes!("keys/ec.pub")).unwrap();
    for text in texts {
        signs(KeyAlgorithm::Es256, &text, &public).await;
    }

    let public = DecodingKey::from_ec_pem(include_bytes!("keys/ec_short.pub")).unwrap();
    signs(
        KeyAlgorithm::Es256,
        include_str!("keys/ec_short.jwk"),
        &public,
    )
    .await;

    let public = DecodingKey::from_rsa_pem(include_bytes!("keys/rsa.pub")).unwrap();
    let pkcs1 = include_str!("keys/rsa_pkcs1.pem");
    signs(KeyAlgorithm::Ps256, pkcs1, &public).await;
    let all: Value = serde_json::from_str(include_str!("keys/rsa.jwk")).unwrap();
    for left_out in [&["dp", "dq", "qi"][..], &["p", "q", "dp", "dq", "qi"]] {
        let mut jwk = all.clone();
        for member in left_out {
            jwk.as_object_mut().unwrap().remove(*member);
        }
        signs(KeyAlgorithm::Rs256, &jwk.to_string(), &public).await;
    }
}

#[test]
fn an_invalid_key_error_names_the_found_and_expected_type() {
    let ec = include_str!("keys/ec.pem");
    let rsa = include_str!("keys/rsa.pem");
    let ec_jwk = include_str!("keys/ec.jwk");
    let public = include_str!("keys/ec.pub");
    let public_jwk = r#"{"kty":"EC","crv":"P-256","x":"YQ","y":"YQ"}"#;
    for (algorithm, text, found) in [
        (KeyAlgorithm::Es256, rsa, "found an RSA key of 2048 bits"),
        (KeyAlgorithm::Es384, ec, "found an EC key on P-256"),
        (KeyAlgorithm::EdDsa, ec_jwk, "found an EC key on P-256"),
        (KeyAlgorithm::Es256, public, "found a public key"),
        (KeyAlgorithm::Es256, public_jwk, "without `d`"),
        (
            KeyAlgorithm::Es256,
            include_str!("keys/ec_encrypted.pem"),
            "found an encrypted private key; expected an EC key on P-256",
        ),
        (
            KeyAlgorithm::Es256,
            include_str!("keys/ec_encrypted.pem"),
            "openssl pkey",
        ),
        (
            KeyAlgorithm::Rs256,
            include_str!("keys/rsa_1024.pem"),
            "found an RSA key of 1024 bits that cannot sign",
        ),
        (
            KeyAlgorithm::Es256,
            include_str!("certificates/client.pem"),
            "found a certificate;",
        ),
        (KeyAlgorithm::Es256, "/run/secrets/key.pem", "a file path"),
        (KeyAlgorithm::Es256, "canary", "without a `-----BEGIN`"),
        (KeyAlgorithm::Es256, "{\"canary\"", "JSON that is not a JWK"),
        (KeyAlgorithm::Es256, r#"{"keys":[]}"#, "an empty JWK set"),
    ] {
        let key = match text.starts_with('{') {
            true => SigningKey::jwk(algorithm, text),
            false => SigningKey::pem(algorithm, text),
        };
        let error = key.unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
        assert!(error.contains("expected an"), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    for (error, remedy) in [
        (
            SigningKey::jwk(KeyAlgorithm::Es256, ec),
            "`SigningKey::pem`",
        ),
        (
            SigningKey::pem(KeyAlgorithm::Es256, ec_jwk),
            "`SigningKey::jwk`",
        ),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(remedy), "{error}");
    }
    let two = format!(r#"{{"keys":[{ec_jwk},{ec_jwk}]}}"#);
    let error = SigningKey::jwk(KeyAlgorithm::Es256, two).unwrap_err();
    assert!(error.to_string().contains("2 such keys"), "{error}");
}

/// The key in `text` makes signatures that `public` verifies.
async fn signs(algorithm: KeyAlgorithm, text: &str, public: &DecodingKey) {
    let text = text.to_owned();
    let source = SigningKey::source(algorithm, text.clone());
    let fixed = SigningKey::pem(algorithm, &text).or_else(|_| SigningKey::jwk(algorithm, &text));
    let fixed = fixed.unwrap_or_else(|error| panic!("{error}: {text}"));
    for key in [fixed, source] {
        let server = Server::granting();
        let endpoint = server
            .endpoint(ClientAuth::private_key_jwt("id", key))
            .issuer(ISSUER);

        let token = handle(endpoint).token().await;

        token.unwrap_or_else(|error| panic!("{error}: {text}"));
        verified(
            &server.last_request(),
            algorithm.as_str().parse().unwrap(),
            public,
        );
    }
}

#[test]
fn keys_are_hidden_in_debug_output() {
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
fn verified(asked: &RecordedRequest, algorithm: Algorithm, key: &DecodingKey) -> TokenData<Value> {
    assert_eq!(
        asked.form_value("client_assertion_type"),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
    );
    assert_eq!(asked.form_value("client_id"), Some("id"));
    // An error means that another test of this process was first.
    let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
    let mut validation = Validation::new(algorithm);
    validation.validate_aud = false;
    // The time of these tests stands still.
    validation.validate_exp = false;
    jsonwebtoken::decode(
        asked.form_value("client_assertion").unwrap(),
        key,
        &validation,
    )
    .unwrap()
}

/// Algorithm, private key as PEM and as JWK, public key. Without ES512, which jsonwebtoken does not verify.
fn keys() -> [(KeyAlgorithm, &'static [u8], &'static [u8], DecodingKey); 9] {
    let rsa = || DecodingKey::from_rsa_pem(include_bytes!("keys/rsa.pub")).unwrap();
    let ec = |pem: &[u8]| DecodingKey::from_ec_pem(pem).unwrap();
    let ed = DecodingKey::from_ed_pem(include_bytes!("keys/ed.pub")).unwrap();
    let rsa_pem = include_bytes!("keys/rsa.pem").as_slice();
    let rsa_jwk = include_bytes!("keys/rsa.jwk").as_slice();
    [
        (KeyAlgorithm::Rs256, rsa_pem, rsa_jwk, rsa()),
        (KeyAlgorithm::Rs384, rsa_pem, rsa_jwk, rsa()),
        (KeyAlgorithm::Rs512, rsa_pem, rsa_jwk, rsa()),
        (KeyAlgorithm::Ps256, rsa_pem, rsa_jwk, rsa()),
        (KeyAlgorithm::Ps384, rsa_pem, rsa_jwk, rsa()),
        (KeyAlgorithm::Ps512, rsa_pem, rsa_jwk, rsa()),
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
