//! Which tokens are valid: written by an issuer, read by the servers that accept its tokens.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{script::lock, time::Epoch};

/// The tokens of an [`Issuer`](super::Issuer), or a list of your own. Clones are handles to the same book.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::test_util::{Api, TokenBook};
///
/// // A key that was given out by hand, and is revoked.
/// let tokens = TokenBook::new();
/// tokens.insert("key", Duration::from_secs(3600));
/// let api = Api::builder().tokens(tokens.clone()).in_process();
/// tokens.revoke("key");
///
/// assert!(!tokens.is_valid("key"));
/// # drop(api);
/// ```
#[derive(Clone)]
pub struct TokenBook(Arc<Book>);

struct Book {
    epoch: Epoch,
    tokens: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    client: String,
    /// The last part of the life, in which a successor is not needless.
    window: Duration,
    expires: Duration,
    revoked: bool,
}

/// A token that was just issued.
pub(super) struct Issued {
    pub(super) token: String,
    pub(super) needless: bool,
}

impl TokenBook {
    /// A book without tokens.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Book {
            epoch: Epoch::start(None),
            tokens: Mutex::new(HashMap::new()),
        }))
    }

    /// Makes `token` valid for `lifetime` from now on, revoked before or not.
    pub fn insert(&self, token: impl Into<String>, lifetime: Duration) {
        self.add(token.into(), "", lifetime, Duration::ZERO);
    }

    /// Whether the token is known, not expired and not revoked.
    #[must_use]
    pub fn is_valid(&self, token: &str) -> bool {
        let now = self.0.epoch.now();
        lock(&self.0.tokens)
            .get(token)
            .is_some_and(|entry| !entry.revoked && now < entry.expires)
    }

    /// Revokes one token.
    pub fn revoke(&self, token: &str) {
        if let Some(entry) = lock(&self.0.tokens).get_mut(token) {
            entry.revoked = true;
        }
    }

    /// Revokes all tokens there are so far.
    pub fn revoke_all(&self) {
        for entry in lock(&self.0.tokens).values_mut() {
            entry.revoked = true;
        }
    }

    /// Issues a token, which is needless if the client has another one that lives and is not in its refresh window.
    pub(super) fn issue(&self, client: &str, lifetime: Duration, window: Duration) -> Issued {
        let token: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(TOKEN_LENGTH)
            .collect();
        let needless = self.add(token.clone(), client, lifetime, window);
        Issued { token, needless }
    }

    fn add(&self, token: String, client: &str, lifetime: Duration, window: Duration) -> bool {
        let now = self.0.epoch.now();
        let mut tokens = lock(&self.0.tokens);
        tokens.retain(|_, entry| now < entry.expires);
        let needless = tokens.values().any(|entry| {
            entry.client == client
                && !entry.revoked
                && now < entry.expires.saturating_sub(entry.window)
        });
        tokens.insert(
            token,
            Entry {
                client: client.to_owned(),
                window,
                expires: now.saturating_add(lifetime),
                revoked: false,
            },
        );
        needless
    }
}

impl Default for TokenBook {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TokenBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBook")
            .field("known", &lock(&self.0.tokens).len())
            .finish_non_exhaustive()
    }
}

const TOKEN_LENGTH: usize = 40;
