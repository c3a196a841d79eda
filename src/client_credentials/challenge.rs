//! Parses the challenges of a 401 (RFC 9110 §11.6.1), and decides whether they concern the token.
//!
//! A 401 without `WWW-Authenticate` violates RFC 9110 §11.6.1 but is common, and counts as a rejection of the token.
//! Everything that an API sends here is untrusted: the number of lines, their lengths and the number of challenges are
//! bounded, and texts are redacted.

mod reader;

use std::borrow::Cow;

use http::{HeaderMap, header::WWW_AUTHENTICATE};

use self::reader::{Part, Reader};
use super::{prover::DPOP_SCHEME, redact};

/// The reason that an API gives for a 401: one challenge of a `WWW-Authenticate` field (RFC 9110 §11.6.1), with the
/// parameters of RFC 6750 §3.
///
/// All texts are limited to the characters of RFC 6749 §5.2 and to 200 characters, scopes to 2,000 together. A scope that
/// would be cut is left out, and so is a URL that is longer or has other characters. The rejected token is replaced, and so are words that look
/// like tokens, except in scopes and URLs. Apart from that they are the API's own words.
///
/// Read them in a source of your own to react to the reason of a rejection, for example to request another scope. The
/// layer itself uses only the scheme, the error code, and the scope for [step-up](super::ClientCredentialsLayerBuilder).
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{Challenge, FetchContext};
///
/// /// What an API said about the token that is being replaced.
/// fn complaint<'a>(cx: &FetchContext<'a>) -> Option<&'a str> {
///     let challenges: &[Challenge] = cx.rejected()?.challenges();
///     let about_tokens =
///         |challenge: &&Challenge| challenge.scheme().eq_ignore_ascii_case("bearer");
///     challenges.iter().find(about_tokens)?.error_description()
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    /// The authentication scheme as received.
    scheme: String,
    /// Parameter `realm`.
    realm: Option<String>,
    /// Parameter `error`.
    error: Option<String>,
    /// Parameter `error_description`.
    error_description: Option<String>,
    /// Parameter `scope`.
    scope: Option<String>,
    /// Parameter `resource_metadata`.
    resource_metadata: Option<String>,
    /// Whether there was any parameter, known or unknown.
    has_parameters: bool,
}

/// What a 401 means for the token of its request.
///
/// Only the first two may lead to a refresh. The last is returned at once, so that an API that requires another
/// permission causes no token requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// The token was rejected. Another token may be accepted.
    TokenRejected,
    /// Only other schemes are offered. Another token can help only where a token was accepted before.
    OtherScheme,
    /// Another token of the same kind cannot help.
    Unrelated,
}

/// Decides whether a 401 with these `headers` concerns the token. `scheme` is the authentication scheme that it was
/// sent with; `None` for a header without a scheme.
///
/// | challenges | verdict |
/// |---|---|
/// | none that is recognizable | `TokenRejected`: many APIs send a bare 401 |
/// | one of our scheme, with an error that another token may fix | `TokenRejected` |
/// | of our scheme, only with errors that another token cannot fix | `Unrelated` |
/// | only of other schemes | `OtherScheme` |
///
/// An API that offers only other schemes either requires one of them, or names the first scheme it knows for every
/// request without a valid credential, as Django REST framework does.
pub(crate) fn verdict(headers: &HeaderMap, scheme: Option<&str>) -> Verdict {
    let Some(scheme) = scheme else {
        return Verdict::TokenRejected;
    };
    let challenges = challenges(headers, None);
    let (own, others): (Vec<_>, Vec<_>) = challenges
        .iter()
        .partition(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));

    // One challenge of our scheme that another token may satisfy is enough.
    let refused = own
        .iter()
        .any(|challenge| !challenge.needs_more_than_a_token());
    // Text without a recognizable challenge counts as none.
    let bare = own.is_empty() && !others.iter().any(|challenge| challenge.is_recognized());
    if refused || bare {
        Verdict::TokenRejected
    } else if own.is_empty() {
        Verdict::OtherScheme
    } else {
        Verdict::Unrelated
    }
}

