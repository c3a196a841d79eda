//! One fetch that any number of callers wait for.
//!
//! ```text
//! in flight ──┬─▶ Token, Failed or Unchanged    the task has ended
//!             ├─▶ Abandoned                     the task was dropped, or its runtime has ended
//!             └─▶ Abandoned                     a caller found the fetch overdue, 1 s past its deadline
//! ```
//!
//! The first outcome remains: a task that ends later cannot replace it.
//!
//! Three parties touch a fetch: the task that runs it and settles it, the callers that wait for it, and the cache,
//! which decides whether its result still counts. A fetch does not know its cache. That keeps the lock of a fetch at
//! the end of the lock order.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{FetchReason, RejectedToken, TokenError, cache::CachedToken, context::CacheState};
use crate::{
    clock::{Moment, add_capped},
    sync::{Mutex, lock},
    waker_set::WakerSet,
};

/// A numbered fetch. Its callers share it in an `Arc` and poll it with a [`Waiter`].
///
/// The outcome is written once, by the holder of the guard or by the caller that finds the fetch overdue. A waiter sees
/// either no outcome or the whole outcome.
///
/// All fields but `state` are fixed at the start, so that they are read without a lock.
#[derive(Debug)]
pub(crate) struct InFlightFetch {
    /// Distinguishes this fetch from one that superseded it.
    number: u64,
    /// What made the fetch necessary.
    reason: FetchReason,
    /// The rejected token, for [`FetchReason::Rejected`].
    rejected: Option<RejectedToken>,
    /// Whether to fetch only if the secret has changed.
    recheck: bool,
    /// When the fetch began.
    began: Moment,
    /// When the fetch is dropped.
    deadline: Instant,
    /// State of the cache when the fetch began.
    cache: CacheState,
    /// Outcome and waiters. No other lock is taken while this one is held; the refresh state may be held already.
    state: Mutex<State>,
}

/// State shared with the waiters.
#[derive(Debug, Default)]
struct State {
    /// `None` while the fetch is in flight. Never changes once it is set.
    outcome: Option<Outcome>,
    /// Wakers of the waiters, in the order of arrival.
    wakers: WakerSet,
}

/// Result of a fetch, which all waiters receive.
///
/// | outcome | caller that needs a token | caller of a forced refresh |
/// |---|---|---|
/// | `Token` | uses it | uses it if it was issued, otherwise fetches once more |
/// | `Failed` | receives the error | receives the error |
/// | `Unchanged` | receives the error | fetches once more |
/// | `Abandoned` | calls the cache again, at most 3 times | the same |
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Unknown: the task was dropped or is overdue. The caller calls the cache again.
    Abandoned,
    /// The fetch failed.
    Failed(TokenError),
    /// No fetch was made, because the secret has not changed. Holds the previous failure.
    Unchanged(TokenError),
    /// The published token.
    Token(Arc<CachedToken>),
}

/// Purpose of a fetch.
///
/// Decided by the cache when it starts a fetch, and visible to the source as its [`FetchContext`](super::FetchContext).
#[derive(Debug)]
pub(crate) struct FetchPurpose {
    /// What made the fetch necessary.
    pub(crate) reason: FetchReason,
    /// The rejected token, for [`FetchReason::Rejected`].
    pub(crate) rejected: Option<RejectedToken>,
    /// Index of the origin that rejected it.
    pub(crate) origin: Option<usize>,
    /// Whether to fetch only if the secret has changed.
    pub(crate) recheck: bool,
}

impl From<FetchReason> for FetchPurpose {
    fn from(reason: FetchReason) -> Self {
        Self {
            reason,
            rejected: None,
            origin: None,
            recheck: false,
        }
    }
}

