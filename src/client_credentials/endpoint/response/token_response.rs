//! Parses a token endpoint's response into members, in any encoding that servers use. Zeroized on drop. [pure]
//!
//! Responses contain tokens, so every buffer and every string is zeroized. What remains of the members after parsing is
//! kept for the user, without secrets.
//!
//! | step | input | result |
//! |---|---|---|
//! | 1 | strict JSON in UTF-8 | members |
//! | 2 | JSON in UTF-16 or Latin-1, or with stray control characters | repaired, then members |
//! | 3 | a form with `access_token` or `error` | members |
//! | 4 | anything else | `None` |

use std::fmt;

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value};
use zeroize::Zeroize;

use super::{
    context::exposed,
    text::{decoded, repaired, trimmed},
};
use crate::{
    client_credentials::{
        NonConformance,
        redact::{MAX_TEXT_BYTES, sanitize},
    },
    secret::Secret,
};

/// Members of a response. Every string is zeroized on drop.
///
/// Built once for each response, and taken apart by its readers: what they remove is theirs to zeroize.
pub(super) struct TokenResponse {
    /// Members by name.
    pub(super) members: Map<String, Value>,
    /// Deviations from RFC 6749 found so far.
    pub(super) non_conformances: Vec<NonConformance>,
    /// Whether the body is UTF-8, so that its text is certain to be as the server meant it.
    pub(super) is_utf8: bool,
}

