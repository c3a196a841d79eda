//! What a refusal means (RFC 6749 §5.2), and what to check. [pure]

use http::{HeaderMap, StatusCode, Uri, header};

use super::context::{Context, exposed, is_page};
use crate::{
    client_credentials::{TokenError, TokenErrorKind, redact},
    secret::Secret,
};

/// An answer that is no success.
pub(super) struct Refusal<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// The OAuth error code, if there is one.
    pub(super) code: Option<&'a str>,
    pub(super) text: Option<&'a str>,
    pub(super) body: &'a [u8],
}

impl Refusal<'_> {
    /// The status decides first: the body of a 429 or 5xx is never a verdict on the credentials.
    pub(super) fn error(&self, cx: &Context<'_>) -> TokenError {
        use TokenErrorKind::{CredentialsRefused, Malformed, Refused, ScopeRefused, Server};

        let status = self.status;
        if status == StatusCode::TOO_MANY_REQUESTS {
            return throttled();
        }
        if status.is_server_error() {
            return TokenError::new(Server, true, "failed at the server");
        }
        if status.is_informational() {
            return TokenError::new(Malformed, true, "was not answered");
        }
        let asked_to_wait = !status.is_success() && self.headers.contains_key(header::RETRY_AFTER);
        if asked_to_wait || self.sounds_throttled() {
            return throttled();
        }
        if self.sounds_transient() {
            return TokenError::new(Server, true, "failed at the server");
        }
        if wants_https(self.body) {
            return TokenError::new(
                Refused,
                false,
                "was refused: plain http was sent to a port for https; write https:// in the token endpoint's URL",
            );
        }
        let credentials = cx.advice.unwrap_or(
            "check the client id and secret, and whether the server wants them in the form (`ClientAuth::post`) or as \
             Basic (`ClientAuth::basic`)",
        );
        let (kind, advice) = match self.code {
            Some(code) if is_about_credentials(code) => (CredentialsRefused, credentials),
            Some("unauthorized_client") => (
                Refused,
                "the client may not use this grant type; allow it at the server",
            ),
            Some("unsupported_grant_type") => {
                (Refused, "the server does not offer this grant type")
            }
            Some("invalid_scope") => (
                ScopeRefused,
                "check the scope, and which scopes the client may ask for",
            ),
            Some("invalid_grant") => (
                Refused,
                "check the assertion or subject token: its issuer, its audience, and that it has not expired",
            ),
            Some("invalid_target") => (Refused, "check resource and audience"),
            Some("invalid_request") => (
                Refused,
                "check the parameters, and how the client authenticates",
            ),
            // The status says what the code does not (RFC 6749 §5.2).
            _ if status == StatusCode::UNAUTHORIZED => (CredentialsRefused, credentials),
            Some(_) => (Refused, "see the error code"),
            None => match status {
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                    (Refused, "check the token endpoint's URL")
                }
                // So servers refuse credentials, and so do gateways refuse anything: only the next refusal is a verdict.
                StatusCode::FORBIDDEN if !is_page(self.body) => {
                    return TokenError::new(
                        CredentialsRefused,
                        true,
                        format!(
                            "was refused without a reason: {credentials}; then the scope, and what stands before the server"
                        ),
                    );
                }
                // Gateways and firewalls throttle with pages and bare 408s: no verdict on the credentials.
                StatusCode::FORBIDDEN | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                    return TokenError::new(
                        Refused,
                        true,
                        "was refused without an OAuth error, perhaps by a gateway before the server",
                    );
                }
                _ => (Refused, "the answer gives no reason"),
            },
        };
        TokenError::new(kind, false, format!("was refused: {advice}"))
    }

    /// A rate limit that comes as a 400 or 403. Its error code, or else its text, is all that tells it from a verdict on
    /// the request; a code that is a verdict of its own is believed.
    fn sounds_throttled(&self) -> bool {
        match self.code {
            Some(
                "slow_down"
                | "rate_limit_exceeded"
                | "rate_limited"
                | "too_many_requests"
                | "over_limit"
                | "quota_exceeded",
            ) => true,
            None | Some("invalid_request" | "access_denied" | "unknown_error") => {
                self.text_has(&THROTTLED)
            }
            Some(_) => false,
        }
    }

    /// A fault that passes, which comes as a 4xx. With a 401, only a code that says so is believed.
    fn sounds_transient(&self) -> bool {
        let is_401 = self.status == StatusCode::UNAUTHORIZED;
        match self.code {
            Some("temporarily_unavailable") => true,
            Some(
                "server_error"
                | "internal_error"
                | "internal_server_error"
                | "service_unavailable"
                | "timeout",
            ) => !is_401,
            Some(code) if is_verdict(code) => self.text_has(&TRANSIENT_AT_ENTRA),
            _ => !is_401 && (self.text_has(&TRANSIENT) || self.text_has(&TRANSIENT_AT_ENTRA)),
        }
    }

    fn text_has(&self, words: &[&str]) -> bool {
        let text = self.text.unwrap_or_default().to_ascii_lowercase();
        words.iter().any(|words| text.contains(words))
    }
}

