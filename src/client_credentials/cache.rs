//! Shared token cache: one token in an `Arc<RwLock<Snapshot>>`, and at most one fetch in flight.
//!
//! A state machine without a runtime or a clock. An operation that needs a fetch *returns* a [`FetchGuard`], a guard
//! whose holder must run the fetch. The caller spawns the task and sets the timers.
//!
//! - Requests read the **snapshot**. It is written when a fetch ends and when a token is rejected or dropped. A reader
//!   sees the token before or after a change, never a mixture.
//! - Callers without a usable token read the **refresh state** (`RefreshState`): the fetch in flight, the remembered
//!   failure and the cooldown of forced refreshes. It is locked for assignments only.
//!
//! Lock order: the refresh state before the snapshot, and before the state of an overdue fetch that is ended. The
//! snapshot is written only while the refresh state is locked. No waker is called while a lock is held.
//!
//! # States
//!
//! | `current` | `rejected` | `in_flight` | requests |
//! |---|---|---|---|
//! | none | `false` | none | the next caller starts a fetch, unless a back-off is active |
//! | none | `false` | some | wait |
//! | usable | `false` | none or some | use the token; `some` is an early or a forced refresh |
//! | usable | `true` | some | wait for the replacement |
//! | expired | any | none or some | as without a token |
//!
//! `rejected` is set only together with a fetch in flight, and every end of a fetch clears it. So a token is never out
//! of use without a fetch that ends that state.
//!
//! # Memory order
//!
//! The generation is incremented with `Release` after the snapshot was written and before its lock is released, and is
//! read with `Acquire`. A local copy that was made under generation *n* is therefore used only while no later change is
//! visible to its thread.
//!
//! The loom models in `models.rs` explore the interleavings of two or three threads over these rules.

mod complete;
#[cfg(all(test, tower_m2m_loom))]
mod models;
mod rejection;
mod snapshot;
#[cfg(all(test, not(tower_m2m_loom)))]
mod tests;

use std::{sync::Arc, task::Waker};

use tokio::time::Instant;

pub(crate) use self::rejection::{Rejection, RejectionOutcome};
pub(crate) use self::snapshot::CachedToken;
pub use self::snapshot::TokenGeneration;
use self::snapshot::{Generation, Snapshot, SnapshotWriteGuard};
use super::{
    FetchReason, TokenError, TokenFingerprint,
    backoff_state::BackoffState,
    context::CacheState,
    cooldown::{Cooldown, Successes},
    freshness::Freshness,
    in_flight::{FetchPurpose, InFlightFetch, Outcome},
    settings::Settings,
    token::Acquired,
};
use crate::{
    clock::Moment,
    random::Random,
    sync::{Mutex, RwLock, atomic::Ordering, lock, read},
};

/// Handle to the token cache of one layer. Cheap to clone.
///
/// Clones share the state. A [`FetchGuard`] holds one, so that a fetch can end after its layer was dropped.
#[derive(Clone, Debug)]
pub(crate) struct TokenCache(Arc<Inner>);

/// State behind a [`TokenCache`].
///
/// Requests read `snapshot` and `generation`, and callers without a token lock `refresh`. `successes` is written by
/// requests, at most every 100 ms for each origin.
#[derive(Debug)]
struct Inner {
    /// The token that requests read. Written only while `refresh` is locked.
    snapshot: Arc<RwLock<Snapshot>>,
    /// Generation of the snapshot, which requests read without a lock.
    generation: Generation,
    /// The refresh state. Locked before `snapshot` where both are needed.
    refresh: Mutex<RefreshState>,
    /// When each origin last accepted the token.
    successes: Successes,
    /// The layer's settings.
    settings: Settings,
    /// Source of jitter.
    random: Random,
}

