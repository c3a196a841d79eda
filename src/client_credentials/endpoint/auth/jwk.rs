//! Converts a private JSON Web Key (RFC 7517, RFC 7518 §6, RFC 8037 §2) to PKCS #1 or PKCS #8, which signing libraries
//! read.
//!
//! Signing libraries read DER. A JWK is therefore converted when it is read, and never kept as JSON.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    super::pem,
    algorithm::KeyAlgorithm,
    der::{
        BIT_STRING, CONTEXT_1, EC_PUBLIC_KEY, ED25519, OCTET_STRING, P256, P384, P521, SEQUENCE,
        UNCOMPRESSED, element, integer, join, pkcs8,
    },
    rsa,
};

/// Zeroized bytes.
type Bytes = Zeroizing<Vec<u8>>;

/// Reads a private key for `algorithm` and its `kid`. `text` is a key, or a set (RFC 7517 §5) with one such key.
///
/// A set may hold keys of other types and public keys; they are skipped. The last of them is described if none fits.
///
/// # Errors
///
/// Describes what was found, without its content.
pub(super) fn read(
    algorithm: KeyAlgorithm,
    text: &[u8],
) -> Result<(Bytes, Option<String>), String> {
    let read = serde_json::from_slice::<Jwk>(text);
    let jwk = read.map_err(|_| match text.first() {
        Some(b'{') => "JSON that is not a JWK".to_owned(),
        _ => pem::found(text),
    })?;
    // A single key has no `keys` member.
    let Some(keys) = jwk.keys else {
        return jwk.key(algorithm).map(|key| (key, jwk.kid));
    };
    let count = keys.len();
    let mut found = "an empty JWK set".to_owned();
    let mut suitable = Vec::new();
    for jwk in keys {
        match jwk.key(algorithm) {
            Ok(key) => suitable.push((key, jwk.kid)),
            Err(what) => found = format!("{what} in a JWK set of {count}"),
        }
    }
    // With several suitable keys the choice would be arbitrary.
    match suitable.len() {
        0 => Err(found),
        1 => Ok(suitable.swap_remove(0)),
        several => Err(format!(
            "{several} such keys in a JWK set, which must contain exactly one"
        )),
    }
}

/// Encodes PKCS #8 with a private key on P-256 without its public point.
#[cfg(feature = "dpop")]
pub(super) fn p256(scalar: &[u8; 32]) -> Bytes {
    let key = join(&[&integer(&[1]), &element(OCTET_STRING, scalar)]);
    let algorithm = join(&[EC_PUBLIC_KEY, P256]);
    pkcs8(&algorithm, &element(SEQUENCE, &key))
}

/// Returns whether `alg` names `algorithm`. RFC 9864 renames EdDSA with this curve to Ed25519.
fn names(algorithm: KeyAlgorithm, alg: &str) -> bool {
    alg == algorithm.as_str() || (algorithm == KeyAlgorithm::EdDsa && alg == "Ed25519")
}

/// The relevant members of a key or a key set. The private ones are zeroized on drop.
///
/// Unknown members are ignored (RFC 7517 §4). `use` and `key_ops` are not checked, because many writers set them
/// wrongly.
#[derive(Deserialize)]
struct Jwk {
    /// Keys of a key set.
    keys: Option<Vec<Self>>,
    #[serde(default)]
    /// Key type.
    kty: String,
    /// Algorithm that the key is restricted to.
    alg: Option<String>,
    /// Curve, for `EC` and `OKP`.
    crv: Option<String>,
    /// Key id.
    kid: Option<String>,
    #[serde(default)]
    /// Private exponent, private scalar or seed.
    d: Zeroizing<String>,
    #[serde(default)]
    /// `d mod (p - 1)`.
    dp: Zeroizing<String>,
    #[serde(default)]
    /// `d mod (q - 1)`.
    dq: Zeroizing<String>,
    #[serde(default)]
    /// Public exponent.
    e: Zeroizing<String>,
    #[serde(default)]
    /// Modulus.
    n: Zeroizing<String>,
    #[serde(default)]
    /// First prime.
    p: Zeroizing<String>,
    #[serde(default)]
    /// Second prime.
    q: Zeroizing<String>,
    #[serde(default)]
    /// `q⁻¹ mod p`.
    qi: Zeroizing<String>,
    #[serde(default)]
    /// First coordinate of the public point.
    x: Zeroizing<String>,
    #[serde(default)]
    /// Second coordinate of the public point.
    y: Zeroizing<String>,
}

impl Jwk {
    /// Converts the key for `algorithm`. Fails with a description if the type, the curve or `alg` does not fit, or a
    /// member is missing.
    ///
    /// `alg` is checked last, so that a key of the wrong type is described as such.
    fn key(&self, algorithm: KeyAlgorithm) -> Result<Bytes, String> {
        let curve = self.crv.as_deref();
        let der = match (algorithm, self.kty.as_str(), curve) {
            (algorithm, "RSA", _) if algorithm.is_rsa() => self.rsa(),
            (KeyAlgorithm::Es256, "EC", Some("P-256")) => self.ec(P256, 32),
            (KeyAlgorithm::Es384, "EC", Some("P-384")) => self.ec(P384, 48),
            (KeyAlgorithm::Es512, "EC", Some("P-521")) => self.ec(P521, 66),
            (KeyAlgorithm::EdDsa, "OKP", Some("Ed25519")) => self.ed(),
            _ => return Err(self.describe()),
        };
        if self
            .alg
            .as_deref()
            .is_some_and(|alg| !names(algorithm, alg))
        {
            return Err(format!(
                "{} whose `alg` names another algorithm",
                self.describe()
            ));
        }
        der.ok_or_else(|| self.describe())
    }

