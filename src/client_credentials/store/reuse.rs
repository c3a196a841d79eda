//! Decides whether a token from the store is used by this process.
//!
//! The store may contain a token that this process must not use: the one that was just rejected, one with an
//! implausible lifetime, or one that is about to expire.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::StoredToken;
use crate::client_credentials::{
    AccessToken, FetchReason, TokenFingerprint,
    freshness::{Freshness, Lifetime},
};

/// Requirements of this process for a token from the store.
///
/// `known` has three entries: the cached token, the one that `invalidate` dropped last, and the rejected one. Two of
/// them are often equal.
#[derive(Debug)]
pub(super) struct ReusePolicy {
    /// Why the token is fetched.
    pub(super) reason: FetchReason,
    /// Tokens that this process has, had, or saw rejected. None of them is accepted again.
    pub(super) known: [Option<TokenFingerprint>; 3],
    /// Maximum plausible lifetime. A token with a longer one is rejected.
    pub(super) max_lifetime: Duration,
    /// Interval before expiry in which a token is due for refresh.
    pub(super) refresh_before: Duration,
}

/// Returns the token in `entry` if it meets the requirements.
///
/// `requested_at` is when the store was read. The remaining lifetime counts from then, so that a slow response never extends
/// it.
///
/// Returns `None` if the token is known, its lifetime is implausible, less than a second remains, or it is due for
/// refresh while this process has one that still works.
///
/// All times are those of this process. The store contributes only a remaining lifetime, so that clocks need not agree.
pub(super) fn reuse(
    entry: &StoredToken,
    wanted: &ReusePolicy,
    requested_at: Instant,
    now: Instant,
) -> Option<AccessToken> {
    let token = entry.token();
    let lasts = entry
        .left()
        .saturating_sub(now.saturating_duration_since(requested_at));
    // A token that this process knows is either in use already or was rejected.
    if wanted.known.contains(&Some(token.fingerprint()))
        || entry.lifetime() > wanted.max_lifetime
        || lasts <= MIN_TIME_LEFT
    {
        return None;
    }
    // Reconstruct when the token was requested, so that its refresh point lies where the issuer's response put it.
    let spent = entry.lifetime().saturating_sub(entry.left());
    let token = match requested_at.checked_sub(spent) {
        Some(sent_at) => token.clone().with_sent_at(sent_at),
        // The clock of this process does not reach back that far: the remaining lifetime becomes the lifetime.
        None => token
            .clone()
            .expires_in(entry.left())
            .with_sent_at(requested_at),
    };
    // An early refresh happens while the current token still works, so another token that is due as well is of no use.
    let due = wanted.reason == FetchReason::Early && is_stale(&token, wanted, now);
    (!due).then_some(token)
}

/// Returns whether `token` is due for refresh at `now`.
fn is_stale(token: &AccessToken, wanted: &ReusePolicy, now: Instant) -> bool {
    // The monotonic clock suffices here: the lifetime was reconstructed a moment ago, so the wall clock is held
    // constant.
    const WALL: SystemTime = SystemTime::UNIX_EPOCH;
    let lifetime = Lifetime::new(
        token.sent_at().unwrap_or(now),
        WALL,
        token.lifetime(),
        token.refresh_in(),
        wanted.refresh_before,
        0.0,
    );
    lifetime.freshness(now, WALL) != Freshness::Fresh
}

/// Minimum remaining lifetime of a token that is stored or taken from the store.
pub(super) const MIN_TIME_LEFT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary instant to count from"
    )]
    fn start() -> Instant {
        Instant::now() + 2 * HOUR
    }

    fn entry(left: Duration) -> StoredToken {
        StoredToken::new(AccessToken::new("token").expires_in(HOUR), left).unwrap()
    }

    fn policy(reason: FetchReason) -> ReusePolicy {
        ReusePolicy {
            reason,
            known: [None; 3],
            max_lifetime: 24 * HOUR,
            refresh_before: MINUTE,
        }
    }

    fn reused(left: Duration, wanted: &ReusePolicy) -> bool {
        reuse(&entry(left), wanted, start(), start()).is_some()
    }

    #[test]
    fn the_lifetime_of_a_reused_token_starts_when_it_was_issued() {
        let now = start();
        let token = reuse(&entry(HOUR / 4), &policy(FetchReason::Cold), now, now).unwrap();

        assert_eq!(token.lifetime(), Some(HOUR));
        assert_eq!(token.sent_at(), Some(now - HOUR * 3 / 4));
    }

    #[test]
    fn an_expired_token_is_not_reused() {
        assert!(reused(2 * MIN_TIME_LEFT, &policy(FetchReason::Cold)));
        assert!(!reused(MIN_TIME_LEFT, &policy(FetchReason::Cold)));
        assert!(!reused(Duration::ZERO, &policy(FetchReason::Expired)));
    }

    #[test]
    fn the_stores_latency_counts_towards_the_age() {
        let requested_at = start();
        let cold = policy(FetchReason::Cold);
        let entry = entry(MINUTE);

        assert!(reuse(&entry, &cold, requested_at, requested_at + MINUTE / 2).is_some());
        assert!(reuse(&entry, &cold, requested_at, requested_at + MINUTE).is_none());
    }

    #[test]
    fn a_rejected_or_cached_token_is_not_reused() {
        for place in 0..3 {
            let mut wanted = policy(FetchReason::Rejected);
            wanted.known[place] = Some(AccessToken::new("another").fingerprint());
            assert!(reused(HOUR, &wanted));
            wanted.known[place] = Some(AccessToken::new("token").fingerprint());
            assert!(!reused(HOUR, &wanted));
        }
    }

    #[test]
    fn a_token_beyond_max_lifetime_is_not_reused() {
        let mut wanted = policy(FetchReason::Cold);
        for (most, is_adopted) in [(HOUR, true), (HOUR - Duration::from_nanos(1), false)] {
            wanted.max_lifetime = most;
            assert_eq!(reused(MINUTE, &wanted), is_adopted);
        }
    }

    #[test]
    fn a_stale_token_is_reused_only_if_there_is_none() {
        assert!(reused(MINUTE / 2, &policy(FetchReason::Cold)));
        assert!(!reused(MINUTE / 2, &policy(FetchReason::Early)));
        assert!(reused(2 * MINUTE, &policy(FetchReason::Early)));
    }
}
