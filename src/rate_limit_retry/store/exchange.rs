//! What processes and a store exchange: reports, and snapshots of the combined state.
//!
//! All times are durations from the moment of the call, so that clocks need not agree.

use std::{fmt, time::Duration};

use super::ProcessId;

/// The report of one process about a quota.
///
/// It is complete: the store needs nothing from earlier reports of the same process but the number of the last one. An
/// empty report, with nothing reserved or wanted, returns all reservations.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::{ProcessId, QuotaReport, WindowId, WindowReport};
///
/// let mut report = QuotaReport::new(ProcessId::random());
/// let mut requests = WindowReport::new(WindowId::new("requests").unwrap());
/// (requests.reserved, requests.wanted) = (4, 10);
/// report.windows.push(requests);
///
/// assert_eq!(report.version, QuotaReport::VERSION);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuotaReport {
    /// The version of the rules that the process follows: [`VERSION`](Self::VERSION). A store keeps it with the entry.
    pub version: u32,
    /// The reporting process.
    pub process: ProcessId,
    /// The number of the report. One that repeats a lost report has the number of that report, and the same amounts
    /// [`used`](WindowReport::used), which a store that has received both counts once. 0: not numbered, never repeated.
    pub number: u64,
    /// The windows that the process shares, each once. At most 16.
    pub windows: Vec<WindowReport>,
    /// How long the partition is held from now, because a request was rejected; `None` if it is not held.
    pub hold: Option<Duration>,
}

impl QuotaReport {
    /// The version of reports, snapshots and entries in this version of the crate. It changes when processes of
    /// different versions must not share windows.
    pub const VERSION: u32 = 2;

    /// Creates a report without windows or hold.
    #[must_use]
    pub fn new(process: ProcessId) -> Self {
        Self {
            version: Self::VERSION,
            process,
            number: 0,
            windows: Vec::new(),
            hold: None,
        }
    }
}

/// The report of one process about one window.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::WindowReport;
///
/// /// What a store may reserve for this process, if `free` is free.
/// fn grant(report: &WindowReport, free: u64) -> u64 {
///     report.wanted.min(free)
/// }
/// # let _: fn(&WindowReport, u64) -> u64 = grant;
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct WindowReport {
    /// The window.
    pub id: WindowId,
    /// Units reserved for this process: in flight, or allowed to be sent without another report.
    pub reserved: u64,
    /// Further units that the process intends to use soon: for waiting requests, and for those expected within 100 ms.
    pub wanted: u64,
    /// The smallest grant that the process can use: what one request costs, less what is granted already. At least 1.
    pub minimum: u64,
    /// Units that were used since the last report and that no announcement includes. They reduce what remains, once for
    /// each [number](QuotaReport::number).
    pub used: u64,
    /// What is known of the window itself; `None` if that has not changed since the last report.
    pub announced: Option<AnnouncedQuota>,
}

impl WindowReport {
    /// Creates a report without reservations and demand.
    #[must_use]
    pub fn new(id: WindowId) -> Self {
        Self {
            id,
            reserved: 0,
            wanted: 0,
            minimum: 1,
            used: 0,
            announced: None,
        }
    }
}

/// The name of a window, by which the processes of a fleet find it. 1 to 64 bytes.
///
/// A store compares names and does not interpret them.
///
/// # Examples
///
/// ```
/// use tower_m2m::rate_limit_retry::WindowId;
///
/// let id = WindowId::new("requests").unwrap();
///
/// assert_eq!(id.as_str(), "requests");
/// assert_eq!(WindowId::new("n".repeat(65)), None);
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WindowId(Box<str>);