/// Refresh state: the fetch in flight, the last failure and the cooldown.
///
/// Invariants, which hold whenever the lock is free:
///
/// - `in_flight` holds the fetch with the number `fetch_count`, or none. A fetch with a lower number was superseded,
///   and cannot change the state any more.
/// - `backoff` is `Some` from the first failure to the next success. It may have ended; then the next caller starts a
///   fetch.
/// - `closed` is never reset.
#[derive(Debug)]
pub(super) struct RefreshState {
    /// The fetch in flight.
    pub(super) in_flight: Option<Arc<InFlightFetch>>,
    /// Number of fetches started so far, which is the number of the latest one.
    fetch_count: u64,
    /// The failures since the last successful fetch.
    backoff: Option<BackoffState>,
    /// Limits refreshes that a 401 or `refresh_now` causes.
    cooldown: Cooldown,
    /// The token that `invalidate` last dropped.
    invalidated: Option<TokenFingerprint>,
    /// Whether the cache is closed: no further fetch starts.
    closed: bool,
}

/// Result of a request for a token.
///
/// At most one caller receives a guard for a given fetch. Such a caller must run the fetch or drop the guard; the
/// latter abandons the fetch and wakes all waiters.
#[derive(Debug)]
pub(crate) enum Acquire {
    /// There is no token, and no fetch may start now.
    Failed(TokenError),
    /// A usable token.
    Token(Arc<CachedToken>),
    /// A fetch is in flight. The guard is `Some` for the caller that must run it.
    Wait(Arc<InFlightFetch>, Option<FetchGuard>),
}

/// State of the cache at one moment, for [`TokenHandle::status`](super::TokenHandle::status).
///
/// All fields are read under one lock of the refresh state, so that they describe the same moment.
#[derive(Debug)]
pub(crate) struct CacheStatus {
    /// The cached token, which may have expired.
    pub(crate) current: Option<Arc<CachedToken>>,
    /// Whether a fetch is in flight.
    pub(crate) refreshing: bool,
    /// The last failure, if no fetch has succeeded since.
    pub(crate) failure: Option<TokenError>,
    /// Whether the cache is closed.
    pub(crate) closed: bool,
}

impl Inner {
    /// Locks the snapshot for writing. The caller has locked `refresh`.
    ///
    /// Every change goes through this function, because it is the only one that increments the generation.
    fn change(&self) -> SnapshotWriteGuard<'_> {
        SnapshotWriteGuard::new(&self.snapshot, &self.generation)
    }
}

/// The operations of callers that need a token. The first row that applies decides:
///
/// | state | `acquire` | `refresh_early` | `refresh_now` |
/// |---|---|---|---|
/// | usable token | the token | next row | next row |
/// | fetch in flight | wait | nothing | wait |
/// | closed | error | nothing | error |
/// | permanent back-off, recheck due | recheck | recheck | fetch |
/// | back-off | error | nothing | fetch |
/// | none of these | fetch | fetch | fetch |
impl TokenCache {
    /// Creates an empty cache for `origins` allowed origins. A `seed` makes the jitter repeatable.
    ///
    /// `now` is the origin of the recorded successes: they are stored as milliseconds since then.
    pub(crate) fn new(settings: Settings, origins: usize, seed: Option<u64>, now: Instant) -> Self {
        Self(Arc::new(Inner {
            snapshot: Arc::default(),
            generation: Generation::default(),
            refresh: Mutex::new(RefreshState {
                in_flight: None,
                fetch_count: 0,
                backoff: None,
                cooldown: Cooldown::new(settings.refresh_cooldown, origins),
                invalidated: None,
                closed: false,
            }),
            successes: Successes::new(origins, now),
            settings,
            random: Random::new(seed),
        }))
    }

    /// Returns the source of jitter.
    pub(crate) fn random(&self) -> &Random {
        &self.0.random
    }

    /// Returns the layer's settings.
    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Returns the generation of the snapshot, which increases with every change.
    pub(crate) fn generation(&self) -> u64 {
        // Pairs with the `Release` increment in the drop of `SnapshotWriteGuard`.
        self.0.generation.0.load(Ordering::Acquire)
    }

