//! A quota store on Redis, Valkey or KeyDB.
//!
//! With the default prefix, each quota has these names, where `name` is the HMAC of the partition's identity:
//!
//! | name | type | content |
//! |---|---|---|
//! | `m2m:1:{name}:windows` | hash | version, windows, hold, and the reservations of each process |
//! | `m2m:1:{name}:processes` | sorted set | time of the last report of each process |
//! | `m2m:1:{name}:gcra` | string | theoretical arrival time (TAT) of the next request of a [`FleetQuota`] |
//! | `m2m:1:{name}:events` | channel | a message for each new hold |
//!
//! Scripts read and write them atomically, and use the server's clock. All keys expire.
//!
//! # Why scripts
//!
//! A report reads the combined state and changes it, which takes several commands. A script needs one round trip, is
//! atomic without a lock, and sees the time of the server: the clocks of the processes do not matter. Each script
//! accesses the keys of one quota only, which have the same hash tag, so that it also runs on a cluster.
//!
//! # Entries of others
//!
//! A key that exists with another type or format, such as one of another program, is deleted, and the call returns
//! [`StoreError::unreadable`]. The next call starts with an empty entry. An entry of another version of this crate is
//! not such a key: see [`QuotaReport::VERSION`].

mod push;

use std::{fmt, sync::Arc, time::Duration};

use self::push::PushHub;
use super::{
    CacheKey, FleetQuota, MAX_AMOUNT, QuotaReport, QuotaSnapshot, QuotaStore, Reservation,
    SharedWindow, WindowId,
};
use crate::store::{Call, Connection, Script, StoreError, StoreKeyring};

/// A [`QuotaStore`] on Redis (6 or newer), Valkey or KeyDB: one server, or a cluster.
///
/// Use `rediss://` and a dedicated user (see [`docs::fleet`](crate::docs::fleet)). Partition names are stored as
/// HMAC-SHA-256; the values are counts and times, by the server's clock. The store connects on first use: a server
/// that is not available at construction is not an error.
///
/// Each store has one connection per node, for scripts and for notifications, which all its partitions share. Clone
/// [`StoredQuotas`](super::StoredQuotas) to use one store in several layers.
///
/// # Examples
///
/// ```
/// use tower_m2m::{rate_limit_retry::{RedisQuotaStore, StoredQuotas}, store::StoreKeyring};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let key = vec![7; 32];
/// let keys = StoreKeyring::new("2026-01", key)?;
/// let url = "redis://fleet:password@redis.example:6379";
/// let store = RedisQuotaStore::new(url, keys)?;
/// let quotas = StoredQuotas::new("application-1", store);
/// # drop(quotas);
/// # Ok(())
/// # }
/// ```
pub struct RedisQuotaStore {
    /// The connection, which also delivers notifications.
    connection: Connection,
    /// The subscribed channels and their waiters.
    push: Arc<PushHub>,
    /// Keys for the HMAC of names.
    keys: StoreKeyring,
    /// Prefix of all keys and channels.
    prefix: String,
    /// `report.lua`.
    report: Script,
    /// `gcra.lua`.
    gcra: Script,
}

impl RedisQuotaStore {
    /// Creates a store at `url`: `redis://` or `rediss://` (feature `redis-tls`), `user:password@host:port/database`.
    /// Only the first of `keys` is used.
    ///
    /// TLS uses rustls' process-wide crypto provider. A program that compiles in none or two of them must install one
    /// (`CryptoProvider::install_default`); otherwise store calls fail with an error that names this function.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`](crate::store::StoreErrorKind::Configuration), if the URL is
    /// invalid.
    pub fn new(url: impl AsRef<str>, keys: StoreKeyring) -> Result<Self, StoreError> {
        Self::cluster([url], keys)
    }

    /// Creates a store on a cluster. `urls` are some of its nodes: the first one that responds returns the list of the
    /// others, and redirects of the nodes update the list. User, password and other options are those of the first URL.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and if `urls` is empty.
    pub fn cluster<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        keys: StoreKeyring,
    ) -> Result<Self, StoreError> {
        let hub = Arc::new(PushHub::default());
        let announced = Arc::clone(&hub);
        Ok(Self {
            connection: Connection::with_push_handler(urls, move |channel| {
                announced.notify(channel)
            })?,
            push: hub,
            keys,
            prefix: "m2m".to_owned(),
            report: Script::new(include_str!("report.lua")),
            gcra: Script::new(include_str!("gcra.lua")),
        })
    }

    /// Sets the prefix of all keys and channels. Default: `m2m`. All processes of a fleet need the same one. Change it
    /// to separate environments that share a server, and adapt the server's access rules.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Trusts only server certificates signed by this certificate, in PEM. Default: the system's root certificates.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`](crate::store::StoreErrorKind::Configuration), if it is not PEM,
    /// or the URL is not `rediss://`.
    #[cfg(feature = "redis-tls")]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Result<Self, StoreError> {
        self.connection.set_root_certificate(&pem.into())?;
        Ok(self)
    }

    /// Sets the time limit of each request to the server, and of a new connection. Default: 250 ms. The shorter of
    /// this and [`StoredQuotas::timeout`](super::StoredQuotas::timeout) applies.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.connection.set_timeout(limit);
        self
    }

    /// Returns the name of a key or channel of a quota. All names of one quota share a hash tag, and therefore a
    /// cluster slot. The number in it is the version of the format.
    fn key_name(&self, quota: &CacheKey, what: &str) -> String {
        let entry = self.keys.active().entry(quota);
        format!("{}:1:{{{}}}:{what}", self.prefix, entry.name())
    }

    /// Runs a script and returns its values, at least three. The first one is 0 unless the script found an entry in an
    /// unknown format.
    ///
    /// # Errors
    ///
    /// [`StoreError::unreadable`] for such an entry, which the script has deleted; otherwise the error of the
    /// connection.
    async fn invoke(&self, call: Call) -> Result<Vec<String>, StoreError> {
        let reply: Vec<String> = self.connection.invoke(call).await?;
        match reply.first().map(String::as_str) {
            Some("0") if reply.len() >= 3 => Ok(reply),
            _ => Err(StoreError::unreadable(
                "contains a value under a key of this crate that is not a quota in this format",
            )),
        }
    }
}

