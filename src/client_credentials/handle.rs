//! Handle to a layer's tokens, for everything other than requests through the layer.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    AccessToken, TokenError, TokenGeneration, TokenScope,
    cache::{CacheStatus, CachedToken},
    freshness::Freshness,
    refresher::Refresher,
};

/// Handle to the tokens of one [`ClientCredentialsLayer`](super::ClientCredentialsLayer). Cheap to clone.
///
/// A handle works without requests: it fetches, refreshes and revokes on its own. It may be used from any runtime; a
/// fetch runs on that of the caller that starts it.
///
/// # Examples
///
/// ```
/// use tower_m2m::{BoxError, client_credentials::TokenHandle};
///
/// async fn before_the_first_request(tokens: &TokenHandle) -> Result<(), BoxError> {
///     tokens.prefetch().await?;
///     println!("valid for {:?}", tokens.status().expires_in());
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct TokenHandle(Arc<Refresher>);

impl TokenHandle {
    /// Creates a handle to `tokens`.
    pub(crate) fn new(tokens: Arc<Refresher>) -> Self {
        Self(tokens)
    }

    /// Returns a usable token, for WebSockets, gRPC metadata and other uses outside the layer.
    ///
    /// Waits only if there is no valid token, and then for the same fetch as all other callers.
    ///
    /// # Errors
    ///
    /// The same [`TokenError`] that requests receive.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers. The fetch continues.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{BoxError, client_credentials::TokenHandle};
    ///
    /// /// The first message of a WebSocket that authenticates once.
    /// async fn hello(tokens: &TokenHandle) -> Result<String, BoxError> {
    ///     let token = tokens.token().await?;
    ///     let value = token.expose().ok_or("the token is not UTF-8")?;
    ///     Ok(format!("auth {value}"))
    /// }
    /// # let _ = hello;
    /// ```
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        self.0.get().await.map(|token| token.token.clone())
    }

    /// Returns the handle to the tokens of this credential for `scope`. For the default set, it is this handle.
    ///
    /// Requests with this [`TokenScope`](super::TokenScope) in their extensions use the same tokens, until the set is
    /// evicted because others were used more recently.
    #[must_use]
    pub fn scoped(&self, scope: &TokenScope) -> Self {
        Self(self.0.for_scope(scope))
    }

    /// Fetches the first token now, so that the first request does not wait and a wrong configuration is detected at
    /// startup. Returns at once if there is a usable token.
    ///
    /// The token is not refreshed in the background without requests: call this again after a long pause, or accept
    /// that the first request waits.
    ///
    /// # Errors
    ///
    /// The same [`TokenError`] that requests would receive. Requests try again after its back-off.
    ///
    /// # Cancel safety
    ///
    /// As for [`token`](Self::token).
    pub async fn prefetch(&self) -> Result<(), TokenError> {
        self.0.get().await.map(drop)
    }

    /// Fetches a new token once now, regardless of back-off, or joins the fetch in flight.
    ///
    /// A refresh in flight that makes no fetch, because the secret has not changed or a store has a token, is followed
    /// by one that does. The valid token is used until the new one arrives, and remains if the fetch fails.
    ///
    /// For operators, for example after the permissions of a client have changed. Not for a 401: the layer handles it,
    /// and limits its rate.
    ///
    /// # Errors
    ///
    /// The [`TokenError`] of the fetch.
    ///
    /// # Cancel safety
    ///
    /// As for [`token`](Self::token).
    pub async fn refresh_now(&self) -> Result<AccessToken, TokenError> {
        self.0.refresh_now().await.map(|token| token.token.clone())
    }

    /// Drops the token. The next request waits for a new one. A fetch in flight continues, and publishes its token.
    ///
    /// For a token that is known to be compromised or revoked. To replace a token without making requests wait, use
    /// [`refresh_now`](Self::refresh_now).
    pub fn invalidate(&self) {
        self.0.cache.invalidate();
    }

    /// Returns the current state, for health checks. Starts nothing.
    ///
    /// The result is a snapshot: a usable token may expire right after. Cheap enough for each health check, not meant
    /// for each request.
    #[must_use]
    pub fn status(&self) -> TokenStatus {
        // Read once, so that all fields describe the same moment.
        let moment = self.0.clock.moment();
        let (now, wall) = (moment.instant(), moment.wall_clock());
        let CacheStatus {
            current,
            refreshing,
            failure,
            closed,
        } = self.0.cache.status(moment);
        let freshness = |token: &Arc<CachedToken>| token.lifetime.freshness(now, wall);
        let usable = current.filter(|token| freshness(token) != Freshness::Expired);
        TokenStatus {
            usable: usable.is_some(),
            stale: usable
                .as_ref()
                .is_some_and(|token| freshness(token) == Freshness::Stale),
            generation: usable.as_ref().map(|token| token.generation),
            token: usable.as_ref().map(|token| token.token.clone()),
            expires_in: usable.and_then(|token| token.lifetime.left(now, wall)),
            refreshing,
            failure,
            closed,
        }
    }

    /// Ends all work on tokens: no further fetch starts, and the one in flight is aborted. A valid token remains in use
    /// until it expires. After that, requests fail with [`TokenErrorKind::ShutDown`](super::TokenErrorKind::ShutDown).
    ///
    /// With [`TokenEndpoint::revoke_on_shutdown`](super::TokenEndpoint::revoke_on_shutdown), the token is no longer
    /// used and is revoked, which may take 5 s. Wait for your requests first: those in flight may be rejected, and no
    /// further request is sent. A failure is reported only by
    /// [`TokenEvent::RevocationFailed`](super::TokenEvent::RevocationFailed).
    ///
    /// # Cancel safety
    ///
    /// Fetches have ended after the first poll. The rest of the future waits for the aborted task, and revokes the
    /// token; dropping the future ends the revocation.
    pub async fn shutdown(&self) {
        self.0.shut_down().await;
    }
}

