//! Local cache: the copy of the token's header that a request reads instead of the shared token cache.
//!
//! Cloning a header value writes to its reference count. If all threads cloned the same value, the cache line of its
//! count would move between their cores with every request.
//!
//! A copy is used until one of these happens:
//!
//! - The generation of the shared cache changes.
//! - The freshness of the token changes, or the copy is [`MAX_AGE`] old.
//! - The token expires.
//!
//! One value of this type exists for each shard of the policies, about one per thread. A thread that shares its shard
//! with another never waits for it: it reads the shared cache instead.
//!
//! Cost of a request with a valid copy: one load of the generation, one uncontended `try_lock`, one comparison of
//! times, and one clone of the header value.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use tokio::time::Instant;

use super::{TokenFingerprint, auth::SentWith, refresher::Refresher, token::secret_bytes};
use crate::{clock::add_capped, sync::Mutex};

/// Copy of the header for the requests of one thread. It has its own allocation, so that other threads do not write to
/// its reference count.
///
/// The lock is never held while other code runs, except for cloning and replacing the copy.
#[derive(Debug)]
pub(super) struct LocalCache(Mutex<LocalState>);

/// State of the local cache.
///
/// The copy and the times of the reports share a lock, because every request needs both.
#[derive(Debug)]
struct LocalState {
    /// The copy; `None` before the first request.
    copy: Option<LocalCopy>,
    /// By origin, when a success is next reported; `None` before the first.
    report_at: Box<[Option<Instant>]>,
}

/// A copied header, and how long it may be used.
///
/// Invalid as soon as either bound is reached. The generation covers all changes of the shared cache; the time covers
/// what happens without a change: turning stale, expiring, and a machine that was suspended.
#[derive(Debug)]
struct LocalCopy {
    /// The header value, marked sensitive.
    header: HeaderValue,
    /// Hash of the token.
    fingerprint: TokenFingerprint,
    /// Generation of the shared cache. The copy is invalid once that has changed.
    generation: u64,
    /// Time from which the copy is invalid.
    valid_until: Instant,
}

impl LocalCache {
    /// Creates an empty cache for `origins` allowed origins.
    pub(super) fn new(origins: usize) -> Self {
        let report_at = vec![None; origins].into();
        let copy = None;
        Self(Mutex::new(LocalState { copy, report_at }))
    }

    /// Returns the header with the usable token, if there is one, for a request that is sent to `origin` now.
    ///
    /// The only shared memory that it reads is the generation of the token cache, whose cache line is written when the
    /// token changes. The lock, the copy and its reference count belong to this thread.
    ///
    /// `None` if there is no usable token: the caller then waits on the slow path. Never waits for a lock.
    pub(super) fn token(
        &self,
        tokens: &Arc<Refresher>,
        now: Instant,
        origin: usize,
    ) -> Option<(HeaderValue, SentWith)> {
        let changes = tokens.cache.generation();
        // Contended only if threads outnumber shards. The shared cache is read then.
        if let Ok(mut local) = self.0.try_lock()
            && let LocalState {
                copy: Some(copy),
                report_at,
            } = &mut *local
            && copy.generation == changes
            && now < copy.valid_until
        {
            let sent = SentWith {
                report: report_due(report_at, origin, now),
                ..SentWith::new(copy.fingerprint, now)
            };
            return Some((copy.header.clone(), sent));
        }
        let (header, identity) = self.refresh(tokens, changes, now)?;
        Some((header, SentWith::new(identity, now)))
    }

    /// Copies the token from the shared cache. `changes` was read before the token: if another token is published in
    /// between, the next request copies again.
    ///
    /// Cold, and therefore not inlined. Runs once per second and thread while the token is fresh, and every 5 ms while
    /// it is stale. If another thread holds the shard, the token is returned without a copy.
    #[cold]
    fn refresh(
        &self,
        tokens: &Arc<Refresher>,
        changes: u64,
        now: Instant,
    ) -> Option<(HeaderValue, TokenFingerprint)> {
        // Locks the snapshot of the shared cache for a moment, and may start an early refresh.
        let (token, fresh_for) = tokens.get_cached(now)?;
        // A request with a proof takes the slow path, where it is signed. A copy of another token is then out of date.
        if token.token.prover().is_some() {
            return None;
        }
        // An allocation of its own, which is zeroized when it is dropped.
        let mut header = HeaderValue::from_maybe_shared(secret_bytes(token.header.as_bytes()))
            .unwrap_or_else(|_| token.header.clone());
        header.set_sensitive(true);
        let left = token
            .lifetime
            .left(now, tokens.clock.wall_clock())
            .unwrap_or(MAX_AGE);
        if let Ok(mut local) = self.0.try_lock() {
            local.copy = Some(LocalCopy {
                header: header.clone(),
                fingerprint: token.fingerprint,
                generation: changes,
                // Never past the expiry, however short the remaining lifetime is.
                valid_until: add_capped(now, fresh_for.clamp(MIN_AGE, MAX_AGE).min(left)),
            });
        }
        Some((header, token.fingerprint))
    }
}

