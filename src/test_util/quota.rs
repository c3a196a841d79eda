//! The quotas of a server.

use std::time::Duration;

/// A limit on the rate of requests.
///
/// A limit of zero admits no request.
///
/// | quota | a rejected client may send again | headers with a reset announce |
/// |---|---|---|
/// | [`fixed_window`](Self::fixed_window) | when the window ends | the end of the window |
/// | [`sliding_window`](Self::sliding_window) | when its oldest request leaves the window | that time |
/// | [`token_bucket`](Self::token_bucket) | when a token has accrued | when the bucket is full |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::test_util::{Api, Dialect, Quota};
///
/// let api = Api::builder()
///     .quota(Quota::fixed_window(100, Duration::from_secs(60)))
///     .dialect(Dialect::Draft8)
///     .in_process();
/// # drop(api);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// How requests are counted.
    pub(super) model: Model,
    /// Maximum number of requests.
    pub(super) limit: u32,
}

/// A way of counting requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Model {
    /// Requests per window; a window starts with its first request.
    FixedWindow(Duration),
    /// Requests in any period of this length.
    SlidingWindow(Duration),
    /// A bucket that is refilled at a constant rate.
    TokenBucket { per_second: f64 },
}

impl Quota {
    /// Creates a quota of `limit` requests per window. A window starts with the first request after the last one's end.
    ///
    /// Nearly twice the limit may be admitted within a period of one window: at the end of one window and the start of
    /// the next.
    #[must_use]
    pub const fn fixed_window(limit: u32, window: Duration) -> Self {
        Self {
            model: Model::FixedWindow(window),
            limit,
        }
    }

    /// Creates a quota of `limit` requests in any period as long as `window` (a sliding log).
    #[must_use]
    pub const fn sliding_window(limit: u32, window: Duration) -> Self {
        Self {
            model: Model::SlidingWindow(window),
            limit,
        }
    }

    /// Creates a bucket that starts with `capacity` requests and gains `per_second`. A rate that is not positive gains
    /// none.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::test_util::{Api, Quota};
    ///
    /// // Bursts of 20, and two per second on average.
    /// let api = Api::builder().quota(Quota::token_bucket(20, 2.0)).in_process();
    /// # drop(api);
    /// ```
    #[must_use]
    pub const fn token_bucket(capacity: u32, per_second: f64) -> Self {
        Self {
            model: Model::TokenBucket { per_second },
            limit: capacity,
        }
    }

    /// Returns the time in which the whole limit is replenished.
    pub(super) fn window(self) -> Duration {
        match self.model {
            Model::FixedWindow(window) | Model::SlidingWindow(window) => window,
            Model::TokenBucket { per_second } => refill(f64::from(self.limit), per_second),
        }
    }
}

/// Returns the time in which a bucket gains `tokens`, rounded up to the nanosecond.
pub(super) fn refill(tokens: f64, per_second: f64) -> Duration {
    if tokens <= COMPARISON_TOLERANCE {
        return Duration::ZERO;
    }
    // A rate of zero gives infinity, which is an error here, and so an unlimited wait.
    Duration::try_from_secs_f64(tokens / per_second.max(0.0))
        .map_or(FOREVER, |wait| wait.saturating_add(Duration::from_nanos(1)))
        .min(FOREVER)
}

/// Tolerance for rounding errors: a sum of fractions may differ from a whole token by this much.
pub(super) const COMPARISON_TOLERANCE: f64 = 1e-6;
/// Upper bound on a wait: a year.
pub(super) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
