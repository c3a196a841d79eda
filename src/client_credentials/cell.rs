//! The cell: one token, shared through an `Arc<RwLock<Snapshot>>`, and at most one attempt to renew it.
//!
//! A state machine without a runtime or a clock. Where something must be done it *returns* a [`Lead`], which says "you
//! lead: run this"; spawning and sleeping is up to the shell.
//!
//! - The **snapshot** is what requests read. Written when a flight lands and when a token is refused or dropped; a
//!   reader sees the token before or the token after, never a mixture.
//! - The **desk** is what those read who need a token that is not there: the flight under way, the remembered failure,
//!   the cooldown of forced refreshes. Locked for assignments only, and before the snapshot where both are needed.

mod landing;
#[cfg(all(test, tower_m2m_loom))]
mod models;
mod refusal;
mod snapshot;
#[cfg(all(test, not(tower_m2m_loom)))]
mod tests;

use std::{sync::Arc, task::Waker};

use tokio::time::Instant;

pub(crate) use self::refusal::{Refusal, Refused};
pub(crate) use self::snapshot::Published;
pub use self::snapshot::TokenVersion;
use self::snapshot::{Change, Changes, Snapshot};
use super::{
    FetchReason, TokenError, TokenIdentity,
    context::CellState,
    cooldown::{Cooldown, Successes},
    failure::Failure,
    flight::{Flight, Outcome, Purpose},
    freshness::Freshness,
    settings::Settings,
    token::Acquired,
};
use crate::{
    clock::Moment,
    random::Random,
    sync::{Mutex, RwLock, atomic::Ordering, lock, read},
};

/// A cheap handle to the one cell of a layer.
#[derive(Clone, Debug)]
pub(crate) struct TokenCell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    snapshot: Arc<RwLock<Snapshot>>,
    changes: Changes,
    desk: Mutex<Desk>,
    successes: Successes,
    settings: Settings,
    random: Random,
}

/// Who is doing what about a missing token.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) flight: Option<Arc<Flight>>,
    flights: u64,
    failure: Option<Failure>,
    cooldown: Cooldown,
    /// The token that was last dropped by hand.
    dropped: Option<TokenIdentity>,
    closed: bool,
}

/// The answer to "I need a token".
#[derive(Debug)]
pub(crate) enum Acquire {
    Failed(TokenError),
    Token(Arc<Published>),
    Wait(Arc<Flight>, Option<Lead>),
}

/// What is known at one moment.
#[derive(Debug)]
pub(crate) struct Glance {
    pub(crate) current: Option<Arc<Published>>,
    pub(crate) refreshing: bool,
    pub(crate) failure: Option<TokenError>,
    pub(crate) closed: bool,
}

impl Inner {
    fn change(&self) -> Change<'_> {
        Change::new(&self.snapshot, &self.changes)
    }
}

impl TokenCell {
    pub(crate) fn new(settings: Settings, origins: usize, seed: Option<u64>, now: Instant) -> Self {
        Self(Arc::new(Inner {
            snapshot: Arc::default(),
            changes: Changes::default(),
            desk: Mutex::new(Desk {
                flight: None,
                flights: 0,
                failure: None,
                cooldown: Cooldown::new(settings.refresh_cooldown, origins),
                dropped: None,
                closed: false,
            }),
            successes: Successes::new(origins, now),
            settings,
            random: Random::new(seed),
        }))
    }

    pub(crate) fn random(&self) -> &Random {
        &self.0.random
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Differs from what it was before whenever the snapshot does.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.0.load(Ordering::Acquire)
    }

    /// The usable token, if there is one.
    pub(crate) fn header(&self, now: Moment) -> Option<(Arc<Published>, Freshness)> {
        let current = {
            let snapshot = read(&self.0.snapshot);
            if snapshot.suspended {
                return None;
            }
            Arc::clone(snapshot.current.as_ref()?)
        };
        match current.lifetime.freshness(now.instant(), now.wall()) {
            Freshness::Expired => None,
            usable => Some((current, usable)),
        }
    }

    /// What a caller gets whose flight has failed: a token that was refused in one request may be valid for others, and
    /// stays if it cannot be replaced.
    pub(crate) fn usable_or(
        &self,
        error: TokenError,
        now: Moment,
    ) -> Result<Arc<Published>, TokenError> {
        self.header(now).map(|(token, _)| token).ok_or(error)
    }

