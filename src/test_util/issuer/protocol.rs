//! Reads a token request and checks its client (RFC 6749 §2.3, §4.4.2, §5.2).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use serde_json::json;

/// A way in which a client may prove who it is.
///
/// # Examples
///
/// ```
/// use tower_m2m::test_util::{AcceptedAuth, Issuer};
///
/// // As at Didit: one endpoint for each way.
/// let issuer = Issuer::builder()
///     .client("id", "secret")
///     .path("/oauth2/token/")
///     .accept([AcceptedAuth::Post])
///     .endpoint("/token/", [AcceptedAuth::BasicRaw])
///     .in_process();
/// # drop(issuer);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AcceptedAuth {
    /// `Authorization: Basic`, both parts form-encoded first (RFC 6749 §2.3.1).
    BasicEncoded,
    /// `Authorization: Basic`, both parts as they are (RFC 7617), as many servers expect it.
    BasicRaw,
    /// `client_id` and `client_secret` in the form.
    Post,
}

/// Why a token request gets no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    InvalidRequest,
    InvalidClient,
    UnsupportedGrantType,
}

/// The form's pairs in their order, decoded.
pub(super) fn parse_form(body: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(body)
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// The identifier of the client that asks, if it may have a token.
pub(super) fn check(
    headers: &HeaderMap,
    form: &[(String, String)],
    accepted: &[AcceptedAuth],
    clients: &[(String, String)],
) -> Result<String, Refusal> {
    let is_form = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(FORM));
    if !is_form {
        return Err(Refusal::InvalidRequest);
    }
    let client = authenticate(headers, form, accepted, clients)?;
    match one(form, "grant_type")? {
        Some("client_credentials") => Ok(client),
        Some(_) => Err(Refusal::UnsupportedGrantType),
        None => Err(Refusal::InvalidRequest),
    }
}

/// The one value of a parameter, which must not be repeated (RFC 6749 §3.2).
pub(super) fn one<'a>(
    form: &'a [(String, String)],
    name: &str,
) -> Result<Option<&'a str>, Refusal> {
    let mut values = form.iter().filter(|(known, _)| known == name);
    match (values.next(), values.next()) {
        (first, None) => Ok(first.map(|(_, value)| value.as_str())),
        _ => Err(Refusal::InvalidRequest),
    }
}

/// A successful answer, which nobody may cache (RFC 6749 §5.1).
pub(super) fn success(body: String) -> Response<Full<Bytes>> {
    json_response(StatusCode::OK, body)
}

/// An error answer (RFC 6749 §5.2).
pub(super) fn error(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    json_response(status, json!({ "error": code }).to_string())
}

impl Refusal {
    /// With a challenge if the client tried to authenticate by header (RFC 6749 §5.2).
    pub(super) fn into_response(self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let (status, code) = match self {
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        };
        let mut response = error(status, code);
        if self == Self::InvalidClient && headers.contains_key(AUTHORIZATION) {
            response.headers_mut().insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"issuer\""),
            );
        }
        response
    }
}

fn authenticate(
    headers: &HeaderMap,
    form: &[(String, String)],
    accepted: &[AcceptedAuth],
    clients: &[(String, String)],
) -> Result<String, Refusal> {
    let posted_id = one(form, "client_id")?;
    let posted_secret = one(form, "client_secret")?;
    let candidates = match headers.get(AUTHORIZATION) {
        // More than one method in one request is not allowed (RFC 6749 §2.3).
        Some(_) if posted_secret.is_some() => return Err(Refusal::InvalidRequest),
        Some(value) => basic(value, accepted),
        None if accepted.contains(&AcceptedAuth::Post) => posted_id
            .zip(posted_secret)
            .map(|(id, secret)| (id.to_owned(), secret.to_owned()))
            .into_iter()
            .collect(),
        None => Vec::new(),
    };
    candidates
        .into_iter()
        .find(|candidate| clients.contains(candidate))
        .map(|(id, _)| id)
        .ok_or(Refusal::InvalidClient)
}

/// The client that the header names, once in each accepted reading.
fn basic(value: &HeaderValue, accepted: &[AcceptedAuth]) -> Vec<(String, String)> {
    let pair = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok())
        .and_then(|decoded| String::from_utf8(decoded).ok());
    let Some((id, secret)) = pair.as_deref().and_then(|pair| pair.split_once(':')) else {
        return Vec::new();
    };
    let mut readings = Vec::new();
    if accepted.contains(&AcceptedAuth::BasicEncoded) {
        readings.push((decode(id), decode(secret)));
    }
    if accepted.contains(&AcceptedAuth::BasicRaw) {
        readings.push((id.to_owned(), secret.to_owned()));
    }
    readings
}

/// Decodes `application/x-www-form-urlencoded`.
fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

fn json_response(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().extend([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (PRAGMA, HeaderValue::from_static("no-cache")),
    ]);
    response
}

const FORM: &str = "application/x-www-form-urlencoded";
