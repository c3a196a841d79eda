//! Sources of tokens.
//!
//! A source is called by the layer only. The order of calls of one fetch, without a store:
//!
//! 1. [`changed`](TokenSource::changed), only during a back-off after a permanent failure
//! 2. [`fetch`](TokenSource::fetch), within its deadline
//!
//! With a store, [`cache_key`](TokenSource::cache_key) is called before and after it. [`revoke`](TokenSource::revoke)
//! is called at most once per shutdown.

use std::{
    fmt,
    future::{Future, Ready, ready},
    sync::Arc,
};

use super::{AccessToken, CacheKey, FetchContext, RevokeContext, TokenError};
use crate::boxed::BoxFuture;

/// Source of tokens: a [`TokenEndpoint`](super::TokenEndpoint), an [`AccessToken`] that never changes, or your own
/// type.
///
/// The layer calls [`fetch`](Self::fetch) for one caller at a time, on a separate task, and shares the result.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::client_credentials::{AccessToken, FetchContext, TokenError, TokenSource};
///
/// struct Metadata;
///
/// impl TokenSource for Metadata {
///     async fn fetch(&self, _: FetchContext<'_>) -> Result<AccessToken, TokenError> {
///         let text = read()
///             .await
///             .map_err(|error| TokenError::transient("failed").with_source(error))?;
///         Ok(AccessToken::new(text).expires_in(Duration::from_secs(600)))
///     }
/// }
/// # async fn read() -> std::io::Result<String> { Ok(String::new()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of tokens",
    label = "expected a `TokenEndpoint`, an `AccessToken` or your own `TokenSource`",
    note = "for client credentials, pass `TokenEndpoint::new(url, auth)`, or use `Config::from_env()?.layer()?`",
    note = "for a token that never changes, such as an API key, pass `AccessToken::new(value)`",
    note = "for a choice between two sources, wrap each one in `BoxTokenSource::new(..)`"
)]
pub trait TokenSource: Send + Sync + 'static {
    /// Fetches a token.
    ///
    /// # Errors
    ///
    /// A [`TokenError`], which says whether the failure is transient. It is remembered, and the fetch is repeated after
    /// a back-off.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at [`FetchContext::deadline`], and when its runtime shuts down.
    fn fetch(
        &self,
        cx: FetchContext<'_>,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send;

    /// Returns whether the input of the last fetch (its secret) has changed since. Default: `false`.
    ///
    /// `true` ends the back-off after a permanent failure. Called at most every 5 s, and only for a caller during such
    /// a back-off.
    ///
    /// Implement it for a source that reads a secret: a replaced secret is then used by the next request after at most
    /// 5 s, instead of at the end of the back-off.
    fn changed(&self) -> impl Future<Output = bool> + Send {
        ready(false)
    }

    /// Revokes `token` (RFC 7009), which is no longer used because of
    /// [`TokenHandle::shutdown`](super::TokenHandle::shutdown). Default: `None`.
    ///
    /// `None` if this source does not revoke tokens: the token then stays in use until it expires.
    ///
    /// # Errors
    ///
    /// A [`TokenError`]. [`TokenEvent::RevocationFailed`](super::TokenEvent::RevocationFailed) reports it; it has no
    /// other effect.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at [`RevokeContext::deadline`], and when the future of `shutdown` is dropped.
    fn revoke<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
        let _ = (token, cx);
        None::<Ready<Result<(), TokenError>>>
    }

    /// Returns whether [`revoke`](Self::revoke) revokes tokens. Default: `false`.
    ///
    /// Such tokens must not be shared: a layer with a [`store`](super::ClientCredentialsLayerBuilder::store) fetches
    /// none from such a source.
    fn revokes(&self) -> bool {
        false
    }

    /// Returns the key under which a layer with a [`store`](super::ClientCredentialsLayerBuilder::store) shares these
    /// tokens with other processes. Called before and after a fetch. Default: `None`, which keeps the tokens in this
    /// process.
    ///
    /// The key must include everything that affects what is issued: the issuer, the client and its secret, the scope,
    /// the audience, and all other parameters.
    ///
    /// A key must not depend on the time or on the process. Return `None` if a part of it cannot be determined, rather
    /// than leaving it out.
    fn cache_key(&self) -> impl Future<Output = Option<CacheKey>> + Send {
        ready(None)
    }

    /// Binds a token from a store to the key of this source, if it has one. Default: returns the token.
    #[doc(hidden)]
    fn bind_stored(&self, token: AccessToken) -> AccessToken {
        token
    }

    /// Returns `false` if the certificate that the token is bound to has been replaced. Default: `true`.
    ///
    /// Called at most every 5 s, for tokens with a certificate.
    #[doc(hidden)]
    fn is_still_bound<'a>(&'a self, _: &'a AccessToken) -> impl Future<Output = bool> + Send + 'a {
        ready(true)
    }
}

