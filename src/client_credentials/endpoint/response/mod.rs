//! Reads a token endpoint's answer (RFC 6749 §5.1, §5.2) from bytes: tolerant of what servers do, strict on what is safe.

mod answer;
mod date;
mod lifetime;
mod refusal;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use self::answer::Answer;
pub(super) use self::refusal::place;
use crate::{
    client_credentials::{AccessToken, Quirk, TokenError, TokenErrorKind},
    retry_after,
};

/// What the reader knows besides the answer.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) wall: SystemTime,
    pub(super) default_lifetime: Duration,
    /// Refuses what RFC 6749 forbids.
    pub(super) strict: bool,
    pub(super) advice: Option<&'static str>,
    pub(super) secrets: &'a [SecretString],
}

/// The token in the answer and what was odd about it, or what is wrong with it.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    cx: &Context<'_>,
) -> Result<(AccessToken, Vec<Quirk>), TokenError> {
    let mut answer = Answer::parse(headers, body);
    let code = answer.as_ref().and_then(|a| a.code(cx.secrets));
    let text = answer.as_ref().and_then(|a| a.description(cx.secrets));
    if !status.is_success() || code.is_some() {
        return Err(refused(status, headers, code, text, cx));
    }
    let error = match answer.as_mut().map(|answer| token(answer, headers, cx)) {
        Some(Ok(token)) => return Ok(token),
        Some(Err(error)) => error,
        None => unreadable(body),
    };
    let error = error.with_status(status).with_oauth_error(None, text);
    Err(with_retry_after(error, headers, cx.wall))
}

/// Whether a token was revoked (RFC 7009 §2.2): every success says so, whatever its body holds.
pub(super) fn revoked(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    cx: &Context<'_>,
) -> Result<(), TokenError> {
    if status.is_success() {
        return Ok(());
    }
    let answer = Answer::parse(headers, body);
    let code = answer.as_ref().and_then(|a| a.code(cx.secrets));
    let text = answer.as_ref().and_then(|a| a.description(cx.secrets));
    Err(refused(status, headers, code, text, cx))
}

fn refused(
    status: StatusCode,
    headers: &HeaderMap,
    code: Option<String>,
    text: Option<String>,
    cx: &Context<'_>,
) -> TokenError {
    if status.is_redirection() {
        return refusal::redirected(status, headers, cx.secrets);
    }
    let error = refusal::refusal(status, headers, code.as_deref(), text.as_deref(), cx);
    let error = error.with_status(status).with_oauth_error(code, text);
    with_retry_after(error, headers, cx.wall)
}

/// The error with what the server's `Retry-After` asks for, if there is one. Of several lines, which proxies bring
/// about, the longest wait counts.
pub(super) fn with_retry_after(
    error: TokenError,
    headers: &HeaderMap,
    wall: SystemTime,
) -> TokenError {
    let made = retry_after::reference(headers, wall);
    let wait = headers
        .get_all(header::RETRY_AFTER)
        .iter()
        .filter_map(|value| retry_after::retry_after(value.as_bytes(), made))
        .max();
    match wait {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}

/// Why a success holds no token.
fn unreadable(body: &[u8]) -> TokenError {
    if body.trim_ascii().is_empty() {
        malformed("was answered with an empty body")
    } else if std::str::from_utf8(body).is_err() {
        TokenError::new(
            TokenErrorKind::NotUtf8,
            true,
            "was answered with bytes that are not UTF-8; check the token endpoint's URL, and whether a proxy compresses \
             answers unasked",
        )
    } else if body.trim_ascii_start().starts_with(b"<") {
        malformed(
            "was answered with a web page; check the token endpoint's URL, and what stands before it",
        )
    } else {
        malformed("was not answered with a JSON object; check the token endpoint's URL")
    }
}

fn token(
    answer: &mut Answer,
    headers: &HeaderMap,
    cx: &Context<'_>,
) -> Result<(AccessToken, Vec<Quirk>), TokenError> {
    let Answer { members, quirks } = answer;
    match members.get("token_type") {
        // Didit, VK, LinkedIn and others leave it out.
        None | Some(Value::Null) => quirks.push(Quirk::NoTokenType),
        Some(Value::String(kind)) if kind.trim().eq_ignore_ascii_case("bearer") => {}
        Some(Value::String(kind)) if kind.trim().eq_ignore_ascii_case("n_a") => {
            return Err(TokenError::new(
                TokenErrorKind::UnsupportedTokenType,
                false,
                "was answered with token_type N_A: what was issued is no access token (RFC 8693 §2.2.1); ask for one \
                 with `TokenExchange::requested_token_type`",
            ));
        }
        Some(_) => {
            let kind = answer.token_type(cx.secrets);
            return Err(TokenError::new(
                TokenErrorKind::UnsupportedTokenType,
                false,
                format!(
                    "was answered with a token of type {kind:?}, which may not be sent as a bearer token; have the server issue bearer tokens"
                ),
            ));
        }
    }
    let value = match members.remove("access_token") {
        Some(Value::String(value)) if !value.trim().is_empty() => SecretString::from(value),
        Some(Value::String(_)) | None | Some(Value::Null) => {
            return Err(malformed(
                "was answered without an access_token; check the token endpoint's URL",
            ));
        }
        Some(_) => {
            return Err(malformed(
                "was answered with an access_token that is no string",
            ));
        }
    };
    let made = retry_after::reference(headers, cx.wall);
    let lifetime = lifetime::lifetime(
        members,
        value.expose_secret(),
        made,
        cx.default_lifetime,
        quirks,
    );
    let refresh_in = lifetime::refresh_in(members);
    let scope = scope(members.get("scope"), quirks);
    let quirks = std::mem::take(quirks);
    if cx.strict
        && let Some(quirk) = quirks.iter().find(|quirk| quirk.is_forbidden())
    {
        return Err(TokenError::new(
            TokenErrorKind::NotStrict,
            false,
            format!(
                "was answered with {quirk}, which RFC 6749 forbids; leave out `.strict()` to accept it"
            ),
        ));
    }
    let token = AccessToken::new(value).expires_in(lifetime).with_answer(
        scope,
        refresh_in,
        answer.take_extra(),
    );
    Ok((token, quirks))
}

/// A string, or (as some servers send it) an array of strings.
fn scope(value: Option<&Value>, quirks: &mut Vec<Quirk>) -> Option<Box<str>> {
    match value? {
        Value::String(scope) => Some(scope.as_str().into()),
        Value::Array(values) => {
            quirks.push(Quirk::ScopeAsArray);
            let scopes: Vec<_> = values.iter().filter_map(Value::as_str).collect();
            Some(scopes.join(" ").into())
        }
        _ => None,
    }
}

fn exposed(secrets: &[SecretString]) -> Vec<&str> {
    secrets.iter().map(ExposeSecret::expose_secret).collect()
}

fn malformed(what: &'static str) -> TokenError {
    TokenError::new(TokenErrorKind::Malformed, true, what)
}
