//! A token store on Redis, Valkey or KeyDB.
//!
//! Names of entries have the form `prefix:1:{hash}:what`. `1` is the version of the layout. The braces are a hash tag,
//! which keeps all values of an entry in one slot, as scripts with several keys require.
//!
//! | name | value | expires |
//! |---|---|---|
//! | `…:token` | the sealed token | with the token |
//! | `…:lease` | the id of the holder, or a mark that it failed | with the lease |
//! | `…:cooldown` | a mark | with the cooldown |
//!
//! All expiries are set by the server's clock, in milliseconds. A value that never expires is not written.

mod seal;

use std::{fmt, time::Duration};

use super::{
    CacheKey, Lease, LeaseId, StoreError, StoredToken, TokenStore, stored_tokens::MAX_LEASE,
};
use crate::{
    client_credentials::TokenFingerprint,
    store::{Connection, Entry, Key, Script, StoreKeyring},
};

/// A [`TokenStore`] on Redis (5 or newer), Valkey or KeyDB: one server or a cluster.
///
/// Use `rediss://`, and a dedicated user that may access only keys with the prefix, and run only the commands that the
/// scripts need (see [`docs::fleet`](crate::docs::fleet)). Tokens are encrypted with XChaCha20-Poly1305 before they
/// leave the process. Names of entries are derived with HMAC-SHA-256. All times are measured by the server's clock.
///
/// Nothing is sent before the first fetch. An unreachable server is not an error here.
///
/// # Rotation of keys
///
/// During a rotation, tokens are read with every key and written with the first. See [`StoreKeyring`] for the order of
/// deployments.
///
/// # Time limits
///
/// Each response has a time limit of its own ([`timeout`](Self::timeout)), within the
/// [`store_timeout`](crate::client_credentials::ClientCredentialsLayerBuilder::store_timeout) of the layer. Keep it at
/// most half of that, because storing a token takes two round trips.
///
/// # Cancel safety
///
/// A call that has begun runs to its end on a task of its own, even if its future is dropped. Two calls of one
/// operation, such as those that store a token, may be separated by that.
///
/// # Examples
///
/// ```
/// use tower_m2m::{client_credentials::RedisTokenStore, store::StoreKeyring};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let key = vec![7; 32];
/// let keys = StoreKeyring::new("2026-01", key)?;
/// let store = RedisTokenStore::new("redis://fleet:password@redis.example:6379", keys)?;
/// # drop(store);
/// # Ok(())
/// # }
/// ```
#[doc(alias("Valkey"))]
pub struct RedisTokenStore {
    /// Connection to the server or the cluster.
    connection: Connection,
    /// Keys that encrypt tokens and derive names.
    keys: StoreKeyring,
    /// Prefix of all names.
    prefix: String,
    /// The Lua scripts.
    scripts: Scripts,
}

impl RedisTokenStore {
    /// Creates a store at `url`: `redis://` or `rediss://` (feature `redis-tls`), `user:password@host:port/database`.
    ///
    /// TLS uses rustls' process-wide crypto provider. A program that compiles in no provider, or two, must install one
    /// (`CryptoProvider::install_default`). Otherwise every call fails with an error that says so.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`](super::StoreErrorKind::Configuration), if the URL is invalid.
    pub fn new(url: impl AsRef<str>, keys: StoreKeyring) -> Result<Self, StoreError> {
        Self::cluster([url], keys)
    }

    /// Creates a store on a cluster, given the URLs of some of its nodes.
    ///
    /// Commands go to the first reachable node at first. Redirections name the other nodes and report when slots move.
    /// Credentials and all other settings are those of the first URL.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and if `urls` is empty.
    pub fn cluster<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        keys: StoreKeyring,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::new(urls)?,
            keys,
            prefix: "m2m".to_owned(),
            scripts: Scripts::new(),
        })
    }

    /// Sets the prefix of all names in the store. Default: `m2m`.
    ///
    /// Processes share tokens only with the same prefix. Use different prefixes for environments that share a server;
    /// configurations need none, because their names differ already.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Trusts only server certificates that chain to this root certificate, in PEM. Default: the platform's roots.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`](super::StoreErrorKind::Configuration), if `pem` is not PEM or a URL is not
    /// `rediss://`.
    #[cfg(feature = "redis-tls")]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Result<Self, StoreError> {
        self.connection.set_root_certificate(&pem.into())?;
        Ok(self)
    }

    /// Sets the time limit of each response, including a new connection. Default: 250 ms.
    ///
    /// A server that does not answer in time counts as failed for this call. The connection is then replaced, which
    /// also fails the calls that wait on it.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.connection.set_timeout(limit);
        self
    }

    /// Returns the name of one value of an entry. All values of an entry share a hash tag, and so a slot of a cluster.
    fn redis_key(&self, entry: &Entry<'_>, what: &str) -> String {
        format!("{}:1:{{{}}}:{what}", self.prefix, entry.name())
    }

    /// Returns the name of the entry's token.
    fn token_key(&self, entry: &Entry<'_>) -> String {
        self.redis_key(entry, "token")
    }

    /// Returns the name of the entry's lease.
    fn lease_key(&self, entry: &Entry<'_>) -> String {
        self.redis_key(entry, "lease")
    }

    /// Reads the token that was written with `key`, and decrypts it.
    ///
    /// A token of another key is not an error: its name differs, so that it is not found.
    async fn get_with_key(
        &self,
        key: &Key,
        cache_key: &CacheKey,
    ) -> Result<Option<StoredToken>, StoreError> {
        let entry = key.entry(cache_key);
        let get = self.scripts.get.key(self.token_key(&entry));
        let (sealed, now): (Option<Vec<u8>>, u64) = self.connection.invoke(get).await?;
        match sealed {
            Some(sealed) => seal::open(&entry, &sealed, now).map(Some),
            None => Ok(None),
        }
    }
}

