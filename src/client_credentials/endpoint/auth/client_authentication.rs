//! The trait for client authentication methods.
//!
//! Every built-in method implements this trait as well.

use std::future::{Future, ready};

use super::request::TokenRequest;
use crate::client_credentials::{CacheKey, TokenError, trim::is_empty};

/// A client authentication method. Implement it for a method that [`ClientAuth`](super::ClientAuth) does not offer,
/// such as a vendor's header or client attestation.
///
/// [`authenticate`](Self::authenticate) is called for every attempt, within the time limit of the fetch.
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
    /// Adds the client's credentials to `request`.
    ///
    /// # Errors
    ///
    /// Any [`TokenError`]. Its text must not contain a secret. The request is then not sent.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the deadline of the attempt has passed.
    fn authenticate(
        &self,
        request: &mut TokenRequest,
    ) -> impl Future<Output = Result<(), TokenError>> + Send;

    /// Returns the registered names of the methods that this type supports equally well, in order of preference.
    /// Default: none.
    ///
    /// With discovery, the first one that the server supports becomes [`TokenRequest::method`], and it is an error if
    /// the server supports none of them. With an empty list the server's methods are ignored.
    ///
    /// Names are those of the IANA registry "OAuth Token Endpoint Authentication Methods", such as `private_key_jwt`.
    /// List several only if they disclose the same to the server: metadata selects among them.
    fn methods(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns whether the next attempt would use a different secret from the last one, which ends the backoff after a
    /// permanent failure. Default: `false`.
    fn changed(&self) -> impl Future<Output = bool> + Send {
        ready(false)
    }

    /// Returns whether this method puts [`TokenRequest::audience`] into an assertion, so that the audience must be
    /// known. Default: `false`.
    fn needs_audience(&self) -> bool {
        false
    }

    /// Returns the cache key of this client: its id, the method, and its current secret or key.
    ///
    /// Default: `None`, with which tokens are not shared through a
    /// [`TokenStore`](crate::client_credentials::TokenStore).
    ///
    /// Include everything that identifies the client. If a secret is missing from the key, a process with a wrong
    /// secret gets the token of one with the right secret.
    fn cache_key(&self) -> impl Future<Output = Option<CacheKey>> + Send {
        ready(None)
    }

    /// Checks the settings without a server. Default: no check.
    ///
    /// # Errors
    ///
    /// A permanent [`TokenError`] that names the setting.
    fn validate(&self) -> Result<(), TokenError> {
        Ok(())
    }
}

/// Rejects an empty client id before a request is sent.
///
/// # Errors
///
/// A configuration error, if the id is empty or consists of white space.
pub(super) fn validate_id(id: &str) -> Result<(), TokenError> {
    if is_empty(id) {
        return Err(TokenError::configuration(
            "was not sent: the client id is empty",
        ));
    }
    Ok(())
}
