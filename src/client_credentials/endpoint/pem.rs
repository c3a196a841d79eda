//! Lenient parser for PEM (RFC 7468), as tools, shells and secret stores write it. [pure]
//!
//! Accepts text around the blocks (bag attributes of PKCS #12 exports), a byte order mark, any line breaks or none,
//! line breaks written as `\n`, quotes, and PEM that is encoded as base64 again.
//!
//! Keys and certificates pass through environment variables, JSON, YAML and shells, each of which changes white space.
//! White space has no meaning in base64, so the parser removes what they add instead of reporting it.
//!
//! Parsing never fails as a whole: a damaged block is a block without content, so that the error can say which block is
//! damaged and what it was meant to be. Descriptions contain labels and kinds, never content.
//!
//! All functions are linear in the length of the text. Decoded keys are zeroized.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

/// Zeroized bytes.
type Bytes = Zeroizing<Vec<u8>>;

/// A PEM block: the part between `BEGIN` and `END`.
///
/// Also represents what cannot be used, such as an encrypted key, for the sake of the error.
pub(in crate::client_credentials) struct Block {
    /// Label, such as `PRIVATE KEY`.
    label: String,
    /// Decoded content. `None` if it is encrypted, not base64, or has no end.
    der: Option<Bytes>,
    /// Whether the content is encrypted (RFC 1421 headers).
    encrypted: bool,
}

impl Block {
    /// Returns the label.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Returns the decoded content, if there is any.
    pub(super) fn der(&self) -> Option<&[u8]> {
        self.der.as_deref().map(Vec::as_slice)
    }

    /// Returns whether the block contains a private key.
    pub(super) fn is_private_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    /// Returns whether the block contains a certificate.
    pub(super) fn is_certificate(&self) -> bool {
        self.label.ends_with("CERTIFICATE")
    }

    /// Describes the block without its content.
    fn describe(&self) -> &'static str {
        match self.label.as_str() {
            "ENCRYPTED PRIVATE KEY" => "an encrypted private key",
            _ if self.encrypted => "an encrypted private key",
            "OPENSSH PRIVATE KEY" => "a private key in OpenSSH format",
            _ if self.is_private_key() && self.der.is_none() => {
                "a truncated or damaged private key"
            }
            _ if self.is_private_key() => "a private key",
            label if label.ends_with("PUBLIC KEY") => "a public key",
            label if label.ends_with("CERTIFICATE REQUEST") => "a certificate request",
            _ if self.is_certificate() && self.der.is_none() => {
                "a truncated or damaged certificate"
            }
            _ if self.is_certificate() => "a certificate",
            "EC PARAMETERS" => "EC parameters",
            "DH PARAMETERS" => "DH parameters",
            "PKCS7" | "CMS" => "PKCS #7",
            _ => "PEM of another kind",
        }
    }
}

/// Returns the blocks in `text`, in order.
///
/// A block without an END line reaches up to the next BEGIN line.
pub(in crate::client_credentials) fn blocks(text: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = split(rest, BEGIN) {
        let Some((label, body)) = split(begun, DASHES) else {
            break;
        };
        // A label that is not UTF-8 matches no known one.
        let label = String::from_utf8_lossy(label).trim().to_owned();
        // An END line after the next BEGIN line does not belong to this block.
        let next = position(body, BEGIN).unwrap_or(body.len());
        let (body, after) = body.split_at(next);
        rest = after;
        let end = format!("-----END {label}-----");
        let (body, complete) = match split(body, end.as_bytes()) {
            Some((body, _)) => (body, true),
            None => (body, false),
        };
        // Traditional encryption of OpenSSL: `Proc-Type: 4,ENCRYPTED`.
        let encrypted = complete && split(body, b"4,ENCRYPTED").is_some();
        let der = match complete && !encrypted {
            true => decode(body),
            false => None,
        };
        blocks.push(Block {
            label,
            der,
            encrypted,
        });
    }
    blocks
}

/// Returns `text` without byte order marks at its beginning. Decodes it first if it is base64 of PEM or JSON.
///
/// Only one level of base64 is undone. Text that is neither PEM nor JSON nor base64 of them is returned as it is, for
/// the error to describe.
pub(in crate::client_credentials) fn unwrapped(text: &[u8]) -> Bytes {
    // A brace begins a JWK.
    let start = without_marks(text);
    if start.starts_with(b"{") || split(start, BEGIN).is_some() {
        return Zeroizing::new(start.to_vec());
    }
    match decode(start) {
        Some(inner)
            if without_marks(&inner).starts_with(b"{") || split(&inner, BEGIN).is_some() =>
        {
            Zeroizing::new(without_marks(&inner).to_vec())
        }
        _ => Zeroizing::new(start.to_vec()),
    }
}

