//! What a way to authenticate does.

use std::future::{Future, ready};

use super::request::TokenRequest;
use crate::client_credentials::{CacheIdentity, TokenError, trim::is_empty};

/// One way for a client to authenticate; implement it for what [`ClientAuth`](super::ClientAuth) does not offer: a vendor's header, client
/// attestation.
///
/// The layer calls [`authenticate`](Self::authenticate) for every attempt, within the fetch's time limit.
///
/// # Examples
///
/// ```
/// use http::{HeaderName, HeaderValue};
/// use tower_m2m::{
///     ClientAuth,
///     client_credentials::{ClientAuthentication, TokenError, TokenRequest},
/// };
///
/// /// A vendor's header.
/// struct ApplicationKey(HeaderValue);
///
/// impl ClientAuthentication for ApplicationKey {
///     async fn authenticate(&self, request: &mut TokenRequest) -> Result<(), TokenError> {
///         let mut key = self.0.clone();
///         key.set_sensitive(true);
///         request.header(HeaderName::from_static("x-application-key"), key);
///         Ok(())
///     }
/// }
///
/// let auth = ClientAuth::custom(ApplicationKey(HeaderValue::from_static("key")));
/// # drop(auth);
/// ```
pub trait ClientAuthentication: Send + Sync + 'static {
    /// Adds to `request` what shows who the client is.
    ///
    /// # Errors
    ///
    /// A [`TokenError`]; its text must not hold a secret. Nothing is sent then.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the fetch's deadline has passed.
    fn authenticate(
        &self,
        request: &mut TokenRequest,
    ) -> impl Future<Output = Result<(), TokenError>> + Send;

    /// The registered names of the methods that this can carry out equally well, the preferred one first.
    ///
    /// With discovery, the first one that the server offers becomes [`TokenRequest::method`], and there is an error if
    /// it offers none of them. The default is empty: whatever the server offers is not looked at.
    fn methods(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether another attempt would be made with another secret than the last one, which ends the back-off of a
    /// permanent failure. The default is `false`.
    fn changed(&self) -> impl Future<Output = bool> + Send {
        ready(false)
    }

    /// Whether it puts [`TokenRequest::audience`] into an assertion, so that the audience must be known. The default is
    /// `false`.
    fn needs_audience(&self) -> bool {
        false
    }

    /// What tells this client from others: its id, the method, and its secret or key as they are now. `None`, which is the
    /// default, keeps its tokens from being shared through a [`TokenStore`](crate::client_credentials::TokenStore).
    fn cache_identity(&self) -> impl Future<Output = Option<CacheIdentity>> + Send {
        ready(None)
    }

    /// Looks for what is wrong whatever the server says. The default finds nothing.
    ///
    /// # Errors
    ///
    /// A permanent [`TokenError`] that names the setting.
    fn check(&self) -> Result<(), TokenError> {
        Ok(())
    }
}

/// The client id is part of the proof: an empty one is refused before it is sent.
pub(super) fn check_id(id: &str) -> Result<(), TokenError> {
    if is_empty(id) {
        return Err(TokenError::configuration(
            "was not sent: the client id is empty",
        ));
    }
    Ok(())
}