    /// Describes the key without its content, with the first member that is missing or damaged.
    fn describe(&self) -> String {
        let what = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => "an RSA key",
            ("EC", Some("P-256")) => "an EC key on P-256",
            ("EC", Some("P-384")) => "an EC key on P-384",
            ("EC", Some("P-521")) => "an EC key on P-521",
            ("EC", Some("secp256k1")) => "an EC key on secp256k1",
            ("EC", _) => "an EC key on another curve",
            ("OKP", Some("Ed25519")) => "an Ed25519 key",
            ("OKP", _) => "a key on another Edwards or Montgomery curve",
            ("oct", _) => "a symmetric key",
            ("", _) => "JSON without `kty`",
            _ => "a key of another type",
        };
        let needed: &[(&str, &Zeroizing<String>)] = match self.kty.as_str() {
            "RSA" => &[("n", &self.n), ("e", &self.e), ("d", &self.d)],
            "EC" => &[("x", &self.x), ("y", &self.y), ("d", &self.d)],
            "OKP" => &[("d", &self.d)],
            _ => &[],
        };
        let missing = needed.iter().find(|(_, member)| member.is_empty());
        let damaged = needed.iter().find(|(_, member)| decode(member).is_none());
        match (missing, damaged) {
            (Some(("d", _)), _) => format!("{what} without `d`, the private part"),
            (Some((name, _)), _) => format!("{what} without `{name}`"),
            (None, Some((name, _))) => format!("{what} whose `{name}` is damaged"),
            (None, None) => what.to_owned(),
        }
    }

    /// Encodes an `RSAPrivateKey` (RFC 8017 A.1.2). Members that follow from `n`, `e` and `d` may be missing (RFC 7518
    /// §6.3.2), and are computed.
    fn rsa(&self) -> Option<Bytes> {
        let (n, e, d) = (decode(&self.n)?, decode(&self.e)?, decode(&self.d)?);
        let all = [&self.p, &self.q, &self.dp, &self.dq, &self.qi].map(decode);
        let rest = match all {
            [Some(p), Some(q), Some(dp), Some(dq), Some(qi)] => [p, q, dp, dq, qi],
            [Some(p), Some(q), ..] => rsa::crt_of_primes(&p, &q, &d)?,
            _ => rsa::crt(&n, &e, &d)?,
        };
        let mut content = integer(&[0]);
        for number in [&n, &e, &d].into_iter().chain(&rest) {
            content = join(&[&content, &integer(number)]);
        }
        Some(element(SEQUENCE, &content))
    }

    /// Encodes PKCS #8 (RFC 5958) with an `ECPrivateKey` (RFC 5915).
    ///
    /// The public point is included, because some libraries require it. It is not checked here.
    fn ec(&self, curve: &[u8], length: usize) -> Option<Bytes> {
        let [d, x, y] = [&self.d, &self.x, &self.y].map(|part| padded(&decode(part)?, length));
        let (d, x, y) = (d?, x?, y?);
        let point = join(&[&[0, UNCOMPRESSED], &x, &y]);
        let public = element(CONTEXT_1, &element(BIT_STRING, &point));
        let key = join(&[&integer(&[1]), &element(OCTET_STRING, &d), &public]);
        let algorithm = join(&[EC_PUBLIC_KEY, curve]);
        Some(pkcs8(&algorithm, &element(SEQUENCE, &key)))
    }

    /// Encodes PKCS #8 with an Ed25519 seed (RFC 8410 §7).
    fn ed(&self) -> Option<Bytes> {
        let seed = decode(&self.d)?;
        (seed.len() == 32).then(|| pkcs8(ED25519, &element(OCTET_STRING, &seed)))
    }
}

/// Returns `number` with exactly `length` bytes. RFC 7518 §6.2.1.2 requires leading zeros, which some writers omit or
/// add to.
fn padded(number: &[u8], length: usize) -> Option<Bytes> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    let missing = length.checked_sub(number.len())?;
    (missing <= MAX_LEADING_ZEROS).then(|| join(&[&[0; MAX_LEADING_ZEROS][..missing], number]))
}

/// Decodes base64url, with or without padding. Returns `None` for an empty member.
fn decode(member: &Zeroizing<String>) -> Option<Bytes> {
    let decoded = URL_SAFE_NO_PAD.decode(member.trim_end_matches('=')).ok()?;
    (!decoded.is_empty()).then(|| Zeroizing::new(decoded))
}

/// Maximum number of missing leading zeros. More do not occur by chance, so the number belongs to another curve.
const MAX_LEADING_ZEROS: usize = 8;
