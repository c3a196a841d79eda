//! Reads claims of access tokens that are JWTs. Signatures are not verified: no security decision depends on the
//! claims.
//!
//! The lifetime of a JWT and its binding are hints. Verification is up to the API that receives the token.

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::response::wipe;
use crate::client_credentials::CertificateThumbprint;

/// Claims of a token that is a JWT (RFC 7519 §4).
///
/// Only what affects this process. Everything else in the token is between the issuer and the API (RFC 9068 §6).
pub(super) struct Claims {
    /// Expiration time, in seconds since 1970.
    pub(super) exp: Option<f64>,
    /// Time of issue, in seconds since 1970.
    pub(super) iat: Option<f64>,
    /// What the token is bound to.
    confirmation: Confirmation,
}

/// What a token is bound to (`cnf`, RFC 7800 §3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Confirmation {
    /// Nothing: a bearer token.
    None,
    /// A certificate (`x5t#S256`, RFC 8705 §3.1).
    Certificate(CertificateThumbprint),
    /// A key (RFC 9449 §6.1), or something unknown.
    Other,
}

impl Confirmation {
    /// Reads the claim.
    fn of(cnf: Option<&Value>) -> Self {
        let Some(cnf) = cnf.filter(|cnf| !cnf.is_null()) else {
            return Self::None;
        };
        let certificate = cnf.get("x5t#S256").and_then(Value::as_str);
        certificate
            .and_then(CertificateThumbprint::from_base64url)
            .map_or(Self::Other, Self::Certificate)
    }
}

impl Claims {
    /// Reads the claims. Returns `None` if `token` is not a JWT with JSON claims.
    ///
    /// Linear in the length of the token. An opaque token has no base64 between two dots and is not decoded.
    pub(super) fn of(token: &str) -> Option<Self> {
        let claims = token.split('.').nth(1)?;
        // The second part of a JWS (RFC 7515 §7.1).
        let claims = Zeroizing::new(BASE64_URL.decode(claims).ok()?);
        let mut claims: Map<String, Value> = serde_json::from_slice(&claims).ok()?;
        let date = |name: &str| claims.get(name).and_then(number);
        let found = Self {
            exp: date("exp"),
            iat: date("iat"),
            confirmation: Confirmation::of(claims.get("cnf")),
        };
        // The claims may contain personal data.
        claims.values_mut().for_each(wipe);
        Some(found)
    }

    /// Returns what the token is bound to.
    pub(super) fn confirmation(&self) -> Confirmation {
        self.confirmation
    }
}

/// Returns the value of a number, or of a string that contains one. Returns `None` if it is not finite.
///
/// Some servers write numbers as strings, also in `expires_in`.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// Base64url as in RFC 7515 §2. Padding, which that section forbids, is accepted: some servers add it.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn claims_accept_numbers_and_strings() {
        let thumbprint = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";
        let certificate = Confirmation::Certificate(thumbprint.parse().unwrap());
        let bound = format!(r#"{{"cnf":{{"x5t#S256":"{thumbprint}","jkt":"a"}}}}"#);
        for (claims, exp, confirmation) in [
            (r#"{"exp":1800000000}"#, Some(1.8e9), Confirmation::None),
            (
                r#"{"exp":"1800000000","cnf":{"jkt":"a"}}"#,
                Some(1.8e9),
                Confirmation::Other,
            ),
            (
                r#"{"exp":1.8e9,"exp":1800000001,"cnf":null}"#,
                Some(1_800_000_001.0),
                Confirmation::None,
            ),
            (r#"{"exp":"soon"}"#, None, Confirmation::None),
            (&bound, None, certificate),
            (r#"{"cnf":{"x5t#S256":"a"}}"#, None, Confirmation::Other),
            (r#"{"cnf":{"x5t#S256":["a"]}}"#, None, Confirmation::Other),
            (r#"{"cnf":"a"}"#, None, Confirmation::Other),
        ] {
            for encoded in [PADDED.encode(claims), URL_SAFE_NO_PAD.encode(claims)] {
                let read = Claims::of(&format!("e30.{encoded}.c2ln")).unwrap();

                assert_eq!(
                    (read.exp, read.confirmation()),
                    (exp, confirmation),
                    "{claims}"
                );
            }
        }
        assert!(Claims::of("opaque").is_none() && Claims::of("a.b.c").is_none());
    }
}