impl QuotaStore for RedisQuotaStore {
    async fn report(
        &self,
        quota: &CacheKey,
        report: &QuotaReport,
    ) -> Result<QuotaSnapshot, StoreError> {
        // The order of keys and arguments is that of `report.lua`.
        let call = self.report.key(self.key_name(quota, "windows"));
        let mut call = call
            .key(self.key_name(quota, "processes"))
            .arg(report.version)
            .arg(hex(&report.process.to_bytes()))
            .arg(report.number)
            .arg(report.hold.map_or(0, millis))
            // The channel is an argument and not a key: a cluster would reject the call while it migrates the slot.
            .arg(self.key_name(quota, "events"));
        for window in &report.windows {
            let announced = window.announced.as_ref();
            call = call
                .arg(window.id.as_str())
                .arg(window.reserved.min(MAX_AMOUNT))
                .arg(window.wanted.min(MAX_AMOUNT))
                .arg(window.minimum.min(MAX_AMOUNT))
                .arg(window.used.min(MAX_AMOUNT))
                .arg(announced.map_or(-1, |known| amount(Some(known.remaining))))
                .arg(announced.map_or(0, |known| millis(known.reset)))
                .arg(announced.and_then(|known| known.age).map_or(-1, millis))
                .arg(amount(announced.and_then(|known| known.limit)))
                .arg(announced.and_then(|known| known.window).map_or(-1, millis));
        }
        let reply = self.invoke(call).await?;
        let number = |at: usize| reply.get(at)?.parse::<u64>().ok();
        let mut snapshot = QuotaSnapshot {
            processes: number(2)
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or_default(),
            windows: reply[3..].chunks_exact(7).filter_map(window).collect(),
            hold: number(1).map(Duration::from_millis),
        };
        // Lua's tables have no order.
        snapshot.windows.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(snapshot)
    }

    async fn reserve(
        &self,
        quota: &CacheKey,
        fleet_quota: FleetQuota,
        max_wait: Duration,
    ) -> Result<Reservation, StoreError> {
        // The order of keys and arguments is that of `gcra.lua`.
        let call = self.gcra.key(self.key_name(quota, "gcra"));
        let call = call
            .arg(micros(fleet_quota.emission_interval()))
            .arg(micros(fleet_quota.burst_tolerance()))
            .arg(micros(max_wait));
        let reply = self.invoke(call).await?;
        let wait = Duration::from_micros(reply[2].parse().unwrap_or_default());
        Ok(match &*reply[1] {
            "1" => Reservation::Granted(wait),
            _ => Reservation::Denied(wait),
        })
    }

    async fn changed(&self, quota: &CacheKey) -> Result<(), StoreError> {
        // Registers before it subscribes, so that no notification is missed in between.
        let subscription = self
            .push
            .subscribe(&self.connection, self.key_name(quota, "events"));
        self.connection.subscribe(subscription.channel()).await?;
        subscription.notified().await;
        Ok(())
    }
}

/// Omits the URL, which contains a password.
impl fmt::Debug for RedisQuotaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQuotaStore")
            .field("keys", &self.keys)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Reads what a script returns of one window. A number of -1 stands for an unknown one.
fn window(values: &[String]) -> Option<SharedWindow> {
    let number = |at: usize| values.get(at)?.parse::<u64>().ok();
    let id = WindowId::new(&**values.first()?)?;
    let mut window = SharedWindow::new(id, number(2)?, Duration::from_millis(number(4)?));
    (window.granted, window.reserved) = (number(1)?, number(3)?);
    (window.limit, window.window) = (number(5), number(6).map(Duration::from_millis));
    Some(window)
}

/// Converts an amount to a number of a script, or to -1 if it is unknown.
fn amount(amount: Option<u64>) -> i64 {
    let amount = amount.map(|amount| amount.min(MAX_AMOUNT));
    amount
        .and_then(|amount| i64::try_from(amount).ok())
        .unwrap_or(-1)
}

/// Converts to milliseconds, at least 1 and at most one day. Expired times are not reported, so 0 is not needed.
fn millis(duration: Duration) -> i64 {
    let millis = duration.as_millis().clamp(1, 24 * 3600 * 1000);
    i64::try_from(millis).unwrap_or(1)
}

/// Converts to microseconds, at most one year, which the script's numbers represent exactly.
fn micros(duration: Duration) -> i64 {
    let year = Duration::from_secs(365 * 24 * 3600).as_micros();
    i64::try_from(duration.as_micros().min(year)).unwrap_or_default()
}

/// Formats bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
