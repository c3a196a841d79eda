//! Quotas that the processes of a fleet share. The store is used beside the gate; requests do not wait for it, with
//! two exceptions described at [`StoredQuotas::timeout`].
//!
//! ```text
//! gate ─ next_action ─▶ agent ─ report ─▶ store (all processes)
//!   ▲                     │  ▲              │
//!   └──── apply ──────────┘  └── changed ───┘
//! ```
//!
//! # How a quota is split
//!
//! A store shares *windows*: amounts that all processes together must not exceed. Each process reports for each window
//! how much it has in flight or may send (`reserved`), and how much more it wants. The store grants a part of what is
//! free: remaining − reserved by all. A process sends within its grants without contacting the store again. So all
//! processes together stay within what the server has announced, except for a bounded overdraft while a report is in
//! flight. The cost is a report every few milliseconds while requests are sent, not one per request.
//!
//! The store does not interpret windows. The same rules apply to all of them:
//!
//! | window | limit | remaining | ends |
//! |---|---|---|---|
//! | an announced quota, of requests or of another unit | announced | announced | at its reset |
//! | the learned estimate | published by the first process that learns it | the limit, less what processes report as used | with the learned window |
//! | concurrency | announced | the limit: requests in flight are reserved | 10 min after its announcement |
//! | slow start | grows with accepted requests | the limit: requests in flight are reserved | when something is known |
//!
//! # Files
//!
//! | file | contents |
//! |---|---|
//! | `stored` | settings, and the name of each entry |
//! | `fleet_sync` | the agents of a layer, and reservations of a [`FleetQuota`] |
//! | `agent` | the task of one partition |
//! | `context` | what all agents of a layer share; time limit and health of the store |
//! | `exchange` | what processes and the store exchange: reports and snapshots |
//! | `gcra` | the settings of a quota that the fleet enforces itself |
//! | `memory`, `redis` | two implementations of the same rules |
//! | `erased` | the object-safe form of [`QuotaStore`] |

mod agent;
mod context;
mod erased;
mod exchange;
mod fleet_sync;
mod gcra;
#[cfg(any(test, feature = "test-util"))]
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod stored;

use std::{fmt, future::Future, time::Duration};

pub(crate) use self::exchange::{MAX_AMOUNT, MAX_WINDOWS};
pub(crate) use self::fleet_sync::FleetSync;
#[cfg(any(test, feature = "test-util"))]
pub(crate) use self::memory::MemoryQuota;
#[cfg(feature = "redis")]
pub use self::redis::RedisQuotaStore;
pub use self::{
    exchange::{AnnouncedQuota, QuotaReport, QuotaSnapshot, SharedWindow, WindowId, WindowReport},
    gcra::{FleetQuota, Reservation},
    stored::StoredQuotas,
};
use crate::{
    random::unique,
    store::{CacheKey, StoreError},
};

