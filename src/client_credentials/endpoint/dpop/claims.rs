//! Header and claims of a proof (RFC 9449 §4.2). [pure]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::{client_credentials::prover::ProofTarget, random::unique};

/// Returns the header of the proofs of a key.
pub(super) fn header(algorithm: &str, jwk: &Map<String, Value>) -> Map<String, Value> {
    Map::from_iter([
        ("typ".to_owned(), "dpop+jwt".into()),
        ("alg".to_owned(), algorithm.into()),
        ("jwk".to_owned(), Value::Object(jwk.clone())),
    ])
}

/// Returns the claims of a proof, with a new `jti`. `token_hash` is required at an API and absent at a token endpoint.
pub(super) fn claims(target: &ProofTarget, token_hash: Option<&str>) -> Value {
    let mut claims = json!({
        "jti": URL_SAFE_NO_PAD.encode(unique().to_be_bytes()),
        "htm": target.method,
        "htu": target.url,
        "iat": target.issued_at,
    });
    if let Some(hash) = token_hash {
        claims["ath"] = hash.into();
    }
    if let Some(nonce) = &target.nonce {
        claims["nonce"] = (**nonce).into();
    }
    claims
}