/// Returns the scopes that a response with these `headers` requires (RFC 6750 §3.1), separated by spaces. `scheme` is
/// the authentication scheme that the token was sent with.
pub(crate) fn insufficient_scope(headers: &HeaderMap, scheme: Option<&str>) -> Option<String> {
    let scheme = scheme?;
    let challenges = challenges(headers, None).into_iter();
    let mut own = challenges.filter(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
    own.find(|challenge| challenge.error() == Some("insufficient_scope"))?
        .scope
}

/// Returns whether a 401 with these `headers` rejects the proof of its request, not the token (RFC 9449 §7.1, §9).
pub(crate) fn rejects_proof(headers: &HeaderMap) -> bool {
    let rejected = |challenge: &Challenge| {
        challenge.scheme.eq_ignore_ascii_case(DPOP_SCHEME)
            && matches!(
                challenge.error(),
                Some("use_dpop_nonce" | "invalid_dpop_proof")
            )
    };
    challenges(headers, None).iter().any(rejected)
}

/// Returns the first 32 challenges in the first 32 `WWW-Authenticate` lines, in order. Reads at most 8 KiB of each line
/// and skips malformed parts. The result does not contain `token`.
pub(crate) fn challenges(headers: &HeaderMap, token: Option<&str>) -> Vec<Challenge> {
    let mut found = Vec::new();
    let secrets = token.as_slice();
    for line in headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .take(MAX_FIELD_LINES)
    {
        let mut line = Cow::Borrowed(prefix(line.as_bytes()));
        if !secrets.is_empty() {
            // Replaced before parsing, which could split the token.
            let text = redact::redact_secrets(&String::from_utf8_lossy(&line), secrets);
            line = Cow::Owned(text.into_bytes());
        }
        // Parameters before the first scheme of a line belong to no challenge.
        let mut is_first = true;
        for part in Reader::new(&line) {
            match part {
                Part::Scheme(_) if found.len() == MAX_CHALLENGES => break,
                Part::Scheme(scheme) => {
                    is_first = false;
                    found.push(Challenge::new(scheme, secrets));
                }
                Part::Parameter(_, _) if is_first => {}
                Part::Parameter(name, value) => {
                    if let Some(challenge) = found.last_mut() {
                        challenge.add(name, &value, secrets);
                    }
                }
            }
        }
    }
    found
}

impl Challenge {
    /// Returns the authentication scheme as received, such as `Bearer`. Compare it without regard to case (RFC 9110
    /// §11.1).
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the `realm` (RFC 9110 §11.5).
    #[must_use]
    pub fn realm(&self) -> Option<&str> {
        self.realm.as_deref()
    }

    /// Returns the `error` code, such as `invalid_token` (RFC 6750 §3.1).
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Returns the `error_description`, which is meant for developers (RFC 6750 §3).
    #[must_use]
    pub fn error_description(&self) -> Option<&str> {
        self.error_description.as_deref()
    }

    /// Returns the `scope` that the request needs, separated by spaces (RFC 6750 §3).
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Returns the `resource_metadata`, the URL of the metadata of the API (RFC 9728 §5.1).
    ///
    /// [`TokenEndpoint::for_resource`](super::TokenEndpoint::for_resource) uses it. Check its origin before you use it
    /// yourself: the API may name any server.
    #[must_use]
    pub fn resource_metadata(&self) -> Option<&str> {
        self.resource_metadata.as_deref()
    }

    /// Creates a challenge without parameters.
    fn new(scheme: &[u8], secrets: &[&str]) -> Self {
        Self {
            scheme: text(scheme, secrets, redact::sanitize, MAX_PARAMETER_CHARS),
            realm: None,
            error: None,
            error_description: None,
            scope: None,
            resource_metadata: None,
            has_parameters: false,
        }
    }

    /// Adds a parameter. Keeps the first of duplicate parameters, which RFC 9110 §11.2 forbids.
    fn add(&mut self, name: &[u8], value: &[u8], secrets: &[&str]) {
        self.has_parameters = true;
        let (mut read, mut most): (Sanitize, _) = (redact::sanitize, MAX_PARAMETER_CHARS);
        let slot = match name.to_ascii_lowercase().as_slice() {
            b"realm" => &mut self.realm,
            b"error" => &mut self.error,
            b"error_description" => &mut self.error_description,
            b"scope" => {
                // Scopes look like tokens, and programs compare them.
                (read, most) = (whole_words, MAX_SCOPE_CHARS);
                &mut self.scope
            }
            // A URL that is shortened, or without some of its characters, would be another URL.
            b"resource_metadata" if !is_plain(value) => return,
            b"resource_metadata" => {
                read = redact::sanitize_charset;
                &mut self.resource_metadata
            }
            _ => return,
        };
        slot.get_or_insert_with(|| text(value, secrets, read, most));
    }

    /// Returns whether the request, its proof or the grant is at fault (RFC 6750 §3.1; RFC 9449 §7.1 and §9 for proofs;
    /// RFC 9470 §3 for `insufficient_user_authentication`). Unknown codes are treated like `invalid_token`.
    ///
    /// `insufficient_scope` usually comes with a 403; with a 401 it means the same.
    fn needs_more_than_a_token(&self) -> bool {
        matches!(
            self.error(),
            Some(
                "insufficient_scope"
                    | "invalid_request"
                    | "insufficient_user_authentication"
                    | "invalid_dpop_proof"
                    | "use_dpop_nonce"
            )
        )
    }

    /// Returns whether this is more than a word of a sentence: `Access denied` has the form of a challenge too.
    ///
    /// Without this check a sentence in the header would count as a challenge of an unknown scheme.
    fn is_recognized(&self) -> bool {
        let registered = |scheme: &&str| scheme.eq_ignore_ascii_case(&self.scheme);
        self.has_parameters || SCHEMES.iter().any(registered)
    }
}

/// Returns whether a value is kept unchanged: it is short enough, and has only characters of RFC 6749 §5.2 without a space.
fn is_plain(value: &[u8]) -> bool {
    let is_allowed = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    value.len() <= MAX_PARAMETER_CHARS && value.iter().all(is_allowed)
}

/// Returns at most [`MAX_LINE_BYTES`] of a line, without a word that would be cut: half a token would not be
/// recognized.
fn prefix(line: &[u8]) -> &[u8] {
    let Some(start) = line.get(..MAX_LINE_BYTES).filter(|start| *start != line) else {
        return line;
    };
    let is_separator = |byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b'"');
    let end = start.iter().rposition(is_separator).unwrap_or(0);
    &start[..end]
}

