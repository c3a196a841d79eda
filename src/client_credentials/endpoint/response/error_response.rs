//! Interprets error responses (RFC 6749 §5.2), and recommends what to check. [pure]
//!
//! A permanent error stops requests until something changes, so gateways and rate limits must not be taken for a
//! rejection of the credentials.
//!
//! | check, in this order | error | transient |
//! |---|---|---|
//! | status 429 | `Throttled` | yes |
//! | status 5xx | `Server` | yes |
//! | `Retry-After`, or a code or text about rates | `Throttled` | yes |
//! | a code or text about a passing failure | `Server` | yes |
//! | the page of a TLS port that received plain http | `Rejected` | no |
//! | `invalid_client` and its variants | `InvalidClient` | no |
//! | `invalid_scope` | `InvalidScope` | no |
//! | another code of RFC 6749 | `Rejected` | no |
//! | status 401 | `InvalidClient` | no |
//! | an unknown code | `Rejected` | no |
//! | status 403, no web page | `InvalidClient` | yes |
//! | status 403 with a web page, 408 or 425 | `Rejected` | yes |
//! | anything else | `Rejected` | no |

use http::{HeaderMap, StatusCode, Uri, header};

use super::context::{Context, exposed, is_page};
use crate::{
    client_credentials::{TokenError, TokenErrorKind, redact},
    secret::Secret,
};

/// An error response.
///
/// Borrows everything. The code and the text are sanitized already, so that they may be quoted.
pub(super) struct OAuthErrorResponse<'a> {
    /// Status of the response.
    pub(super) status: StatusCode,
    /// Headers of the response.
    pub(super) headers: &'a HeaderMap,
    /// OAuth error code, if there is one.
    pub(super) code: Option<&'a str>,
    /// Description of the error, redacted.
    pub(super) text: Option<&'a str>,
    /// Body of the response.
    pub(super) body: &'a [u8],
}

impl OAuthErrorResponse<'_> {
    /// Converts the response to an error. The status takes precedence: the body of a 429 or 5xx never makes an error
    /// permanent.
    ///
    /// The order of the checks matters: rate limits and transient failures are recognized before any code or status
    /// makes the error permanent.
    pub(super) fn error(&self, cx: &Context<'_>) -> TokenError {
        use TokenErrorKind::{InvalidClient, InvalidResponse, InvalidScope, Rejected, Server};

        let status = self.status;
        if status == StatusCode::TOO_MANY_REQUESTS {
            return throttled();
        }
        if status.is_server_error() {
            return TokenError::new(Server, true, "failed with a server error");
        }
        if status.is_informational() {
            return TokenError::new(InvalidResponse, true, "returned no final response");
        }
        // A server that asks to wait expects the request to succeed later.
        let asked_to_wait = !status.is_success() && self.headers.contains_key(header::RETRY_AFTER);
        if asked_to_wait || self.is_throttled() {
            return throttled();
        }
        // The kind is that of a 5xx, so that it is treated like one.
        if self.is_transient() {
            return TokenError::new(Server, true, "failed with a server error");
        }
        if requires_https(self.body) {
            return TokenError::new(
                Rejected,
                false,
                "was rejected: plain http was sent to an https port; use https:// in the token endpoint's URL",
            );
        }
        let credentials = cx.advice.unwrap_or(
            "check the client id and secret, and whether the server expects them in the request body \
             (`ClientAuth::post`) or as Basic (`ClientAuth::basic`)",
        );
        let (kind, advice) = match self.code {
            Some(code) if concerns_credentials(code) => (InvalidClient, credentials),
            Some("unauthorized_client") => (
                Rejected,
                "the client may not use this grant type; allow it in the client's registration at the server",
            ),
            Some("unsupported_grant_type") => {
                (Rejected, "the server does not offer this grant type")
            }
            Some("invalid_scope") => (
                InvalidScope,
                "check the scope, and which scopes the client may request",
            ),
            Some("invalid_grant") => (
                Rejected,
                "check the assertion or subject token: its issuer, its audience, and that it has not expired",
            ),
            Some("use_dpop_nonce") => (
                Rejected,
                "the server requires a DPoP nonce (RFC 9449 §8): set `TokenEndpoint::dpop`; if it is set, the server has \
                 rejected each nonce that it sent, or sent none",
            ),
            Some("invalid_dpop_proof") => (
                Rejected,
                "check this machine's clock, that the server sees the token endpoint under this URL, and that it accepts \
                 the algorithm of the DPoP key (`dpop_signing_alg_values_supported`)",
            ),
            Some("invalid_target") => (Rejected, "check resource and audience"),
            Some("invalid_request") => (
                Rejected,
                "check the parameters, and how the client authenticates",
            ),
            // Without a known code the status decides (RFC 6749 §5.2).
            _ if status == StatusCode::UNAUTHORIZED => (InvalidClient, credentials),
            Some(_) => (Rejected, "see the error code"),
            None => match status {
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                    (Rejected, "check the token endpoint's URL")
                }
                // Some servers reject credentials this way, and gateways reject any request this way. So it is
                // transient until a second rejection confirms it.
                StatusCode::FORBIDDEN if !is_page(self.body) => {
                    return TokenError::new(
                        InvalidClient,
                        true,
                        format!(
                            "was rejected without a reason: {credentials}; then check the scope, and any gateway in \
                             front of the server"
                        ),
                    );
                }
                // Gateways and firewalls throttle with web pages and bare 408s, which say nothing about the
                // credentials.
                StatusCode::FORBIDDEN | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                    return TokenError::new(
                        Rejected,
                        true,
                        "was rejected without an OAuth error, perhaps by a gateway in front of the server",
                    );
                }
                _ => (Rejected, "the response gives no reason"),
            },
        };
        TokenError::new(kind, false, format!("was rejected: {advice}"))
    }

    /// Returns whether a 400 or 403 is a rate limit. Only its error code, or otherwise its text, distinguishes it from
    /// a rejection of the request. A code with a meaning of its own takes precedence over the text.
    ///
    /// A description is free text, and a match may be accidental. That is harmless here: a transient error is tried
    /// again after its back-off.
    fn is_throttled(&self) -> bool {
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
                self.text_has(&THROTTLED_PHRASES)
            }
            Some(_) => false,
        }
    }

    /// Returns whether a 4xx is a transient failure. With a 401, only an explicit code is accepted.
    ///
    /// With a definitive code only the error numbers of Microsoft Entra are accepted, which it sends together with
    /// `invalid_client` and others.
    fn is_transient(&self) -> bool {
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
            Some(code) if is_definitive(code) => self.text_has(&ENTRA_TRANSIENT_PHRASES),
            _ => {
                !is_401
                    && (self.text_has(&TRANSIENT_PHRASES)
                        || self.text_has(&ENTRA_TRANSIENT_PHRASES))
            }
        }
    }

    /// Returns whether the description contains one of `words`, ignoring case.
    ///
    /// `words` must be in lower case.
    fn text_has(&self, words: &[&str]) -> bool {
        let text = self.text.unwrap_or_default().to_ascii_lowercase();
        words.iter().any(|words| text.contains(words))
    }
}