impl WindowId {
    /// Creates the name of a window. `None` if it is empty or longer than 64 bytes.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>) -> Option<Self> {
        let name = name.into();
        (!name.is_empty() && name.len() <= MAX_ID_LEN).then_some(Self(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WindowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The state of a window as one process knows it, from a response of the API or from its estimate.
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
/// use tower_m2m::rate_limit_retry::{AnnouncedQuota, WindowReport};
///
/// /// The end of the window that a process reports.
/// fn window_ends(report: &WindowReport, now: Instant) -> Option<Instant> {
///     let announced: AnnouncedQuota = report.announced?;
///     Some(now + announced.reset)
/// }
/// # let _: fn(&WindowReport, Instant) -> Option<Instant> = window_ends;
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct AnnouncedQuota {
    /// Units per window; `None` if that is not known.
    pub limit: Option<u64>,
    /// Units that remained, less those that this process has used since and whose responses announced nothing.
    pub remaining: u64,
    /// Time until the quota is reset, from the moment of the call.
    pub reset: Duration,
    /// Length of the window; `None` if that is not known.
    pub window: Option<Duration>,
    /// Upper bound on the time since the request was sent; `None` if that is unknown.
    pub age: Option<Duration>,
}

impl AnnouncedQuota {
    /// Creates a window with `remaining` units for the time `reset`.
    #[must_use]
    pub fn new(remaining: u64, reset: Duration) -> Self {
        Self {
            limit: None,
            remaining,
            reset,
            window: None,
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
/// use tower_m2m::rate_limit_retry::{QuotaSnapshot, SharedWindow, WindowId};
///
/// // 200 of 300 requests remain for 30 s. The processes have reserved 120, of which 10 were
/// // granted now.
/// let id = WindowId::new("requests").unwrap();
/// let mut window = SharedWindow::new(id, 200, Duration::from_secs(30));
/// (window.limit, window.reserved, window.granted) = (Some(300), 120, 10);
/// let mut snapshot = QuotaSnapshot::default();
/// snapshot.processes = 4;
/// snapshot.windows.push(window);
///
/// assert_eq!(snapshot.hold, None);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct QuotaSnapshot {
    /// Number of processes that share the quota.
    pub processes: u32,
    /// The windows that are known, ordered by their names.
    pub windows: Vec<SharedWindow>,
    /// How long the partition is held from now; `None` if it is not held.
    pub hold: Option<Duration>,
}

/// A window that all processes share. `remaining − reserved` units are free.
///
/// The process compares it with its own announcement, and uses the newer one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::rate_limit_retry::{SharedWindow, WindowId};
///
/// let id = WindowId::new("requests").unwrap();
/// let window = SharedWindow::new(id, 200, Duration::from_secs(30));
///
/// assert_eq!((window.granted, window.remaining - window.reserved), (0, 200));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SharedWindow {
    /// The window.
    pub id: WindowId,
    /// Units of those [`wanted`](WindowReport::wanted) that are now reserved, in addition to the earlier reservation.
    pub granted: u64,
    /// Units per window; `None` if that is not known.
    pub limit: Option<u64>,
    /// Units that remain, including reserved ones.
    pub remaining: u64,
    /// Units reserved for all processes together.
    pub reserved: u64,
    /// Time until the quota is reset.
    pub reset: Duration,
    /// Length of the window; `None` if that is not known.
    pub window: Option<Duration>,
}

impl SharedWindow {
    /// Creates a window with `remaining` units for the time `reset`, of which nothing is reserved.
    #[must_use]
    pub fn new(id: WindowId, remaining: u64, reset: Duration) -> Self {
        Self {
            id,
            granted: 0,
            limit: None,
            remaining,
            reserved: 0,
            reset,
            window: None,
        }
    }
}

/// Maximum length of a window's name, in bytes.
const MAX_ID_LEN: usize = 64;
/// Maximum number of windows of an entry, as of a partition.
pub(crate) const MAX_WINDOWS: usize = 16;
/// Maximum amount of a window. Numbers of a script on Redis have 14 digits, and sums of a few amounts must fit. Greater
/// amounts count as this one.
pub(crate) const MAX_AMOUNT: u64 = 10_000_000_000_000;
