//! A verifier of proofs that shares no code with those that create them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::BoxError;

/// A DPoP proof whose form and signature are valid (RFC 9449 §4.2).
///
/// Needs the feature `jwt-aws-lc-rs` or `jwt-rust-crypto`; without them, every proof is rejected with an error that says so.
///
/// # Examples
///
/// The proof of §4.1:
///
/// ```
/// use tower_m2m::test_util::DpopProof;
///
/// # fn main() -> Result<(), tower_m2m::BoxError> {
/// let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZy\
///     aHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpi\
///     VFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0V\
///     TYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3R\
///     va2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-\
///     FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
/// # if cfg!(any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto")) {
///
/// let proof = DpopProof::verify(proof)?;
///
/// assert_eq!(proof.claim("htu"), Some("https://server.example.com/token"));
/// assert_eq!(proof.thumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DpopProof {
    /// Header of the proof.
    pub header: Value,
    /// Claims of the proof.
    pub claims: Value,
    /// Thumbprint of the key in the header (RFC 7638): `jkt` of the tokens that are bound to it.
    pub thumbprint: String,
}

impl DpopProof {
    /// Verifies the type, the key and the signature of a proof. The claims are not verified.
    ///
    /// # Errors
    ///
    /// Returns what is wrong: the form, a private key in the header, an unknown algorithm (ES512 is one), or the signature.
    pub fn verify(proof: &str) -> Result<Self, BoxError> {
        let (message, signature) = proof.rsplit_once('.').ok_or("not a JWT")?;
        let (header, claims) = message.split_once('.').ok_or("not a JWT")?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
        if header["typ"] != "dpop+jwt" {
            return Err("`typ` is not dpop+jwt".into());
        }
        let key = header["jwk"].as_object().ok_or("`jwk` is missing")?;
        let algorithm = header["alg"].as_str().ok_or("`alg` is missing")?;
        let thumbprint = thumbprint(key)?;
        provider::verify(algorithm, key, message.as_bytes(), signature)?;
        Ok(Self {
            header,
            claims,
            thumbprint,
        })
    }

    /// Returns a claim whose value is a string.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }
}

/// Returns the hash of a token (`ath`).
pub(super) fn hash(token: &str) -> Result<String, BoxError> {
    Ok(URL_SAFE_NO_PAD.encode(provider::sha256(token.as_bytes())?))
}

/// Returns the thumbprint of a public key (RFC 7638 §3).
fn thumbprint(key: &Map<String, Value>) -> Result<String, BoxError> {
    let required: &[&str] = match key.get("kty").and_then(Value::as_str) {
        Some("EC") => &["crv", "kty", "x", "y"],
        Some("OKP") => &["crv", "kty", "x"],
        Some("RSA") => &["e", "kty", "n"],
        _ => return Err("`jwk` is not a public key".into()),
    };
    // Private halves, and `kid`, which some servers reject.
    if key.keys().any(|name| !required.contains(&name.as_str())) {
        return Err("`jwk` has other members than a public key".into());
    }
    let members: Option<Vec<_>> = required
        .iter()
        .map(|name| Some(format!("{name:?}:{}", key.get(*name)?)))
        .collect();
    let members = members.ok_or("`jwk` lacks a member")?.join(",");
    hash(&format!("{{{members}}}"))
}

/// Signatures and hashes of jsonwebtoken's provider. If both features are enabled, aws-lc-rs is used.
#[cfg(any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto"))]
mod provider {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    #[cfg(feature = "jwt-aws-lc-rs")]
    use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
    #[cfg(not(feature = "jwt-aws-lc-rs"))]
    use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
    use jsonwebtoken::{Algorithm, DecodingKey, jwk::Jwk, jwk::ThumbprintHash};
    use serde_json::{Map, Value};

    use super::BoxError;

    /// Verifies a signature. Calls the provider directly, because jsonwebtoken's own functions use the process-wide default.
    pub(super) fn verify(
        algorithm: &str,
        key: &Map<String, Value>,
        message: &[u8],
        signature: &str,
    ) -> Result<(), BoxError> {
        let algorithm: Algorithm = algorithm.parse()?;
        let key: Jwk = serde_json::from_value(Value::Object(key.clone()))?;
        let key = DecodingKey::from_jwk(&key)?;
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key)?;
        let signature = URL_SAFE_NO_PAD.decode(signature)?;
        let verified = verifier.verify(message, &signature);
        verified.map_err(|_| "the signature does not match".into())
    }

    /// Returns the SHA-256 hash of `bytes`.
    pub(super) fn sha256(bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
        let digest = DEFAULT_PROVIDER.key_utils.compute_digest;
        Ok(digest(bytes, ThumbprintHash::SHA256)?)
    }
}

/// Placeholder without a provider: every proof is rejected.
#[cfg(not(any(feature = "jwt-aws-lc-rs", feature = "jwt-rust-crypto")))]
mod provider {
    use serde_json::{Map, Value};

    use super::BoxError;

    /// Fails, because the build has no provider.
    pub(super) fn verify(
        _: &str,
        _: &Map<String, Value>,
        _: &[u8],
        _: &str,
    ) -> Result<(), BoxError> {
        Err(MISSING.into())
    }

    /// Fails, because the build has no provider.
    pub(super) fn sha256(_: &[u8]) -> Result<Vec<u8>, BoxError> {
        Err(MISSING.into())
    }

    /// The features that are missing.
    const MISSING: &str = "enable the feature `jwt-aws-lc-rs` or `jwt-rust-crypto` of tower-m2m";
}
