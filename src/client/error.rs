//! The error of a client.

use std::{error::Error, fmt};

use http::StatusCode;

use crate::{
    BoxError,
    client_credentials::{OriginNotAllowed, TokenError},
    rate_limit_retry::RateLimited,
};

/// What has failed in a [`Client`](super::Client). The cause is the [`source`](Error::source).
///
/// `Display` names the method and the URL without its query. It contains no secrets.
///
/// # Examples
///
/// ```
/// use tower_m2m::client::{ClientError, ClientErrorKind};
///
/// fn explain(error: &ClientError) -> String {
///     match error.kind() {
///         ClientErrorKind::Status(status) => format!("the API answered {status}"),
///         ClientErrorKind::Token => "no token: check the credentials".to_owned(),
///         _ => error.to_string(),
///     }
/// }
/// # let _: fn(&ClientError) -> String = explain;
/// ```
#[derive(Debug)]
pub struct ClientError {
    /// Category.
    kind: ClientErrorKind,
    /// Method and URL, without user information and query.
    request: String,
    /// The cause.
    source: Option<BoxError>,
}

/// Category of a [`ClientError`].
///
/// # Examples
///
/// ```
/// use tower_m2m::client::ClientErrorKind;
///
/// /// Whether the same request may succeed later.
/// fn is_temporary(kind: ClientErrorKind) -> bool {
///     match kind {
///         ClientErrorKind::Status(status) => status.is_server_error(),
///         kind => matches!(kind, ClientErrorKind::RateLimited | ClientErrorKind::Transport),
///     }
/// }
/// # let _: fn(ClientErrorKind) -> bool = is_temporary;
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// The request could not be built: its URL, a header or its body. Nothing was sent.
    Request,
    /// The URL is not of an origin that gets the token. Nothing was sent.
    Origin,
    /// There is no token. The source is a [`TokenError`].
    Token,
    /// The quota allows the request too late. The source is a [`RateLimited`].
    RateLimited,
    /// The request failed: a connection, TLS, a deadline or a full queue.
    Transport,
    /// The response has a status of 400 to 599: [`error_for_status`](super::Response::error_for_status).
    Status(StatusCode),
    /// The body of the response was not received, or is longer than the limit.
    Body,
    /// The body of the response is not the JSON that was expected.
    Json,
}

impl ClientError {
    /// Creates an error.
    pub(super) fn new(
        kind: ClientErrorKind,
        request: impl Into<String>,
        source: Option<BoxError>,
    ) -> Self {
        Self {
            kind,
            request: request.into(),
            source,
        }
    }

    /// Creates the error of a request that the layers or the connections have failed.
    pub(super) fn from_layers(request: impl Into<String>, error: BoxError) -> Self {
        let kind = if error.is::<TokenError>() {
            ClientErrorKind::Token
        } else if error.is::<RateLimited>() {
            ClientErrorKind::RateLimited
        } else if error.is::<OriginNotAllowed>() {
            ClientErrorKind::Origin
        } else {
            ClientErrorKind::Transport
        };
        Self::new(kind, request, Some(error))
    }

    /// Returns the category.
    #[must_use]
    pub fn kind(&self) -> ClientErrorKind {
        self.kind
    }

    /// Returns the status of the response, if that is the error.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self.kind {
            ClientErrorKind::Status(status) => Some(status),
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        match self.kind {
            ClientErrorKind::Request => write!(f, "{request} could not be built"),
            ClientErrorKind::Origin => write!(f, "{request} was not sent: check the origin"),
            ClientErrorKind::Token => write!(f, "{request} was not sent: there is no token"),
            ClientErrorKind::RateLimited => write!(f, "{request} was not sent: no quota in time"),
            ClientErrorKind::Transport => write!(f, "{request} failed"),
            ClientErrorKind::Status(status) => write!(f, "{request} was answered with {status}"),
            ClientErrorKind::Body => write!(f, "the response to {request} was not received"),
            ClientErrorKind::Json => {
                write!(f, "the response to {request} is not the expected JSON")
            }
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_ref()?;
        Some(&**source)
    }
}
