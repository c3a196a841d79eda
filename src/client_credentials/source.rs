//! Where tokens come from.

use std::{
    fmt,
    future::{Future, Ready, ready},
    sync::Arc,
};

use super::{AccessToken, CacheIdentity, FetchContext, RevokeContext, TokenError};
use crate::boxed::BoxFuture;

/// Where tokens come from: a [`TokenEndpoint`](super::TokenEndpoint), an [`AccessToken`] that never changes, or a type
/// of yours.
///
/// The layer calls [`fetch`](Self::fetch) for one caller at a time, on a task of its own, and shares the outcome.
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
///         let text = read().await.map_err(|error| TokenError::transient("failed").with_source(error))?;
///         Ok(AccessToken::new(text).expires_in(Duration::from_secs(600)))
///     }
/// }
/// # async fn read() -> std::io::Result<String> { Ok(String::new()) }
/// ```
pub trait TokenSource: Send + Sync + 'static {
    /// Gets a token.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] says whether the failure is transient. It is remembered, and asked for again after a back-off.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at [`FetchContext::deadline`], and when its runtime ends.
    fn fetch(
        &self,
        cx: FetchContext<'_>,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send;

    /// Whether what the last attempt was made with (its secret) has changed since.
    ///
    /// Asked at most every 5 s, and only by a caller who meets the back-off of a permanent failure; `true` ends that
    /// back-off. The default is `false`.
    fn changed(&self) -> impl Future<Output = bool> + Send {
        ready(false)
    }

    /// Revokes `token` (RFC 7009), which nobody uses any more because of
    /// [`TokenHandle::shutdown`](super::TokenHandle::shutdown).
    ///
    /// `None` if this source leaves tokens to expire, which is the default: the token then stays in use.
    ///
    /// # Errors
    ///
    /// A [`TokenError`], which [`TokenEvent::RevocationFailed`](super::TokenEvent::RevocationFailed) tells; nothing else follows from it.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at [`RevokeContext::deadline`], and when that of `shutdown` is.
    fn revoke<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<impl Future<Output = Result<(), TokenError>> + Send + 'a> {
        let _ = (token, cx);
        None::<Ready<Result<(), TokenError>>>
    }

    /// Whether [`revoke`](Self::revoke) revokes tokens, which must then not be shared with other processes: a layer with a
    /// [`store`](super::ClientCredentialsLayerBuilder::store) asks such a source for none. The default is `false`.
    fn revokes(&self) -> bool {
        false
    }

    /// What tells these tokens from all others, so that a layer with a
    /// [`store`](super::ClientCredentialsLayerBuilder::store) may share them with other processes. Asked before and after a
    /// fetch.
    ///
    /// `None` keeps them in this process, which is the default. An identity must name everything that makes a
    /// difference to what is granted: the issuer, the client and its secret, scope, audience, and all else that is sent.
    fn cache_identity(&self) -> impl Future<Output = Option<CacheIdentity>> + Send {
        ready(None)
    }
}

/// Any [`TokenSource`], erased and cheap to clone; a `TokenSource` itself.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     ClientAuth, TokenEndpoint,
///     client_credentials::{AccessToken, SharedTokenSource},
/// };
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// let source = match std::env::var("API_KEY") {
///     Ok(key) => SharedTokenSource::new(AccessToken::new(key)),
///     Err(_) => SharedTokenSource::new(TokenEndpoint::new(
///         "https://issuer.example/oauth/token".parse()?,
///         ClientAuth::basic("my-client", "my-secret"),
///     )),
/// };
/// # drop(source);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedTokenSource(Arc<dyn Erased>);

impl SharedTokenSource {
    /// Erases `source`.
    #[must_use]
    pub fn new(source: impl TokenSource) -> Self {
        Self(Arc::new(source))
    }
}

impl TokenSource for SharedTokenSource {
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

    async fn cache_identity(&self) -> Option<CacheIdentity> {
        self.0.cache_identity_boxed().await
    }
}

impl fmt::Debug for SharedTokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTokenSource").finish_non_exhaustive()
    }
}

trait Erased: Send + Sync {
    fn fetch_boxed<'a>(
        &'a self,
        cx: FetchContext<'a>,
    ) -> BoxFuture<'a, Result<AccessToken, TokenError>>;

    fn changed_boxed(&self) -> BoxFuture<'_, bool>;

    fn revoke_boxed<'a>(
        &'a self,
        token: &'a AccessToken,
        cx: RevokeContext<'a>,
    ) -> Option<BoxFuture<'a, Result<(), TokenError>>>;

    fn revokes_erased(&self) -> bool;

    fn cache_identity_boxed(&self) -> BoxFuture<'_, Option<CacheIdentity>>;
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

    fn cache_identity_boxed(&self) -> BoxFuture<'_, Option<CacheIdentity>> {
        Box::pin(self.cache_identity())
    }
}

/// A token that never changes.
impl TokenSource for AccessToken {
    async fn fetch(&self, _: FetchContext<'_>) -> Result<Self, TokenError> {
        Ok(self.clone())
    }
}
