//! What a refusal means (RFC 6749 §5.2), and what to check. [pure]

use http::{HeaderMap, StatusCode, Uri, header};
use secrecy::SecretString;

use super::{Context, exposed};
use crate::client_credentials::{TokenError, TokenErrorKind, redact::without};

/// The status decides first: the body of a 429 or 5xx is never a verdict on the credentials.
pub(super) fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    code: Option<&str>,
    text: Option<&str>,
    cx: &Context<'_>,
) -> TokenError {
    use TokenErrorKind::{CredentialsRefused, Malformed, Refused, ScopeRefused, Server};

    if status == StatusCode::TOO_MANY_REQUESTS {
        return throttled();
    }
    if status.is_server_error() {
        return TokenError::new(Server, true, "failed at the server");
    }
    if status.is_informational() {
        return TokenError::new(Malformed, true, "was not answered");
    }
    let asked_to_wait = !status.is_success() && headers.contains_key(header::RETRY_AFTER);
    if asked_to_wait || sounds_throttled(code, text) {
        return throttled();
    }
    let (kind, advice) = match code {
        Some("temporarily_unavailable" | "server_error" ) => {
            return TokenError::new(Server, true, "failed at the server");
        }
        Some("invalid_client") => (
            CredentialsRefused,
            cx.advice.unwrap_or(
                "check the client id and secret, and whether the server wants them in the form or as Basic",
            ),
        ),
        Some("unauthorized_client") => (Refused, "the client may not use this grant type; allow it at the server"),
        Some("unsupported_grant_type") => (Refused, "the server does not offer this grant type"),
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
        Some(_) => (Refused, "see the error code"),
        None => match status {
            StatusCode::UNAUTHORIZED => (
                CredentialsRefused,
                cx.advice.unwrap_or("check the client id and secret"),
            ),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                (Refused, "check the token endpoint's URL")
            }
            // Gateways and firewalls throttle with bare 403s and 408s: no verdict on the credentials.
            StatusCode::FORBIDDEN | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                return TokenError::new(Refused, true, "was refused without an OAuth error, perhaps by a gateway before the server");
            }
            _ => (Refused, "the answer gives no reason"),
        },
    };
    TokenError::new(kind, false, format!("was refused: {advice}"))
}

fn throttled() -> TokenError {
    let what = "was throttled: the server wants fewer token requests";
    TokenError::new(TokenErrorKind::Throttled, true, what)
}

pub(super) fn redirected(
    status: StatusCode,
    headers: &HeaderMap,
    secrets: &[SecretString],
) -> TokenError {
    let target = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<Uri>().ok())
        .map_or_else(|| "an unnamed place".to_owned(), |uri| place(&uri));
    let target = without(&target, &exposed(secrets));
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

/// A URI without user info and query, for people.
pub(in super::super) fn place(uri: &Uri) -> String {
    // A password with a slash in it reads as a path.
    if let Some((_, rest)) = uri.path().rsplit_once('@') {
        return format!("...@{rest}");
    }
    match (uri.scheme_str(), uri.host()) {
        (Some(scheme), Some(host)) => {
            let port = uri.port_u16().map_or_else(String::new, |p| format!(":{p}"));
            format!("{scheme}://{host}{port}{}", uri.path())
        }
        _ => uri.path().to_owned(),
    }
}

/// A rate limit that comes as a 400 or 403. Its error code, or else its text, is all that tells it from a verdict on the
/// request; a code that is a verdict of its own is believed.
fn sounds_throttled(code: Option<&str>, text: Option<&str>) -> bool {
    match code {
        Some(
            "slow_down"
            | "rate_limit_exceeded"
            | "rate_limited"
            | "too_many_requests"
            | "over_limit"
            | "quota_exceeded",
        ) => true,
        None | Some("invalid_request" | "access_denied" | "unknown_error") => {
            let text = text.unwrap_or_default().to_ascii_lowercase();
            THROTTLED.iter().any(|words| text.contains(words))
        }
        Some(_) => false,
    }
}

const THROTTLED: [&str; 6] = [
    "rate limit",
    "rate exceeded",
    "too many",
    "throttl",
    "quota exceeded",
    "slow down",
];
