//! Reads a token endpoint's answer (RFC 6749 §5.1, §5.2) from bytes: tolerant of what servers do, strict on what is safe.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, Uri, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use zeroize::Zeroize;

use crate::{
    client_credentials::{AccessToken, TokenError, TokenErrorKind},
    retry_after,
};

/// What the reader knows besides the answer.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) wall: SystemTime,
    pub(super) default_lifetime: Duration,
    pub(super) advice: Option<&'static str>,
    pub(super) secrets: &'a [SecretString],
}

/// The token in the answer, or what is wrong with it.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    cx: &Context<'_>,
) -> Result<AccessToken, TokenError> {
    if status.is_redirection() {
        return Err(redirected(status, headers));
    }
    let mut answer = Answer::parse(body);
    let code = answer.as_mut().and_then(|a| a.code());
    let error = if !status.is_success() || code.is_some() {
        refusal(status, headers, code.as_deref(), cx)
    } else {
        match answer.as_mut().map(|answer| token(answer, headers, cx)) {
            Some(Ok(token)) => return Ok(token),
            Some(Err(error)) => error,
            None if body.is_empty() => malformed("was answered with an empty body"),
            None => malformed("was not answered with a JSON object"),
        }
    };
    let code = answer.as_mut().and_then(|a| a.code());
    let text = answer.as_ref().and_then(|a| a.description(cx.secrets));
    let error = error.with_status(status).with_oauth_error(code, text);
    Err(with_retry_after(error, headers, cx.wall))
}

/// The members of the answer; every string in it is zeroised on drop.
struct Answer(Map<String, Value>);

impl Answer {
    fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().map(Self)
    }

    /// The `error` member, in RFC 6749 §5.2's character set.
    fn code(&self) -> Option<String> {
        match self.0.get("error")? {
            Value::String(code) => Some(printable(code, 80)),
            Value::Null => None,
            // `"error": {..}` or `"error": true`: an error all the same.
            _ => Some("unknown_error".to_owned()),
        }
    }

    fn description(&self, secrets: &[SecretString]) -> Option<String> {
        let text = ["error_description", "message", "detail"]
            .into_iter()
            .find_map(|name| self.0.get(name)?.as_str())?;
        let mut text = text.to_owned();
        for secret in secrets.iter().map(ExposeSecret::expose_secret) {
            text = text.replace(secret, "[secret]");
        }
        let words: Vec<_> = text
            .split_whitespace()
            .map(|word| {
                if looks_like_a_token(word) {
                    "[redacted]"
                } else {
                    word
                }
            })
            .collect();
        let text = printable(&words.join(" "), 200);
        (!text.is_empty()).then_some(text)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn token(
    answer: &mut Answer,
    headers: &HeaderMap,
    cx: &Context<'_>,
) -> Result<AccessToken, TokenError> {
    let members = &mut answer.0;
    match members.get("token_type") {
        // Didit, VK, LinkedIn and others leave it out.
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) if kind.trim().eq_ignore_ascii_case("bearer") => {}
        Some(Value::String(kind)) if kind.trim().eq_ignore_ascii_case("n_a") => {
            return Err(TokenError::new(
                TokenErrorKind::UnsupportedTokenType,
                false,
                "was answered with token_type N_A: what was issued is no access token (RFC 8693 §2.2.1); ask for one \
                 with `TokenExchange::requested_token_type`",
            ));
        }
        Some(other) => {
            let kind = printable(other.as_str().unwrap_or("not a string"), 40);
            return Err(TokenError::new(
                TokenErrorKind::UnsupportedTokenType,
                false,
                format!(
                    "was answered with a token of type {kind:?}, which may not be sent as a bearer token"
                ),
            ));
        }
    }
    let lifetime = lifetime(members, headers, cx);
    let value = match members.remove("access_token") {
        Some(Value::String(value)) if !value.trim().is_empty() => SecretString::from(value),
        Some(Value::String(_)) | None | Some(Value::Null) => {
            return Err(malformed("was answered without an access_token"));
        }
        Some(_) => {
            return Err(malformed(
                "was answered with an access_token that is no string",
            ));
        }
    };
    for secret in ["refresh_token", "id_token"] {
        if let Some(mut value) = members.remove(secret) {
            wipe(&mut value);
        }
    }
    let scope = scope(members.get("scope"));
    let extra = std::mem::take(members);
    Ok(AccessToken::new(value)
        .expires_in(lifetime)
        .with_answer(scope, extra))
}

