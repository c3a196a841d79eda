//! Parses a token request and authenticates its client (RFC 6749 §2.3, §4.4.2, §5.2).
//!
//! It is strict where the RFC is, so that tests find requests that a strict server would reject: parameters must not be
//! repeated, the content type must be that of a form, and only one authentication method may be used.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde_json::json;

use super::super::{
    dpop::ProofRejected,
    recorded_request::{form_decode, has_form},
};

/// A client authentication method.
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
    /// `Authorization: Basic`, with both parts form-encoded first (RFC 6749 §2.3.1).
    BasicEncoded,
    /// `Authorization: Basic`, with both parts as they are (RFC 7617), as many servers expect.
    BasicRaw,
    /// `client_id` and `client_secret` in the form.
    Post,
}

impl AcceptedAuth {
    /// Returns the registered name (RFC 7591 §2).
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BasicEncoded | Self::BasicRaw => "client_secret_basic",
            Self::Post => "client_secret_post",
        }
    }
}

/// The reason why a token request is rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum OAuthErrorCode {
    /// The request is malformed.
    InvalidRequest,
    /// Client authentication failed.
    InvalidClient,
    /// The grant is not client credentials.
    UnsupportedGrantType,
    /// The token was issued to another client.
    UnauthorizedClient,
}

/// Returns the id of the client, if it may have a token.
pub(super) fn check(
    headers: &HeaderMap,
    form: &[(String, String)],
    accepted: &[AcceptedAuth],
    clients: &[(String, String)],
) -> Result<String, OAuthErrorCode> {
    // The client is authenticated first, so that an unknown client learns nothing about grants.
    let client = authenticate(headers, form, accepted, clients)?;
    match single_value(form, "grant_type")? {
        Some("client_credentials") => Ok(client),
        Some(_) => Err(OAuthErrorCode::UnsupportedGrantType),
        None => Err(OAuthErrorCode::InvalidRequest),
    }
}

/// Returns the only value of a parameter, which must not be repeated (RFC 6749 §3.2).
pub(super) fn single_value<'a>(
    form: &'a [(String, String)],
    name: &str,
) -> Result<Option<&'a str>, OAuthErrorCode> {
    let mut values = form.iter().filter(|(known, _)| known == name);
    match (values.next(), values.next()) {
        (first, None) => Ok(first.map(|(_, value)| value.as_str())),
        _ => Err(OAuthErrorCode::InvalidRequest),
    }
}

/// Creates a successful response, which must not be cached (RFC 6749 §5.1).
pub(super) fn success(body: String) -> Response<Full<Bytes>> {
    json_response(StatusCode::OK, body)
}

/// Creates an error response (RFC 6749 §5.2).
pub(super) fn error(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    json_response(status, json!({ "error": code }).to_string())
}

/// Creates the response to a rejected proof (RFC 9449 §5, §8).
pub(super) fn proof_error(rejected: &ProofRejected) -> Response<Full<Bytes>> {
    let body = json!({ "error": rejected.code, "error_description": rejected.reason });
    json_response(StatusCode::BAD_REQUEST, body.to_string())
}

impl OAuthErrorCode {
    /// Creates the response, with a challenge if the client tried to authenticate by header (RFC 6749 §5.2).
    pub(super) fn into_response(self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let (status, code) = match self {
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            Self::UnauthorizedClient => (StatusCode::BAD_REQUEST, "unauthorized_client"),
        };
        let mut response = error(status, code);
        // A client that authenticated in the form gets a 401 without a challenge.
        if self == Self::InvalidClient && headers.contains_key(AUTHORIZATION) {
            response.headers_mut().insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"issuer\""),
            );
        }
        response
    }
}

/// Authenticates the client of a form, and returns its id.
pub(super) fn authenticate(
    headers: &HeaderMap,
    form: &[(String, String)],
    accepted: &[AcceptedAuth],
    clients: &[(String, String)],
) -> Result<String, OAuthErrorCode> {
    if !has_form(headers) {
        return Err(OAuthErrorCode::InvalidRequest);
    }
    let posted_id = single_value(form, "client_id")?;
    let posted_secret = single_value(form, "client_secret")?;
    let candidates = match headers.get(AUTHORIZATION) {
        // A request must not use more than one method (RFC 6749 §2.3).
        Some(_) if posted_secret.is_some() => return Err(OAuthErrorCode::InvalidRequest),
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
        // Both forms of Basic may be accepted: one match is enough.
        .find(|candidate| clients.contains(candidate))
        .map(|(id, _)| id)
        .ok_or(OAuthErrorCode::InvalidClient)
}

/// Returns the id and secret in the header, once for each accepted form of Basic.
fn basic(value: &HeaderValue, accepted: &[AcceptedAuth]) -> Vec<(String, String)> {
    // A malformed header counts as failed authentication, not as a malformed request.
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
        readings.push((form_decode(id), form_decode(secret)));
    }
    if accepted.contains(&AcceptedAuth::BasicRaw) {
        readings.push((id.to_owned(), secret.to_owned()));
    }
    readings
}

/// Creates a JSON response that must not be cached.
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