/// Returns whether to report a success of a request that is sent now, and records it as reported.
///
/// A report costs a write to shared memory, so that most successes are not reported. A 401 needs only to know that an
/// origin accepted the token lately.
fn report_due(report_at: &mut [Option<Instant>], origin: usize, now: Instant) -> bool {
    // Unreachable for an allowed origin.
    let Some(at) = report_at.get_mut(origin) else {
        return true;
    };
    let due = at.is_none_or(|at| now >= at);
    if due {
        *at = Some(add_capped(now, REPORT_INTERVAL));
    }
    due
}

/// Minimum age at which a copy is compared with the shared cache. While a token is stale, the interval between attempts
/// to start a refresh.
const MIN_AGE: Duration = Duration::from_millis(5);
/// Maximum age of a copy. The interval between readings of the wall clock, which detects that the machine was
/// suspended.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Interval between two reported successes of one origin.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::SystemTime,
    };

    use super::*;
    use crate::{
        Clock, SystemClock,
        client_credentials::{
            AccessToken, ClientCredentialsLayer, auth::AuthCall, policy::AuthPolicy,
        },
    };

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// Counts how often the wall clock is read, which is when a copy is taken.
    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>);

    impl Clock for Counting {
        fn now(&self) -> Instant {
            SystemClock.now()
        }

        fn wall_clock(&self) -> SystemTime {
            self.0.fetch_add(1, SeqCst);
            SystemTime::UNIX_EPOCH
        }
    }

    /// Returns a policy whose cache has a token with this lifetime.
    async fn local_cache(life: Option<Duration>, clock: &Counting) -> AuthPolicy {
        let mut token = AccessToken::new("key");
        if let Some(life) = life {
            token = token.expires_in(life);
        }
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(token, origin);
        let auth_policy = AuthPolicy::new(layer.clock(clock.clone()).build().into_auth());
        assert!(
            auth_policy
                .token(&mut AuthCall::new(0, true), SystemClock.now())
                .is_none()
        );
        auth_policy.auth.refresher.get().await.unwrap();
        auth_policy
    }

    #[tokio::test(start_paused = true)]
    async fn a_local_copy_is_used_for_one_second_or_until_the_cache_changes() {
        let clock = Counting::default();
        let auth_policy = local_cache(None, &clock).await;
        let now = SystemClock.now();
        // Whether a copy is taken for a request that is sent then.
        let takes = |at: Duration| {
            let before = clock.0.load(SeqCst);
            let (header, sent) = auth_policy
                .token(&mut AuthCall::new(0, true), now + at)
                .unwrap();
            assert_eq!(header, "Bearer key");
            assert!(header.is_sensitive());
            assert_eq!(sent.at, now + at);
            clock.0.load(SeqCst) > before
        };
        assert!(takes(Duration::ZERO));
        assert!(!takes(Duration::ZERO));
        assert!(!takes(SECOND - MS));
        assert!(takes(SECOND));
        assert!(!takes(2 * SECOND - MS));

        assert!(auth_policy.auth.refresher.cache.invalidate());

        assert!(
            auth_policy
                .token(&mut AuthCall::new(0, true), now + 2 * SECOND - MS)
                .is_none()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_local_copy_is_not_used_after_expiry() {
        let auth_policy = local_cache(Some(2 * SECOND), &Counting::default()).await;
        let now = SystemClock.now();

        assert!(
            auth_policy
                .token(&mut AuthCall::new(0, true), now + 1999 * MS)
                .is_some()
        );
        assert!(
            auth_policy
                .token(&mut AuthCall::new(0, true), now + 2 * SECOND)
                .is_none()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn successes_are_reported_every_100_ms() {
        let auth_policy = local_cache(None, &Counting::default()).await;
        let now = SystemClock.now();
        let reports = |at: u32| {
            auth_policy
                .token(&mut AuthCall::new(0, true), now + at * MS)
                .unwrap()
                .1
                .report
        };
        // A request that copies the token always reports its success.
        assert!(reports(0));

        for (at, told) in [
            (1, true),
            (2, false),
            (100, false),
            (101, true),
            (200, false),
        ] {
            assert_eq!(reports(at), told, "{at}");
        }
        let mut none = Vec::new();
        assert!(report_due(&mut none, 0, now));
    }
}
