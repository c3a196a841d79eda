//! Freshness of a token (fresh, stale or expired, as in RFC 9111 §4.2), and when it is refreshed early.
//!
//! ```text
//! requested                          refreshed early                 expires
//!     ├──────────── Fresh ─────────────────┼──────── Stale ─────────────┼── Expired ──▶
//!                                          └── jitter and guard ─────────┘
//! ```
//!
//! Both clocks are read: the monotonic clock may stop while the machine is suspended, and the wall clock may be set
//! back.
//!
//! With the default of 30 s, and without jitter:
//!
//! | lifetime | stale after | reason |
//! |---|---|---|
//! | 1 h | 59 min 30 s | 30 s before the end |
//! | 300 s | 270 s | 30 s before the end |
//! | 60 s | 48 s | a fifth of the lifetime |
//! | 2 s | 1 s | the last second is not relied on |
//! | none | never | only a 401 replaces the token |

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::Moment;

/// Freshness of a token.
///
/// Freshness only decreases, unless a clock is set back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Freshness {
    /// Usable.
    Fresh,
    /// Usable, but due for a refresh.
    Stale,
    /// Must not be sent any more.
    Expired,
}

/// When a token was requested, turns stale and expires.
///
/// Immutable. All answers depend on the times that are passed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// When the token was requested.
    requested_at: Moment,
    /// `None` for a token that does not expire.
    ends: Option<Ends>,
}

/// Ages at which the freshness of a token changes.
///
/// Kept as ages instead of instants: an instant far in the future may not be representable on every platform.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// Age at which the token is due for a refresh.
    stale_after: Duration,
    /// Age at which the token expires. At least `stale_after`.
    expired_after: Duration,
}

impl Lifetime {
    /// Creates the lifetime of a token that was requested at `asked_at` and is valid for `lifetime` from then on.
    ///
    /// The token turns stale `guard` before it expires, but not in the first 80 % of a short lifetime. Jitter, drawn
    /// once per token (`random` in `0.0..1.0`), moves that earlier by at most a twentieth of the lifetime, so that
    /// processes that started together spread out. The last second of a lifetime of a few seconds is not relied on: see
    /// [`EXPIRY_MARGIN`]. An earlier time named by the server (`refresh_in`) is followed, but at least a quarter of the
    /// lifetime, less the jitter, is used.
    pub(crate) fn new(
        asked_at: Instant,
        asked_wall: SystemTime,
        lifetime: Option<Duration>,
        refresh_in: Option<Duration>,
        guard: Duration,
        random: f64,
    ) -> Self {
        let ends = lifetime.map(|lifetime| {
            let lifetime = lifetime.max(MIN_LIFETIME);
            // At most a fifth of the lifetime. A short lifetime ends with its last second, which is not relied on.
            let guard = guard
                .min((lifetime / 5).max(EXPIRY_MARGIN.min(lifetime.saturating_sub(EXPIRY_MARGIN))));
            // Subtracted only: a refresh is never later than `guard` before the expiry.
            let jitter = guard.min(lifetime / 20).mul_f64(random.clamp(0.0, 1.0));
            let guard = refresh_in.map_or(guard, |due| {
                // An earlier time would cause a stream of refreshes.
                let due = due.max(lifetime / 4);
                guard.max(lifetime.saturating_sub(due))
            });
            Ends {
                stale_after: lifetime - guard - jitter,
                expired_after: lifetime,
            }
        });
        Self {
            requested_at: Moment::new(asked_at, asked_wall),
            ends,
        }
    }

    /// Returns the freshness of the token at this time.
    pub(crate) fn freshness(&self, now: Instant, wall: SystemTime) -> Freshness {
        let Some(ends) = self.ends else {
            return Freshness::Fresh;
        };
        let age = self.age(now, wall);
        if age >= ends.expired_after {
            Freshness::Expired
        } else if age >= ends.stale_after {
            Freshness::Stale
        } else {
            Freshness::Fresh
        }
    }

    /// Returns the whole lifetime of the token; `None` if it does not expire.
    pub(crate) fn total(&self) -> Option<Duration> {
        self.ends.map(|ends| ends.expired_after)
    }

    /// Returns when a token of this age was requested, by the monotonic clock.
    ///
    /// Corrected by the time that the machine was suspended. If the corrected time lies before the start of the
    /// monotonic clock, the uncorrected one is returned.
    pub(crate) fn requested_at(&self, now: Instant, wall: SystemTime) -> Instant {
        let then = now.checked_sub(self.age(now, wall));
        then.unwrap_or(self.requested_at.instant())
    }

    /// Returns how long the freshness of the token does not change.
    ///
    /// Zero for an expired token. A local copy may use its token for that long without another reading of the wall
    /// clock, but at most for a second.
    pub(crate) fn unchanged_for(&self, now: Instant, wall: SystemTime) -> Duration {
        let Some(ends) = self.ends else {
            return Duration::MAX;
        };
        let age = self.age(now, wall);
        if age < ends.stale_after {
            ends.stale_after - age
        } else {
            ends.expired_after.saturating_sub(age)
        }
    }

    /// Returns the remaining lifetime of the token; `None` if it does not expire.
    pub(crate) fn left(&self, now: Instant, wall: SystemTime) -> Option<Duration> {
        self.ends
            .map(|ends| ends.expired_after.saturating_sub(self.age(now, wall)))
    }

    /// Returns the age of the token by the clock that counted more, so that time in which the machine was suspended
    /// counts.
    ///
    /// Too high an age costs an early refresh, too low an age a rejected request. So the larger one counts.
    fn age(&self, now: Instant, wall: SystemTime) -> Duration {
        Moment::new(now, wall).elapsed_since(self.requested_at)
    }
}