    /// Returns the token and its freshness. `None` if there is none, it has expired, or it was rejected and a refresh
    /// is in flight.
    ///
    /// Takes the read lock for the duration of one reference count, and no other lock. The freshness is computed
    /// outside the lock.
    pub(crate) fn header(&self, now: Moment) -> Option<(Arc<CachedToken>, Freshness)> {
        let current = {
            // Locked only while the reference is copied.
            let snapshot = read(&self.0.snapshot);
            if snapshot.rejected {
                return None;
            }
            Arc::clone(snapshot.current.as_ref()?)
        };
        match current.lifetime.freshness(now.instant(), now.wall_clock()) {
            Freshness::Expired => None,
            usable => Some((current, usable)),
        }
    }

    /// Returns the usable token, or `error` if there is none.
    ///
    /// For callers whose fetch has failed: a token that one request saw rejected may be valid for others, and stays in
    /// use if it cannot be replaced.
    ///
    /// # Errors
    ///
    /// `error`, if there is no usable token.
    pub(crate) fn token_or(
        &self,
        error: TokenError,
        now: Moment,
    ) -> Result<Arc<CachedToken>, TokenError> {
        self.header(now).map(|(token, _)| token).ok_or(error)
    }

    /// Returns a token, the reason why there is none, or a fetch to wait for. Starts a fetch if none is in flight and
    /// no back-off is active.
    ///
    /// This is the slow path. Callers first try [`header`](Self::header), which does not lock the refresh state.
    pub(crate) fn acquire(&self, now: Moment) -> Acquire {
        let mut woken = Vec::new();
        let mut refresh = lock(&self.0.refresh);
        // Checked again under the lock: the previous holder may have published a token.
        let acquired = if let Some((token, _)) = self.header(now) {
            Acquire::Token(token)
        } else if let Some(fetch) = self.in_flight(&mut refresh, now, &mut woken) {
            Acquire::Wait(fetch, None)
        } else if refresh.closed {
            Acquire::Failed(TokenError::shut_down())
        } else {
            // An expired token counts: the issuer and the source have worked before, which events should show.
            let cold = read(&self.0.snapshot).current.is_none();
            let reason = if cold {
                FetchReason::Cold
            } else {
                FetchReason::Expired
            };
            let credential = &self.0.settings.credential;
            let remembered = refresh.backoff.as_mut().filter(|f| f.is_active(now));
            match remembered.map(|f| (f.recheck_is_due(now), f.error(now, credential))) {
                None => self.start(&mut refresh, reason.into(), now),
                // The back-off is active, but the secret may have changed: the fetch checks that first.
                Some((true, _)) => {
                    let recheck = FetchPurpose {
                        recheck: true,
                        ..reason.into()
                    };
                    self.start(&mut refresh, recheck, now)
                }
                Some((false, error)) => Acquire::Failed(error),
            }
        };
        drop(refresh);
        wake(woken);
        acquired
    }

    /// Starts an early refresh and returns its guard. `None` if a fetch is in flight, a back-off is active or the cache
    /// is closed.
    ///
    /// Callers have a usable token and do not wait. If the fetch cannot be spawned, they drop the guard, and the next
    /// caller tries again.
    pub(crate) fn refresh_early(&self, now: Moment) -> Option<FetchGuard> {
        let mut woken = Vec::new();
        let mut refresh = lock(&self.0.refresh);
        let mut purpose = FetchPurpose::from(FetchReason::Early);
        // A fetch for any reason is in flight: it serves as the early refresh.
        let mut held_back =
            refresh.closed || self.in_flight(&mut refresh, now, &mut woken).is_some();
        if let Some(failure) = refresh
            .backoff
            .as_mut()
            .filter(|f| !held_back && f.is_active(now))
        {
            // Detects a changed secret before the valid token expires.
            purpose.recheck = failure.recheck_is_due(now);
            held_back = !purpose.recheck;
        }
        let guard = match (!held_back).then(|| self.start(&mut refresh, purpose, now)) {
            Some(Acquire::Wait(_, guard)) => guard,
            _ => None,
        };
        drop(refresh);
        wake(woken);
        guard
    }

