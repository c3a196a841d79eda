//! Quotas that the processes of a fleet share: a store beside the gate, asked off the request path.

mod agent;
mod context;
mod erased;
mod exact;
#[cfg(any(test, feature = "test-util"))]
mod ledger;
#[cfg(feature = "redis")]
mod redis;
mod sharing;
mod stored;

use std::{fmt, future::Future, time::Duration};

#[cfg(any(test, feature = "test-util"))]
pub(crate) use self::ledger::Ledger;
#[cfg(feature = "redis")]
pub use self::redis::RedisQuotaStore;
pub(crate) use self::sharing::Sharing;
pub use self::{
    exact::{ExactQuota, Slot},
    stored::StoredQuotas,
};
use crate::{
    random::unique,
    store::{CacheIdentity, StoreError},
};

/// Where the processes of a fleet tell each other what they know of a quota. Used through [`StoredQuotas`].
///
/// Whatever fails here costs accuracy: requests then go by what their own process knows. Each call but
/// [`changed`](Self::changed) is given up after [`StoredQuotas::answer_within`]. All times are lengths of time, from when
/// the call is made; a store measures them with its own clock.
///
/// # Cancel safety
///
/// Each future may be dropped at any time, when the time limit is over for example.
///
/// # Examples
///
/// A store through which the processes tell each other of holds, and of nothing else:
///
/// ```
/// use std::{collections::HashMap, future::pending, sync::Mutex, time::{Duration, Instant}};
///
/// use tower_m2m::{
///     RateLimitRetryLayer,
///     rate_limit_retry::{
///         CacheIdentity, ExactQuota, QuotaReport, QuotaStore, QuotaView, Slot, StoreError, StoredQuotas,
///     },
/// };
///
/// #[derive(Default)]
/// struct Holds(Mutex<HashMap<Vec<u8>, Instant>>);
///
/// impl QuotaStore for Holds {
///     async fn report(&self, quota: &CacheIdentity, report: &QuotaReport) -> Result<QuotaView, StoreError> {
///         let (mut holds, now) = (self.0.lock().unwrap(), Instant::now());
///         let until = holds.entry(quota.expose().to_vec()).or_insert(now);
///         *until = (*until).max(now + report.hold.unwrap_or_default());
///         let mut view = QuotaView::default();
///         view.hold = until.checked_duration_since(now).filter(|left| !left.is_zero());
///         Ok(view)
///     }
///
///     /// Nobody has to wait.
///     async fn slot(&self, _: &CacheIdentity, _: ExactQuota, _: Duration) -> Result<Slot, StoreError> {
///         Ok(Slot::After(Duration::ZERO))
///     }
///
///     /// It cannot tell: the others learn of a hold with their next report.
///     async fn changed(&self, _: &CacheIdentity) -> Result<(), StoreError> {
///         pending().await
///     }
/// }
///
/// let quotas = StoredQuotas::new("application-1", Holds::default());
/// let layer = RateLimitRetryLayer::builder().store(quotas).build();
/// # drop(layer);
/// ```
pub trait QuotaStore: Send + Sync + 'static {
    /// Takes in what a process says about a quota, in place of what it said before, and answers with what all know.
    ///
    /// # Errors
    ///
    /// [`StoreError::unreadable`] for an entry that is none of ours, which is forgotten; [`StoreError::unavailable`] for
    /// everything else.
    fn report(
        &self,
        quota: &CacheIdentity,
        report: &QuotaReport,
    ) -> impl Future<Output = Result<QuotaView, StoreError>> + Send;

    /// Takes a slot for one request, no later than in `longest`.
    ///
    /// # Errors
    ///
    /// As for [`report`](Self::report).
    fn slot(
        &self,
        quota: &CacheIdentity,
        exact: ExactQuota,
        longest: Duration,
    ) -> impl Future<Output = Result<Slot, StoreError>> + Send;

    /// Comes to its end when another process has told of a hold, and then [`report`](Self::report) says more. May come
    /// to its end for no reason; a store that cannot tell waits for ever.
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`].
    fn changed(&self, quota: &CacheIdentity)
    -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What one process says about a quota.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::QuotaReport;
///
/// /// How many requests of a window that so many remain of a store may reserve for this process.
/// fn reserve(report: &QuotaReport, remaining: u32) -> u32 {
///     (report.reserved + report.wanted).min(remaining)
/// }
/// # let _: fn(&QuotaReport, u32) -> u32 = reserve;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuotaReport {
    /// Which process.
    pub process: ProcessId,
    /// How many requests it has under way or may send without asking again: they are reserved for it.
    pub reserved: u32,
    /// How many more it would like to send soon.
    pub wanted: u32,
    /// What the API said last.
    pub told: Option<ToldQuota>,
    /// For how long nobody may go, because a request was refused.
    pub hold: Option<Duration>,
}

impl QuotaReport {
    /// A process that has nothing reserved, wants nothing and has been told nothing. For tests of a store of your own.
    #[must_use]
    pub fn new(process: ProcessId) -> Self {
        Self {
            process,
            reserved: 0,
            wanted: 0,
            told: None,
            hold: None,
        }
    }
}

/// What an answer of the API said about a window.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
///
/// use tower_m2m::rate_limit_retry::{QuotaReport, ToldQuota};
///
/// /// When the window ends that a process was told of.
/// fn window_ends(report: &QuotaReport, now: Instant) -> Option<Instant> {
///     let told: ToldQuota = report.told?;
///     Some(now + told.reset)
/// }
/// # let _: fn(&QuotaReport, Instant) -> Option<Instant> = window_ends;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ToldQuota {
    /// How many requests a window allows, if it said so.
    pub limit: Option<u64>,
    /// How many of them remained.
    pub remaining: u64,
    /// How long until the quota is reset.
    pub reset: Duration,
    /// The request was sent no longer ago than this; `None` if that is not known.
    pub age: Option<Duration>,
}

impl ToldQuota {
    /// So many requests remain for so long. For tests of a store of your own.
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

/// What all processes together know about a quota.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::{QuotaView, SharedWindow};
///
/// let mut view = QuotaView::default();
/// view.granted = 10;
/// view.window = Some(SharedWindow::new(Some(300), 200, 120, 4, Duration::from_secs(30)));
///
/// assert_eq!(view.hold, None);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct QuotaView {
    /// How many of the requests that were [`wanted`](QuotaReport::wanted) are reserved from now on, besides those that
    /// were reserved before. 0 if no window is known.
    pub granted: u32,
    /// The window, if one is known.
    pub window: Option<SharedWindow>,
    /// For how long nobody may go.
    pub hold: Option<Duration>,
}

/// A window that all processes know.
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
    /// How many requests it allows, if the API said so.
    pub limit: Option<u64>,
    /// How many requests remain, those that are reserved among them.
    pub remaining: u64,
    /// How many are reserved, for all processes together.
    pub reserved: u64,
    /// How many processes share it.
    pub processes: u32,
    /// How long until it is reset.
    pub reset: Duration,
}

impl SharedWindow {
    /// A window with `remaining` requests left, of which `reserved` are reserved for so many processes.
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

/// One process of a fleet, or one layer in it. At random.
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
    /// Another than all before it.
    #[must_use]
    pub fn random() -> Self {
        Self(unique())
    }

    /// The number.
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
