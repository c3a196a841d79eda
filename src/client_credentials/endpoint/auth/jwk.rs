//! A private JSON Web Key (RFC 7517, RFC 7518 §6, RFC 8037 §2) as the DER that signing libraries read.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::KeyAlgorithm;

type Bytes = Zeroizing<Vec<u8>>;

/// The key and its `kid`, if it is a private key for `algorithm`.
pub(super) fn read(algorithm: KeyAlgorithm, jwk: &[u8]) -> Option<(EncodingKey, Option<String>)> {
    let jwk: Jwk = serde_json::from_slice(jwk).ok()?;
    if jwk.alg.as_deref().is_some_and(|alg| !names(algorithm, alg)) {
        return None;
    }
    let curve = jwk.crv.as_deref();
    let key = match (algorithm, jwk.kty.as_str()) {
        (KeyAlgorithm::Rs256 | KeyAlgorithm::Ps256, "RSA") => {
            EncodingKey::from_rsa_der(&jwk.rsa()?)
        }
        (KeyAlgorithm::Es256, "EC") if curve == Some("P-256") => {
            EncodingKey::from_ec_der(&jwk.ec(P256, 32)?)
        }
        (KeyAlgorithm::Es384, "EC") if curve == Some("P-384") => {
            EncodingKey::from_ec_der(&jwk.ec(P384, 48)?)
        }
        (KeyAlgorithm::EdDsa, "OKP") if curve == Some("Ed25519") => {
            EncodingKey::from_ed_der(&jwk.ed()?)
        }
        _ => return None,
    };
    Some((key, jwk.kid))
}

/// RFC 9864 renames EdDSA with this curve to Ed25519.
fn names(algorithm: KeyAlgorithm, alg: &str) -> bool {
    alg == algorithm.as_str() || (algorithm == KeyAlgorithm::EdDsa && alg == "Ed25519")
}

/// The members that matter here; the private ones are wiped on drop.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    alg: Option<String>,
    crv: Option<String>,
    kid: Option<String>,
    #[serde(default)]
    d: Zeroizing<String>,
    #[serde(default)]
    dp: Zeroizing<String>,
    #[serde(default)]
    dq: Zeroizing<String>,
    #[serde(default)]
    e: Zeroizing<String>,
    #[serde(default)]
    n: Zeroizing<String>,
    #[serde(default)]
    p: Zeroizing<String>,
    #[serde(default)]
    q: Zeroizing<String>,
    #[serde(default)]
    qi: Zeroizing<String>,
    #[serde(default)]
    x: Zeroizing<String>,
    #[serde(default)]
    y: Zeroizing<String>,
}

impl Jwk {
    /// RFC 8017 A.1.2, `RSAPrivateKey`.
    fn rsa(&self) -> Option<Bytes> {
        let mut content = integer(&[0]);
        for member in [
            &self.n, &self.e, &self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi,
        ] {
            content.extend_from_slice(&integer(&decode(member)?));
        }
        Some(element(SEQUENCE, &content))
    }

    /// RFC 5958 around RFC 5915, `ECPrivateKey`.
    fn ec(&self, curve: &[u8], length: usize) -> Option<Bytes> {
        let [d, x, y] = [&self.d, &self.x, &self.y].map(decode);
        let (d, x, y) = (d?, x?, y?);
        if [&d, &x, &y].iter().any(|part| part.len() != length) {
            return None;
        }
        let point = join(&[&[0, UNCOMPRESSED], &x, &y]);
        let public = element(CONTEXT_1, &element(BIT_STRING, &point));
        let key = join(&[&integer(&[1]), &element(OCTET_STRING, &d), &public]);
        let algorithm = join(&[EC_PUBLIC_KEY, curve]);
        Some(pkcs8(&algorithm, &element(SEQUENCE, &key)))
    }

    /// RFC 8410 §7.
    fn ed(&self) -> Option<Bytes> {
        let seed = decode(&self.d)?;
        (seed.len() == 32).then(|| pkcs8(ED25519, &element(OCTET_STRING, &seed)))
    }
}

fn pkcs8(algorithm: &[u8], key: &[u8]) -> Bytes {
    let content = join(&[
        &integer(&[0]),
        &element(SEQUENCE, algorithm),
        &element(OCTET_STRING, key),
    ]);
    element(SEQUENCE, &content)
}

/// An unsigned number, big-endian: without leading zeros, but one where the first bit would make it negative.
fn integer(number: &[u8]) -> Bytes {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    let padded = number.first().is_none_or(|first| first & 0x80 != 0);
    element(INTEGER, &join(&[if padded { &[0] } else { &[] }, number]))
}

fn element(tag: u8, content: &[u8]) -> Bytes {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let length = &length[zeros..];
    match content.len() {
        short @ 0..=0x7F => join(&[&[tag, short as u8], content]),
        _ => join(&[&[tag, 0x80 | length.len() as u8], length, content]),
    }
}

/// In one allocation, so that no copy is left behind.
fn join(parts: &[&[u8]]) -> Bytes {
    let mut joined = Zeroizing::new(Vec::with_capacity(parts.iter().map(|p| p.len()).sum()));
    for part in parts {
        joined.extend_from_slice(part);
    }
    joined
}

fn decode(member: &Zeroizing<String>) -> Option<Bytes> {
    let decoded = URL_SAFE_NO_PAD.decode(member.trim_end_matches('=')).ok()?;
    (!decoded.is_empty()).then(|| Zeroizing::new(decoded))
}

const BIT_STRING: u8 = 0x03;
const CONTEXT_1: u8 = 0xA1;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const UNCOMPRESSED: u8 = 0x04;

// Object identifiers, encoded.
const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const P256: &[u8] = &[0x06, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 5, 0x2B, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x06, 3, 0x2B, 0x65, 0x70];
