//! Reads a token endpoint's response (RFC 6749 §5.1, §5.2): lenient with syntax, strict where security depends on it.
//!
//! `token_response` parses the members, `lifetime` and `date` interpret them, and `error_response` interprets errors.
//! None of them performs I/O.
//!
//! A response is read in this order, and the first step that fails determines the error:
//!
//! 1. An error status, or an `error` member with any status, makes it an error response.
//! 2. `token_type` must mean a bearer token.
//! 3. `access_token` must be a non-empty string, and certain to be decoded as it was meant.
//! 4. The lifetime and the scope are read. Neither can fail.
//! 5. In strict mode, no deviation that RFC 6749 forbids may have been found.
//!
//! All work is linear in the length of the body, which is limited to 1 MiB.

mod context;
mod date;
mod error_response;
mod lifetime;
#[cfg(test)]
mod tests;
mod text;
mod token_response;

use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use zeroize::Zeroizing;

use self::{context::is_page, error_response::OAuthErrorResponse, token_response::TokenResponse};
pub(super) use self::{
    context::{Binding, Context},
    error_response::redacted_uri,
    token_response::{Members, wipe},
};
use crate::{
    client_credentials::{AccessToken, NonConformance, TokenError, TokenErrorKind},
    retry_after,
    secret::Secret,
};

/// Reads the token, whether it is bound to the key of the proof, and the deviations of the response.
///
/// The deviations of a response that fails are not reported: the error says what is wrong.
///
/// # Errors
///
/// The error that the response contains, or the reason why it contains no usable token.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    cx: &Context<'_>,
) -> Result<(AccessToken, bool, Vec<NonConformance>), TokenError> {
    let mut answer = TokenResponse::parse(headers, body);
    let code = answer.as_ref().and_then(|a| a.code(status, cx.secrets));
    if !status.is_success() || code.is_some() {
        return Err(error_response(status, headers, body, answer.as_ref(), cx));
    }
    // A response without a token may still describe the problem.
    let text = answer.as_ref().and_then(|a| a.description(cx.secrets));
    let error = match answer.as_mut().map(|answer| token(answer, headers, cx)) {
        Some(Ok(token)) => return Ok(token),
        Some(Err(error)) => error,
        None => unreadable(body),
    };
    let error = error.with_status(status).with_oauth_error(None, text);
    Err(with_retry_after(error, headers, cx.wall))
}

/// Reads the response to a revocation (RFC 7009 §2.2). Any success means that the token is revoked, whatever the body
/// contains.
///
/// A server returns 200 for a token that it does not know (RFC 7009 §2.2), so that success does not prove that the
/// token was valid.
///
/// # Errors
///
/// The error that the response contains.
pub(super) fn revoked(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    cx: &Context<'_>,
) -> Result<(), TokenError> {
    if status.is_success() {
        return Ok(());
    }
    let answer = TokenResponse::parse(headers, body);
    Err(error_response(status, headers, body, answer.as_ref(), cx))
}

/// Converts an error response to an error.
///
/// Redirects come first: their bodies are pages, and their codes mean nothing.
fn error_response(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    answer: Option<&TokenResponse>,
    cx: &Context<'_>,
) -> TokenError {
    if status.is_redirection() {
        return error_response::redirected(status, headers, cx.secrets);
    }
    let code = answer.and_then(|a| a.code(status, cx.secrets));
    let text = answer.and_then(|a| a.description(cx.secrets));
    let rejection = OAuthErrorResponse {
        status,
        headers,
        code: code.as_deref(),
        text: text.as_deref(),
        body,
    };
    let error = rejection.error(cx).with_status(status);
    with_retry_after(error.with_oauth_error(code, text), headers, cx.wall)
}

/// Adds the delay of `Retry-After` to the error. If proxies have added several such headers, the longest delay counts.
///
/// A date is compared with the server's own `Date`, so that a difference between the clocks cancels out. The layer
/// limits the delay.
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

/// Returns why a successful response contains no token.
///
/// Transient: a page or an empty body usually comes from something between this process and the server.
fn unreadable(body: &[u8]) -> TokenError {
    if body.trim_ascii().is_empty() {
        malformed("returned an empty body")
    } else if std::str::from_utf8(body).is_err() {
        not_utf8()
    } else if is_page(body) {
        malformed(
            "returned a web page; check the token endpoint's URL, and any proxy or gateway in front of it",
        )
    } else {
        malformed("returned a response that is not a JSON object; check the token endpoint's URL")
    }
}