/// A store through which the processes of a fleet share quotas and holds. Used through [`StoredQuotas`].
///
/// Implement it for a database that the fleet uses already. A store must apply each call atomically: two reports at the
/// same time must not be granted the same requests. It needs no durability, because everything in it expires and is
/// reported again.
///
/// A failure costs accuracy only: requests then follow the quota that their own process knows. Each call except
/// [`changed`](Self::changed) is cancelled after [`StoredQuotas::timeout`]. All times are durations from the
/// moment of the call; a store measures them with its own clock.
///
/// The stores in this crate follow these rules:
///
/// - A reservation expires 1 s after the last report of its process.
/// - An announced window replaces the known one if its request was sent later, or if less remains. An announcement
///   without an age changes another limit only by raising it, and what remains by the same amount.
/// - What a report counts as used is subtracted from what remains, unless the report before it from the same process had
///   the same [number](QuotaReport::number).
/// - A window ends at its reset. Of several holds, the longest applies.
/// - A process is granted at most an equal share of what is free, or the minimum that it can use, if that is more and
///   is free.
/// - At most 16 windows for each entry, and 4,096 processes. Further windows are ignored. Further processes
///   receive holds, and no windows.
/// - An entry has the [version](QuotaReport::VERSION) of the newest process that has reported. Processes of an older
///   version receive holds, and no windows: each then follows what it knows itself. An entry of an older version is
///   replaced, except for its hold.
///
/// # Cancel safety
///
/// Implementations must allow each future to be dropped at any time, such as when the time limit has passed.
///
/// # Examples
///
/// A store that shares holds only:
///
/// ```
/// use std::{
///     collections::HashMap,
///     future::pending,
///     sync::Mutex,
///     time::{Duration, Instant},
/// };
///
/// use tower_m2m::{
///     RateLimitRetryLayer,
///     rate_limit_retry::{
///         FleetQuota, QuotaReport, QuotaSnapshot, QuotaStore,
///         Reservation, StoredQuotas,
///     },
///     store::{CacheKey, StoreError},
/// };
///
/// #[derive(Default)]
/// struct Holds(Mutex<HashMap<Vec<u8>, Instant>>);
///
/// impl QuotaStore for Holds {
///     async fn report(
///         &self,
///         quota: &CacheKey,
///         report: &QuotaReport,
///     ) -> Result<QuotaSnapshot, StoreError> {
///         let (mut holds, now) = (self.0.lock().unwrap(), Instant::now());
///         let until = holds.entry(quota.expose().to_vec()).or_insert(now);
///         *until = (*until).max(now + report.hold.unwrap_or_default());
///         let mut snapshot = QuotaSnapshot::default();
///         let left = until.saturating_duration_since(now);
///         snapshot.hold = (!left.is_zero()).then_some(left);
///         Ok(snapshot)
///     }
///
///     /// No request has to wait.
///     async fn reserve(
///         &self,
///         _: &CacheKey,
///         _: FleetQuota,
///         _: Duration,
///     ) -> Result<Reservation, StoreError> {
///         Ok(Reservation::Granted(Duration::ZERO))
///     }
///
///     /// No notifications: other processes receive a hold with their next report.
///     async fn changed(&self, _: &CacheKey) -> Result<(), StoreError> {
///         pending().await
///     }
/// }
///
/// let quotas = StoredQuotas::new("application-1", Holds::default());
/// let layer = RateLimitRetryLayer::builder().store(quotas).build();
/// # drop(layer);
/// ```
pub trait QuotaStore: Send + Sync + 'static {
    /// Stores the report of a process, which replaces its previous report, and returns the combined state.
    ///
    /// Called off the request path, at most once at a time for each partition of a process: every few milliseconds
    /// while a quota is scarce, every 50 ms to 100 ms while requests are sent, every 300 ms while something is
    /// reserved, and not at all while the partition is idle.
    ///
    /// # Errors
    ///
    /// [`StoreError::unreadable`] for an entry in an unknown format, which is deleted; [`StoreError::unavailable`]
    /// for every other failure.
    fn report(
        &self,
        quota: &CacheKey,
        report: &QuotaReport,
    ) -> impl Future<Output = Result<QuotaSnapshot, StoreError>> + Send;

    /// Reserves a slot for one request, if one is due within `max_wait`.
    ///
    /// Called before each request of a layer with a [`FleetQuota`], and never otherwise. All processes must use the
    /// same `fleet_quota` for a quota: the store does not keep it. A slot that is not used cannot be returned.
    ///
    /// # Errors
    ///
    /// As for [`report`](Self::report).
    fn reserve(
        &self,
        quota: &CacheKey,
        fleet_quota: FleetQuota,
        max_wait: Duration,
    ) -> impl Future<Output = Result<Reservation, StoreError>> + Send;

    /// Completes when another process reports a hold. The details follow from the next [`report`](Self::report).
    ///
    /// May complete spuriously. A store without notifications returns a future that never completes.
    ///
    /// Called again after each completion. A hold that is reported between two calls may be missed: it is then received
    /// with the next report. After an error, the agent calls it again once a report has succeeded.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`].
    fn changed(&self, quota: &CacheKey) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The random id of one process of a fleet, or of one layer in it.
///
/// Each layer with a store creates one when it is built, so that reservations of a process that has ended are not taken
/// for those of its successor. It is not a secret.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::ProcessId;
///
/// let (one, other) = (ProcessId::random(), ProcessId::random());
///
/// assert_ne!(one.to_bytes(), other.to_bytes());
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct ProcessId(u128);

impl ProcessId {
    /// Creates a random id of 128 bits. Two ids are equal with negligible probability.
    #[must_use]
    pub fn random() -> Self {
        Self(unique())
    }

    /// Returns the id as 16 bytes, big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessId({:032x})", self.0)
    }
}
