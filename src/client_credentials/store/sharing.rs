//! A token source whose tokens are shared with other processes.

use std::{fmt, sync::Arc, time::Duration};

use super::{CacheIdentity, SharedTokenStore, TokenStore, visit::Visit};
use crate::{
    client_credentials::{AccessToken, FetchContext, SharedTokenSource, TokenError, TokenSource},
    store::Health,
    sync::Mutex,
};

/// A [`TokenSource`] that shares its tokens with the other processes of a fleet through a [`TokenStore`]. Cheap to clone.
///
/// The store is asked only when a token is due; requests read the token in their own process. One process takes the
/// lease and fetches, the others wait for what it brings. A token that an API refused is removed for all, and the cooldown
/// of such refreshes is shared. A store that fails costs at most one token request of each process, and one
/// [`StoreFailed`](crate::client_credentials::TokenEvent::StoreFailed).
///
/// Tokens are shared between processes whose [`cache_identity`](TokenSource::cache_identity) is the same, that is, whose
/// configuration is: endpoint, client, secret, scopes and all else. Not shared are tokens of a source that has none
/// (of your own, or with a [`ClientAuthentication`](crate::client_credentials::ClientAuthentication) of your own); those that are bound to a
/// key, or to a certificate that only your HTTP client knows; those that do not expire; and those of an attempt for which
/// an older secret was used.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "test-util")] {
/// use tower_m2m::{
///     ClientAuth, ClientCredentialsLayer, TokenEndpoint, client_credentials::StoredTokens,
///     test_util::MemoryTokenStore,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let endpoint = TokenEndpoint::new(
///     "https://issuer.example/oauth/token".parse()?,
///     ClientAuth::basic("my-client", "my-secret"),
/// );
/// let tokens = StoredTokens::new(endpoint, MemoryTokenStore::new())?;
/// let layer = ClientCredentialsLayer::builder(tokens, "https://api.example.com".parse()?).build();
/// # drop(layer);
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
#[derive(Clone)]
pub struct StoredTokens {
    pub(super) source: SharedTokenSource,
    pub(super) store: SharedTokenStore,
    pub(super) settings: Settings,
    /// Written when the store begins to fail or to work again.
    pub(super) health: Arc<Mutex<Health>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) lease: Duration,
    pub(super) answer_within: Duration,
    pub(super) max_lifetime: Duration,
}

impl StoredTokens {
    /// Shares the tokens of `source` through `store`.
    ///
    /// # Errors
    ///
    /// A permanent [`TokenError`] if the source revokes tokens on shutdown
    /// ([`TokenEndpoint::revoke_on_shutdown`](crate::TokenEndpoint::revoke_on_shutdown)): they are in use elsewhere.
    pub fn new(source: impl TokenSource, store: impl TokenStore) -> Result<Self, TokenError> {
        if source.revokes() {
            return Err(TokenError::configuration(
                "is not possible: a token that is shared with other processes must not be revoked when one of them ends; \
                 leave out `.revoke_on_shutdown(..)`, or the token store",
            ));
        }
        Ok(Self {
            source: SharedTokenSource::new(source),
            store: SharedTokenStore::new(store),
            settings: Settings {
                lease: Duration::from_secs(5),
                answer_within: Duration::from_millis(500),
                max_lifetime: Duration::from_secs(24 * 3600),
            },
            health: Arc::default(),
        })
    }

    /// How long a process that died while it fetched keeps the others waiting. One that lives renews its lease. At least
    /// 10 ms, at most 24 h. Default: 5 s.
    #[must_use]
    pub fn lease(mut self, length: Duration) -> Self {
        self.settings.lease = length.clamp(SHORTEST_LEASE, LONGEST_LEASE);
        self
    }

    /// How long the store may take for each answer. Default: 500 ms.
    #[must_use]
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.settings.answer_within = limit;
        self
    }

    /// Tokens that live for longer are neither stored nor taken from the store. Default: 24 h.
    #[must_use]
    pub fn max_lifetime(mut self, longest: Duration) -> Self {
        self.settings.max_lifetime = longest;
        self
    }
}

impl TokenSource for StoredTokens {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        match self.source.cache_identity().await {
            Some(identity) => Visit::new(self, cx, identity).fetch().await,
            None => self.source.fetch(cx).await,
        }
    }

    async fn changed(&self) -> bool {
        self.source.changed().await
    }

    async fn cache_identity(&self) -> Option<CacheIdentity> {
        self.source.cache_identity().await
    }
}

impl fmt::Debug for StoredTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredTokens")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Minimum length of a lease, which is renewed three times as often.
const SHORTEST_LEASE: Duration = Duration::from_millis(10);
/// Maximum length of a lease and of a cooldown in a store: one that ends later is none of ours.
pub(super) const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3600);