/// Reads the token of a successful response.
///
/// Takes the token out of the members, so that it remains neither among those that the program can read nor in the
/// memory that is freed.
///
/// # Errors
///
/// An unsupported token type, a missing or invalid `access_token`, or, in strict mode, a deviation that RFC 6749
/// forbids.
fn token(
    answer: &mut TokenResponse,
    headers: &HeaderMap,
    cx: &Context<'_>,
) -> Result<(AccessToken, bool, Vec<NonConformance>), TokenError> {
    let is_utf8 = answer.is_utf8;
    let TokenResponse {
        members,
        non_conformances,
        ..
    } = answer;
    let mut is_bound = false;
    let means_bearer = |kind: &str| {
        let known = cx.bearer_types.iter().map(String::as_str);
        known
            .chain(["bearer"])
            .any(|known| known.eq_ignore_ascii_case(kind))
    };
    match members.get("token_type") {
        Some(Value::String(kind))
            if cx.binding != Binding::None && kind.trim().eq_ignore_ascii_case("dpop") =>
        {
            is_bound = true;
        }
        kind if cx.binding == Binding::Required
            && kind
                .and_then(Value::as_str)
                .is_none_or(|kind| means_bearer(kind.trim())) =>
        {
            return Err(TokenError::new(
                TokenErrorKind::InvalidResponse,
                false,
                "returned a token that is not bound to the DPoP key: its token_type is not DPoP (RFC 9449 §5); check that \
                 the client is registered with `dpop_bound_access_tokens`, or accept such tokens with \
                 `Dpop::on_bearer_answer`",
            ));
        }
        // Didit, VK, LinkedIn and others omit it.
        None | Some(Value::Null) => non_conformances.push(NonConformance::NoTokenType),
        Some(Value::String(kind)) if means_bearer(kind.trim()) => {}
        Some(Value::String(kind)) if kind.trim().eq_ignore_ascii_case("n_a") => {
            return Err(TokenError::new(
                TokenErrorKind::InvalidResponse,
                false,
                "returned token_type N_A: the issued token is not an access token (RFC 8693 §2.2.1); request one with \
                 `TokenExchange::requested_token_type`",
            ));
        }
        Some(kind) => {
            // Not a name, or a type for tokens that are bound to a key, which `bearer_type` must not allow.
            let is_another = kind.as_str().is_none_or(|kind| {
                let bound = ["dpop", "mac", "pop"];
                bound
                    .iter()
                    .any(|bound| bound.eq_ignore_ascii_case(kind.trim()))
            });
            let remedy = if is_another {
                "configure the server to issue bearer tokens, or for DPoP set `TokenEndpoint::dpop`"
            } else {
                "if the API accepts it as one, declare the type with `TokenEndpoint::bearer_type`"
            };
            let kind = answer.token_type(cx.secrets);
            return Err(TokenError::new(
                TokenErrorKind::InvalidResponse,
                false,
                format!(
                    "returned a token of type {kind:?}, which cannot be sent as a bearer token; {remedy}"
                ),
            ));
        }
    }
    let value = match members.remove("access_token") {
        Some(Value::String(value)) => bare_token(value, non_conformances),
        None | Some(Value::Null) => None,
        Some(_) => {
            return Err(malformed("returned an access_token that is not a string"));
        }
    };
    let Some(value) = value else {
        return Err(malformed(
            "returned no access_token; check the token endpoint's URL",
        ));
    };
    // In another encoding the bytes of the token are uncertain.
    if !is_utf8 && !value.expose().is_ascii() {
        return Err(not_utf8());
    }
    let made = retry_after::reference(headers, cx.wall);
    let lifetime = lifetime::lifetime(
        members,
        value.expose(),
        made,
        cx.default_lifetime,
        non_conformances,
    );
    let refresh_in = lifetime::refresh_in(members);
    let scope = scope(members.get("scope"), non_conformances);
    let non_conformances = std::mem::take(non_conformances);
    if cx.strict
        && let Some(non_conformance) = non_conformances
            .iter()
            .find(|non_conformance| non_conformance.is_forbidden())
    {
        return Err(TokenError::new(
            TokenErrorKind::InvalidResponse,
            false,
            format!(
                "returned {non_conformance}, which RFC 6749 forbids; remove `.strict(true)` to accept it"
            ),
        ));
    }
    let token = AccessToken::new(value).expires_in(lifetime).with_answer(
        scope,
        refresh_in,
        answer.take_extra(),
    );
    Ok((token, is_bound, non_conformances))
}

/// Returns the token without surrounding white space, and without the scheme that some servers put in front. Returns
/// `None` if nothing is left.
///
/// Any change is reported as [`NonConformance::DecoratedToken`]. Spaces within the token are left as they are.
fn bare_token(value: String, non_conformances: &mut Vec<NonConformance>) -> Option<Secret> {
    let value = Zeroizing::new(value);
    let mut bare = value.trim();
    let (scheme, rest) = bare.split_once(' ').unwrap_or((bare, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        bare = rest.trim_start();
    }
    if bare.len() < value.len() {
        non_conformances.push(NonConformance::DecoratedToken);
    }
    (!bare.is_empty()).then(|| bare.into())
}

/// Reads the scope: a string, or an array of strings, which some servers send.
fn scope(value: Option<&Value>, non_conformances: &mut Vec<NonConformance>) -> Option<Box<str>> {
    match value? {
        Value::String(scope) => Some(scope.as_str().into()),
        Value::Array(values) => {
            non_conformances.push(NonConformance::ScopeAsArray);
            let scopes: Vec<_> = values.iter().filter_map(Value::as_str).collect();
            Some(scopes.join(" ").into())
        }
        _ => None,
    }
}

/// Creates the error for a response in another encoding.
fn not_utf8() -> TokenError {
    TokenError::new(
        TokenErrorKind::InvalidResponse,
        true,
        "returned bytes that are not UTF-8; check the token endpoint's URL, and whether a proxy compresses responses \
         without being asked to",
    )
}

/// Creates a transient error for a response that is not a token response.
fn malformed(what: &'static str) -> TokenError {
    TokenError::new(TokenErrorKind::InvalidResponse, true, what)
}
