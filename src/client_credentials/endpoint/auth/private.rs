//! A private key in PEM, as what signing libraries read: PKCS #8 (RFC 5958), PKCS #1 (RFC 8017 A.1.2), SEC 1
//! (RFC 5915). [pure]

use jsonwebtoken::EncodingKey;

use super::{
    super::pem::{self, Block},
    KeyAlgorithm,
    jwk::{self, EC_PUBLIC_KEY, ED25519, P256, P384},
};

/// The key, if it is one for `algorithm`. The error says what was found.
pub(super) fn read(algorithm: KeyAlgorithm, pem: &[u8]) -> Result<EncodingKey, String> {
    let blocks = pem::blocks(pem);
    let Some(key) = blocks.iter().find(|block| block.is_private_key()) else {
        return Err(pem::found(pem));
    };
    // `openssl ecparam -genkey` writes the curve in front of the key.
    let parameters = blocks.iter().find(|block| block.label() == "EC PARAMETERS");
    let parameters = parameters.and_then(Block::der);
    let Some(kind) = key
        .der()
        .and_then(|der| Kind::of(key.label(), der, parameters))
    else {
        return Err(pem::found(pem));
    };
    match (algorithm, &kind) {
        (KeyAlgorithm::Rs256 | KeyAlgorithm::Ps256, Kind::Rsa(pkcs1)) => {
            Ok(EncodingKey::from_rsa_der(pkcs1))
        }
        (KeyAlgorithm::Es256, Kind::Ec(key)) if key.curve == Some(P256) => Ok(key.encoding()),
        (KeyAlgorithm::Es384, Kind::Ec(key)) if key.curve == Some(P384) => Ok(key.encoding()),
        (KeyAlgorithm::EdDsa, Kind::Ed25519(pkcs8)) => Ok(EncodingKey::from_ed_der(pkcs8)),
        _ => Err(kind.describe()),
    }
}

/// What a key that could not sign is.
pub(super) fn describe(pem: &[u8]) -> String {
    let blocks = pem::blocks(pem);
    let key = blocks.iter().find(|block| block.is_private_key());
    let kind = key.and_then(|key| Kind::of(key.label(), key.der()?, None));
    kind.map_or_else(|| pem::found(pem), |kind| kind.describe())
}

/// The bits of the modulus of an RSA key in PKCS #1.
pub(super) fn modulus_bits(pkcs1: &[u8]) -> Option<usize> {
    let (content, _) = element(pkcs1, jwk::SEQUENCE)?;
    let (_version, rest) = element(content, jwk::INTEGER)?;
    let (modulus, _) = element(rest, jwk::INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = &modulus[zeros..];
    Some(8 * modulus.len() - modulus.first()?.leading_zeros() as usize)
}

enum Kind<'a> {
    /// As PKCS #1.
    Rsa(&'a [u8]),
    Ec(Ec<'a>),
    /// As PKCS #8.
    Ed25519(&'a [u8]),
    Other(&'static str),
}

struct Ec<'a> {
    /// The encoded object identifier.
    curve: Option<&'a [u8]>,
    der: &'a [u8],
    is_sec1: bool,
}

impl<'a> Kind<'a> {
    fn of(label: &str, der: &'a [u8], parameters: Option<&'a [u8]>) -> Option<Self> {
        match label {
            "PRIVATE KEY" => Self::of_pkcs8(der),
            "RSA PRIVATE KEY" => Some(Self::Rsa(der)),
            "EC PRIVATE KEY" => {
                let (content, _) = element(der, jwk::SEQUENCE)?;
                let (_version, rest) = element(content, jwk::INTEGER)?;
                let (key, rest) = element(rest, jwk::OCTET_STRING)?;
                let own = element(rest, jwk::CONTEXT_0).map(|(own, _)| own);
                let by_length = match key.len() {
                    32 => Some(P256),
                    48 => Some(P384),
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

    fn of_pkcs8(der: &'a [u8]) -> Option<Self> {
        let (content, _) = element(der, jwk::SEQUENCE)?;
        let (_version, rest) = element(content, jwk::INTEGER)?;
        let (algorithm, rest) = element(rest, jwk::SEQUENCE)?;
        let (key, _) = element(rest, jwk::OCTET_STRING)?;
        let (object, parameters) = algorithm.split_at_checked(header_and_content(algorithm)?)?;
        Some(match object {
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
    fn encoding(&self) -> EncodingKey {
        match self.is_sec1 {
            true => {
                let algorithm = jwk::join(&[EC_PUBLIC_KEY, self.curve.unwrap_or_default()]);
                EncodingKey::from_ec_der(&jwk::pkcs8(&algorithm, self.der))
            }
            false => EncodingKey::from_ec_der(self.der),
        }
    }
}

/// The content of the element that `der` begins with, if its tag is `tag`, and what follows.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    if der.first() != Some(&tag) {
        return None;
    }
    let (whole, rest) = der.split_at_checked(header_and_content(der)?)?;
    Some((&whole[header(der)?.0..], rest))
}

/// The length of the element that `der` begins with.
fn header_and_content(der: &[u8]) -> Option<usize> {
    let (header, content) = header(der)?;
    header.checked_add(content)
}

/// The lengths of an element's header and of its content.
fn header(der: &[u8]) -> Option<(usize, usize)> {
    match *der.get(1)? {
        short @ 0..=0x7F => Some((2, short.into())),
        long => {
            let count = usize::from(long & 0x7F);
            let bytes = der.get(2..2 + count).filter(|_| count <= 4)?;
            let content = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            Some((2 + count, content))
        }
    }
}

// Object identifiers, encoded.
const ED448: &[u8] = &[0x06, 3, 0x2B, 0x65, 0x71];
const P521: &[u8] = &[0x06, 5, 0x2B, 0x81, 0x04, 0x00, 0x23];
const RSA: &[u8] = &[
    0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01,
];
const RSA_PSS: &[u8] = &[
    0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A,
];
const SECP256K1: &[u8] = &[0x06, 5, 0x2B, 0x81, 0x04, 0x00, 0x0A];
const X25519: &[u8] = &[0x06, 3, 0x2B, 0x65, 0x6E];
