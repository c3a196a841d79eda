//! Why a request was not sent, although there may be a token.

use std::{error::Error, fmt};

/// A request was not sent, because our token may not go where the request wants to go.
///
/// Nothing has left the process. Comes out of a service as a [`BoxError`](crate::BoxError):
/// `error.downcast_ref::<OriginNotAllowed>()`.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{BoxError, ClientCredentialsLayer, client_credentials::{AccessToken, OriginNotAllowed}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let http = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(String::new())));
/// let origin = "https://api.example.com".parse()?;
/// let client = ClientCredentialsLayer::builder(AccessToken::new("key"), origin).build().layer(http);
///
/// let error = client.oneshot(Request::get("https://other.example/").body(())?).await.unwrap_err();
///
/// assert!(error.is::<OriginNotAllowed>());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct OriginNotAllowed {
    why: NotAllowed,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NotAllowed {
    Foreign { wanted: String, allowed: String },
    Host { origin: String },
    Insecure { origin: String },
    NoAuthority,
}

impl From<NotAllowed> for OriginNotAllowed {
    fn from(why: NotAllowed) -> Self {
        Self { why }
    }
}

impl fmt::Display for OriginNotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            NotAllowed::Foreign { wanted, allowed } => write!(
                f,
                "request not sent: the token may not go to {wanted}, only to {allowed}; if it should, add it with \
                 `.allow_origin(..)`"
            ),
            NotAllowed::Host { origin } => write!(
                f,
                "request not sent: its `Host` header differs from {origin}, the origin in its URI; remove the header or \
                 set `.on_host_mismatch(HostMismatch::Overwrite)`"
            ),
            NotAllowed::Insecure { origin } => write!(
                f,
                "request not sent: {origin} is neither https nor loopback, so that anybody on the way could read the \
                 token; use https, or `.dangerously_allow_http()`"
            ),
            NotAllowed::NoAuthority => f.write_str(
                "request not sent: its URI names no host, so that nobody can tell where the token would go; send an \
                 absolute URI, or set `.assume_origin(..)` if the inner service has exactly one fixed destination",
            ),
        }
    }
}

/// The message, too: a `main` that returns an error prints it so.
impl fmt::Debug for OriginNotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginNotAllowed({self})")
    }
}

impl Error for OriginNotAllowed {}

/// A request was not sent, because it already carried a credential and the layer is set to refuse that.
///
/// # Examples
///
/// ```
/// use http::{Request, Response, header::AUTHORIZATION};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_m2m::{
///     BoxError, ClientCredentialsLayer,
///     client_credentials::{AccessToken, CredentialPresent, ExistingCredential},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let http = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(String::new())));
/// let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), "https://api.example.com".parse()?)
///     .on_existing_credential(ExistingCredential::Refuse)
///     .build();
/// let request = Request::get("https://api.example.com/").header(AUTHORIZATION, "Bearer another").body(())?;
///
/// let error = layer.layer(http).oneshot(request).await.unwrap_err();
///
/// assert!(error.is::<CredentialPresent>());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Eq, PartialEq)]
#[non_exhaustive]
pub struct CredentialPresent;

impl fmt::Display for CredentialPresent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "request not sent: it already carries a credential; remove it, or set `.on_existing_credential(..)` to \
             replace or keep it",
        )
    }
}

/// The message, too: a `main` that returns an error prints it so.
impl fmt::Debug for CredentialPresent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialPresent({self})")
    }
}

impl Error for CredentialPresent {}
