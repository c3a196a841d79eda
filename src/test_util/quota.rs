//! How many requests a server admits in which time.

use std::time::Duration;

/// A limit on requests.
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
    pub(super) model: Model,
    pub(super) limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Model {
    FixedWindow(Duration),
    SlidingWindow(Duration),
    TokenBucket { per_second: f64 },
}

impl Quota {
    /// `limit` requests per window; a window starts with the first request after the end of the one before.
    #[must_use]
    pub const fn fixed_window(limit: u32, window: Duration) -> Self {
        Self {
            model: Model::FixedWindow(window),
            limit,
        }
    }

    /// `limit` requests in any stretch of time that is as long as `window` (a sliding log).
    #[must_use]
    pub const fn sliding_window(limit: u32, window: Duration) -> Self {
        Self {
            model: Model::SlidingWindow(window),
            limit,
        }
    }

    /// A bucket that starts with `capacity` requests and gains `per_second`; a rate that is not positive gains none.
    #[must_use]
    pub const fn token_bucket(capacity: u32, per_second: f64) -> Self {
        Self {
            model: Model::TokenBucket { per_second },
            limit: capacity,
        }
    }

    /// The time in which the whole limit comes back.
    pub(super) fn window(self) -> Duration {
        match self.model {
            Model::FixedWindow(window) | Model::SlidingWindow(window) => window,
            Model::TokenBucket { per_second } => refill(f64::from(self.limit), per_second),
        }
    }
}

/// How long a bucket takes to gain `tokens`, rounded up to the nanosecond.
pub(super) fn refill(tokens: f64, per_second: f64) -> Duration {
    if tokens <= ROUNDING {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(tokens / per_second.max(0.0))
        .map_or(FOREVER, |wait| wait.saturating_add(Duration::from_nanos(1)))
        .min(FOREVER)
}

/// Sums of fractions may miss a whole token by this much.
pub(super) const ROUNDING: f64 = 1e-6;
pub(super) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