    /// A token, a reason why there is none, or something to wait for.
    pub(crate) fn acquire(&self, now: Moment) -> Acquire {
        let mut woken = Vec::new();
        let mut desk = lock(&self.0.desk);
        // Looked at again under the lock: whoever held it may have published.
        let answer = if let Some((token, _)) = self.header(now) {
            Acquire::Token(token)
        } else if let Some(flight) = self.under_way(&mut desk, now, &mut woken) {
            Acquire::Wait(flight, None)
        } else if desk.closed {
            Acquire::Failed(TokenError::shut_down())
        } else {
            let cold = read(&self.0.snapshot).current.is_none();
            let reason = if cold {
                FetchReason::Cold
            } else {
                FetchReason::Expired
            };
            let credential = &self.0.settings.credential;
            let remembered = desk.failure.as_mut().filter(|f| f.holds(now));
            match remembered.map(|f| (f.recheck_is_due(now), f.error(now, credential))) {
                None => self.start(&mut desk, reason.into(), now),
                Some((true, _)) => {
                    let recheck = Purpose {
                        recheck: true,
                        ..reason.into()
                    };
                    self.start(&mut desk, recheck, now)
                }
                Some((false, error)) => Acquire::Failed(error),
            }
        };
        drop(desk);
        wake(woken);
        answer
    }

    /// The lead of an early refresh, if one is due and nobody else is at it.
    pub(crate) fn refresh_early(&self, now: Moment) -> Option<Lead> {
        let mut woken = Vec::new();
        let mut desk = lock(&self.0.desk);
        let mut purpose = Purpose::from(FetchReason::Early);
        let mut held_back = desk.closed || self.under_way(&mut desk, now, &mut woken).is_some();
        if let Some(failure) = desk.failure.as_mut().filter(|f| !held_back && f.holds(now)) {
            // A changed secret is noticed before the valid token ends.
            purpose.recheck = failure.recheck_is_due(now);
            held_back = !purpose.recheck;
        }
        let lead = match (!held_back).then(|| self.start(&mut desk, purpose, now)) {
            Some(Acquire::Wait(_, lead)) => lead,
            _ => None,
        };
        drop(desk);
        wake(woken);
        lead
    }

    /// One attempt now, whatever back-off says; the valid token stays until the new one is there.
    pub(crate) fn force(&self, now: Moment) -> Acquire {
        let mut woken = Vec::new();
        let mut desk = lock(&self.0.desk);
        let answer = if let Some(flight) = self.under_way(&mut desk, now, &mut woken) {
            Acquire::Wait(flight, None)
        } else if desk.closed {
            Acquire::Failed(TokenError::shut_down())
        } else {
            self.start(&mut desk, FetchReason::Forced.into(), now)
        };
        drop(desk);
        wake(woken);
        answer
    }

    /// Drops the token, if there is one. The next request fetches another.
    pub(crate) fn invalidate(&self) -> bool {
        let old = {
            let mut desk = lock(&self.0.desk);
            let mut snapshot = self.0.change();
            snapshot.suspended = false;
            let old = snapshot.current.take();
            desk.dropped = old.as_ref().map(|old| old.identity).or(desk.dropped);
            old
        };
        // Zeroised outside the lock.
        old.is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0.desk).closed
    }

    /// No more fetches. Returns the flight under way, if any.
    pub(crate) fn close(&self) -> Option<Arc<Flight>> {
        let mut desk = lock(&self.0.desk);
        desk.closed = true;
        desk.flight.clone()
    }

    pub(crate) fn glance(&self, now: Moment) -> Glance {
        let desk = lock(&self.0.desk);
        Glance {
            current: read(&self.0.snapshot).current.clone(),
            refreshing: desk.flight.is_some(),
            failure: desk
                .failure
                .as_ref()
                .map(|f| f.error(now, &self.0.settings.credential)),
            closed: desk.closed,
        }
    }

    /// The flight under way. An overdue one is ended; its waiters are added to `woken` and ask again.
    fn under_way(
        &self,
        desk: &mut Desk,
        now: Moment,
        woken: &mut Vec<Waker>,
    ) -> Option<Arc<Flight>> {
        let flight = desk.flight.clone()?;
        if now.instant() < flight.overdue_at() {
            return Some(flight);
        }
        desk.flight = None;
        self.0.change().suspended = false;
        woken.extend(flight.settle(Outcome::Abandoned));
        None
    }

    fn start(&self, desk: &mut Desk, purpose: Purpose, now: Moment) -> Acquire {
        desk.flights += 1;
        let settings = &self.0.settings;
        let current = read(&self.0.snapshot).current.clone();
        let life = current.as_ref().and_then(|token| token.lifetime.whole());
        let state = CellState {
            current,
            dropped: desk.dropped,
            rejected_at: purpose.origin,
            cooldown: desk.cooldown.length(purpose.origin, life),
            refresh_before: settings.refresh_before,
        };
        let limit = settings.fetch_timeout;
        let flight = Arc::new(Flight::new(desk.flights, purpose, state, now, limit));
        desk.flight = Some(Arc::clone(&flight));
        let lead = Lead::new(self.clone(), Arc::clone(&flight));
        Acquire::Wait(flight, Some(lead))
    }
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

impl Desk {
    /// Ends the flight if it is the current one.
    pub(super) fn take_flight(&mut self, flight: &Flight) -> bool {
        let current = self
            .flight
            .as_ref()
            .is_some_and(|current| current.number() == flight.number());
        if current {
            self.flight = None;
        }
        current
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
