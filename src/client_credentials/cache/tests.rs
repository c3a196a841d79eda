//! The cache by itself, in one thread.

mod rejections;

use std::{
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use super::*;
use crate::{
    Clock, SystemClock,
    client_credentials::{AccessToken, RejectedToken, in_flight::Waiter},
};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A cache for two origins, and clocks that are set by hand.
struct World {
    cache: TokenCache,
    now: Instant,
    wall: SystemTime,
}

impl World {
    fn empty() -> Self {
        let settings = Settings {
            credential: Some("orders".into()),
            refresh_before: 30 * SECOND,
            fetch_timeout: 30 * SECOND,
            max_token_backoff: 300 * SECOND,
            refresh_cooldown: 10 * SECOND,
            max_waiting: usize::MAX,
            scheme: Some("Bearer".into()),
        };
        let now = SystemClock.now();
        let cell = TokenCache::new(settings, 2, Some(7), now);
        Self {
            cache: cell,
            now,
            wall: WALL,
        }
    }

    fn at(&self) -> Moment {
        Moment::new(self.now, self.wall)
    }

    /// With the token `name` in it, which does not expire.
    fn with(name: &str) -> Self {
        let world = Self::empty();
        world.succeed(world.guard(), name);
        world
    }

    fn acquire(&self) -> Acquire {
        self.cache.acquire(self.at())
    }

    /// Returns the guard that a caller without a token gets now.
    fn guard(&self) -> FetchGuard {
        match self.acquire() {
            Acquire::Wait(_, Some(guard)) => guard,
            other => panic!("{other:?}"),
        }
    }

    fn early(&self) -> Option<FetchGuard> {
        self.cache.refresh_early(self.at())
    }

    fn forced(&self) -> FetchGuard {
        match self.cache.refresh_now(self.at()) {
            Acquire::Wait(_, Some(guard)) => guard,
            other => panic!("{other:?}"),
        }
    }

    fn succeed(&self, guard: FetchGuard, name: &str) -> Arc<CachedToken> {
        match guard.complete(Ok(AccessToken::new(name)), self.at()) {
            Some(Outcome::Token(token)) => token,
            other => panic!("{other:?}"),
        }
    }

    fn fail(&self, guard: FetchGuard, error: TokenError) {
        let outcome = guard.complete(Err::<AccessToken, _>(error), self.at());
        assert!(matches!(outcome, Some(Outcome::Failed(_))));
    }

    fn usable(&self) -> Option<TokenFingerprint> {
        let (token, _) = self.cache.header(self.at())?;
        Some(token.fingerprint)
    }
}

fn transient() -> TokenError {
    TokenError::transient("is down")
}

fn permanent() -> TokenError {
    TokenError::permanent("was refused")
}

fn fingerprint(name: &str) -> TokenFingerprint {
    AccessToken::new(name).fingerprint()
}

fn outcome(waiter: &Waiter) -> Option<Outcome> {
    match waiter.poll(&Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

#[test]
fn one_caller_fetches_and_the_others_share_the_outcome() {
    let world = World::empty();
    let guard = world.guard();
    let Acquire::Wait(flight, None) = world.acquire() else {
        panic!("a second lead");
    };
    assert!(flight.rejected().is_none());
    assert_eq!(flight.reason(), FetchReason::Cold);
    let waiter = Waiter::new(flight, 1).unwrap();
    assert!(outcome(&waiter).is_none());

    let published = world.succeed(guard, "a");

    assert!(
        matches!(outcome(&waiter), Some(Outcome::Token(token)) if token.fingerprint == fingerprint("a"))
    );
    assert_eq!(published.header, "Bearer a");
    assert_eq!(world.usable(), Some(fingerprint("a")));
}

#[test]
fn waiters_are_limited_and_a_dropped_waiter_frees_its_slot() {
    let world = World::empty();
    let guard = world.guard();
    let waiter = || Waiter::new(Arc::clone(guard.fetch()), 2);
    let first = waiter().unwrap();
    let second = waiter().unwrap();

    assert!(waiter().is_none());
    drop(first);
    let third = waiter().unwrap();
    assert!(waiter().is_none());
    drop((second, third));
}

#[test]
fn dropping_the_fetch_guard_wakes_all_waiters() {
    let world = World::empty();
    let guard = world.guard();
    let waiter = Waiter::new(Arc::clone(guard.fetch()), 1).unwrap();

    drop(guard);

    assert!(matches!(outcome(&waiter), Some(Outcome::Abandoned)));
    assert!(!world.cache.status(world.at()).refreshing);
}

#[test]
fn a_fetch_is_superseded_one_second_after_its_deadline() {
    let mut world = World::empty();
    let first = world.guard();
    let waiter = Waiter::new(Arc::clone(first.fetch()), 1).unwrap();

    world.now += 31 * SECOND - MS;
    assert!(matches!(world.acquire(), Acquire::Wait(_, None)));
    assert!(outcome(&waiter).is_none());
    world.now += MS;
    let second = world.guard();

    assert!(matches!(outcome(&waiter), Some(Outcome::Abandoned)));
    let late = first.complete(Ok(AccessToken::new("late")), world.at());
    assert!(late.is_none());
    assert_eq!(world.usable(), None);
    world.succeed(second, "a");
    assert_eq!(world.usable(), Some(fingerprint("a")));
}

#[test]
fn each_cached_token_has_its_own_generation() {
    let mut world = World::empty();
    let mut last = None;
    for round in 0..6 {
        world.now += 100 * SECOND;
        let guard = if round % 2 == 0 {
            world.cache.invalidate();
            world.guard()
        } else {
            world.forced()
        };
        let version = Some(world.succeed(guard, "a").generation);
        assert!(version > last);
        last = version;
    }
    assert_eq!(last, Some(TokenGeneration(6)));
}

#[test]
fn an_invalidated_token_is_unused_and_passed_to_the_next_fetch() {
    let world = World::with("a");
    assert!(world.cache.invalidate());
    assert!(!world.cache.invalidate());
    assert_eq!(world.usable(), None);

    let guard = world.guard();

    assert_eq!(guard.fetch().reason(), FetchReason::Cold);
    assert_eq!(guard.fetch().cache().invalidated, Some(fingerprint("a")));
    assert!(guard.fetch().cache().current.is_none());
}

#[test]
fn a_fetch_sees_the_cache_state_at_its_start() {
    let world = World::with("a");

    let guard = world.forced();

    let state = guard.fetch().cache();
    assert_eq!(
        state.current.as_ref().map(|token| token.fingerprint),
        Some(fingerprint("a"))
    );
    assert_eq!(state.invalidated, None);
    assert_eq!(state.cooldown, 10 * SECOND);
    assert_eq!(state.refresh_before, 30 * SECOND);
    assert_eq!(guard.fetch().deadline(), world.now + 30 * SECOND);
    assert_eq!(guard.fetch().began(), world.now);
}

#[test]
fn no_early_refresh_starts_during_a_fetch_or_after_shutdown() {
    let world = World::with("a");
    let guard = world.early().unwrap();
    assert_eq!(guard.fetch().reason(), FetchReason::Early);
    assert!(world.early().is_none());
    drop(guard);
    assert!(world.early().is_some());

    world.cache.close();

    assert!(world.early().is_none());
    assert_eq!(world.usable(), Some(fingerprint("a")));
}

#[test]
fn a_failed_early_refresh_is_retried_after_its_backoff() {
    let mut world = World::with("a");
    world.fail(world.early().unwrap(), transient());
    assert!(world.early().is_none());

    // The back-off after a first failure is a second at most.
    world.now += SECOND;
    let guard = world.early().unwrap();

    assert!(!guard.fetch().is_recheck());
    assert_eq!(world.usable(), Some(fingerprint("a")));
}

#[test]
fn a_rejected_secret_is_rechecked_every_five_seconds_and_retried_after_the_backoff() {
    let mut world = World::with("a");
    world.fail(world.early().unwrap(), permanent());
    for _ in 0..2 {
        world.now += 5 * SECOND - MS;
        assert!(world.early().is_none());
        world.now += MS;
        let guard = world.early().unwrap();
        assert!(guard.fetch().is_recheck());
        let waiter = Waiter::new(Arc::clone(guard.fetch()), 1).unwrap();
        let finished = guard.unchanged(world.at());
        assert!(matches!(finished, Some(Outcome::Unchanged(_))));
        assert!(matches!(outcome(&waiter), Some(Outcome::Unchanged(_))));
    }

    // 36 s with its jitter.
    world.now += 26 * SECOND;
    assert!(!world.early().unwrap().fetch().is_recheck());
}

#[test]
fn a_failure_is_returned_until_the_backoff_ends() {
    let mut world = World::empty();
    world.fail(world.guard(), transient().with_retry_after(20 * SECOND));

    world.now += 20 * SECOND - MS;
    assert!(
        matches!(world.acquire(), Acquire::Failed(error) if error.consecutive_failures() == Some(1))
    );
    world.now += MS;
    assert!(matches!(world.acquire(), Acquire::Wait(_, Some(_))));
}

#[test]
fn suspension_counts_towards_the_backoff() {
    let mut world = World::empty();
    world.fail(world.guard(), transient().with_retry_after(300 * SECOND));

    // A wall clock that was set back is ignored.
    world.wall -= 3600 * SECOND;
    world.now += SECOND;
    assert!(matches!(world.acquire(), Acquire::Failed(error)
        if error.retry_after() == Some(299 * SECOND)));
    world.wall = WALL + 299 * SECOND;
    assert!(matches!(world.acquire(), Acquire::Failed(error)
        if error.retry_after() == Some(SECOND)));
    world.wall += SECOND;
    let guard = world.guard();

    assert!(!guard.fetch().is_recheck());
    world.fail(guard, transient());
    let failure = world.cache.status(world.at()).failure.unwrap();
    assert!(
        failure.to_string().contains("failing for 300 s"),
        "{failure}"
    );
}

#[test]
fn maximum_durations_do_not_overflow() {
    for longest in [Duration::MAX, Duration::ZERO] {
        let mut world = World::empty();
        let settings = Settings {
            refresh_before: longest,
            fetch_timeout: longest,
            max_token_backoff: longest,
            refresh_cooldown: longest,
            ..world.cache.settings().clone()
        };
        world.cache = TokenCache::new(settings, 2, Some(7), world.now);
        for (life, asked) in [(longest, longest), (SECOND, longest), (longest, SECOND)] {
            let throttled = transient().with_retry_after(asked);
            world.fail(world.forced(), throttled.clone());
            world.now += 400 * SECOND;
            let token = AccessToken::new("a").expires_in(life);
            drop(world.forced().complete(Ok(token), world.at()));
            for name in ["a", "b", "b", "c", "c"] {
                let rejection = rejections::rejection(name, 0, world.now);
                if let RejectionOutcome::Wait(_, Some(guard)) =
                    world.cache.reject(rejection, world.at())
                {
                    drop(guard.complete(Ok(AccessToken::new("b")), world.at()));
                }
                let rejection = rejections::rejection(name, 0, world.now);
                world.cache.on_replay_rejected(&rejection, world.at());
                drop(world.early());
                drop(world.acquire());
            }
            world.fail(world.forced(), permanent().with_retry_after(asked));
        }
    }
}
