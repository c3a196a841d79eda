//! A registry of valid tokens, written by an issuer and read by the servers that accept its tokens.
//!
//! It also counts redundant tokens: those issued while the client had another token that did not need to be refreshed yet.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{script::lock, time::Epoch};

/// A registry of tokens: those of an [`Issuer`](super::Issuer), or your own. Clones share the tokens.
///
/// Times are on tokio's clock. Expired tokens are removed when another one is added.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::test_util::{Api, TokenRegistry};
///
/// // A key that was given out by hand, and is revoked.
/// let tokens = TokenRegistry::new();
/// tokens.insert("key", Duration::from_secs(3600));
/// let api = Api::builder().tokens(tokens.clone()).in_process();
/// tokens.revoke("key");
///
/// assert!(!tokens.is_valid("key"));
/// # drop(api);
/// ```
#[derive(Clone)]
pub struct TokenRegistry(Arc<State>);

/// What the clones share.
struct State {
    /// Clock of the expiry times.
    epoch: Epoch,
    /// The tokens that have not expired, and some that have.
    tokens: Mutex<HashMap<String, Entry>>,
}

/// A token in the registry.
struct Entry {
    /// Client that the token was issued to; empty for a token that was inserted.
    client: String,
    /// Last part of the lifetime, in which a new token is not redundant.
    window: Duration,
    /// Time of expiry, since the registry's start.
    expires: Duration,
    /// Whether the token was revoked.
    revoked: bool,
    /// Thumbprint of the key that the token is bound to.
    jkt: Option<String>,
}

/// A token that was just issued.
pub(super) struct Issued {
    /// The token.
    pub(super) token: String,
    /// Whether the client had a token that was neither revoked nor in its refresh window.
    pub(super) redundant: bool,
}

impl TokenRegistry {
    /// Creates an empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(State {
            epoch: Epoch::start(None),
            tokens: Mutex::new(HashMap::new()),
        }))
    }

    /// Makes `token` valid for `lifetime` from now on, even if it was revoked before.
    ///
    /// For an API key, or a token that a test issues itself.
    pub fn insert(&self, token: impl Into<String>, lifetime: Duration) {
        self.add(token.into(), "", lifetime, Duration::ZERO);
    }

    /// Returns whether the token is known, not expired and not revoked.
    #[must_use]
    pub fn is_valid(&self, token: &str) -> bool {
        let now = self.0.epoch.now();
        lock(&self.0.tokens)
            .get(token)
            .is_some_and(|entry| !entry.revoked && now < entry.expires)
    }

    /// Binds a token to a key, by the thumbprint of the key (`cnf.jkt`, RFC 9449 §6). An [`Api`](super::Api) then accepts it
    /// with the scheme `DPoP` and a proof of the key only.
    ///
    /// An [`Issuer`](super::Issuer) binds the tokens that it issues for a request with a proof.
    pub fn bind(&self, token: &str, jkt: impl Into<String>) {
        if let Some(entry) = lock(&self.0.tokens).get_mut(token) {
            entry.jkt = Some(jkt.into());
        }
    }

    /// Returns the thumbprint of the key that a token is bound to (`cnf.jkt`, RFC 9449 §6); `None` for a bearer token.
    #[must_use]
    pub fn jkt(&self, token: &str) -> Option<String> {
        lock(&self.0.tokens).get(token)?.jkt.clone()
    }

    /// Returns the client that a token was issued to.
    pub(super) fn client(&self, token: &str) -> Option<String> {
        Some(lock(&self.0.tokens).get(token)?.client.clone())
    }

    /// Revokes one token.
    pub fn revoke(&self, token: &str) {
        if let Some(entry) = lock(&self.0.tokens).get_mut(token) {
            entry.revoked = true;
        }
    }

    /// Revokes all tokens that are in the registry now.
    pub fn revoke_all(&self) {
        for entry in lock(&self.0.tokens).values_mut() {
            entry.revoked = true;
        }
    }

    /// Issues a token. It is redundant if the client has another valid token that is not in its refresh window.
    pub(super) fn issue(&self, client: &str, lifetime: Duration, window: Duration) -> Issued {
        let token: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(TOKEN_LENGTH)
            .collect();
        let needless = self.add(token.clone(), client, lifetime, window);
        Issued {
            token,
            redundant: needless,
        }
    }

    /// Adds a token, and returns whether it is redundant. Removes expired tokens.
    fn add(&self, token: String, client: &str, lifetime: Duration, window: Duration) -> bool {
        let now = self.0.epoch.now();
        let mut tokens = lock(&self.0.tokens);
        // Here only, so that checking a token needs no write.
        tokens.retain(|_, entry| now < entry.expires);
        let needless = tokens.values().any(|entry| {
            entry.client == client
                && !entry.revoked
                // Before its refresh window the other token would have been good enough.
                && now < entry.expires.saturating_sub(entry.window)
        });
        tokens.insert(
            token,
            Entry {
                client: client.to_owned(),
                window,
                expires: now.saturating_add(lifetime),
                revoked: false,
                jkt: None,
            },
        );
        needless
    }
}

impl Default for TokenRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TokenRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRegistry")
            .field("known", &lock(&self.0.tokens).len())
            .finish_non_exhaustive()
    }
}

/// Length of an issued token, in characters.
const TOKEN_LENGTH: usize = 40;
