//! Assertions that are signed here and sent as the grant, the certificates that their headers name, key files of Google
//! service accounts, and grant types that this crate does not know.
#![cfg(all(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto"))]

mod certificates;
mod custom;
mod google;
mod signed;
#[path = "../support/mod.rs"]
mod support;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, crypto::rust_crypto};
use serde_json::Value;

const EC: &str = include_str!("../keys/ec.pem");
const RSA: &str = include_str!("../keys/rsa.pem");

/// The claims of `token`, its signature verified with the key that belongs to the algorithm.
fn verified(token: &str, algorithm: Algorithm) -> Value {
    // An error means that another test of this process was first.
    let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
    let key = match algorithm {
        Algorithm::ES256 => DecodingKey::from_ec_pem(include_bytes!("../keys/ec.pub")),
        _ => DecodingKey::from_rsa_pem(include_bytes!("../keys/rsa.pub")),
    };
    let mut validation = Validation::new(algorithm);
    validation.validate_aud = false;
    // The time of these tests stands still.
    validation.validate_exp = false;
    validation.required_spec_claims.clear();
    let verified = jsonwebtoken::decode::<Value>(token, &key.unwrap(), &validation);
    verified.unwrap().claims
}

/// The header of `token`.
fn header(token: &str) -> Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}