impl fmt::Debug for TokenHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenHandle").field(&self.status()).finish()
    }
}

/// State of a layer's tokens at one moment, from [`TokenHandle::status`].
///
/// [`is_usable`](Self::is_usable) says whether requests succeed now, [`failure`](Self::failure) whether the issuer
/// needs attention. Both may be set: an early refresh fails while the token is still valid.
///
/// # Examples
///
/// ```
/// use tower_m2m::client_credentials::{TokenHandle, TokenStatus};
///
/// /// For a health check.
/// fn describe(tokens: &TokenHandle) -> String {
///     let status: TokenStatus = tokens.status();
///     match status.failure() {
///         _ if status.is_usable() => format!("valid for {:?}", status.expires_in()),
///         Some(error) => error.to_string(),
///         None => "not asked for yet".to_owned(),
///     }
/// }
/// # let _: fn(&TokenHandle) -> String = describe;
/// ```
#[derive(Clone, Debug)]
pub struct TokenStatus {
    /// Whether there is a token that has not expired.
    usable: bool,
    /// Whether the usable token is stale.
    stale: bool,
    /// Version of the usable token.
    generation: Option<TokenGeneration>,
    /// The usable token.
    token: Option<AccessToken>,
    /// Remaining lifetime of the usable token.
    expires_in: Option<Duration>,
    /// Whether a fetch is in flight.
    refreshing: bool,
    /// The last failure, if no fetch has succeeded since.
    failure: Option<TokenError>,
    /// Whether the handle was shut down.
    closed: bool,
}

impl TokenStatus {
    /// Returns whether requests can be sent without waiting for a token.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Returns whether the token is valid but due for a refresh.
    ///
    /// `true` for a short time before each refresh. If it stays `true`, refreshes fail, and `failure` says why.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Returns the version of the usable token; `None` if there is no usable token.
    #[must_use]
    pub fn generation(&self) -> Option<TokenGeneration> {
        self.generation
    }

    /// Returns the scope of the usable token, if the server named it. RFC 6749 §5.1: if absent, it is the requested
    /// scope.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.token.as_ref()?.scope()
    }

    /// Returns another member of the response that issued the usable token, such as Salesforce's `instance_url`. Never
    /// a secret.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.token.as_ref()?.member(name)
    }

    /// Returns the remaining lifetime of the token; `None` if there is no usable token, or if it does not expire.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    /// Returns whether a fetch is in flight.
    ///
    /// Also `true` for an early refresh, during which requests do not wait.
    #[must_use]
    pub fn is_refreshing(&self) -> bool {
        self.refreshing
    }

    /// Returns the failure of the last fetch, if it failed.
    ///
    /// Cleared by the next success. Present together with a usable token if an early refresh has failed.
    #[must_use]
    pub fn failure(&self) -> Option<&TokenError> {
        self.failure.as_ref()
    }

    /// Returns whether [`TokenHandle::shutdown`] was called.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.closed
    }
}
