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

/// Claims of a token that is a JWT (RFC 7519 §4).
///
/// Only what affects this process. Everything else in the token is between the issuer and the API (RFC 9068 §6).
pub(super) struct Claims {
    /// Expiration time, in seconds since 1970.
    pub(super) exp: Option<f64>,
    /// Time of issue, in seconds since 1970.
    pub(super) iat: Option<f64>,
    /// Whether the token is bound to a key or a certificate (RFC 7800 §3.1, RFC 8705 §3.1, RFC 9449 §6.1).
    bound: bool,
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
            bound: claims.get("cnf").is_some_and(|cnf| !cnf.is_null()),
        };
        // The claims may contain personal data.
        claims.values_mut().for_each(wipe);
        Some(found)
    }

    /// Returns whether the token is bound to a key or a certificate.
    pub(super) fn is_bound(&self) -> bool {
        self.bound
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
        for (claims, exp, bound) in [
            (r#"{"exp":1800000000}"#, Some(1.8e9), false),
            (
                r#"{"exp":"1800000000","cnf":{"jkt":"a"}}"#,
                Some(1.8e9),
                true,
            ),
            (
                r#"{"exp":1.8e9,"exp":1800000001,"cnf":null}"#,
                Some(1_800_000_001.0),
                false,
            ),
            (r#"{"exp":"soon"}"#, None, false),
        ] {
            for encoded in [PADDED.encode(claims), URL_SAFE_NO_PAD.encode(claims)] {
                let read = Claims::of(&format!("e30.{encoded}.c2ln")).unwrap();

                assert_eq!((read.exp, read.is_bound()), (exp, bound), "{claims}");
            }
        }
        assert!(Claims::of("opaque").is_none() && Claims::of("a.b.c").is_none());
    }
}