/// Minimum lifetime of a token. Without it, tokens with no lifetime would cause a token request per request.
const MIN_LIFETIME: Duration = Duration::from_secs(1);
/// Rounding error of a server's lifetime. Servers count in whole seconds: a token issued at 10.9 s for 2 s may expire
/// at 12.0 s.
const EXPIRY_MARGIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn lifetime(seconds: u64, random: f64) -> (Lifetime, Instant, SystemTime) {
        let (now, wall) = (origin(), SystemTime::UNIX_EPOCH + 1000 * MINUTE);
        let lifetime = Lifetime::new(
            now,
            wall,
            Some(Duration::from_secs(seconds)),
            None,
            Duration::from_secs(30),
            random,
        );
        (lifetime, now, wall)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary instant to count from"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    fn at(seconds: f64, random: f64, life: u64) -> Freshness {
        let (lifetime, now, wall) = lifetime(life, random);
        let age = Duration::from_secs_f64(seconds);
        lifetime.freshness(now + age, wall + age)
    }

    #[test]
    fn a_300_second_token_turns_stale_30_seconds_early() {
        assert_eq!(at(269.9, 0.0, 300), Freshness::Fresh);
        assert_eq!(at(270.0, 0.0, 300), Freshness::Stale);
        assert_eq!(at(299.9, 0.0, 300), Freshness::Stale);
        assert_eq!(at(300.0, 0.0, 300), Freshness::Expired);
    }

    #[test]
    fn jitter_moves_the_refresh_earlier_by_at_most_5_percent() {
        assert_eq!(at(254.9, 1.0, 300), Freshness::Fresh);
        assert_eq!(at(255.0, 1.0, 300), Freshness::Stale);
    }

    #[test]
    fn short_lifetimes_are_used_for_at_least_75_percent() {
        assert_eq!(at(22.4, 1.0, 30), Freshness::Fresh);
        assert_eq!(at(24.0, 0.0, 30), Freshness::Stale);
    }

    #[test]
    fn a_zero_lifetime_counts_as_one_second() {
        assert_eq!(at(0.7, 0.0, 0), Freshness::Fresh);
        assert_eq!(at(1.0, 0.0, 0), Freshness::Expired);
    }

    #[test]
    fn the_last_second_of_a_very_short_lifetime_is_unused() {
        assert_eq!(at(0.9, 0.0, 2), Freshness::Fresh);
        assert_eq!(at(1.0, 0.0, 2), Freshness::Stale);
        assert_eq!(at(2.9, 0.0, 4), Freshness::Fresh);
        assert_eq!(at(3.0, 0.0, 4), Freshness::Stale);
    }

    #[test]
    fn a_token_without_a_lifetime_stays_fresh() {
        let now = origin();
        let wall = SystemTime::UNIX_EPOCH;
        let lifetime = Lifetime::new(now, wall, None, None, MINUTE, 0.0);

        assert_eq!(
            lifetime.freshness(now + 1_000_000 * MINUTE, wall),
            Freshness::Fresh
        );
        assert_eq!(lifetime.unchanged_for(now, wall), Duration::MAX);
        assert_eq!(lifetime.left(now, wall), None);
        assert_eq!(lifetime.total(), None);
    }

    #[test]
    fn suspension_is_detected_by_the_wall_clock() {
        let (lifetime, now, wall) = lifetime(300, 0.0);

        assert_eq!(
            lifetime.freshness(now, wall + 6 * MINUTE),
            Freshness::Expired
        );
    }

    #[test]
    fn a_wall_clock_that_steps_back_is_ignored() {
        let (lifetime, now, wall) = lifetime(300, 0.0);

        assert_eq!(
            lifetime.freshness(now, wall - 60 * MINUTE),
            Freshness::Fresh
        );
    }

    #[test]
    fn remaining_time_counts_to_the_next_change_and_to_expiry() {
        let (token, now, wall) = lifetime(300, 0.0);
        for (age, unchanged_for, left) in [
            (0, 270, 300),
            (269, 1, 31),
            (270, 30, 30),
            (299, 1, 1),
            (300, 0, 0),
            (400, 0, 0),
        ] {
            let age = Duration::from_secs(age);
            let (unchanged_for, left) = (
                Duration::from_secs(unchanged_for),
                Duration::from_secs(left),
            );
            let (now, wall) = (now + age, wall + age);

            assert_eq!(token.unchanged_for(now, wall), unchanged_for, "{age:?}");
            assert_eq!(token.left(now, wall), Some(left), "{age:?}");
        }
        assert_eq!(token.total(), Some(5 * MINUTE));
        assert_eq!(token.requested_at(now + MINUTE, wall), now);
        // The machine was suspended for a minute.
        assert_eq!(
            token.requested_at(now + MINUTE, wall + 2 * MINUTE),
            now - MINUTE
        );
    }

    proptest! {
        #[test]
        fn freshness_never_increases(life in 0u64..100_000, random in 0.0f64..1.0, a in 0u64..200_000, b in 0u64..200_000) {
            let (lifetime, now, wall) = lifetime(life, random);
            let rank = |s: u64| match lifetime.freshness(now + Duration::from_secs(s), wall) {
                Freshness::Fresh => 0,
                Freshness::Stale => 1,
                Freshness::Expired => 2,
            };
            prop_assert!(rank(a.min(b)) <= rank(a.max(b)));
        }
    }
}
