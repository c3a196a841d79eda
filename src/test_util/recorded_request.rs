//! Requests as a double received them.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName},
    request::Parts,
};
use percent_encoding::percent_decode_str;

use super::serve::Connection;

/// A request as it arrived, with all headers and the first 16 KiB of its body. `Debug` prints no query, headers, form values
/// or body.
///
/// # Examples
///
/// ```
/// use http::{Method, Request};
/// use tower::ServiceExt;
/// use tower_m2m::{BoxError, test_util::{Api, RecordedRequest}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let api = Api::builder().in_process();
/// let request = Request::put("https://api.test/orders/1?verbose").header("if-match", "7");
/// api.service().oneshot(request.body("data".to_owned())?).await?;
///
/// let request: &RecordedRequest = &api.requests()[0];
///
/// assert_eq!((&request.method, request.path.as_str()), (&Method::PUT, "/orders/1"));
/// assert_eq!(request.query.as_deref(), Some("verbose"));
/// assert_eq!(request.authority.as_deref(), Some("api.test"));
/// assert_eq!(request.header("if-match"), Some("7"));
/// assert_eq!(request.body, "data");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// Method of the request.
    pub method: Method,
    /// Path of the request, without the query.
    pub path: String,
    /// Query of the request, without the `?`.
    pub query: Option<String>,
    /// Host and port: `:authority` of HTTP/2, `Host` of HTTP/1, or the authority of the URI in process.
    pub authority: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The first 16 KiB of the body; empty if the double did not read it.
    pub body: Bytes,
    /// Length of the whole body, in bytes.
    pub body_length: u64,
    /// Name-value pairs of a form (`application/x-www-form-urlencoded`), in order and decoded; empty for other bodies.
    pub form: Vec<(String, String)>,
    /// Number of the connection, from 1 in the order of acceptance; `None` in process.
    pub connection: Option<u64>,
    /// Time of arrival since the double's start.
    pub at: Duration,
}

impl RecordedRequest {
    /// Records a request that arrived at `at`.
    pub(super) fn new(head: &Parts, body: &Bytes, at: Duration) -> Self {
        let authority = head.uri.authority().map(|authority| authority.as_str());
        let authority = authority.or_else(|| text(&head.headers, &HOST));
        Self {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            authority: authority.map(str::to_owned),
            headers: head.headers.clone(),
            body: match body.get(..MAX_BODY) {
                // Copied, so that the whole body is not kept.
                Some(start) => Bytes::copy_from_slice(start),
                None => body.clone(),
            },
            body_length: body.len() as u64,
            form: match has_form(&head.headers) {
                true => parse_form(body),
                false => Vec::new(),
            },
            connection: head.extensions.get().map(Connection::number),
            at,
        }
    }

    /// Returns the `Authorization` header.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        text(&self.headers, &AUTHORIZATION)
    }

    /// Returns the first value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the first value of a form parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.form.iter();
        let (_, value) = pairs.find(|(known, _)| known == name)?;
        Some(value)
    }
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("authority", &self.authority)
            .field("body_length", &self.body_length)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// Returns whether the body of a request is a form.
pub(super) fn has_form(headers: &HeaderMap) -> bool {
    text(headers, &CONTENT_TYPE)
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(FORM))
}

/// Decodes `application/x-www-form-urlencoded`.
pub(super) fn form_decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

/// Parses a form into its name-value pairs, in order and decoded.
fn parse_form(body: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(body)
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(name), form_decode(value))
        })
        .collect()
}

/// Returns a header as text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Maximum length of a recorded body, in bytes: bounds the memory of a load test.
const MAX_BODY: usize = 16 * 1024;
/// Content type of a form.
const FORM: &str = "application/x-www-form-urlencoded";