impl TokenResponse {
    /// Parses JSON, or otherwise a form, which some servers send even as `text/plain`.
    ///
    /// The content type is a hint for the report only. The content decides about the format.
    pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let is_utf8 = std::str::from_utf8(body).is_ok();
        let mut response = match Members::read(body) {
            Some(mut found) => {
                let mut non_conformances = Vec::new();
                if found.duplicate {
                    non_conformances.push(NonConformance::DuplicateMember);
                }
                if found.misencoded {
                    non_conformances.push(NonConformance::MisencodedText);
                }
                Self {
                    members: std::mem::take(&mut found.members),
                    non_conformances,
                    is_utf8,
                }
            }
            None => Self::parse_form(body)?,
        };
        let essence = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok()?.split(';').next());
        // A missing content type leaves the format open (RFC 9110 §8.3).
        if essence.is_some_and(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
            response
                .non_conformances
                .push(NonConformance::WrongContentType);
        }
        Some(response)
    }

    /// Parses a form. Returns `None` if no member identifies it as a token response.
    ///
    /// The last of duplicate members counts, as in JSON.
    fn parse_form(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(trimmed(body)).ok()?.trim();
        let mut response = Self {
            members: Map::new(),
            non_conformances: vec![NonConformance::FormEncoded],
            is_utf8: true,
        };
        let mut duplicate = false;
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=')?;
            let value = Value::String(decode(value)?);
            // The replaced value may be a token.
            if let Some(mut old) = response.members.insert(decode(name)?, value) {
                wipe(&mut old);
                duplicate = true;
            }
        }
        if duplicate {
            response
                .non_conformances
                .push(NonConformance::DuplicateMember);
        }
        // Any text with an equals sign is a valid form, so a known member is required.
        let known = ["access_token", "error"];
        let is_answer = known
            .iter()
            .any(|name| response.members.contains_key(*name));
        is_answer.then_some(response)
    }

    /// Returns the error code: a known code, or the text of the `error` member in the character set of RFC 6749 §5.2,
    /// with `secrets` redacted.
    ///
    /// An empty value (an empty text, `false`, zero) is no error. Neither is the name of the status, which web
    /// frameworks put there.
    ///
    /// The result is safe to show. A code that is cut or redacted equals none of the known ones, and so counts as an
    /// unknown code.
    pub(super) fn code(&self, status: StatusCode, secrets: &[Secret]) -> Option<String> {
        match self.members.get("error")? {
            // Known codes are exempt from redaction: even if a secret is part of one, it discloses nothing.
            Value::String(code) if KNOWN_CODES.contains(&code.as_str()) => Some(code.clone()),
            Value::String(code) if code.trim().is_empty() => None,
            // Web frameworks write the name of the status here.
            Value::String(words) if !status.is_success() && is_status(words) => None,
            Value::String(code) => Some(self.sanitized(code, secrets, 80)),
            Value::Null | Value::Bool(false) => None,
            Value::Number(number) if number.as_f64() == Some(0.0) => None,
            Value::Array(values) if values.is_empty() => None,
            Value::Object(members) if members.is_empty() => None,
            // `"error": {..}` and `"error": true` are errors as well.
            _ => Some("unknown_error".to_owned()),
        }
    }

    /// Returns the description of the error, from one of the members that servers use, redacted.
    ///
    /// At most 200 characters. Of the candidates the first that is a text counts, even if another would be longer.
    pub(super) fn description(&self, secrets: &[Secret]) -> Option<String> {
        let inner = self
            .members
            .get("error")
            .and_then(|error| error.get("message"));
        let text = ["error_description", "message", "detail"]
            .into_iter()
            .find_map(|name| self.members.get(name)?.as_str())
            .or_else(|| inner?.as_str())
            .or_else(|| {
                self.members
                    .get("error")?
                    .as_str()
                    .filter(|words| is_status(words))
            })?;
        let text = self.sanitized(text, secrets, 200);
        (!text.is_empty()).then_some(text)
    }

    /// Returns the `token_type` for an error, redacted.
    pub(super) fn token_type(&self, secrets: &[Secret]) -> String {
        match self.members.get("token_type").and_then(Value::as_str) {
            Some(kind) => self.sanitized(kind, secrets, 40),
            None => "not a string".to_owned(),
        }
    }

    /// Returns text of the server, at most `most` characters long, with the request's secrets and the response's tokens
    /// redacted.
    ///
    /// White space is joined first: a secret that the server has broken across lines is then recognized.
    fn sanitized(&self, text: &str, secrets: &[Secret], most: usize) -> String {
        let tokens = ["access_token", "refresh_token", "id_token"];
        let tokens = tokens
            .iter()
            .filter_map(|name| self.members.get(*name)?.as_str());
        let secrets: Vec<_> = exposed(secrets).into_iter().chain(tokens).collect();
        let mut words = String::new();
        for word in text.split_whitespace() {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
            // `sanitize` reads no more than this.
            if words.len() > MAX_TEXT_BYTES {
                break;
            }
        }
        sanitize(&words, &secrets, most)
    }

    /// Removes and returns the remaining members, without those that contain secrets.
    ///
    /// What remains is readable by the program as
    /// [`AccessToken::member`](crate::client_credentials::AccessToken::member), and is stored with the token. So it
    /// must not contain a secret.
    pub(super) fn take_extra(&mut self) -> Map<String, Value> {
        let mut extra = std::mem::take(&mut self.members);
        drop_secrets(&mut extra);
        extra
    }
}

impl Drop for TokenResponse {
    fn drop(&mut self) {
        self.members.values_mut().for_each(wipe);
    }
}

/// A JSON object. Of duplicate members the last one counts, as in most parsers.
///
/// Also used for metadata, which has the same encodings to cope with.
#[derive(Default)]
pub(in super::super) struct Members {
    /// Members by name.
    pub(in super::super) members: Map<String, Value>,
    /// Whether a name occurs more than once.
    duplicate: bool,
    /// Whether the text is not JSON as RFC 8259 defines it.
    misencoded: bool,
}

