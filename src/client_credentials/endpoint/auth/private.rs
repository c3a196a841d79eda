//! Converts a private key in PEM or DER to the format that signing libraries read. Accepts PKCS #8 (RFC 5958), PKCS #1
//! (RFC 8017 A.1.2) and SEC 1 (RFC 5915). [pure]
//!
//! The algorithm is configured rather than derived from the key, so every error can name both the key that was found
//! and the one that is required.
//!
//! | PEM label | format | accepted for |
//! |---|---|---|
//! | `PRIVATE KEY` | PKCS #8 | RSA, EC, Ed25519 |
//! | `RSA PRIVATE KEY` | PKCS #1 | RSA |
//! | `EC PRIVATE KEY` | SEC 1 | EC |
//! | `ENCRYPTED PRIVATE KEY` | PKCS #8, encrypted | none; the error says how to decrypt it |
//! | `OPENSSH PRIVATE KEY` | OpenSSH | none; the error says how to convert it |

use zeroize::Zeroizing;

use super::{
    super::pem::{self, Block},
    algorithm::KeyAlgorithm,
    der::{
        self, CONTEXT_0, EC_PUBLIC_KEY, ED25519, INTEGER, OCTET_STRING, P256, P384, P521, SEQUENCE,
    },
};

/// A private key in the format of its algorithm, and its description for errors.
///
/// The description never contains a part of the key.
pub(super) type Found = (Zeroizing<Vec<u8>>, String);

/// Reads the first private key in `pem`.
///
/// # Errors
///
/// Describes what was found, without its content.
pub(super) fn read_pem(algorithm: KeyAlgorithm, pem: &[u8]) -> Result<Found, String> {
    let blocks = pem::blocks(pem);
    let Some(block) = blocks.iter().find(|block| block.is_private_key()) else {
        return Err(pem::found(pem));
    };
    // `openssl ecparam -genkey` writes the curve in a block of its own, before the key.
    let parameters = blocks.iter().find(|block| block.label() == "EC PARAMETERS");
    let parameters = parameters.and_then(Block::der);
    let key = block
        .der()
        .and_then(|der| PrivateKey::of(block.label(), der, parameters));
    let key = key.ok_or_else(|| pem::found(pem))?;
    choose(algorithm, &key)
}

/// Reads the private key in `der`.
///
/// # Errors
///
/// Describes what was found, without its content.
pub(super) fn read_der(algorithm: KeyAlgorithm, der: &[u8]) -> Result<Found, String> {
    let key = PrivateKey::of_der(der).ok_or_else(|| pem::found(der))?;
    choose(algorithm, &key)
}

/// Converts `key` for `algorithm`. Fails with a description if it does not fit.
fn choose(algorithm: KeyAlgorithm, key: &PrivateKey<'_>) -> Result<Found, String> {
    let suiting = key.suiting(algorithm);
    let suiting = suiting.map(|suiting| (suiting, key.describe()));
    suiting.ok_or_else(|| key.describe())
}

