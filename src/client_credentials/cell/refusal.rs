//! Effects of a 401 and of a success on the cached token.
//!
//! A 401 is handled in this order:
//!
//! 1. Another usable token is cached: the request can be sent with it at once.
//! 2. The 401 offers only other schemes and says nothing about the token: the response is returned.
//! 3. A fetch is in flight: the request waits for it.
//! 4. The cache is closed, a back-off is active, or the origin is in its cooldown: the response is returned.
//! 5. Otherwise a fetch starts. The token is suspended, unless it is known to work for other requests.

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

/// Action after a 401 that rejects a token.
#[derive(Debug)]
pub(crate) enum Refused {
    /// No other token can be requested now. The response is returned.
    Stands,
    /// The cache already holds another usable token.
    Replaced(Arc<Published>),
    /// A fetch is in flight. The guard is `Some` for the caller that must run it.
    Wait(Arc<Flight>, Option<Lead>),
}

/// A 401 that rejects the token of its request.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The rejected token, and the challenges of the 401.
    pub(crate) rejected: Rejected,
    /// Index of the origin that sent the 401.
    pub(crate) origin: usize,
    /// When the request was sent.
    pub(crate) sent_at: Instant,
    /// Whether all challenges name other authentication schemes. Some APIs name the first scheme they know in every
    /// 401.
    pub(crate) for_other_scheme: bool,
}

impl TokenCell {
    /// Handles a 401. Returns another usable token if the cache has one; otherwise joins or starts a fetch, unless a
    /// back-off or the cooldown forbids it.
    pub(crate) fn refused(&self, refusal: Refusal, now: Moment) -> Refused {
        let mut woken = Vec::new();
        let mut desk = lock(&self.0.desk);
        let answer = self.judge(&mut desk, refusal, now, &mut woken);
        drop(desk);
        wake(woken);
        answer
    }

    /// Decides what follows a 401. Adds wakers to `woken`, for the caller to wake after the lock is released.
    fn judge(
        &self,
        desk: &mut Desk,
        refusal: Refusal,
        now: Moment,
        woken: &mut Vec<Waker>,
    ) -> Refused {
        let identity = refusal.rejected.identity;
        let origin = refusal.origin;
        // The request was sent with an older token.
        let newer = self.header(now).filter(|(c, _)| c.identity != identity);
        if let Some((newer, _)) = newer {
            return Refused::Replaced(newer);
        }
        let current = read(&self.0.snapshot).current.clone();
        let current = current.filter(|current| current.identity == identity);
        // Recorded in any case: the cooldown must grow even if the response is returned.
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
        // A token that works for other requests stays in use while it is refreshed.
        let works = refusal.for_other_scheme
            || self
                .0
                .successes
                .works_elsewhere(origin, refusal.sent_at, now.instant());
        self.0.change().suspended = current.is_some() && !works;
        // If the rejected token is no longer cached, the fetch does not replace it and starts no cooldown.
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

    /// Returns whether `origin` has ever accepted a token.
    pub(crate) fn was_accepted_at(&self, origin: usize) -> bool {
        self.0.successes.any(origin)
    }

    /// Returns whether a 401 that offers only other schemes says nothing about the token: a request that was sent later
    /// was accepted, or a replacement was recently rejected in the same way.
    fn is_about_the_scheme(&self, desk: &Desk, refusal: &Refusal, now: Moment) -> bool {
        let successes = &self.0.successes;
        successes.any_since(refusal.origin, refusal.sent_at)
            || desk.cooldown.wants_other_scheme(refusal.origin, now)
    }

    /// Records that the token of a replay was rejected too. Has no effect if it is no longer the current token.
    pub(crate) fn refused_again(&self, refusal: &Refusal, now: Moment) {
        let mut desk = lock(&self.0.desk);
        let current = read(&self.0.snapshot).current.clone();
        // A late response to an older token says nothing about the current one.
        if current.is_some_and(|c| c.identity == refusal.rejected.identity) {
            self.replacement_refused(&mut desk, refusal, now);
        }
    }

    /// Records the rejection in the cooldown, and updates which origins track successes.
    fn replacement_refused(&self, desk: &mut Desk, refusal: &Refusal, now: Moment) {
        desk.cooldown.token_refused(
            refusal.rejected.identity,
            refusal.origin,
            refusal.for_other_scheme,
            now,
        );
        self.0.successes.watch(&desk.cooldown);
    }

    /// Records that `origin` accepted a request that was sent with `identity`. `sent_at` is `None` if a success was
    /// reported within the last 100 ms.
    pub(crate) fn accepted(
        &self,
        origin: usize,
        identity: TokenIdentity,
        sent_at: Option<Instant>,
    ) {
        if let Some(sent_at) = sent_at {
            self.0.successes.record(origin, sent_at);
        }
        // Checked without a lock: only an origin in a cooldown needs the refresh state.
        if self.0.successes.is_watched(origin) {
            let mut desk = lock(&self.0.desk);
            let current = read(&self.0.snapshot).current.clone();
            // A late response to an older token says nothing about the current one.
            if current.is_some_and(|c| c.identity == identity) {
                desk.cooldown.token_accepted(origin);
                self.0.successes.watch(&desk.cooldown);
            }
        }
    }
}