impl InFlightFetch {
    /// Creates a fetch that is dropped `limit` after it `began`.
    pub(crate) fn new(
        number: u64,
        purpose: FetchPurpose,
        cache: CacheState,
        began: Moment,
        limit: Duration,
    ) -> Self {
        Self {
            number,
            reason: purpose.reason,
            rejected: purpose.rejected,
            recheck: purpose.recheck,
            began,
            deadline: add_capped(began.instant(), limit),
            cache,
            state: Mutex::default(),
        }
    }

    /// Returns the number of the fetch.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns what made the fetch necessary.
    pub(crate) fn reason(&self) -> FetchReason {
        self.reason
    }

    /// Returns the rejected token, for [`FetchReason::Rejected`].
    pub(crate) fn rejected(&self) -> Option<&RejectedToken> {
        self.rejected.as_ref()
    }

    /// Returns the state of the cache when the fetch began.
    pub(crate) fn cache(&self) -> &CacheState {
        &self.cache
    }

    /// Returns whether to fetch only if the secret has changed.
    pub(crate) fn is_recheck(&self) -> bool {
        self.recheck
    }

    /// Returns when the fetch began, by the monotonic clock.
    pub(crate) fn began(&self) -> Instant {
        self.began.instant()
    }

    /// Returns when the fetch began, by both clocks.
    pub(crate) fn began_at(&self) -> Moment {
        self.began
    }

    /// Returns when the fetch is dropped.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns when callers supersede the fetch, because no task seems to run it: [`OVERDUE_GRACE`] after its own
    /// deadline.
    ///
    /// The task reports its own timeout at the deadline. Only a task that is not polled at all, because its runtime is
    /// blocked or gone, lets this time pass.
    pub(crate) fn overdue_at(&self) -> Instant {
        add_capped(self.deadline, OVERDUE_GRACE)
    }

    /// Sets the outcome, unless there is one, and returns the wakers. The caller wakes them outside every lock.
    ///
    /// The first outcome wins. Later calls return no wakers and change nothing.
    #[must_use]
    pub(crate) fn settle(&self, outcome: Outcome) -> Vec<Waker> {
        let mut state = lock(&self.state);
        if state.outcome.is_some() {
            return Vec::new();
        }
        // From here on waiters return at their next poll; the wakers only make them poll.
        state.outcome = Some(outcome);
        state.wakers.take_all().collect()
    }
}

/// One caller that waits for a fetch. Dropping it removes its waker.
///
/// Occupies a place until it is dropped, and counts towards the limit. It does not keep the fetch running; that is the
/// guard's task.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// The fetch.
    fetch: Arc<InFlightFetch>,
    /// Key of this waiter in the set of wakers.
    waker_id: u64,
}

impl Waiter {
    /// Registers a waiter. `None` if `limit` callers already wait.
    ///
    /// The limit protects memory: each waiting caller holds its request. A fetch that has ended accepts any number of
    /// callers.
    pub(crate) fn new(fetch: Arc<InFlightFetch>, limit: usize) -> Option<Self> {
        let id = {
            let mut state = lock(&fetch.state);
            // A caller that receives the outcome at once occupies no place.
            if state.outcome.is_none() && state.wakers.len() >= limit {
                return None;
            }
            state.wakers.insert()
        };
        Some(Self {
            fetch,
            waker_id: id,
        })
    }

    /// Returns the fetch.
    pub(crate) fn fetch(&self) -> &InFlightFetch {
        &self.fetch
    }

    /// Returns the outcome, or registers the waker of `cx`.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Outcome> {
        // A waker runs the executor's code when it is cloned or dropped: cloned before the lock is taken, and the
        // replaced one is dropped after it is released.
        let waker = cx.waker().clone();
        let mut state = lock(&self.fetch.state);
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        let replaced = state.wakers.register(self.waker_id, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // The lock is a temporary of this statement: the waker is dropped after it is released.
        let _waker = lock(&self.fetch.state).wakers.remove(self.waker_id);
    }
}

/// Grace period after a fetch's deadline, in which the fetch reports its own timeout.
const OVERDUE_GRACE: Duration = Duration::from_secs(1);
