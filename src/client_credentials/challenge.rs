//! Reads the challenges of a 401 (RFC 9110 §11.6.1), and tells whether they are about the token that was sent.

mod reader;

use std::borrow::Cow;

use http::{HeaderMap, header::WWW_AUTHENTICATE};

use self::reader::{Part, Reader};
use super::redact;

/// What an API says about why it refused a request: one challenge of a `WWW-Authenticate` field (RFC 9110 §11.6.1),
/// with the parameters of RFC 6750 §3.
///
/// The texts hold the characters of RFC 6749 §5.2 only, and at most 200 of them, with the refused token replaced, and
/// words that look like one (but for scopes). They are the API's own words otherwise.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{Challenge, FetchContext};
///
/// /// What an API said about the token that is being replaced.
/// fn complaint<'a>(cx: &FetchContext<'a>) -> Option<&'a str> {
///     let challenges: &[Challenge] = cx.rejected()?.challenges();
///     let about_tokens = |challenge: &&Challenge| challenge.scheme().eq_ignore_ascii_case("bearer");
///     challenges.iter().find(about_tokens)?.error_description()
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    scheme: String,
    realm: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    scope: Option<String>,
    /// Whether there was any parameter, known or not.
    has_parameters: bool,
}

/// What a 401 means for the token that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// The token was refused; another one may do.
    TokenRefused,
    /// Only other schemes are offered: another token can help where one was accepted before.
    OtherScheme,
    /// Another token of the same kind cannot help.
    NotOurs,
}

/// Whether a 401 with these `headers` is about the token, which was sent with the authentication `scheme` (`None` if
/// it went into a field without one).
///
/// Without a challenge that can be made sense of, it is: many APIs send a bare 401. Otherwise a challenge of our scheme
/// decides. Challenges of other schemes alone mean that the API wants something else, or that it names the first scheme
/// it knows for every request without a valid credential, as Django REST framework does.
pub(crate) fn verdict(headers: &HeaderMap, scheme: Option<&str>) -> Verdict {
    let Some(scheme) = scheme else {
        return Verdict::TokenRefused;
    };
    let challenges = challenges(headers, None);
    let (ours, others): (Vec<_>, Vec<_>) = challenges
        .iter()
        .partition(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));

    let refused = ours
        .iter()
        .any(|challenge| !challenge.is_beyond_a_new_token());
    let bare = ours.is_empty() && !others.iter().any(|challenge| challenge.is_recognisable());
    if refused || bare {
        Verdict::TokenRefused
    } else if ours.is_empty() {
        Verdict::OtherScheme
    } else {
        Verdict::NotOurs
    }
}

/// The challenges in the first 32 `WWW-Authenticate` lines, in order; the first 32 of them. Of a long line, the
/// first 8 KiB are read. What is malformed is passed over. They do not repeat `token`.
pub(crate) fn challenges(headers: &HeaderMap, token: Option<&str>) -> Vec<Challenge> {
    let mut found = Vec::new();
    let secrets = token.as_slice();
    for line in headers.get_all(WWW_AUTHENTICATE).iter().take(MOST_LINES) {
        let mut line = Cow::Borrowed(beginning(line.as_bytes()));
        if !secrets.is_empty() {
            // Before it is taken apart, and the token with it.
            let text = redact::without(&String::from_utf8_lossy(&line), secrets);
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
    /// The authentication scheme as it came, such as `Bearer`; compare it without regard to case (RFC 9110 §11.1).
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The `realm` (RFC 9110 §11.5).
    #[must_use]
    pub fn realm(&self) -> Option<&str> {
        self.realm.as_deref()
    }

    /// The `error` code, such as `invalid_token` (RFC 6750 §3.1).
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The `error_description`, meant for developers (RFC 6750 §3).
    #[must_use]
    pub fn error_description(&self) -> Option<&str> {
        self.error_description.as_deref()
    }

    /// The `scope` that the request needs, separated by spaces (RFC 6750 §3).
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    fn new(scheme: &[u8], secrets: &[&str]) -> Self {
        Self {
            scheme: text(scheme, secrets, redact::quotable),
            realm: None,
            error: None,
            error_description: None,
            scope: None,
            has_parameters: false,
        }
    }

    /// Takes the first of parameters with the same name, which must not be (RFC 9110 §11.2).
    fn add(&mut self, name: &[u8], value: &[u8], secrets: &[&str]) {
        self.has_parameters = true;
        let mut read: Read = redact::quotable;
        let slot = match name.to_ascii_lowercase().as_slice() {
            b"realm" => &mut self.realm,
            b"error" => &mut self.error,
            b"error_description" => &mut self.error_description,
            b"scope" => {
                // Scopes look like tokens, and programs compare them.
                read = redact::printable;
                &mut self.scope
            }
            _ => return,
        };
        slot.get_or_insert_with(|| text(value, secrets, read));
    }

    /// The request or the grant is at fault: RFC 6750 §3.1, and RFC 9470 §3 for the last. Codes that are not known are
    /// taken for ways to say `invalid_token`.
    fn is_beyond_a_new_token(&self) -> bool {
        matches!(
            self.error(),
            Some("insufficient_scope" | "invalid_request" | "insufficient_user_authentication")
        )
    }

    /// Whether this is more than a word of a sentence: `Access denied` has the form of a challenge too.
    fn is_recognisable(&self) -> bool {
        let registered = |scheme: &&str| scheme.eq_ignore_ascii_case(&self.scheme);
        self.has_parameters || SCHEMES.iter().any(registered)
    }
}

/// Up to [`MOST_BYTES`] of a line, without a word that would be cut: half a token is not recognized as one.
fn beginning(line: &[u8]) -> &[u8] {
    let Some(start) = line.get(..MOST_BYTES).filter(|start| *start != line) else {
        return line;
    };
    let is_separator = |byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b'"');
    let end = start.iter().rposition(is_separator).unwrap_or(0);
    &start[..end]
}

type Read = fn(&str, &[&str], usize) -> String;

fn text(value: &[u8], secrets: &[&str], read: Read) -> String {
    read(&String::from_utf8_lossy(value), secrets, MOST_CHARACTERS)
}

const MOST_CHARACTERS: usize = 200;
/// Maximum number of field lines that are read.
const MOST_LINES: usize = 32;
/// Maximum number of challenges that are read.
const MAX_CHALLENGES: usize = 32;
/// Maximum number of bytes of a line that are read, before anything in it is compared with the token.
const MOST_BYTES: usize = 8192;

/// The IANA HTTP Authentication Scheme Registry, and NTLM, which is older.
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