    /// Starts one fetch regardless of back-off, or joins the one in flight. The valid token stays in use until the new
    /// one arrives.
    ///
    /// The fetch of a forced refresh begins the cooldown of every origin when it ends, so that 401s which arrive
    /// shortly after do not cause another one.
    pub(crate) fn refresh_now(&self, now: Moment) -> Acquire {
        let mut woken = Vec::new();
        let mut refresh = lock(&self.0.refresh);
        let acquired = if let Some(fetch) = self.in_flight(&mut refresh, now, &mut woken) {
            Acquire::Wait(fetch, None)
        } else if refresh.closed {
            Acquire::Failed(TokenError::shut_down())
        } else {
            self.start(&mut refresh, FetchReason::Forced.into(), now)
        };
        drop(refresh);
        wake(woken);
        acquired
    }

    /// Drops the token. Returns whether there was one. The next request fetches another.
    ///
    /// A fetch in flight continues, and publishes its token.
    ///
    /// The dropped token is remembered: a shared store may still hold it, and it must not come back from there.
    pub(crate) fn invalidate(&self) -> bool {
        let old = {
            let mut refresh = lock(&self.0.refresh);
            let mut snapshot = self.0.change();
            snapshot.rejected = false;
            let old = snapshot.current.take();
            refresh.invalidated = old
                .as_ref()
                .map(|old| old.fingerprint)
                .or(refresh.invalidated);
            old
        };
        // Dropped, and zeroized, after the locks are released.
        old.is_some()
    }

    /// Drops the token if it is the one with this hash. Returns whether it was.
    ///
    /// As [`invalidate`](Self::invalidate), for a caller that examined the token without a lock.
    pub(crate) fn invalidate_token(&self, fingerprint: TokenFingerprint) -> bool {
        let old = {
            let mut refresh = lock(&self.0.refresh);
            let is_current = |token: &Arc<CachedToken>| token.fingerprint == fingerprint;
            if !read(&self.0.snapshot)
                .current
                .as_ref()
                .is_some_and(is_current)
            {
                return false;
            }
            refresh.invalidated = Some(fingerprint);
            let mut snapshot = self.0.change();
            snapshot.rejected = false;
            snapshot.current.take()
        };
        // Dropped, and zeroized, after the locks are released.
        old.is_some()
    }

