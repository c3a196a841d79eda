//! One attempt to get a token: who leads it, who waits for it, and what became of it.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    FetchReason, Rejected, TokenError,
    cell::{Desk, Published, TokenCell},
    context::CellState,
    token::Acquired,
};
use crate::{
    clock::{Moment, after},
    sync::{Mutex, lock},
    waker_set::WakerSet,
};

/// A numbered attempt. Whoever needs its outcome holds it in an `Arc` and polls it.
///
/// Written once, by the leader or by whoever finds it overdue; read by every waiter. A waiter sees nothing or the
/// whole outcome.
#[derive(Debug)]
pub(crate) struct Flight {
    number: u64,
    reason: FetchReason,
    rejected: Option<Rejected>,
    /// The flight only asks whether the secret has changed, and goes on if so.
    recheck: bool,
    began: Moment,
    deadline: Instant,
    cell: CellState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    wakers: WakerSet,
}

/// What all waiters of a flight get.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Nobody knows: the task was dropped, or overdue. Ask the cell again.
    Abandoned,
    Failed(TokenError),
    /// No attempt was made, because the secret has not changed: the failure from before.
    Unchanged(TokenError),
    Token(Arc<Published>),
}

/// What a flight is for.
#[derive(Debug)]
pub(crate) struct Purpose {
    pub(crate) reason: FetchReason,
    pub(crate) rejected: Option<Rejected>,
    /// Where it was refused.
    pub(crate) origin: Option<usize>,
    pub(crate) recheck: bool,
}

impl From<FetchReason> for Purpose {
    fn from(reason: FetchReason) -> Self {
        Self {
            reason,
            rejected: None,
            origin: None,
            recheck: false,
        }
    }
}

impl Flight {
    pub(crate) fn new(
        number: u64,
        purpose: Purpose,
        cell: CellState,
        began: Moment,
        limit: Duration,
    ) -> Self {
        Self {
            number,
            reason: purpose.reason,
            rejected: purpose.rejected,
            recheck: purpose.recheck,
            began,
            deadline: after(began.instant(), limit),
            cell,
            state: Mutex::default(),
        }
    }

    pub(crate) fn reason(&self) -> FetchReason {
        self.reason
    }

    pub(crate) fn rejected(&self) -> Option<&Rejected> {
        self.rejected.as_ref()
    }

    /// The cell as the flight began.
    pub(crate) fn cell(&self) -> &CellState {
        &self.cell
    }

    pub(crate) fn is_recheck(&self) -> bool {
        self.recheck
    }

    pub(crate) fn began(&self) -> Instant {
        self.began.instant()
    }

    pub(crate) fn began_at(&self) -> Moment {
        self.began
    }

    /// When the attempt itself is given up.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When others stop believing that anybody drives the attempt: a little after its own deadline.
    pub(crate) fn overdue_at(&self) -> Instant {
        after(self.deadline, GRACE)
    }

    /// Sets the outcome, unless there is one, and returns who is to be woken, outside every lock.
    #[must_use]
    pub(crate) fn settle(&self, outcome: Outcome) -> Vec<Waker> {
        let mut state = lock(&self.state);
        if state.outcome.is_some() {
            return Vec::new();
        }
        state.outcome = Some(outcome);
        state.wakers.take_all().collect()
    }
}

/// One who waits for a flight. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Waiter {
    flight: Arc<Flight>,
    place: u64,
}

impl Waiter {
    /// A place among those who wait, unless `limit` have one already.
    pub(crate) fn new(flight: Arc<Flight>, limit: usize) -> Option<Self> {
        let place = {
            let mut state = lock(&flight.state);
            if state.outcome.is_none() && state.wakers.len() >= limit {
                return None;
            }
            state.wakers.enter()
        };
        Some(Self { flight, place })
    }

    pub(crate) fn flight(&self) -> &Flight {
        &self.flight
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Outcome> {
        // Cloned before the lock is taken, as the one that it replaces is dropped after it is released.
        let waker = cx.waker().clone();
        let mut state = lock(&self.flight.state);
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        let replaced = state.wakers.register(self.place, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _waker = lock(&self.flight.state).wakers.leave(self.place);
    }
}

/// The right and the duty to carry out a flight. Dropped unfinished, it tells the waiters at once.
#[derive(Debug)]
pub(crate) struct Lead {
    cell: TokenCell,
    flight: Arc<Flight>,
}

impl Lead {
    pub(crate) fn new(cell: TokenCell, flight: Arc<Flight>) -> Self {
        Self { cell, flight }
    }

    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Publishes what the attempt brought. Ignored if the flight was superseded meanwhile.
    ///
    /// Returns what the waiters were told, or `None` if it came too late.
    pub(crate) fn finish(
        self,
        result: Result<impl Into<Acquired>, TokenError>,
        now: Moment,
    ) -> Option<Outcome> {
        self.cell.land(&self.flight, result.map(Into::into), now)
    }

    /// The secret is the one that was refused: the remembered failure stands.
    pub(crate) fn unchanged(self, now: Moment) -> Option<Outcome> {
        self.cell.stand_by(&self.flight, now)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // After `finish` the flight is no longer the cell's, and this does nothing.
        self.cell.abandon(&self.flight);
    }
}

impl Desk {
    /// Ends the flight if it is the current one.
    pub(super) fn take_flight(&mut self, flight: &Flight) -> bool {
        let current = self
            .flight
            .as_ref()
            .is_some_and(|current| current.number == flight.number);
        if current {
            self.flight = None;
        }
        current
    }
}

/// Lets a fetch report its own timeout before others give it up.
const GRACE: Duration = Duration::from_secs(1);
