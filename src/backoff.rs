//! Exponential back-off with jitter, as a pure function of the attempt and a random number.

use std::time::Duration;

/// How long to wait before the next attempt when the server names no time.
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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits of about `first`, twice as long after every further failure, at most `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    pub(crate) const fn first(&self) -> Duration {
        self.first
    }

    pub(crate) const fn longest(&self) -> Duration {
        self.longest
    }

    /// The wait after the `failures`-th failure in a row (1 for the first), where `random` is in `0.0..1.0`.
    ///
    /// Half of the wait is fixed and half is random ("equal jitter"): never zero, and spread widely enough that many
    /// processes that failed together do not come back together.
    #[must_use]
    pub fn wait(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        full / 2 + (full / 2).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

    #[test]
    fn the_wait_doubles_up_to_the_longest() {
        let waits: Vec<_> = (1..=8).map(|n| BACKOFF.wait(n, 1.0).as_secs()).collect();

        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        assert_eq!(BACKOFF.wait(3, 0.0), Duration::from_secs(2));
        assert_eq!(BACKOFF.wait(3, 0.5), Duration::from_secs(3));
    }

    #[test]
    fn any_number_of_failures_is_fine() {
        assert_eq!(BACKOFF.wait(u32::MAX, 1.0), Duration::from_secs(60));
        assert_eq!(BACKOFF.wait(0, 1.0), Duration::from_secs(1));
    }
}
