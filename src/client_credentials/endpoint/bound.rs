//! Tells a token that is bound to a key or a certificate (RFC 7800 §3.1, RFC 8705 §3.1, RFC 9449 §6.1).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};

/// Whether `token` is a JWT with a `cnf` claim. Its signature is not looked at: nothing depends on it but an event.
pub(super) fn is_bound(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Claims {
        cnf: Option<IgnoredAny>,
    }

    token
        .split('.')
        .nth(1)
        .and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok())
        .and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok())
        .is_some_and(|claims| claims.cnf.is_some())
}
