//! The response to a request of a client.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use super::{ClientError, ClientErrorKind, ResponseBody};

/// The response to a request of a [`Client`](super::Client). Its body is still on its way.
///
/// [`bytes`](Self::bytes), [`text`](Self::text) and [`json`](Self::json) read at most 64 MiB;
/// [`into_http`](Self::into_http) returns a body of any length, as it arrives.
///
/// # Examples
///
/// ```
/// use tower_m2m::client::{ClientError, Response};
///
/// async fn names(response: Response) -> Result<Vec<String>, ClientError> {
///     response.error_for_status()?.json().await
/// }
/// ```
#[derive(Debug)]
pub struct Response {
    /// Method and URL, for errors.
    name: String,
    /// The response.
    response: http::Response<ResponseBody>,
}

impl Response {
    /// Wraps a response.
    pub(super) fn new(name: String, response: http::Response<ResponseBody>) -> Self {
        Self { name, response }
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Returns the headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Returns the response, unless its status is 400 to 599.
    ///
    /// # Errors
    ///
    /// [`ClientErrorKind::Status`].
    pub fn error_for_status(self) -> Result<Self, ClientError> {
        let status = self.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(ClientError::new(
                ClientErrorKind::Status(status),
                self.name,
                None,
            ));
        }
        Ok(self)
    }

    /// Returns the whole body.
    ///
    /// # Errors
    ///
    /// [`ClientErrorKind::Body`], if the body ends early or exceeds 64 MiB.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the rest of the body is discarded.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        let name = self.name;
        let body = Limited::new(self.response.into_body(), MAX_BODY).collect();
        match body.await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(ClientError::new(ClientErrorKind::Body, name, Some(error))),
        }
    }

    /// Returns the body as text. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// As for [`bytes`](Self::bytes).
    pub async fn text(self) -> Result<String, ClientError> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// As for [`bytes`](Self::bytes), and [`ClientErrorKind::Json`], whose source says where the JSON differs.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let name = self.name.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ClientError::new(ClientErrorKind::Json, name, Some(error.into())))
    }

    /// Returns the response with its body as it arrives.
    #[must_use]
    pub fn into_http(self) -> http::Response<ResponseBody> {
        self.response
    }
}

/// Maximum length of a body that is read as a whole.
const MAX_BODY: usize = 64 * 1024 * 1024;
