//! Looks into access tokens that are JWTs. Their signatures are not looked at: nothing that must be safe depends on it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroizing;

/// What a token says about itself, if it is a JWT (RFC 7519 §4).
#[derive(Deserialize)]
pub(super) struct Claims {
    /// Seconds since 1970.
    #[serde(default)]
    pub(super) exp: Option<f64>,
    /// The token is bound to a key or a certificate (RFC 7800 §3.1, RFC 8705 §3.1, RFC 9449 §6.1).
    cnf: Option<IgnoredAny>,
}

impl Claims {
    pub(super) fn of(token: &str) -> Option<Self> {
        let claims = token.split('.').nth(1)?;
        let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(claims).ok()?);
        serde_json::from_slice(&claims).ok()
    }

    pub(super) fn is_bound(&self) -> bool {
        self.cnf.is_some()
    }
}