/// Describes what was found in place of a key or certificate, for an error. The description contains none of the text.
///
/// The result fits the sentence "found …".
pub(in crate::client_credentials) fn found(text: &[u8]) -> String {
    let blocks = blocks(text);
    if !blocks.is_empty() {
        let mut names: Vec<_> = blocks.iter().map(Block::describe).collect();
        // A file of a hundred certificates is described once.
        names.dedup();
        return names.join(" and ");
    }
    let start = without_marks(text);
    let what = match start {
        [] => "nothing",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "text in UTF-16",
        [b'{', ..] => "JSON",
        [0x30, ..] if std::str::from_utf8(start).is_err() => "binary data, DER or PKCS #12",
        _ if std::str::from_utf8(start).is_err() => "binary data",
        [b'/', ..] if start.len() < 200 => "what may be a file path",
        _ => "text without a `-----BEGIN` line",
    };
    what.to_owned()
}

/// Returns how to convert the text to the expected format, as the end of an error. Empty if no conversion is known.
///
/// Commands are complete except for file names.
pub(in crate::client_credentials) fn remedy(text: &[u8]) -> &'static str {
    let blocks = blocks(text);
    let any = |named: &str| blocks.iter().any(|block| block.describe() == named);
    if any("an encrypted private key") {
        "; decrypt it with `openssl pkey -in key.pem`"
    } else if any("a private key in OpenSSH format") {
        "; convert it with `ssh-keygen -p -m PKCS8 -f key`"
    } else if found(text).starts_with("binary data") {
        "; convert DER with `openssl pkey -inform DER`, PKCS #12 with `openssl pkcs12 -nodes`"
    } else {
        ""
    }
}

/// Removes white space at both ends and byte order marks at the beginning.
fn without_marks(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii();
    while let Some(after) = text.strip_prefix(b"\xEF\xBB\xBF") {
        text = after.trim_ascii_start();
    }
    text
}

/// Returns the position of `at` in `text`.
fn position(text: &[u8], at: &[u8]) -> Option<usize> {
    text.windows(at.len()).position(|window| window == at)
}

/// Splits `text` at the first occurrence of `at`.
fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let index = position(text, at)?;
    Some((&text[..index], &text[index + at.len()..]))
}

/// Decodes base64. Skips quotes, NULs, blanks and escaped line breaks, which shells and secret stores add. Lines with a
/// colon are headers (RFC 1421) and are ignored.
///
/// `None` for an empty block too: it cannot be a key or a certificate.
fn decode(body: &[u8]) -> Option<Bytes> {
    // First pass: undo what shells and secret stores add. The capacity suffices, so no buffer is reallocated.
    let mut plain: Bytes = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.peek() {
                Some(b'n' | b'r') => {
                    bytes.next();
                    plain.push(b'\n');
                }
                Some(b't') => {
                    bytes.next();
                }
                _ => {}
            },
            b'\n' | b'\r' => plain.push(b'\n'),
            b'"' | b'\'' | b'\0' | b' ' | b'\t' => {}
            _ => plain.push(byte),
        }
    }
    // Second pass: drop header lines, and join the others.
    let mut digits: Bytes = Zeroizing::new(Vec::with_capacity(plain.len()));
    for line in plain.split(|byte| *byte == b'\n') {
        if !line.contains(&b':') {
            digits.extend_from_slice(line);
        }
    }
    let mut der: Bytes = Zeroizing::new(Vec::with_capacity(digits.len()));
    BASE64.decode_vec(&*digits, &mut der).ok()?;
    (!der.is_empty()).then_some(der)
}

/// Certificates and private keys for rustls.
#[cfg(feature = "https")]
mod tls {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::{Block, blocks, found, remedy, unwrapped};