/// A type-erased [`TokenSource`], which is cheap to clone and is itself a `TokenSource`.
///
/// For programs that choose the type of their source at run time.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     ClientAuth, TokenEndpoint,
///     client_credentials::{AccessToken, BoxTokenSource},
/// };
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// let source = match std::env::var("API_KEY") {
///     Ok(key) => BoxTokenSource::new(AccessToken::new(key)),
///     Err(_) => BoxTokenSource::new(TokenEndpoint::new(
///         "https://issuer.example/oauth/token".parse()?,
///         ClientAuth::basic("my-client", "my-secret"),
///     )),
/// };
/// # drop(source);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BoxTokenSource(Arc<dyn Erased>);

impl BoxTokenSource {
    /// Erases the type of `source`.
    #[must_use]
    pub fn new(source: impl TokenSource) -> Self {
        Self(Arc::new(source))
    }
}

impl TokenSource for BoxTokenSource {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        self.0.fetch_boxed(cx).await
    }

    async fn changed(&self) -> bool {
        self.0.changed_boxed().await
    }

    fn revoke<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
        self.0.revoke_boxed(token, cx)
    }

    fn revokes(&self) -> bool {
        self.0.revokes_erased()
    }

    async fn cache_key(&self) -> Option<CacheKey> {
        self.0.cache_key_boxed().await
    }

    fn bind_stored(&self, token: AccessToken) -> AccessToken {
        self.0.bind_stored_erased(token)
    }

    async fn is_still_bound(&self, token: &AccessToken) -> bool {
        self.0.is_still_bound_boxed(token).await
    }
}

impl fmt::Debug for BoxTokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxTokenSource").finish_non_exhaustive()
    }
}

/// Object-safe form of [`TokenSource`], with boxed futures.
trait Erased: Send + Sync {
    /// See [`TokenSource::fetch`].
    fn fetch_boxed<'a>(
        &'a self,
        cx: FetchContext<'a>,
    ) -> BoxFuture<'a, Result<AccessToken, TokenError>>;

    /// See [`TokenSource::changed`].
    fn changed_boxed(&self) -> BoxFuture<'_, bool>;

    /// See [`TokenSource::revoke`].
    fn revoke_boxed<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<BoxFuture<'a, Result<(), TokenError>>>;

    /// See [`TokenSource::revokes`].
    fn revokes_erased(&self) -> bool;

    /// See [`TokenSource::cache_key`].
    fn cache_key_boxed(&self) -> BoxFuture<'_, Option<CacheKey>>;

    /// See [`TokenSource::bind_stored`].
    fn bind_stored_erased(&self, token: AccessToken) -> AccessToken;

    /// See [`TokenSource::is_still_bound`].
    fn is_still_bound_boxed<'a>(&'a self, token: &'a AccessToken) -> BoxFuture<'a, bool>;
}

impl<T: TokenSource> Erased for T {
    fn fetch_boxed<'a>(
        &'a self,
        cx: FetchContext<'a>,
    ) -> BoxFuture<'a, Result<AccessToken, TokenError>> {
        Box::pin(self.fetch(cx))
    }

    fn changed_boxed(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.changed())
    }

    fn revoke_boxed<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<BoxFuture<'a, Result<(), TokenError>>> {
        let revocation = self.revoke(token, cx)?;
        Some(Box::pin(revocation))
    }

    fn revokes_erased(&self) -> bool {
        self.revokes()
    }

    fn cache_key_boxed(&self) -> BoxFuture<'_, Option<CacheKey>> {
        Box::pin(self.cache_key())
    }

    fn bind_stored_erased(&self, token: AccessToken) -> AccessToken {
        self.bind_stored(token)
    }

    fn is_still_bound_boxed<'a>(&'a self, token: &'a AccessToken) -> BoxFuture<'a, bool> {
        Box::pin(self.is_still_bound(token))
    }
}

/// An API key as a token source: each fetch returns the same token.
impl TokenSource for AccessToken {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<Self, TokenError> {
        Ok(self.clone())
    }
}
