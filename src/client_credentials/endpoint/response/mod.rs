//! Reads a token endpoint's answer (RFC 6749 §5.1, §5.2) from bytes: tolerant of what servers do, strict on what is safe.

mod answer;
mod context;
mod date;
mod lifetime;
mod refusal;
#[cfg(test)]
mod tests;
mod text;

use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use zeroize::Zeroizing;

use self::{answer::Answer, context::is_page, refusal::Refusal};
pub(super) use self::{
    answer::{Members, wipe},
    context::Context,
    refusal::place,
};
use crate::{
    client_credentials::{AccessToken, Quirk, TokenError, TokenErrorKind},
    retry_after,
    secret::Secret,
};

/// The token in the answer and what was odd about it, or what is wrong with it.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    cx: &Context<'_>,
) -> Result<(AccessToken, Vec<Quirk>), TokenError> {
    let mut answer = Answer::parse(headers, body);
    let code = answer.as_ref().and_then(|a| a.code(status, cx.secrets));
    if !status.is_success() || code.is_some() {
        return Err(refused(status, headers, body, answer.as_ref(), cx));
    }
    let text = answer.as_ref().and_then(|a| a.description(cx.secrets));
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
    Err(refused(status, headers, body, answer.as_ref(), cx))
}

fn refused(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    answer: Option<&Answer>,
    cx: &Context<'_>,
) -> TokenError {
    if status.is_redirection() {
        return refusal::redirected(status, headers, cx.secrets);
    }
    let code = answer.and_then(|a| a.code(status, cx.secrets));
    let text = answer.and_then(|a| a.description(cx.secrets));
    let refusal = Refusal {
        status,
        headers,
        code: code.as_deref(),
        text: text.as_deref(),
        body,
    };
    let error = refusal.error(cx).with_status(status);
    with_retry_after(error.with_oauth_error(code, text), headers, cx.wall)
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
        not_utf8()
    } else if is_page(body) {
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
    let is_utf8 = answer.is_utf8;
    let Answer {
        members, quirks, ..
    } = answer;
    let means_bearer = |kind: &str| {
        let known = cx.bearer_types.iter().map(String::as_str);
        known
            .chain(["bearer"])
            .any(|known| known.eq_ignore_ascii_case(kind))
    };
    match members.get("token_type") {
        // Didit, VK, LinkedIn and others leave it out.
        None | Some(Value::Null) => quirks.push(Quirk::NoTokenType),
        Some(Value::String(kind)) if means_bearer(kind.trim()) => {}
        Some(Value::String(kind)) if kind.trim().eq_ignore_ascii_case("n_a") => {
            return Err(TokenError::new(
                TokenErrorKind::UnsupportedTokenType,
                false,
                "was answered with token_type N_A: what was issued is no access token (RFC 8693 §2.2.1); ask for one \
                 with `TokenExchange::requested_token_type`",
            ));
        }
        Some(kind) => {
            // Not a name, or one for tokens that are bound to a key.
            let is_another = kind.as_str().is_none_or(|kind| {
                let bound = ["dpop", "mac", "pop"];
                bound
                    .iter()
                    .any(|bound| bound.eq_ignore_ascii_case(kind.trim()))
            });
            let remedy = if is_another {
                "have the server issue bearer tokens"
            } else {
                "if the API takes it as one, name the type with `TokenEndpoint::bearer_type`"
            };
            let kind = answer.token_type(cx.secrets);
            return Err(TokenError::new(
                TokenErrorKind::UnsupportedTokenType,
                false,
                format!(
                    "was answered with a token of type {kind:?}, which may not be sent as a bearer token; {remedy}"
                ),
            ));
        }
    }
    let value = match members.remove("access_token") {
        Some(Value::String(value)) => bare_token(value, quirks),
        None | Some(Value::Null) => None,
        Some(_) => {
            return Err(malformed(
                "was answered with an access_token that is no string",
            ));
        }
    };
    let Some(value) = value else {
        return Err(malformed(
            "was answered without an access_token; check the token endpoint's URL",
        ));
    };
    if !is_utf8 && !value.expose().is_ascii() {
        return Err(not_utf8());
    }
    let made = retry_after::reference(headers, cx.wall);
    let lifetime = lifetime::lifetime(members, value.expose(), made, cx.default_lifetime, quirks);
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

/// The token alone: without white space around it, and without the scheme that some servers put in front. `None` if
/// nothing is left.
fn bare_token(value: String, quirks: &mut Vec<Quirk>) -> Option<Secret> {
    let value = Zeroizing::new(value);
    let mut bare = value.trim();
    let (scheme, rest) = bare.split_once(' ').unwrap_or((bare, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        bare = rest.trim_start();
    }
    if bare.len() < value.len() {
        quirks.push(Quirk::DecoratedToken);
    }
    (!bare.is_empty()).then(|| bare.into())
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

fn not_utf8() -> TokenError {
    TokenError::new(
        TokenErrorKind::NotUtf8,
        true,
        "was answered with bytes that are not UTF-8; check the token endpoint's URL, and whether a proxy compresses \
         answers unasked",
    )
}

fn malformed(what: &'static str) -> TokenError {
    TokenError::new(TokenErrorKind::Malformed, true, what)
}
