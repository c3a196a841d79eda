//! A layer's tokens, for everything that is not a request through the layer.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    AccessToken, TokenError, TokenVersion,
    cell::{Glance, Published},
    freshness::Freshness,
    tokens::Tokens,
};

/// The tokens of one [`ClientCredentialsLayer`](super::ClientCredentialsLayer). Cheap to clone.
///
/// # Examples
///
/// ```
/// use tower_m2m::{BoxError, client_credentials::TokenHandle};
///
/// async fn before_the_first_request(tokens: &TokenHandle) -> Result<(), BoxError> {
///     tokens.warm().await?;
///     println!("valid for {:?}", tokens.status().expires_in());
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct TokenHandle(Arc<Tokens>);

impl TokenHandle {
    pub(crate) fn new(tokens: Arc<Tokens>) -> Self {
        Self(tokens)
    }

    /// A usable token: for WebSockets, gRPC metadata and whatever else does not pass the layer.
    ///
    /// Waits only if there is no valid token, and then for the same fetch as everybody else.
    ///
    /// # Errors
    ///
    /// The [`TokenError`] that requests get, too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing for anybody else; the fetch goes on.
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        self.0.obtain().await.map(|token| token.token.clone())
    }

    /// Gets the first token now, so that the first request need not wait and a wrong configuration shows at the start.
    ///
    /// # Errors
    ///
    /// The [`TokenError`] that requests would get. Requests try again, after its back-off.
    ///
    /// # Cancel safety
    ///
    /// As for [`token`](Self::token).
    pub async fn warm(&self) -> Result<(), TokenError> {
        self.0.obtain().await.map(drop)
    }

    /// Makes one fetch of a new token now, whatever back-off says, or joins the one under way. A refresh under way that
    /// makes no fetch, because the secret has not changed or a store has a token, is followed by one that does. The valid
    /// token is used until the new one is there, and stays if the fetch fails.
    ///
    /// # Errors
    ///
    /// The fetch's [`TokenError`].
    ///
    /// # Cancel safety
    ///
    /// As for [`token`](Self::token).
    pub async fn refresh_now(&self) -> Result<AccessToken, TokenError> {
        self.0.force().await.map(|token| token.token.clone())
    }

    /// Drops the token. The next request waits for another.
    pub fn invalidate(&self) {
        self.0.cell.invalidate();
    }

    /// What is known now. For health checks; reading it starts nothing.
    #[must_use]
    pub fn status(&self) -> TokenStatus {
        let moment = self.0.clock.moment();
        let (now, wall) = (moment.instant(), moment.wall());
        let Glance {
            current,
            refreshing,
            failure,
            closed,
        } = self.0.cell.glance(moment);
        let freshness = |token: &Arc<Published>| token.lifetime.freshness(now, wall);
        let usable = current.filter(|token| freshness(token) != Freshness::Expired);
        TokenStatus {
            usable: usable.is_some(),
            due: usable
                .as_ref()
                .is_some_and(|token| freshness(token) == Freshness::Stale),
            version: usable.as_ref().map(|token| token.version),
            token: usable.as_ref().map(|token| token.token.clone()),
            expires_in: usable.and_then(|token| token.lifetime.left(now, wall)),
            refreshing,
            failure,
            closed,
        }
    }

    /// Ends all work on tokens: no fetch begins any more, and the one under way is given up. A valid token goes on being
    /// used until it expires; then requests fail with [`TokenErrorKind::ShutDown`](super::TokenErrorKind::ShutDown).
    ///
    /// With [`TokenEndpoint::revoke_on_shutdown`](super::TokenEndpoint::revoke_on_shutdown) the token is used no more and
    /// revoked, which may take 5 s. Wait for your requests first: those under way may be refused, and no further one is
    /// sent. A failure is told by [`TokenEvent::RevocationFailed`](super::TokenEvent::RevocationFailed) only.
    ///
    /// # Cancel safety
    ///
    /// Fetches have ended at the first poll; the rest is waiting for the task to be gone, and the revocation, which ends
    /// with the future.
    pub async fn shutdown(&self) {
        self.0.shut_down().await;
    }
}

impl fmt::Debug for TokenHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenHandle").field(&self.status()).finish()
    }
}

/// What a [`TokenHandle`] knows at one moment.
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
    usable: bool,
    due: bool,
    version: Option<TokenVersion>,
    token: Option<AccessToken>,
    expires_in: Option<Duration>,
    refreshing: bool,
    failure: Option<TokenError>,
    closed: bool,
}

impl TokenStatus {
    /// Whether requests can be sent without waiting for a token.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Whether the token is valid but due to be renewed.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.due
    }

    /// Which publication the usable token is; `None` if there is no usable token.
    #[must_use]
    pub fn version(&self) -> Option<TokenVersion> {
        self.version
    }

    /// The scope of the usable token, if the server said so (RFC 6749 §5.1: absent means "as requested").
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.token.as_ref()?.scope()
    }

    /// A further member of the answer that brought the usable token, such as Salesforce's `instance_url`. Never a
    /// secret.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.token.as_ref()?.member(name)
    }

    /// How long the token lives; `None` if there is none, or if it does not expire.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    /// Whether a fetch is under way.
    #[must_use]
    pub fn is_refreshing(&self) -> bool {
        self.refreshing
    }

    /// The last attempt's failure, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<&TokenError> {
        self.failure.as_ref()
    }

    /// Whether [`TokenHandle::shutdown`] was called.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.closed
    }
}
