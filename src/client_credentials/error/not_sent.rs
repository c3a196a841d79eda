//! Errors of requests that are not sent, although there may be a token.

use std::{error::Error, fmt};

/// Error of a request that was not sent, because the token may not go to its destination.
///
/// Nothing has left the process. A service returns it as a [`BoxError`](crate::BoxError):
/// `error.downcast_ref::<OriginNotAllowed>()`.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{
///     BoxError, ClientCredentialsLayer,
///     client_credentials::{AccessToken, OriginNotAllowed},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let http = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(String::new())));
/// let origin = "https://api.example.com".parse()?;
/// let client = ClientCredentialsLayer::builder(AccessToken::new("key"), origin)
///     .build()
///     .layer(http);
///
/// let error = client
///     .oneshot(Request::get("https://other.example/").body(())?)
///     .await
///     .unwrap_err();
///
/// assert!(error.is::<OriginNotAllowed>());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct OriginNotAllowed {
    /// The reason.
    reason: NotAllowed,
}

/// Reason why the token may not go to a destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NotAllowed {
    /// The origin is not allowed. `allowed` lists those that are.
    Foreign { wanted: String, allowed: String },
    /// The `Host` header differs from the origin in the URI.
    Host { origin: String },
    /// The origin is neither https nor loopback.
    Insecure { origin: String },
    /// The URI names no host, and no origin is assumed.
    NoAuthority,
}

impl From<NotAllowed> for OriginNotAllowed {
    fn from(why: NotAllowed) -> Self {
        Self { reason: why }
    }
}

impl fmt::Display for OriginNotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            NotAllowed::Foreign { wanted, allowed } => write!(
                f,
                "request not sent: the token may not be sent to {wanted}, only to {allowed}; to allow this origin, add \
                 it with `.allow_origin(..)`"
            ),
            NotAllowed::Host { origin } => write!(
                f,
                "request not sent: its `Host` header differs from {origin}, the origin in its URI; remove the header or \
                 set `.on_host_mismatch(HostMismatch::Overwrite)`"
            ),
            NotAllowed::Insecure { origin } => write!(
                f,
                "request not sent: {origin} is neither https nor loopback, so the token would be exposed to the \
                 network; use https, or `.dangerously_allow_http()`"
            ),
            NotAllowed::NoAuthority => f.write_str(
                "request not sent: its URI has no host, so the token's destination is unknown; send an absolute URI, \
                 or set `.assume_origin(..)` if the inner service has exactly one fixed destination",
            ),
        }
    }
}

/// Includes the message: a `main` that returns an error prints its `Debug` form.
impl fmt::Debug for OriginNotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginNotAllowed({self})")
    }
}

impl Error for OriginNotAllowed {}

/// Error of a request that was not sent, because it already carried a credential and the layer is configured to refuse
/// that.
///
/// # Examples
///
/// ```
/// use http::{Request, Response, header::AUTHORIZATION};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{
///     BoxError, ClientCredentialsLayer,
///     client_credentials::{AccessToken, CredentialAlreadyPresent, ExistingCredential},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let http = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(String::new())));
/// let origin = "https://api.example.com".parse()?;
/// let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), origin)
///     .on_existing_credential(ExistingCredential::Refuse)
///     .build();
/// let request = Request::get("https://api.example.com/")
///     .header(AUTHORIZATION, "Bearer another")
///     .body(())?;
///
/// let error = layer.layer(http).oneshot(request).await.unwrap_err();
///
/// assert!(error.is::<CredentialAlreadyPresent>());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Eq, PartialEq)]
#[non_exhaustive]
pub struct CredentialAlreadyPresent;

impl fmt::Display for CredentialAlreadyPresent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "request not sent: it already carries a credential; remove it, or set `.on_existing_credential(..)` to \
             replace or keep it",
        )
    }
}

/// Includes the message: a `main` that returns an error prints its `Debug` form.
impl fmt::Debug for CredentialAlreadyPresent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialAlreadyPresent({self})")
    }
}

impl Error for CredentialAlreadyPresent {}