/// Returns whether the code is `invalid_client`, or a name that some servers use instead.
fn concerns_credentials(code: &str) -> bool {
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

/// Returns whether the code is conclusive, so that the description does not matter.
fn is_definitive(code: &str) -> bool {
    concerns_credentials(code)
        || matches!(
            code,
            "unauthorized_client"
                | "unsupported_grant_type"
                | "invalid_scope"
                | "invalid_grant"
                | "invalid_target"
        )
}

/// Returns whether the body is the response of nginx, Go, Apache and others to plain http on a TLS port.
///
/// Reads at most the first 2 KiB.
fn requires_https(body: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&body[..body.len().min(2048)]).to_ascii_lowercase();
    HTTPS_REQUIRED_PHRASES
        .iter()
        .any(|words| start.contains(words))
}

/// Creates the error for a throttled request.
fn throttled() -> TokenError {
    let what = "was throttled: the server received too many token requests";
    TokenError::new(TokenErrorKind::Throttled, true, what)
}

/// Creates the error for a redirect. The target is shown without query and secrets.
///
/// Permanent, because the configured URL is wrong. The target is shown, since it is often the right URL.
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
            || "an unspecified location".to_owned(),
            |uri| described(&uri, |path| redact::path(path, &secrets)),
        );
    let target = redact::redact_secrets(&target, &secrets);
    TokenError::new(
        TokenErrorKind::InvalidResponse,
        false,
        format!(
            "was redirected to {target}, but redirects are never followed, because they would send the client secret \
             there; if that is the token endpoint, configure it"
        ),
    )
    .with_status(status)
}

/// Returns a URI for display: without user information and query, and cut if it is very long, because metadata may
/// contain it.
pub(in super::super) fn redacted_uri(uri: &Uri) -> String {
    described(uri, str::to_owned)
}

/// Formats a URI without user information and query. `path` formats its path.
///
/// The user information of a URL may be parsed as part of its path if the password contains a slash. Everything up to
/// the last `@` is then omitted.
fn described(uri: &Uri, path: impl Fn(&str) -> String) -> String {
    let text = match (uri.scheme_str(), uri.host()) {
        // A password that contains a slash is parsed as part of the path.
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
    match text.char_indices().nth(MAX_URI_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Maximum number of characters of a displayed URI.
const MAX_URI_CHARS: usize = 500;

/// Words that indicate a rate limit.
const THROTTLED_PHRASES: [&str; 6] = [
    "rate limit",
    "rate exceeded",
    "too many",
    "throttl",
    "quota exceeded",
    "slow down",
];

/// Words that indicate a transient failure.
const TRANSIENT_PHRASES: [&str; 6] = [
    "temporar",
    "transient",
    "try again",
    "retry your request",
    "retry the request",
    "please retry",
];

/// Numbers of transient failures (Microsoft Entra error codes).
const ENTRA_TRANSIENT_PHRASES: [&str; 4] =
    ["aadsts50033", "aadsts90024", "aadsts90033", "aadsts90036"];

/// Words that indicate plain http on a TLS port.
const HTTPS_REQUIRED_PHRASES: [&str; 4] = [
    "plain http request was sent to https port",
    "http request to an https server",
    "speaking plain http to an ssl-enabled server port",
    "combination of host and port requires tls",
];
