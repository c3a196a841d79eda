//! Scripted responses to token requests.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use http_body_util::Full;

use super::protocol;

/// A scripted response to one token request; see [`Issuer::next`](super::Issuer::next).
///
/// # Examples
///
/// ```
/// use http::StatusCode;
/// use tower_m2m::test_util::{Fault, Issuer};
///
/// let issuer = Issuer::builder().client("id", "secret").in_process();
/// // First it is overloaded, then it has forgotten us, then it is well.
/// issuer.next(Fault::retry_after(StatusCode::SERVICE_UNAVAILABLE, 5));
/// issuer.next(Fault::oauth_error("invalid_client"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// This response, whatever the request.
    Status {
        /// Status of the response.
        code: StatusCode,
        /// Headers of the response.
        headers: HeaderMap,
        /// Body of the response.
        body: Bytes,
    },
    /// An error response (RFC 6749 §5.2).
    OAuthError {
        /// Status of the response; the RFC's are 400 and 401.
        status: StatusCode,
        /// Value of `error`, such as `invalid_client`.
        code: String,
    },
    /// A normal response, which the issuer starts to process only after this delay.
    Delay(Duration),
    /// No response, ever.
    Hang,
    /// The connection is closed without a response (HTTP/2: the stream is reset).
    Reset,
    /// Status 200 with this body and content type.
    Body(Bytes, String),
    /// Status 307 with this `Location`.
    Redirect(String),
}

impl Fault {
    /// Creates a response with this status and an empty body.
    #[must_use]
    pub fn status(code: StatusCode) -> Self {
        Self::Status {
            code,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// Creates a response with this status, `Retry-After` in seconds, and an empty body.
    #[must_use]
    pub fn retry_after(code: StatusCode, seconds: u64) -> Self {
        Self::Status {
            code,
            headers: HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(seconds))]),
            body: Bytes::new(),
        }
    }

    /// Creates an error response (RFC 6749 §5.2) with the RFC's status: 401 for `invalid_client`, otherwise 400.
    #[must_use]
    pub fn oauth_error(code: impl Into<String>) -> Self {
        let code = code.into();
        Self::OAuthError {
            status: if code == "invalid_client" {
                StatusCode::UNAUTHORIZED
            } else {
                StatusCode::BAD_REQUEST
            },
            code,
        }
    }

    /// Returns the response of the fault; `None` for a fault without one. Text that is not a valid header value is omitted.
    pub(super) fn into_response(self) -> Option<Response<Full<Bytes>>> {
        let mut response = Response::new(Full::default());
        match self {
            Self::Status {
                code,
                headers,
                body,
            } => {
                *response.status_mut() = code;
                *response.headers_mut() = headers;
                *response.body_mut() = Full::new(body);
            }
            Self::OAuthError { status, code } => return Some(protocol::error(status, &code)),
            Self::Body(body, content_type) => {
                *response.body_mut() = Full::new(body);
                if let Ok(value) = HeaderValue::try_from(content_type) {
                    response.headers_mut().insert(CONTENT_TYPE, value);
                }
            }
            Self::Redirect(to) => {
                *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                if let Ok(value) = HeaderValue::try_from(to) {
                    response.headers_mut().insert(LOCATION, value);
                }
            }
            // The service handles these itself.
            Self::Delay(_) | Self::Hang | Self::Reset => return None,
        }
        Some(response)
    }
}
