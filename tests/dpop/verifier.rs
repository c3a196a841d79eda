//! A verifier of proofs (RFC 9449 §4.3), by jsonwebtoken instead of the crate's own code.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    crypto::rust_crypto,
    jwk::{Jwk, ThumbprintHash},
};
use serde_json::Value;

/// A proof whose signature is valid.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// Thumbprint of the key in its header.
    pub(crate) thumbprint: String,
    pub(crate) header: Value,
    pub(crate) claims: Value,
}

impl Verified {
    pub(crate) fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }
}

/// Verifies the signature, the type and the absence of private members.
pub(crate) fn verify(proof: &str) -> Verified {
    // An error means that another test of this process was first.
    let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
    let header = proof.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header["typ"], "dpop+jwt");
    for private in ["d", "p", "q", "dp", "dq", "qi", "k", "kid"] {
        assert!(header["jwk"].get(private).is_none(), "{header}");
    }
    let jwk: Jwk = serde_json::from_value(header["jwk"].clone()).unwrap();
    let algorithm: Algorithm = header["alg"].as_str().unwrap().parse().unwrap();
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    let claims = jsonwebtoken::decode::<Value>(proof, &key, &validation);
    Verified {
        thumbprint: jwk.thumbprint(ThumbprintHash::SHA256).unwrap(),
        claims: claims.unwrap().claims,
        header,
    }
}