/// `expires_in` wins; then `exp`, measured from the answer's own `Date`; then the default.
fn lifetime(members: &Map<String, Value>, headers: &HeaderMap, cx: &Context<'_>) -> Duration {
    if let Some(seconds) = members.get("expires_in").and_then(number) {
        return Duration::try_from_secs_f64(seconds.max(0.0)).map_or(LONGEST, |d| d.min(LONGEST));
    }
    let until_exp = members.get("exp").and_then(number).and_then(|exp| {
        let end = SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(exp).ok()?)?;
        let now = retry_after::reference(headers, cx.wall);
        end.duration_since(now).ok().filter(|left| !left.is_zero())
    });
    until_exp.unwrap_or(cx.default_lifetime).min(LONGEST)
}

/// A number, or a string or float that spells one.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// A string, or (as some servers send it) an array of strings.
fn scope(value: Option<&Value>) -> Option<Box<str>> {
    match value? {
        Value::String(scope) => Some(scope.as_str().into()),
        Value::Array(values) => {
            let scopes: Vec<_> = values.iter().filter_map(Value::as_str).collect();
            Some(scopes.join(" ").into())
        }
        _ => None,
    }
}

/// The status decides first: the body of a 429 or 5xx is never a verdict on the credentials.
fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    code: Option<&str>,
    cx: &Context<'_>,
) -> TokenError {
    use TokenErrorKind::{Malformed, Refused, Server, Throttled};

    if status == StatusCode::TOO_MANY_REQUESTS {
        return TokenError::new(Throttled, true, "was throttled");
    }
    if status.is_server_error() {
        return TokenError::new(Server, true, "failed at the server");
    }
    if status.is_informational() {
        return TokenError::new(Malformed, true, "was not answered");
    }
    if !status.is_success() && headers.contains_key(header::RETRY_AFTER) {
        return TokenError::new(Throttled, true, "was throttled");
    }
    let advice = match code {
        Some("temporarily_unavailable" | "server_error" | "slow_down") => {
            return TokenError::new(Server, true, "failed at the server");
        }
        Some("invalid_client") => cx.advice.unwrap_or(
            "check the client id and secret, and whether the server wants them in the form or as Basic",
        ),
        Some("unauthorized_client") => "the client may not use this grant type",
        Some("unsupported_grant_type") => "the server does not offer this grant type",
        Some("invalid_scope") => "check the scope",
        Some("invalid_grant") => {
            "check the assertion or subject token: its issuer, its audience, and that it has not expired"
        }
        Some("invalid_target") => "check resource and audience",
        Some("invalid_request") => "check the parameters, and how the client authenticates",
        Some(_) => "see the error code",
        None => match status {
            StatusCode::UNAUTHORIZED => cx.advice.unwrap_or("check the client id and secret"),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                "check the token endpoint's URL"
            }
            // Gateways and firewalls throttle with bare 403s and 408s: no verdict on the credentials.
            StatusCode::FORBIDDEN | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                return TokenError::new(Refused, true, "was refused without an OAuth error");
            }
            _ => "the answer gives no reason",
        },
    };
    TokenError::new(Refused, false, format!("was refused: {advice}"))
}

fn redirected(status: StatusCode, headers: &HeaderMap) -> TokenError {
    let target = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<Uri>().ok())
        .map_or_else(|| "an unnamed place".to_owned(), |uri| place(&uri));
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
pub(super) fn place(uri: &Uri) -> String {
    match (uri.scheme_str(), uri.host()) {
        (Some(scheme), Some(host)) => {
            let port = uri.port_u16().map_or_else(String::new, |p| format!(":{p}"));
            format!("{scheme}://{host}{port}{}", uri.path())
        }
        _ => uri.path().to_owned(),
    }
}

/// The error with what the server's `Retry-After` asks for, if there is one.
pub(super) fn with_retry_after(
    error: TokenError,
    headers: &HeaderMap,
    wall: SystemTime,
) -> TokenError {
    let wait = headers.get(header::RETRY_AFTER).and_then(|value| {
        retry_after::retry_after(value.as_bytes(), retry_after::reference(headers, wall))
    });
    match wait {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}

fn malformed(what: &'static str) -> TokenError {
    TokenError::new(TokenErrorKind::Malformed, true, what)
}

/// RFC 6749 §5.2: `%x20-21 / %x23-5B / %x5D-7E`.
fn printable(text: &str, most: usize) -> String {
    text.chars()
        .filter(|c| matches!(c, ' '..='!' | '#'..='[' | ']'..='~'))
        .take(most)
        .collect()
}

fn looks_like_a_token(word: &str) -> bool {
    word.len() >= 20
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~+/=:'\",;()".contains(&b))
        && word.bytes().any(|b| b.is_ascii_digit())
}

/// A lifetime beyond this is as good as for ever, and keeps the arithmetic of instants safe.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
