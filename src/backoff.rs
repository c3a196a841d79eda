//! Exponential back-off with jitter: a pure function of the number of failures and a random number.
//!
//! | used for | first | longest |
//! |---|---|---|
//! | token fetches after a transient error | 1 s | 60 s |
//! | retries within one token fetch | 500 ms | 2 s |
//! | partitions after a 429 without a wait | 1 s | 60 s |
//! | requests after a transient failure | 200 ms | 10 s |
//! | calls of a failing quota store | 100 ms | 5 s |

use std::time::Duration;

/// The wait before the next attempt when the server specifies none.
///
/// It grows exponentially with the number of failures, up to a limit, and half of it is random.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::{Backoff, RateLimitRetryLayer};
///
/// let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
/// let layer = RateLimitRetryLayer::builder().backoff(backoff).build();
/// # drop(layer);
/// ```
#[doc(alias("jitter", "exponential"))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// Wait after the first failure, before jitter.
    initial: Duration,
    /// Upper bound on a wait.
    max: Duration,
}

impl Backoff {
    /// Creates a back-off that starts at `first`, doubles after every further failure, and is at most `longest`.
    ///
    /// Jitter shortens each wait by up to half; see [`wait`](Self::wait).
    ///
    /// If `first` is longer than `longest`, each wait is based on `longest`. If `first` is zero, there is no wait.
    ///
    /// | failures in a row | wait before jitter, for 1 s and 60 s | with jitter |
    /// |---|---|---|
    /// | 1 | 1 s | 0.5 s to 1 s |
    /// | 2 | 2 s | 1 s to 2 s |
    /// | 3 | 4 s | 2 s to 4 s |
    /// | 7 and more | 60 s | 30 s to 60 s |
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            initial: first,
            max: longest,
        }
    }

    /// Returns the wait after the first failure, before jitter.
    pub(crate) const fn initial(&self) -> Duration {
        self.initial
    }

    /// Returns the upper bound on a wait.
    pub(crate) const fn max(&self) -> Duration {
        self.max
    }

    /// Returns the wait after `failures` failures in a row (1 after the first). `random` is a number in `0.0..1.0`;
    /// other values are clamped.
    ///
    /// Half of the wait is fixed and half is random ("equal jitter"). It is at least half of
    /// the full wait, and the spread keeps processes that failed together from retrying together.
    ///
    /// Without failures (0), the wait is that after the first one.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_m2m::Backoff;
    ///
    /// let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    ///
    /// // The ends of the random part.
    /// assert_eq!(backoff.wait(1, 0.0), Duration::from_millis(25));
    /// assert_eq!(backoff.wait(1, 1.0), Duration::from_millis(50));
    /// // Doubled twice, and the limit.
    /// assert_eq!(backoff.wait(3, 1.0), Duration::from_millis(200));
    /// assert_eq!(backoff.wait(40, 1.0), Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn wait(&self, failures: u32, random: f64) -> Duration {
        // At most 2^31, so that the shift does not overflow.
        let doublings = failures.saturating_sub(1).min(31);
        // Saturates, so that the limit applies even to the largest `first`.
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        full / 2 + (full / 2).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

    #[test]
    fn the_wait_doubles_up_to_the_maximum() {
        let waits: Vec<_> = (1..=8).map(|n| BACKOFF.wait(n, 1.0).as_secs()).collect();

        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn jitter_subtracts_at_most_half() {
        assert_eq!(BACKOFF.wait(3, 0.0), Duration::from_secs(2));
        assert_eq!(BACKOFF.wait(3, 0.5), Duration::from_secs(3));
    }

    #[test]
    fn the_wait_does_not_overflow() {
        assert_eq!(BACKOFF.wait(u32::MAX, 1.0), Duration::from_secs(60));
        assert_eq!(BACKOFF.wait(0, 1.0), Duration::from_secs(1));
    }
}