impl Members {
    /// Parses the object in `body`, in any encoding. Returns `None` if there is none.
    ///
    /// Tries strict parsing first. Repairs run only on text that a strict parser rejects.
    pub(in super::super) fn read(body: &[u8]) -> Option<Self> {
        let json = trimmed(body);
        if let Ok(found) = serde_json::from_slice::<Self>(json) {
            return Some(Self {
                misencoded: json.len() != body.trim_ascii().len(),
                ..found
            });
        }
        let repaired = match std::str::from_utf8(json) {
            // A web page or an empty body: nothing to repair.
            Ok(text) if !text.starts_with('{') => return None,
            Ok(text) => repaired(text),
            Err(_) if body.starts_with(b"\xFF\xFE") || body.starts_with(b"\xFE\xFF") => {
                repaired(decoded(body).trim())
            }
            Err(_) => repaired(decoded(json).trim()),
        };
        // Repaired text that still does not parse is not a token response.
        let found = serde_json::from_str::<Self>(&repaired).ok()?;
        Some(Self {
            misencoded: true,
            ..found
        })
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The visitor for an object.
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                // Not derived: `Map` would drop a duplicate silently, without zeroizing it.
                let mut found = Members::default();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if let Some(mut old) = found.members.insert(name, value) {
                        wipe(&mut old);
                        found.duplicate = true;
                    }
                }
                Ok(found)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Zeroizes all strings in `value`.
///
/// Names of members are not zeroized, because they are not secret.
pub(in super::super) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Removes members that contain secrets, at any depth.
///
/// Linear in the size of the value. serde_json limits its depth to 128, so that the recursion is bounded.
fn drop_secrets(members: &mut Map<String, Value>) {
    members.retain(|name, value| {
        let secret = is_secret(name, value);
        if secret {
            wipe(value);
        }
        !secret
    });
    members.values_mut().for_each(drop_inner_secrets);
}

/// Removes secrets within an array or an object.
fn drop_inner_secrets(value: &mut Value) {
    match value {
        Value::Array(values) => {
            values.retain_mut(|value| {
                let secret = is_secret("", value);
                if secret {
                    wipe(value);
                }
                !secret
            });
            values.iter_mut().for_each(drop_inner_secrets);
        }
        Value::Object(members) => drop_secrets(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns whether a member is a secret, by its name (`refresh_token`, `id_token`, `client_secret` and the like) or
/// because it is a JWT.
///
/// Errs on the side of omission: a member that is dropped costs a convenience, one that is kept may end up in a log.
fn is_secret(name: &str, value: &Value) -> bool {
    let name = name.to_ascii_lowercase();
    let named = name.ends_with("token")
        || ["secret", "password", "assertion", "private_key", "api_key"]
            .iter()
            .any(|word| name.contains(word));
    named
        || value
            .as_str()
            .is_some_and(|text| text.starts_with("eyJ") && text.matches('.').count() >= 2)
}

/// Decodes a part of a form. Returns `None` if it is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// Returns whether the text is the name or the number of an error status, which web frameworks put into their
/// responses.
///
/// Compares with the names that the `http` crate knows, ignoring case and a final dot.
fn is_status(words: &str) -> bool {
    let words = words.trim().trim_end_matches('.');
    let is_number =
        words.len() == 3 && words.starts_with(['4', '5']) && words.parse::<u16>().is_ok();
    let mut statuses = (400..600).filter_map(|status| StatusCode::from_u16(status).ok());
    is_number
        || statuses.any(|status| {
            let reason = status.canonical_reason();
            reason.is_some_and(|reason| reason.eq_ignore_ascii_case(words))
        })
}

/// Error codes that [`error_response`](super::error_response) distinguishes, and the other codes of RFC 6749 and RFC
/// 6750.
const KNOWN_CODES: [&str; 19] = [
    "access_denied",
    "insufficient_scope",
    "invalid_client",
    "invalid_dpop_proof",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "over_limit",
    "quota_exceeded",
    "rate_limit_exceeded",
    "rate_limited",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "too_many_requests",
    "unauthorized_client",
    "unsupported_grant_type",
    "use_dpop_nonce",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_string_is_zeroized() {
        let mut value = json!({ "a": "canary", "b": ["canary", { "c": "canary" }], "d": 7 });

        wipe(&mut value);

        assert_eq!(value, json!({ "a": "", "b": ["", { "c": "" }], "d": 7 }));
    }

    #[test]
    fn a_non_object_body_is_an_error() {
        let error = serde_json::from_str::<Members>("[]").err().unwrap();

        assert!(error.to_string().contains("expected an object"), "{error}");
    }
}
