//! What a 401 does to the token, and what a success does.

use std::{sync::Arc, task::Waker, time::SystemTime};

use tokio::time::Instant;

use super::{Acquire, Desk, Published, TokenCell, wake};
use crate::{
    client_credentials::{
        FetchReason, Rejected, TokenIdentity,
        flight::{Flight, Lead, Purpose},
    },
    sync::{lock, read},
};

/// The answer to "this token was refused".
#[derive(Debug)]
pub(crate) enum Refused {
    /// Nothing to be done about it now: the response stands.
    Stands,
    /// There is another token already.
    Replaced(Arc<Published>),
    Wait(Arc<Flight>, Option<Lead>),
}

/// A request that was answered 401.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) rejected: Rejected,
    pub(crate) origin: usize,
    pub(crate) sent_at: Instant,
}

impl TokenCell {
    /// A request was answered 401. Only a refusal of the current token has consequences.
    pub(crate) fn refused(&self, refusal: Refusal, now: Instant, wall: SystemTime) -> Refused {
        let mut woken = Vec::new();
        let mut desk = lock(&self.0.desk);
        let answer = self.judge(&mut desk, refusal, now, wall, &mut woken);
        drop(desk);
        wake(woken);
        answer
    }

    fn judge(
        &self,
        desk: &mut Desk,
        refusal: Refusal,
        now: Instant,
        wall: SystemTime,
        woken: &mut Vec<Waker>,
    ) -> Refused {
        let identity = refusal.rejected.identity;
        if let Some((newer, _)) = self
            .header(now, wall)
            .filter(|(c, _)| c.identity != identity)
        {
            return Refused::Replaced(newer);
        }
        let current = read(&self.0.snapshot).current.clone();
        let current = current.filter(|current| current.identity == identity);
        if current.is_some() {
            desk.cooldown.token_refused(identity, refusal.origin, now);
            self.0.successes.watch(desk.cooldown.watched());
        }
        if let Some(flight) = self.under_way(desk, now, woken) {
            return Refused::Wait(flight, None);
        }
        let failing = desk.failure.as_ref().is_some_and(|f| f.holds(now));
        let too_soon = current
            .as_ref()
            .is_some_and(|current| desk.cooldown.holds(now, current.lifetime.whole()));
        if desk.closed || failing || too_soon {
            return Refused::Stands;
        }
        // A token that works for others is renewed beside its use.
        let works = self
            .0
            .successes
            .works_elsewhere(refusal.origin, refusal.sent_at, now);
        self.0.change().suspended = current.is_some() && !works;
        let purpose = if current.is_some() {
            desk.cooldown.forced_by(refusal.origin);
            Purpose {
                reason: FetchReason::Rejected,
                rejected: Some(refusal.rejected),
                recheck: false,
            }
        } else {
            FetchReason::Expired.into()
        };
        match self.start(desk, purpose, now) {
            Acquire::Wait(flight, lead) => Refused::Wait(flight, lead),
            Acquire::Failed(_) | Acquire::Token(_) => Refused::Stands,
        }
    }

    /// The token that a request was replayed with was refused as well.
    pub(crate) fn refused_again(&self, refusal: &Refusal, now: Instant) {
        let identity = refusal.rejected.identity;
        let mut desk = lock(&self.0.desk);
        let current = read(&self.0.snapshot).current.clone();
        if current.is_some_and(|c| c.identity == identity) {
            desk.cooldown.token_refused(identity, refusal.origin, now);
            self.0.successes.watch(desk.cooldown.watched());
        }
    }

    /// A request that was sent with `identity` was not answered 401; `sent_at` is left out where that was told a moment ago.
    pub(crate) fn accepted(
        &self,
        origin: usize,
        identity: TokenIdentity,
        sent_at: Option<Instant>,
    ) {
        if let Some(sent_at) = sent_at {
            self.0.successes.record(origin, sent_at);
        }
        if self.0.successes.is_watched(origin) {
            let mut desk = lock(&self.0.desk);
            let current = read(&self.0.snapshot).current.clone();
            if current.is_some_and(|c| c.identity == identity) {
                desk.cooldown.token_accepted(origin);
                self.0.successes.watch(None);
            }
        }
    }
}