    /// Returns whether [`close`](Self::close) was called.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0.refresh).closed
    }

    /// Prevents further fetches. Returns the fetch in flight, if any.
    ///
    /// Tokens remain usable. The returned fetch still has to be ended, by dropping its guard: see `shutdown`.
    pub(crate) fn close(&self) -> Option<Arc<InFlightFetch>> {
        let mut refresh = lock(&self.0.refresh);
        refresh.closed = true;
        refresh.in_flight.clone()
    }

    /// Returns the current state of the cache.
    pub(crate) fn status(&self, now: Moment) -> CacheStatus {
        let refresh = lock(&self.0.refresh);
        CacheStatus {
            current: read(&self.0.snapshot).current.clone(),
            refreshing: refresh.in_flight.is_some(),
            failure: refresh
                .backoff
                .as_ref()
                .map(|f| f.error(now, &self.0.settings.credential)),
            closed: refresh.closed,
        }
    }

    /// Returns the fetch in flight.
    ///
    /// Ends an overdue one, clears the mark of a rejected token, and adds its waiters to `woken`. Once woken, they call
    /// the cache again.
    fn in_flight(
        &self,
        refresh: &mut RefreshState,
        now: Moment,
        woken: &mut Vec<Waker>,
    ) -> Option<Arc<InFlightFetch>> {
        let fetch = refresh.in_flight.clone()?;
        if now.instant() < fetch.overdue_at() {
            return Some(fetch);
        }
        // The task of the overdue fetch continues, if it runs at all. Its result is ignored.
        refresh.in_flight = None;
        self.0.change().rejected = false;
        // Locks the state of the fetch while `refresh` is locked. Waiters lock only the former.
        woken.extend(fetch.settle(Outcome::Abandoned));
        None
    }

    /// Starts a fetch and returns it with its guard. The caller has checked that none is in flight.
    ///
    /// Must be called with the refresh state locked and no fetch in flight. The new fetch is visible to other callers
    /// as soon as the lock is released, before its task exists.
    fn start(&self, refresh: &mut RefreshState, purpose: FetchPurpose, now: Moment) -> Acquire {
        // Numbers are never reused, so that a fetch that ends late cannot be taken for its successor.
        refresh.fetch_count += 1;
        let settings = &self.0.settings;
        let current = read(&self.0.snapshot).current.clone();
        let life = current.as_ref().and_then(|token| token.lifetime.total());
        // The fetch decides by the state at its start, whatever happens to the cache meanwhile.
        let state = CacheState {
            current,
            invalidated: refresh.invalidated,
            rejected_at: purpose.origin,
            cooldown: refresh.cooldown.length(purpose.origin, life),
            refresh_before: settings.refresh_before,
        };
        let limit = settings.fetch_timeout;
        let fetch = Arc::new(InFlightFetch::new(
            refresh.fetch_count,
            purpose,
            state,
            now,
            limit,
        ));
        refresh.in_flight = Some(Arc::clone(&fetch));
        let guard = FetchGuard::new(self.clone(), Arc::clone(&fetch));
        Acquire::Wait(fetch, Some(guard))
    }
}

/// Wakes all `wakers`. Called without locks: a waker runs the executor's code.
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

impl RefreshState {
    /// Removes `fetch` if it is the current fetch. Returns `false` for a superseded one, whose result is ignored.
    pub(super) fn end_flight(&mut self, fetch: &InFlightFetch) -> bool {
        let current = self
            .in_flight
            .as_ref()
            .is_some_and(|current| current.number() == fetch.number());
        if current {
            self.in_flight = None;
        }
        current
    }
}

/// Guard of a fetch, whose holder must run the fetch. Dropped before [`complete`](Self::complete), it wakes the
/// waiters, which call the cache again.
///
/// A fetch that has a guard has a task that runs it, or is about to have one. The guard moves from the caller into the
/// task of the fetch, and is dropped with it: by a panic, by an abort, or with its runtime. So no waiter waits for a
/// fetch that cannot end. A task that is merely stuck is not covered; that is what the time limit for an overdue fetch
/// is for.
#[derive(Debug)]
pub(crate) struct FetchGuard {
    /// The cache that the result goes to.
    cache: TokenCache,
    /// The fetch to run.
    fetch: Arc<InFlightFetch>,
}

impl FetchGuard {
    /// Creates the guard of `fetch`, which has just become the current fetch.
    pub(crate) fn new(cache: TokenCache, fetch: Arc<InFlightFetch>) -> Self {
        Self { cache, fetch }
    }

    /// Returns the fetch to run.
    pub(crate) fn fetch(&self) -> &Arc<InFlightFetch> {
        &self.fetch
    }

    /// Publishes the result of the fetch. Ignored if the fetch was superseded.
    ///
    /// Returns the outcome that waiters receive, or `None` if the fetch was superseded.
    pub(crate) fn complete(
        self,
        result: Result<impl Into<Acquired>, TokenError>,
        now: Moment,
    ) -> Option<Outcome> {
        self.cache
            .complete(&self.fetch, result.map(Into::into), now)
    }

    /// Ends a recheck that found the rejected secret unchanged. The remembered failure remains in effect.
    pub(crate) fn unchanged(self, now: Moment) -> Option<Outcome> {
        self.cache.keep_failure(&self.fetch, now)
    }
}

impl Drop for FetchGuard {
    fn drop(&mut self) {
        // Does nothing after `complete`: the fetch is no longer the current one.
        self.cache.abandon(&self.fetch);
    }
}
