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
//! Each process reports how many requests it has in flight or may send (`reserved`), and how many more it wants. The
//! store grants a part of what is free: remaining − reserved by all. A process sends within its grants without
//! contacting the store again. So all processes together stay within what the server has announced, except for a
//! bounded overdraft while a report is on its way, and the cost is a report every few milliseconds while requests are
//! sent, not one per request.
//!
//! # Files
//!
//! | file | contents |
//! |---|---|
//! | `stored` | settings, and the name of each entry |
//! | `fleet_sync` | the agents of a layer, and reservations of a [`FleetQuota`] |
//! | `agent` | the task of one partition |
//! | `context` | what all agents of a layer share; time limit and health of the store |
//! | `gcra` | the settings of a quota that the fleet enforces itself |
//! | `memory`, `redis` | two implementations of the same rules |
//! | `erased` | the object-safe form of [`QuotaStore`] |

mod agent;
mod context;
mod erased;
mod fleet_sync;
mod gcra;
#[cfg(any(test, feature = "test-util"))]
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod stored;

use std::{fmt, future::Future, time::Duration};

pub(crate) use self::fleet_sync::FleetSync;
#[cfg(any(test, feature = "test-util"))]
pub(crate) use self::memory::MemoryQuota;
#[cfg(feature = "redis")]
pub use self::redis::RedisQuotaStore;
pub use self::{
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
/// - An announced window replaces the known one if its request was sent later, or if fewer requests remain.
/// - A window ends at its reset. Of several holds, the longest applies.
/// - A process is granted at most an equal share of the free requests, but at least one while any are free.
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
    /// while a quota is scarce, every 300 ms while requests are sent, and not at all while the partition is idle.
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
    /// same `exact` for a quota: the store does not keep it. A slot that is not used cannot be given back.
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

/// The report of one process about a quota.
///
/// It is complete: the store needs nothing from earlier reports of the same process. An empty report, with nothing
/// reserved or wanted, gives all reservations back.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::QuotaReport;
///
/// /// How many requests a store may reserve for this process.
/// fn reserve(report: &QuotaReport, remaining: u32) -> u32 {
///     (report.reserved + report.wanted).min(remaining)
/// }
/// # let _: fn(&QuotaReport, u32) -> u32 = reserve;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuotaReport {
    /// The reporting process.
    pub process: ProcessId,
    /// Number of requests reserved for this process: in flight, or allowed to be sent without another report.
    pub reserved: u32,
    /// Number of further requests that the process intends to send soon: waiting ones, and those expected within 100
    /// ms.
    pub wanted: u32,
    /// The window that the API announced last; `None` if there was no announcement since the last report.
    pub announced: Option<AnnouncedQuota>,
    /// How long the partition is held from now, because a request was rejected; `None` if it is not held.
    pub hold: Option<Duration>,
}

impl QuotaReport {
    /// Creates a report without reservations, demand, window or hold. For tests of a custom store.
    #[must_use]
    pub fn new(process: ProcessId) -> Self {
        Self {
            process,
            reserved: 0,
            wanted: 0,
            announced: None,
            hold: None,
        }
    }
}

/// A window that a response of the API announced.
///
/// Responses of several processes arrive in any order. A store decides with `age` which of two announcements is newer:
/// if the request was sent after the stored announcement had arrived, the new one replaces it; otherwise the smaller
/// `remaining` applies.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
///
/// use tower_m2m::rate_limit_retry::{AnnouncedQuota, QuotaReport};
///
/// /// The end of the window that a process reports.
/// fn window_ends(report: &QuotaReport, now: Instant) -> Option<Instant> {
///     let announced: AnnouncedQuota = report.announced?;
///     Some(now + announced.reset)
/// }
/// # let _: fn(&QuotaReport, Instant) -> Option<Instant> = window_ends;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AnnouncedQuota {
    /// Number of requests per window; `None` if the API does not announce it.
    pub limit: Option<u64>,
    /// Number of requests that remained, less those that this process has sent since and whose responses announced
    /// nothing.
    pub remaining: u64,
    /// Time until the quota is reset, from the moment of the call.
    pub reset: Duration,
    /// Upper bound on the time since the request was sent; `None` if that is unknown.
    pub age: Option<Duration>,
}

impl AnnouncedQuota {
    /// Creates a window with `remaining` requests for the time `reset`. For tests of a custom store.
    #[must_use]
    pub fn new(remaining: u64, reset: Duration) -> Self {
        Self {
            limit: None,
            remaining,
            reset,
            age: None,
        }
    }
}

/// The combined state of a quota, from the reports of all processes.
///
/// The default describes a quota of which nothing is known. The process then uses what its own responses announce.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::{QuotaSnapshot, SharedWindow};
///
/// let mut snapshot = QuotaSnapshot::default();
/// snapshot.granted = 10;
/// let reset = Duration::from_secs(30);
/// snapshot.window = Some(SharedWindow::new(Some(300), 200, 120, 4, reset));
///
/// assert_eq!(snapshot.hold, None);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct QuotaSnapshot {
    /// Number of [`wanted`](QuotaReport::wanted) requests that are now reserved, in addition to the earlier
    /// reservation. 0 if no window is known.
    pub granted: u32,
    /// The window; `None` if no window is known.
    pub window: Option<SharedWindow>,
    /// How long the partition is held from now; `None` if it is not held.
    pub hold: Option<Duration>,
}

/// A window that all processes share.
///
/// `remaining − reserved` requests are free. The process compares it with its own announcement, and uses the newer one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::SharedWindow;
///
/// // 200 of 300 requests remain for 30 s. Four processes have reserved 120.
/// let window = SharedWindow::new(Some(300), 200, 120, 4, Duration::from_secs(30));
///
/// assert_eq!(window.remaining - window.reserved, 80);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SharedWindow {
    /// Number of requests per window; `None` if the API does not announce it.
    pub limit: Option<u64>,
    /// Number of requests that remain, including reserved ones.
    pub remaining: u64,
    /// Number of requests reserved for all processes together.
    pub reserved: u64,
    /// Number of processes that share the window.
    pub processes: u32,
    /// Time until the quota is reset.
    pub reset: Duration,
}

impl SharedWindow {
    /// Creates a window with `remaining` requests, of which `reserved` are reserved for `processes` processes.
    #[must_use]
    pub fn new(
        limit: Option<u64>,
        remaining: u64,
        reserved: u64,
        processes: u32,
        reset: Duration,
    ) -> Self {
        Self {
            limit,
            remaining,
            reserved,
            processes,
            reset,
        }
    }
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
