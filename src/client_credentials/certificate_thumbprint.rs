//! Thumbprints of X.509 certificates, to which tokens are bound (RFC 8705 §3.1). [pure]

use std::{error::Error, fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The SHA-256 hash of a certificate in DER, `x5t#S256` (RFC 8705 §3.1). It is public.
///
/// Printed and parsed in base64url, as in `cnf`. Hexadecimal digits with or without colons, as OpenSSL prints them
/// (`openssl x509 -fingerprint -sha256`), are parsed as well.
///
/// As an extension of a response, it says which certificate the connection presented: the client of the API adds it,
/// for example with hyper-util's `Connected::extra`. After a 401 it is compared with that of the token, and
/// [`TokenEvent::CertificateMismatch`](super::TokenEvent::CertificateMismatch) reports a difference.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::CertificateThumbprint;
///
/// // The example of RFC 8705 §3.1.
/// let thumbprint: CertificateThumbprint =
///     "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2".parse()?;
///
/// let hex = "6F:07:0A:D1:EB:1C:DC:00:82:DC:30:76:63:9F:E5:11:\
///            2B:17:13:CA:3D:96:D7:34:E4:EF:3D:8D:D3:7E:76:0D";
/// assert_eq!(thumbprint, hex.parse()?);
/// assert_eq!(thumbprint.to_string(), "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0");
/// # Ok::<(), tower_m2m::client_credentials::InvalidThumbprint>(())
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct CertificateThumbprint([u8; 32]);

impl CertificateThumbprint {
    /// Creates a thumbprint from the hash.
    #[must_use]
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Returns the hash.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Reads `cnf["x5t#S256"]` (RFC 8705 §3.1). `None` if it is not a SHA-256 hash in base64url.
    pub(crate) fn from_base64url(text: &str) -> Option<Self> {
        // Some servers add padding, which RFC 7515 §2 forbids.
        let bytes = BASE64_URL.decode(text.trim_end_matches('=')).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Reads 64 hexadecimal digits.
    fn from_hex(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl FromStr for CertificateThumbprint {
    type Err = InvalidThumbprint;

    fn from_str(text: &str) -> Result<Self, InvalidThumbprint> {
        let text = text.trim();
        Self::from_hex(text)
            .or_else(|| Self::from_base64url(text))
            .ok_or(InvalidThumbprint)
    }
}

impl fmt::Display for CertificateThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for CertificateThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateThumbprint({self})")
    }
}

/// A text that is not a [`CertificateThumbprint`].
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{CertificateThumbprint, InvalidThumbprint};
///
/// let error: InvalidThumbprint = "/run/tls.crt".parse::<CertificateThumbprint>().unwrap_err();
///
/// assert!(error.to_string().contains("SHA-256"));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct InvalidThumbprint;

impl fmt::Display for InvalidThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a certificate thumbprint must be a SHA-256 hash, as 43 characters of base64url (x5t#S256) or 64 \
             hexadecimal digits",
        )
    }
}

impl Error for InvalidThumbprint {}

/// Base64url without padding. The unused bits of the last character may be set, as in the example of RFC 8705 §3.1.
const BASE64_URL: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    base64::engine::GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_of_a_thumbprint_is_read() {
        let thumbprint = CertificateThumbprint::from_bytes([0xAB; 32]);
        let base64 = thumbprint.to_string();
        for text in [
            base64.clone(),
            format!("{base64}="),
            format!(" {base64}\n"),
            "ab".repeat(32),
            vec!["AB"; 32].join(":"),
        ] {
            assert_eq!(text.parse(), Ok(thumbprint), "{text}");
        }
        assert_eq!(thumbprint.to_bytes(), [0xAB; 32]);
        assert_eq!(
            format!("{thumbprint:?}"),
            format!("CertificateThumbprint({base64})")
        );
    }

    #[test]
    fn other_text_is_not_a_thumbprint() {
        for text in [
            "",
            "a",
            &"ab".repeat(20),
            &"ab".repeat(31),
            &"zz".repeat(32),
            &"é".repeat(32),
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(
                text.parse::<CertificateThumbprint>(),
                Err(InvalidThumbprint),
                "{text}"
            );
        }
        let says = InvalidThumbprint.to_string();
        assert!(says.contains("x5t#S256"), "{says}");
    }
}