/// Sanitizes a text, given the secrets to replace and the maximum number of characters.
type Sanitize = fn(&str, &[&str], usize) -> String;

/// Decodes `value` as UTF-8, lossily, and sanitizes it.
fn text(value: &[u8], secrets: &[&str], read: Sanitize, most: usize) -> String {
    read(&String::from_utf8_lossy(value), secrets, most)
}

/// Limits `text` to the character set and to `most` characters. Drops a word that would be cut: half a scope would be
/// another scope.
fn whole_words(text: &str, secrets: &[&str], most: usize) -> String {
    let mut text = redact::sanitize_charset(text, secrets, most + 1);
    // One byte for each character of the set.
    if text.len() > most {
        text.truncate(text.rfind(' ').unwrap_or(0));
    }
    text
}

/// Maximum number of characters of a scheme or a parameter that are kept.
const MAX_PARAMETER_CHARS: usize = 200;
/// Maximum number of characters of the scopes that are kept. Programs request them, and some APIs require many.
const MAX_SCOPE_CHARS: usize = 2000;
/// Maximum number of field lines that are read.
const MAX_FIELD_LINES: usize = 32;
/// Maximum number of challenges that are read.
const MAX_CHALLENGES: usize = 32;
/// Maximum number of bytes of a line that are read. The rest is cut before anything is compared with the token.
const MAX_LINE_BYTES: usize = 8192;

/// Schemes of the IANA HTTP Authentication Scheme Registry, and `NTLM`, which is not in it.
const SCHEMES: [&str; 15] = [
    "Basic",
    "Bearer",
    "Concealed",
    "Digest",
    "DPoP",
    "GNAP",
    "HOBA",
    "Mutual",
    "Negotiate",
    "NTLM",
    "OAuth",
    "PrivateToken",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "vapid",
];

#[cfg(test)]
mod tests;