impl TokenStore for RedisTokenStore {
    /// Tries every key, because the token may have been written before a rotation.
    async fn get(&self, cache_key: &CacheKey) -> Result<Option<StoredToken>, StoreError> {
        // The first token that can be read wins. An unreadable entry is reported only if no key has a readable one.
        let mut unreadable = None;
        for key in self.keys.all() {
            match self.get_with_key(key, cache_key).await {
                Ok(None) => {}
                Err(error) if error.is_unreadable() => unreadable = Some(error),
                found_or_failed => return found_or_failed,
            }
        }
        unreadable.map_or(Ok(None), Err)
    }

    /// Writes with the active key only. Takes two round trips: the server's time, then the token.
    async fn put(
        &self,
        cache_key: &CacheKey,
        token: &StoredToken,
        lease_id: LeaseId,
    ) -> Result<bool, StoreError> {
        let entry = self.keys.active().entry(cache_key);
        // The script must be given a sealed token, and the seal contains the expiry in the server's time. So the time
        // is read first; the call in between can only shorten the remaining lifetime.
        let time = self.scripts.time.key(self.token_key(&entry));
        let now: u64 = self.connection.invoke(time).await?;
        let sealed = seal::seal(&entry, token, now)?;
        let put = self.scripts.put.key(self.token_key(&entry));
        let put = put
            .key(self.lease_key(&entry))
            .arg(hex(&lease_id.to_bytes()))
            .arg(sealed)
            .arg(millis(token.left()));
        self.connection.invoke(put).await
    }

    /// Compares the tag on the server, so that a newer token is never removed.
    async fn remove(
        &self,
        cache_key: &CacheKey,
        rejected: TokenFingerprint,
    ) -> Result<bool, StoreError> {
        // During a key rotation the token may be stored under several keys.
        // The tag depends on the key, so it is computed for each.
        let mut removed = false;
        for key in self.keys.all() {
            let entry = key.entry(cache_key);
            let remove = self.scripts.remove.key(self.token_key(&entry));
            let remove = remove.arg(&entry.tag(&rejected.to_bytes())[..]);
            removed |= self.connection.invoke::<bool>(remove).await?;
        }
        Ok(removed)
    }

    /// All processes must have the same active key for the lease to be effective. During a rotation two may hold one.
    async fn lease(
        &self,
        cache_key: &CacheKey,
        lease_id: LeaseId,
        length: Duration,
    ) -> Result<Lease, StoreError> {
        let entry = self.keys.active().entry(cache_key);
        let lease = self.scripts.lease.key(self.lease_key(&entry));
        let length = millis(length.min(MAX_LEASE));
        let lease = lease.arg(hex(&lease_id.to_bytes())).arg(length);
        Ok(match self.connection.invoke(lease).await? {
            0u8 => Lease::Held,
            1 => Lease::Busy,
            _ => Lease::Failed,
        })
    }

    /// A failure is marked in place of the lease, so that it expires by itself.
    async fn release(
        &self,
        cache_key: &CacheKey,
        lease_id: LeaseId,
        failed: Option<Duration>,
    ) -> Result<(), StoreError> {
        let entry = self.keys.active().entry(cache_key);
        let release = self.scripts.release.key(self.lease_key(&entry));
        let release = release
            .arg(hex(&lease_id.to_bytes()))
            .arg(failed.map_or(0, |length| millis(length.min(MAX_LEASE))));
        self.connection.invoke(release).await
    }

    /// The cooldown is an entry of its own, which expires by itself.
    async fn begin_cooldown(
        &self,
        cache_key: &CacheKey,
        length: Duration,
    ) -> Result<bool, StoreError> {
        let entry = self.keys.active().entry(cache_key);
        let cool_down = self
            .scripts
            .begin_cooldown
            .key(self.redis_key(&entry, "cooldown"));
        let cool_down = cool_down.arg(millis(length.min(MAX_LEASE)));
        self.connection.invoke(cool_down).await
    }
}

/// Omits the URL, which contains a password.
impl fmt::Debug for RedisTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTokenStore")
            .field("keys", &self.keys)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Lua scripts, each of which runs atomically on the server. They overwrite foreign values under the store's names.
///
/// Each is sent as `EVALSHA`, and as `EVAL` if the server does not know it.
struct Scripts {
    /// Reads the sealed token and the server's time.
    get: Script,
    /// Reads the server's time.
    time: Script,
    /// Stores a token and ends the lease.
    put: Script,
    /// Removes a token with a given tag.
    remove: Script,
    /// Acquires or renews the lease.
    lease: Script,
    /// Ends the lease or marks it as failed.
    release: Script,
    /// Begins a cooldown.
    begin_cooldown: Script,
}

impl Scripts {
    /// Computes the hashes of all scripts.
    fn new() -> Self {
        Self {
            get: Script::new(include_str!("get.lua")),
            time: Script::new(include_str!("time.lua")),
            put: Script::new(include_str!("put.lua")),
            remove: Script::new(include_str!("remove.lua")),
            lease: Script::new(include_str!("lease.lua")),
            release: Script::new(include_str!("release.lua")),
            begin_cooldown: Script::new(include_str!("begin_cooldown.lua")),
        }
    }
}

/// Returns milliseconds for `PX`: at least 1, because Redis rejects 0, and at most a century, because Redis rejects
/// times that its clock cannot represent.
fn millis(duration: Duration) -> u64 {
    let century = 100 * 366 * 24 * 3600 * 1000;
    u64::try_from(duration.as_millis()).map_or(century, |millis| millis.clamp(1, century))
}

/// Returns `bytes` in lowercase hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
