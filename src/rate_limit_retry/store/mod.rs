//! Quotas that the processes of a fleet share. The store is used beside the gate; requests do not wait for it, with
//! two exceptions described at [`StoredQuotas::timeout`].

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
/// use std::{collections::HashMap, future::pending, sync::Mutex, time::{Duration, Instant}};
///
/// use tower_m2m::{
///     RateLimitRetryLayer,
///     rate_limit_retry::{
///         CacheKey, FleetQuota, QuotaReport, QuotaSnapshot, QuotaStore, Reservation, StoreError,
///         StoredQuotas,
///     },
/// };
///
/// #[derive(Default)]
/// struct Holds(Mutex<HashMap<Vec<u8>, Instant>>);
///
/// impl QuotaStore for Holds {
///     async fn report(&self, quota: &CacheKey, report: &QuotaReport) -> Result<QuotaSnapshot, StoreError> {
///         let (mut holds, now) = (self.0.lock().unwrap(), Instant::now());
///         let until = holds.entry(quota.expose().to_vec()).or_insert(now);
///         *until = (*until).max(now + report.hold.unwrap_or_default());
///         let mut snapshot = QuotaSnapshot::default();
///         snapshot.hold = until.checked_duration_since(now).filter(|left| !left.is_zero());
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
    /// # Errors
    ///
    /// As for [`report`](Self::report).
    fn reserve(
        &self,
        quota: &CacheKey,
        exact: FleetQuota,
        max_wait: Duration,
    ) -> impl Future<Output = Result<Reservation, StoreError>> + Send;

    /// Completes when another process reports a hold. The details follow from the next [`report`](Self::report).
    ///
    /// May complete spuriously. A store without notifications returns a future that never completes.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`].
    fn changed(&self, quota: &CacheKey) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The report of one process about a quota.
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
    /// Number of further requests that the process intends to send soon.
    pub wanted: u32,
    /// The window that the API announced last; `None` if there was no announcement.
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
    /// Number of requests that remained.
    pub remaining: u64,
    /// Time until the quota is reset.
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
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::{QuotaSnapshot, SharedWindow};
///
/// let mut snapshot = QuotaSnapshot::default();
/// snapshot.granted = 10;
/// snapshot.window = Some(SharedWindow::new(Some(300), 200, 120, 4, Duration::from_secs(30)));
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
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::SharedWindow;
///
/// // 200 of 300 requests remain for 30 s, and four processes have reserved 120 of them.
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
    /// A new random id.
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
