//! Requests for a metadata document at one URL after the other.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;

use super::super::{
    response,
    transport::{JSON, Transport, USER_AGENT},
};
use crate::client_credentials::{TokenError, TokenErrorKind};

/// Why a response is not used as the metadata.
///
/// The distinction matters for security: a wrong document at one place must not be hidden by another place.
pub(super) enum MetadataError {
    /// The response is not metadata, or lacks a required member. The next URL is tried.
    NoMetadata(&'static str),
    /// The response is metadata that must not be used. No other URL is tried.
    Rejected(TokenError),
}

/// Requests the metadata from each of `urls` in turn. `missing` says what has none, and what to check, if all fail.
///
/// Only a URL without metadata leads to the next one. A server error, throttling, or metadata of another party fails
/// immediately, because it does not justify trusting a document from another place.
///
/// # Errors
///
/// The error of the first URL that fails, or [`Discovery`](TokenErrorKind::Discovery) with the response of each URL.
///
/// # Cancel safety
///
/// Dropping the future drops the request in flight.
pub(super) async fn look_up<T>(
    urls: Vec<Uri>,
    missing: Missing,
    transport: &Transport,
    wall: SystemTime,
    read: impl Fn(&[u8]) -> Result<T, MetadataError>,
) -> Result<T, TokenError> {
    let mut tried = LookupFailures::default();
    for url in urls {
        let http_response = match transport.send(get(url.clone())).await {
            // The transport reports only a body that is too large this way. Metadata is never that large, so this is
            // another document.
            Err(error) if error.kind() == TokenErrorKind::InvalidResponse => {
                tried.add_unexpected(&url, "more than 1 MiB");
                continue;
            }
            http_response => http_response?,
        };
        let status = http_response.status;
        if status.is_success() {
            match read(&http_response.body) {
                Ok(metadata) => return Ok(metadata),
                Err(MetadataError::Rejected(error)) => return Err(error),
                Err(MetadataError::NoMetadata(what)) => tried.add_unexpected(&url, what),
            }
        } else if has_no_metadata(status) {
            tried.add_not_found(&url, status);
        } else {
            let error = status_error(&url, status, &tried);
            return Err(response::with_retry_after(
                error,
                &http_response.headers,
                wall,
            ));
        }
    }
    Err(tried.error(&missing))
}

/// What an error says if no URL has metadata.
pub(super) struct Missing {
    /// The message, without the responses.
    pub(super) what: &'static str,
    /// What to check.
    pub(super) advice: &'static str,
}

/// Returns whether the status means that there is no metadata at a URL. Instead of a 404, some servers send a redirect
/// to a login page, or respond that the method is unknown.
///
/// A 401 or 403 counts too: some servers protect every path that they do not know.
fn has_no_metadata(status: StatusCode) -> bool {
    match status {
        StatusCode::TOO_MANY_REQUESTS => false,
        StatusCode::NOT_IMPLEMENTED => true,
        status => status.is_client_error() || status.is_redirection(),
    }
}

/// URLs without metadata, and the response of each.
#[derive(Default)]
struct LookupFailures {
    /// Description of each response.
    messages: Vec<String>,
    /// Whether a URL responded with content that is not metadata. The error is then transient.
    unexpected: bool,
}

impl LookupFailures {
    /// Records a URL that responded with a status.
    fn add_not_found(&mut self, url: &Uri, status: StatusCode) {
        let url = response::redacted_uri(url);
        self.messages
            .push(format!("{url} returned {}", status.as_u16()));
    }

    /// Records a URL that responded with something other than metadata.
    fn add_unexpected(&mut self, url: &Uri, what: &str) {
        let url = response::redacted_uri(url);
        self.messages.push(format!("{url} returned {what}"));
        self.unexpected = true;
    }

    /// Returns the error if no URL has metadata.
    fn error(&self, missing: &Missing) -> TokenError {
        TokenError::new(
            TokenErrorKind::Discovery,
            self.unexpected,
            format!(
                "{} ({}); {}",
                missing.what,
                self.messages.join(", "),
                missing.advice
            ),
        )
    }
}

/// Builds a request for metadata.
pub(super) fn get(url: Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = url;
    request.headers_mut().insert(header::ACCEPT, JSON);
    request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
    request
}

/// Returns the error for a response that neither contains metadata nor means that there is none.
fn status_error(url: &Uri, status: StatusCode, tried: &LookupFailures) -> TokenError {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => TokenErrorKind::Throttled,
        status if status.is_server_error() => TokenErrorKind::Server,
        // 1xx and unknown statuses.
        _ => TokenErrorKind::InvalidResponse,
    };
    let url = response::redacted_uri(url);
    let mut text = format!("failed during discovery, at {url}");
    if !tried.messages.is_empty() {
        text.push_str(&format!(", after {}", tried.messages.join(", ")));
    }
    TokenError::new(kind, true, text).with_status(status)
}
