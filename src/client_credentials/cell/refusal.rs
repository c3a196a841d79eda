//! What a 401 does to the token, and what a success does.

use std::{sync::Arc, task::Waker};

use tokio::time::Instant;

use super::{Acquire, Desk, Lead, Published, TokenCell, wake};
use crate::{
    client_credentials::{
        FetchReason, Rejected, TokenIdentity,
        flight::{Flight, Purpose},
    },
    clock::Moment,
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
    /// The challenges are of other authentication schemes, as an API sends them that offers the first of those it knows.
    pub(crate) for_other_scheme: bool,
}

impl TokenCell {
    /// A request was answered 401. Only a refusal of the current token has consequences.
    pub(crate) fn refused(&self, refusal: Refusal, now: Moment) -> Refused {
        let mut woken = Vec::new();
        let mut desk = lock(&self.0.desk);
        let answer = self.judge(&mut desk, refusal, now, &mut woken);
        drop(desk);
        wake(woken);
        answer
    }

    fn judge(
        &self,
        desk: &mut Desk,
        refusal: Refusal,
        now: Moment,
        woken: &mut Vec<Waker>,
    ) -> Refused {
        let identity = refusal.rejected.identity;
        let origin = refusal.origin;
        let newer = self.header(now).filter(|(c, _)| c.identity != identity);
        if let Some((newer, _)) = newer {
            return Refused::Replaced(newer);
        }
        let current = read(&self.0.snapshot).current.clone();
        let current = current.filter(|current| current.identity == identity);
        if current.is_some() {
            self.replacement_refused(desk, &refusal, now);
        }
        if refusal.for_other_scheme && self.is_about_the_scheme(desk, &refusal, now) {
            return Refused::Stands;
        }
        if let Some(flight) = self.under_way(desk, now, woken) {
            return Refused::Wait(flight, None);
        }
        let failing = desk.failure.as_ref().is_some_and(|f| f.holds(now));
        let too_soon = current
            .as_ref()
            .is_some_and(|current| desk.cooldown.holds(origin, now, current.lifetime.whole()));
        if desk.closed || failing || too_soon {
            return Refused::Stands;
        }
        // A token that works for others is renewed beside its use.
        let works = refusal.for_other_scheme
            || self
                .0
                .successes
                .works_elsewhere(origin, refusal.sent_at, now.instant());
        self.0.change().suspended = current.is_some() && !works;
        let purpose = if current.is_some() {
            desk.cooldown.forced_by(origin);
            Purpose {
                reason: FetchReason::Rejected,
                rejected: Some(refusal.rejected),
                origin: Some(origin),
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

    /// Whether a token was ever accepted at `origin`.
    pub(crate) fn was_accepted_at(&self, origin: usize) -> bool {
        self.0.successes.any(origin)
    }

    /// Whether a 401 that offers other schemes only says nothing about the token: a later request with it was accepted,
    /// or a new one did not help a short time ago.
    fn is_about_the_scheme(&self, desk: &Desk, refusal: &Refusal, now: Moment) -> bool {
        let successes = &self.0.successes;
        successes.any_since(refusal.origin, refusal.sent_at)
            || desk.cooldown.wants_other_scheme(refusal.origin, now)
    }

    /// The token that a request was replayed with was refused as well.
    pub(crate) fn refused_again(&self, refusal: &Refusal, now: Moment) {
        let mut desk = lock(&self.0.desk);
        let current = read(&self.0.snapshot).current.clone();
        if current.is_some_and(|c| c.identity == refusal.rejected.identity) {
            self.replacement_refused(&mut desk, refusal, now);
        }
    }

    fn replacement_refused(&self, desk: &mut Desk, refusal: &Refusal, now: Moment) {
        desk.cooldown.token_refused(
            refusal.rejected.identity,
            refusal.origin,
            refusal.for_other_scheme,
            now,
        );
        self.0.successes.watch(&desk.cooldown);
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
                self.0.successes.watch(&desk.cooldown);
            }
        }
    }
}