/// `invalid_client`, and the names that some servers use instead.
fn is_about_credentials(code: &str) -> bool {
    matches!(
        code,
        "invalid_client"
            | "invalid_client_id"
            | "invalid_client_secret"
            | "invalid_client_credentials"
            | "invalid_credentials"
            | "invalid_api_key"
            | "bad_credentials"
            | "bad_client_credentials"
    )
}

/// Whether a code says all there is to say about a request, so that its description changes nothing.
fn is_verdict(code: &str) -> bool {
    is_about_credentials(code)
        || matches!(
            code,
            "unauthorized_client"
                | "unsupported_grant_type"
                | "invalid_scope"
                | "invalid_grant"
                | "invalid_target"
        )
}

/// What nginx, Go, Apache and others answer at a port for TLS.
fn wants_https(body: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&body[..body.len().min(2048)]).to_ascii_lowercase();
    WANTS_HTTPS.iter().any(|words| start.contains(words))
}

fn throttled() -> TokenError {
    let what = "was throttled: the server wants fewer token requests";
    TokenError::new(TokenErrorKind::Throttled, true, what)
}

pub(super) fn redirected(
    status: StatusCode,
    headers: &HeaderMap,
    secrets: &[Secret],
) -> TokenError {
    let secrets = exposed(secrets);
    let target = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<Uri>().ok())
        .map_or_else(
            || "an unnamed place".to_owned(),
            |uri| described(&uri, |path| redact::path(path, &secrets)),
        );
    let target = redact::without(&target, &secrets);
    TokenError::new(
        TokenErrorKind::Redirected,
        false,
        format!(
            "was redirected to {target}, which is never followed, because the client secret would go there; if that is \
             the token endpoint, configure it"
        ),
    )
    .with_status(status)
}

/// A URI without user info and query, for people; cut if it is very long, because metadata may name it.
pub(in super::super) fn place(uri: &Uri) -> String {
    described(uri, str::to_owned)
}

fn described(uri: &Uri, path: impl Fn(&str) -> String) -> String {
    let text = match (uri.scheme_str(), uri.host()) {
        // A password with a slash in it reads as a path.
        _ if uri.path().contains('@') => {
            let (_, rest) = uri.path().rsplit_once('@').unwrap_or_default();
            format!("...@{}", path(rest))
        }
        (Some(scheme), Some(host)) => {
            let port = uri.port_u16().map_or_else(String::new, |p| format!(":{p}"));
            format!("{scheme}://{host}{port}{}", path(uri.path()))
        }
        _ => path(uri.path()),
    };
    match text.char_indices().nth(LONGEST_PLACE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

const LONGEST_PLACE: usize = 500;

const THROTTLED: [&str; 6] = [
    "rate limit",
    "rate exceeded",
    "too many",
    "throttl",
    "quota exceeded",
    "slow down",
];

const TRANSIENT: [&str; 6] = [
    "temporar",
    "transient",
    "try again",
    "retry your request",
    "retry the request",
    "please retry",
];

/// Faults that pass, by their numbers (Microsoft Entra error codes).
const TRANSIENT_AT_ENTRA: [&str; 4] = ["aadsts50033", "aadsts90024", "aadsts90033", "aadsts90036"];

const WANTS_HTTPS: [&str; 4] = [
    "plain http request was sent to https port",
    "http request to an https server",
    "speaking plain http to an ssl-enabled server port",
    "combination of host and port requires tls",
];