    /// Returns the certificates in `pem`. A damaged one is `None`.
    pub(in crate::client_credentials) fn certificates(
        pem: &[u8],
    ) -> Vec<Option<CertificateDer<'static>>> {
        let blocks = blocks(&unwrapped(pem));
        let certificates = blocks.iter().filter(|block| block.is_certificate());
        certificates
            .map(|block| block.der().and_then(first).map(|der| der.to_vec().into()))
            .collect()
    }

    /// Returns the certificate chain in `pem`.
    ///
    /// # Errors
    ///
    /// Describes what was found, if there is no certificate or one is damaged.
    pub(in crate::client_credentials) fn chain(
        pem: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, String> {
        let certificates = certificates(pem);
        let count = certificates.len();
        if count == 0 {
            return Err(format!("found {}", found(&unwrapped(pem))));
        }
        let numbered = (1..).zip(certificates);
        let named = numbered.map(|(number, certificate)| {
            certificate.ok_or_else(|| format!("certificate {number} of {count} is damaged"))
        });
        named.collect()
    }

    /// Returns the first private key in `pem`.
    ///
    /// # Errors
    ///
    /// Describes what was found instead, and how to convert it.
    pub(in crate::client_credentials) fn private_key(
        pem: &[u8],
    ) -> Result<PrivateKeyDer<'static>, String> {
        let pem = unwrapped(pem);
        let key = blocks(&pem).iter().find_map(key);
        key.ok_or_else(|| format!("found {}{}", found(&pem), remedy(&pem)))
    }

    /// Returns the private key in a block, if its format is known.
    fn key(block: &Block) -> Option<PrivateKeyDer<'static>> {
        let der = block.der()?.to_vec();
        match block.label() {
            "PRIVATE KEY" => Some(PrivateKeyDer::Pkcs8(der.into())),
            "RSA PRIVATE KEY" => Some(PrivateKeyDer::Pkcs1(der.into())),
            "EC PRIVATE KEY" => Some(PrivateKeyDer::Sec1(der.into())),
            _ => None,
        }
    }

    /// Returns the first DER value. OpenSSL's `TRUSTED CERTIFICATE` has further data after the certificate.
    fn first(der: &[u8]) -> Option<&[u8]> {
        let length = match *der.get(1)? {
            short @ 0..=0x7F => 2 + usize::from(short),
            long => {
                let count = usize::from(long & 0x7F);
                let bytes = der.get(2..2 + count).filter(|_| count <= 4)?;
                2 + count
                    + bytes
                        .iter()
                        .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
            }
        };
        der.get(..length)
    }
}

#[cfg(feature = "https")]
pub(in crate::client_credentials) use self::tls::{certificates, chain, private_key};

/// Start of a BEGIN line.
const BEGIN: &[u8] = b"-----BEGIN ";
/// End of a BEGIN line.
const DASHES: &[u8] = b"-----";

/// Standard base64, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn ders(text: &str) -> Vec<(String, Option<Vec<u8>>)> {
        let blocks = blocks(&unwrapped(text.as_bytes())).into_iter();
        blocks
            .map(|block| (block.label, block.der.map(|der| der.to_vec())))
            .collect()
    }

    #[test]
    fn blocks_are_found_with_any_line_format() {
        for text in [
            "-----BEGIN KEY-----\nYWJj\nZGU=\n-----END KEY-----\n",
            "-----BEGIN KEY-----\r\nYWJj\r\nZGU=\r\n-----END KEY-----",
            "\u{FEFF}-----BEGIN KEY-----\nYWJjZGU\n-----END KEY-----\n",
            r"-----BEGIN KEY-----\nYWJj\nZGU=\n-----END KEY-----\n",
            r#""-----BEGIN KEY-----\r\nYWJj\r\nZGU=\r\n-----END KEY-----\r\n""#,
            "-----BEGIN KEY----- YWJj ZGU= -----END KEY-----",
            "-----BEGIN KEY-----YWJjZGU=-----END KEY-----",
            "  -----BEGIN KEY-----\n  YWJj\n\n  ZGU=\n  -----END KEY-----",
            "Bag Attributes\n    friendlyName: a\nKey Attributes: <No Attributes>\n-----BEGIN KEY-----\nYWJjZGU=\n-----END KEY-----",
            "-----BEGIN KEY-----\nComment: a\n\nYWJjZGU=\n-----END KEY-----",
            // Base64 of the first, in two lines.
            "LS0tLS1CRUdJTiBLRVktLS0tLQpZV0pqCl\npHVT0KLS0tLS1FTkQgS0VZLS0tLS0K",
        ] {
            assert_eq!(
                ders(text),
                [("KEY".to_owned(), Some(b"abcde".to_vec()))],
                "{text}"
            );
        }
    }

    #[test]
    fn all_blocks_are_found_and_unreadable_ones_named() {
        let two =
            "-----BEGIN A-----\nYQ==\n-----END A-----\n-----BEGIN B-----\nYg==\n-----END B-----";
        let labels: Vec<_> = ders(two).into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels, ["A", "B"]);

        for (text, says) in [
            ("", "nothing"),
            ("secret", "text without a `-----BEGIN` line"),
            ("/run/key.pem", "what may be a file path"),
            ("{}", "JSON"),
            (
                "-----BEGIN PUBLIC KEY-----\nYQ==\n-----END PUBLIC KEY-----",
                "a public key",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nYQ==",
                "a truncated or damaged private key",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: a\n\nYQ==\n-----END RSA PRIVATE KEY-----",
                "an encrypted private key",
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nYQ==\n-----END ENCRYPTED PRIVATE KEY-----",
                "an encrypted private key",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----",
                "a certificate",
            ),
        ] {
            assert_eq!(found(text.as_bytes()), says);
        }
        assert_eq!(found(&[0x30, 0x82, 0xFF]), "binary data, DER or PKCS #12");
        assert_eq!(found(b"\xFF\xFE-\0-\0"), "text in UTF-16");
    }
}
