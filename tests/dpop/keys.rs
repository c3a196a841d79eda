//! Keys: generated, given in every algorithm, and unusable ones.

use serde_json::{Value, json};
use tower::Layer;
use tower_m2m::client_credentials::{
    Dpop, DpopKey, KeyAlgorithm, SigningKey, TokenErrorKind as Kind,
};

use crate::{
    support::{get, send},
    world::World,
};

const EC: &str = include_str!("../keys/ec.jwk");

fn keys() -> Vec<(KeyAlgorithm, &'static str, &'static str)> {
    let rsa = (
        include_str!("../keys/rsa.pem"),
        include_str!("../keys/rsa.jwk"),
    );
    let mut keys: Vec<_> = [
        KeyAlgorithm::Rs256,
        KeyAlgorithm::Rs384,
        KeyAlgorithm::Rs512,
        KeyAlgorithm::Ps256,
        KeyAlgorithm::Ps384,
        KeyAlgorithm::Ps512,
    ]
    .map(|algorithm| (algorithm, rsa.0, rsa.1))
    .into();
    keys.extend([
        (KeyAlgorithm::Es256, include_str!("../keys/ec.pem"), EC),
        (
            KeyAlgorithm::Es384,
            include_str!("../keys/ec384.pem"),
            include_str!("../keys/ec384.jwk"),
        ),
        (
            KeyAlgorithm::EdDsa,
            include_str!("../keys/ed.pem"),
            include_str!("../keys/ed.jwk"),
        ),
    ]);
    keys
}

#[tokio::test(start_paused = true)]
async fn a_given_key_proves_in_every_algorithm() {
    for (algorithm, pem, jwk) in keys() {
        let world = World::new();
        let key = DpopKey::new(SigningKey::pem(algorithm, pem).unwrap()).unwrap();
        let service = world
            .layer(Dpop::key(key.clone()))
            .build()
            .layer(world.api());

        send(&service, get("/")).await.unwrap();

        world.with(|state| {
            let (proof, _) = &state.api_proofs[0];
            assert_eq!(proof.header["alg"], algorithm.as_str());
        });
        let same = DpopKey::new(SigningKey::jwk(algorithm, jwk).unwrap()).unwrap();
        assert_eq!(key.thumbprint(), same.thumbprint());
    }
}

#[test]
fn a_key_on_p521_has_its_public_half() {
    let jwk: Value = serde_json::from_str(include_str!("../keys/ec521.jwk")).unwrap();
    let key = SigningKey::pem(KeyAlgorithm::Es512, include_str!("../keys/ec521.pem")).unwrap();

    let public = DpopKey::new(key).unwrap().public_jwk();

    for member in ["kty", "crv", "x", "y"] {
        assert_eq!(public[member], jwk[member]);
    }
}

#[test]
fn generated_keys_differ() {
    let [one, other] = [0; 2].map(|_| DpopKey::generate().unwrap());

    assert_ne!(one.thumbprint(), other.thumbprint());
}

#[test]
fn an_unusable_key_is_named() {
    let of_source = SigningKey::source(KeyAlgorithm::Es256, EC);
    let error = DpopKey::new(of_source).unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    assert!(
        error.to_string().contains("cannot have a source"),
        "{error}"
    );

    let signer = || SigningKey::jwk(KeyAlgorithm::Es256, EC).unwrap();
    let mut wrong_curve: Value = serde_json::from_str(EC).unwrap();
    wrong_curve["crv"] = "P-384".into();
    for (jwk, says) in [
        ("canary".to_owned(), "not a JSON object"),
        ("{}".to_owned(), "a required member is missing"),
        (
            json!({ "kty": "oct", "k": "canary" }).to_string(),
            "a required member",
        ),
        (wrong_curve.to_string(), "not that of ES256"),
        (
            include_str!("../keys/rsa.jwk").to_owned(),
            "not that of ES256",
        ),
    ] {
        let error = DpopKey::signer(signer(), jwk).unwrap_err();

        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[test]
fn nothing_prints_the_private_half() {
    let jwk: Value = serde_json::from_str(EC).unwrap();
    let key = DpopKey::new(SigningKey::jwk(KeyAlgorithm::Es256, EC).unwrap()).unwrap();

    let printed = format!("{key:?} {:?} {}", Dpop::key(key.clone()), key.public_jwk());

    assert!(!printed.contains(jwk["d"].as_str().unwrap()), "{printed}");
    assert!(format!("{key:?}").contains(key.thumbprint()), "{key:?}");
}