/// Returns the size of the modulus, in bits, of an RSA key in PKCS #1.
fn modulus_bits(pkcs1: &[u8]) -> Option<usize> {
    let (content, _) = der::content(pkcs1, SEQUENCE)?;
    let (_version, rest) = der::content(content, INTEGER)?;
    let (modulus, _) = der::content(rest, INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = &modulus[zeros..];
    Some(8 * modulus.len() - modulus.first()?.leading_zeros() as usize)
}

/// A parsed private key.
///
/// Borrows from the bytes that were read, and copies only what is returned.
enum PrivateKey<'a> {
    /// RSA, in PKCS #1.
    Rsa(&'a [u8]),
    /// Elliptic curve.
    Ec(Ec<'a>),
    /// Ed25519, in PKCS #8.
    Ed25519(&'a [u8]),
    /// Any other key, with its description.
    Other(&'static str),
}

/// A private key on an elliptic curve.
struct Ec<'a> {
    /// Encoded object identifier of the curve, if it is known.
    curve: Option<&'a [u8]>,
    /// The whole key.
    der: &'a [u8],
    /// Whether `der` is SEC 1 rather than PKCS #8.
    is_sec1: bool,
}

impl<'a> PrivateKey<'a> {
    /// Parses a key by the label of its PEM block. `parameters` is the curve from a separate block.
    fn of(label: &str, der: &'a [u8], parameters: Option<&'a [u8]>) -> Option<Self> {
        match label {
            "PRIVATE KEY" => Self::of_pkcs8(der),
            "RSA PRIVATE KEY" => Some(Self::Rsa(der)),
            "EC PRIVATE KEY" => {
                let (content, _) = der::content(der, SEQUENCE)?;
                let (_version, rest) = der::content(content, INTEGER)?;
                let (key, rest) = der::content(rest, OCTET_STRING)?;
                let own = der::content(rest, CONTEXT_0).map(|(own, _)| own);
                // A SEC 1 key need not name its curve. The supported curves differ in the length of the key.
                let by_length = match key.len() {
                    32 => Some(P256),
                    48 => Some(P384),
                    66 => Some(P521),
                    _ => None,
                };
                Some(Self::Ec(Ec {
                    curve: own.or(parameters).or(by_length),
                    der,
                    is_sec1: true,
                }))
            }
            _ => None,
        }
    }

    /// Parses PKCS #8.
    fn of_pkcs8(der: &'a [u8]) -> Option<Self> {
        let (content, _) = der::content(der, SEQUENCE)?;
        let (_version, rest) = der::content(content, INTEGER)?;
        let (algorithm, rest) = der::content(rest, SEQUENCE)?;
        let (key, _) = der::content(rest, OCTET_STRING)?;
        let (object, parameters) = algorithm.split_at_checked(der::length(algorithm)?)?;
        Some(match object {
            // A key that is restricted to PSS contains the same PKCS #1 structure.
            RSA | RSA_PSS => Self::Rsa(key),
            EC_PUBLIC_KEY => Self::Ec(Ec {
                curve: Some(parameters),
                der,
                is_sec1: false,
            }),
            ED25519 => Self::Ed25519(der),
            ED448 => Self::Other("an Ed448 key"),
            X25519 => Self::Other("an X25519 key, which cannot sign"),
            _ => Self::Other("a private key of another type"),
        })
    }

    /// Parses PKCS #8, PKCS #1 or SEC 1. The tag of the element after the version identifies the format.
    fn of_der(der: &'a [u8]) -> Option<Self> {
        let (content, _) = der::content(der, SEQUENCE)?;
        let (_version, rest) = der::content(content, INTEGER)?;
        // PKCS #8 continues with the algorithm, PKCS #1 with the modulus, SEC 1 with the key.
        let label = match *rest.first()? {
            SEQUENCE => "PRIVATE KEY",
            INTEGER => "RSA PRIVATE KEY",
            OCTET_STRING => "EC PRIVATE KEY",
            _ => return None,
        };
        Self::of(label, der, None)
    }

    /// Returns the key in the format of `algorithm`: PKCS #1 for RSA, PKCS #8 for others. Returns `None` if it does not
    /// fit the algorithm.
    ///
    /// Compares types and curves only. The trial signature checks the numbers.
    fn suiting(&self, algorithm: KeyAlgorithm) -> Option<Zeroizing<Vec<u8>>> {
        match (algorithm, self) {
            (algorithm, Self::Rsa(pkcs1)) if algorithm.is_rsa() => Some(der::join(&[pkcs1])),
            (KeyAlgorithm::Es256, Self::Ec(key)) if key.is_on(P256) => Some(key.pkcs8()),
            (KeyAlgorithm::Es384, Self::Ec(key)) if key.is_on(P384) => Some(key.pkcs8()),
            (KeyAlgorithm::Es512, Self::Ec(key)) if key.is_on(P521) => Some(key.pkcs8()),
            (KeyAlgorithm::EdDsa, Self::Ed25519(pkcs8)) => Some(der::join(&[pkcs8])),
            _ => None,
        }
    }

    /// Describes the key without its content.
    fn describe(&self) -> String {
        match self {
            Self::Rsa(pkcs1) => match modulus_bits(pkcs1) {
                Some(bits) => format!("an RSA key of {bits} bits"),
                None => "a damaged RSA key".to_owned(),
            },
            Self::Ec(key) => match key.curve {
                Some(P256) => "an EC key on P-256",
                Some(P384) => "an EC key on P-384",
                Some(P521) => "an EC key on P-521",
                Some(SECP256K1) => "an EC key on secp256k1",
                _ => "an EC key on another curve",
            }
            .to_owned(),
            Self::Ed25519(_) => "an Ed25519 key".to_owned(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

impl Ec<'_> {
    /// Returns whether the key is on `curve`, an encoded object identifier.
    fn is_on(&self, curve: &[u8]) -> bool {
        self.curve == Some(curve)
    }

    /// Returns the key in PKCS #8.
    fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        match self.is_sec1 {
            true => {
                let algorithm = der::join(&[EC_PUBLIC_KEY, self.curve.unwrap_or_default()]);
                der::pkcs8(&algorithm, self.der)
            }
            false => der::join(&[self.der]),
        }
    }
}

// Encoded object identifiers.
const ED448: &[u8] = &[0x06, 3, 0x2B, 0x65, 0x71];
const RSA: &[u8] = &[
    0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01,
];
const RSA_PSS: &[u8] = &[
    0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A,
];
const SECP256K1: &[u8] = &[0x06, 5, 0x2B, 0x81, 0x04, 0x00, 0x0A];
const X25519: &[u8] = &[0x06, 3, 0x2B, 0x65, 0x6E];
