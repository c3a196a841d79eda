//! Effects of a 401 and of a success on the cached token.
//!
//! A 401 is handled in this order:
//!
//! 1. Another usable token is cached: the request can be sent with it at once.
//! 2. The 401 offers only other schemes and says nothing about the token: the response is returned.
//! 3. A fetch is in flight: the request waits for it.
//! 4. The cache is closed, a back-off is active, or the origin is in its cooldown: the response is returned.
//! 5. Otherwise a fetch starts. No request uses the token meanwhile, unless it is known to work for other requests.
//!
//! | outcome | request | token |
//! |---|---|---|
//! | `Replaced` | replayed at once | already replaced |
//! | `Wait` | replayed after the fetch, if it returns another token | being replaced |
//! | `Final` | the 401 is returned | kept |
//!
//! A 401 counts only if it belongs to the current token, compared by fingerprint. Otherwise requests that were in
//! flight during a replacement would each reject the new token once.

use std::{sync::Arc, task::Waker};

use tokio::time::Instant;

use super::{Acquire, CachedToken, FetchGuard, RefreshState, TokenCache, wake};
use crate::{
    client_credentials::{
        FetchReason, RejectedToken, TokenFingerprint,
        in_flight::{FetchPurpose, InFlightFetch},
    },
    clock::Moment,
    sync::{lock, read},
};

/// Action after a 401 that rejects a token.
///
/// Says only what the cache knows. Whether the request is sent again is up to the policy, which knows whether there is
/// a copy of it.
#[derive(Debug)]
pub(crate) enum RejectionOutcome {
    /// No other token can be requested now. The response is returned.
    Final,
    /// The cache already holds another usable token.
    Replaced(Arc<CachedToken>),
    /// A fetch is in flight. The guard is `Some` for the caller that must run it.
    Wait(Arc<InFlightFetch>, Option<FetchGuard>),
}

/// A 401 that rejects the token of its request.
///
/// Created from a response by `Auth::rejection`. The time and the origin decide whether the token is known to work
/// elsewhere.
#[derive(Debug)]
pub(crate) struct Rejection {
    /// The rejected token, and the challenges of the 401.
    pub(crate) rejected: RejectedToken,
    /// Index of the origin that sent the 401.
    pub(crate) origin: usize,
    /// When the request was sent.
    pub(crate) sent_at: Instant,
    /// Whether all challenges name other authentication schemes. Some APIs name the first scheme they know in every
    /// 401.
    pub(crate) for_other_scheme: bool,
}

impl TokenCache {
    /// Handles a 401. Returns another usable token if the cache has one; otherwise joins or starts a fetch, unless a
    /// back-off or the cooldown forbids it.
    ///
    /// Wakers are collected under the lock and called after it: ending an overdue fetch may wake its waiters.
    pub(crate) fn reject(&self, rejection: Rejection, now: Moment) -> RejectionOutcome {
        let mut woken = Vec::new();
        let mut refresh = lock(&self.0.refresh);
        let outcome = self.on_rejected(&mut refresh, rejection, now, &mut woken);
        drop(refresh);
        wake(woken);
        outcome
    }

    /// Decides what follows a 401. Adds wakers to `woken`, for the caller to wake after the lock is released.
    ///
    /// The order of the checks is that of the module. Two of them must not be exchanged: a newer token is returned
    /// before anything is recorded, because the 401 says nothing about it; the cooldown is updated before the other
    /// checks return, because repeated rejections must lengthen it even if no fetch starts.
    fn on_rejected(
        &self,
        refresh: &mut RefreshState,
        rejection: Rejection,
        now: Moment,
        woken: &mut Vec<Waker>,
    ) -> RejectionOutcome {
        let fingerprint = rejection.rejected.fingerprint;
        let origin = rejection.origin;
        // The request was sent with an older token.
        let newer = self
            .header(now)
            .filter(|(c, _)| c.fingerprint != fingerprint);
        if let Some((newer, _)) = newer {
            return RejectionOutcome::Replaced(newer);
        }
        let current = read(&self.0.snapshot).current.clone();
        let current = current.filter(|current| current.fingerprint == fingerprint);
        // Recorded in any case: the cooldown must grow even if the response is returned.
        if current.is_some() {
            self.on_replacement_rejected(refresh, &rejection, now);
        }
        if rejection.for_other_scheme && self.concerns_scheme_only(refresh, &rejection, now) {
            return RejectionOutcome::Final;
        }
        if let Some(fetch) = self.in_flight(refresh, now, woken) {
            return RejectionOutcome::Wait(fetch, None);
        }
        // A 401 does not shorten a back-off: every rejected request would cause a token request.
        let failing = refresh.backoff.as_ref().is_some_and(|f| f.is_active(now));
        let too_soon = current.as_ref().is_some_and(|current| {
            refresh
                .cooldown
                .is_active(origin, now, current.lifetime.total())
        });
        if refresh.closed || failing || too_soon {
            return RejectionOutcome::Final;
        }
        // A token that works for other requests stays in use while it is refreshed.
        let works = rejection.for_other_scheme
            || self
                .0
                .successes
                .is_accepted_by_others(origin, rejection.sent_at, now.instant());
        self.0.change().rejected = current.is_some() && !works;
        // If the rejected token is no longer cached, the fetch does not replace it and starts no cooldown.
        let purpose = if current.is_some() {
            refresh.cooldown.set_rejected_at(origin);
            FetchPurpose {
                reason: FetchReason::Rejected,
                rejected: Some(rejection.rejected),
                origin: Some(origin),
                recheck: false,
            }
        } else {
            FetchReason::Expired.into()
        };
        match self.start(refresh, purpose, now) {
            Acquire::Wait(fetch, guard) => RejectionOutcome::Wait(fetch, guard),
            Acquire::Failed(_) | Acquire::Token(_) => RejectionOutcome::Final,
        }
    }

    /// Returns whether `origin` has ever accepted a token.
    ///
    /// Never reset, also not by a new token: it distinguishes an API that takes tokens from one that never does.
    pub(crate) fn was_accepted_at(&self, origin: usize) -> bool {
        self.0.successes.was_accepted_at(origin)
    }

    /// Returns whether a 401 that offers only other schemes says nothing about the token: a request that was sent later
    /// was accepted, or a replacement was recently rejected in the same way.
    ///
    /// Some APIs name another scheme in every 401, whatever its cause. A rejection of this kind counts once, and not
    /// again for 10 min if the replacement is rejected in the same way.
    fn concerns_scheme_only(
        &self,
        refresh: &RefreshState,
        rejection: &Rejection,
        now: Moment,
    ) -> bool {
        let successes = &self.0.successes;
        successes.was_accepted_since(rejection.origin, rejection.sent_at)
            || refresh.cooldown.wants_other_scheme(rejection.origin, now)
    }

    /// Records that the token of a replay was rejected too. Has no effect if it is no longer the current token.
    pub(crate) fn on_replay_rejected(&self, rejection: &Rejection, now: Moment) {
        let mut refresh = lock(&self.0.refresh);
        let current = read(&self.0.snapshot).current.clone();
        // A late response to an older token says nothing about the current one.
        if current.is_some_and(|c| c.fingerprint == rejection.rejected.fingerprint) {
            self.on_replacement_rejected(&mut refresh, rejection, now);
        }
    }

    /// Records the rejection in the cooldown, and updates which origins track successes.
    fn on_replacement_rejected(
        &self,
        refresh: &mut RefreshState,
        rejection: &Rejection,
        now: Moment,
    ) {
        refresh.cooldown.on_rejected(
            rejection.rejected.fingerprint,
            rejection.origin,
            rejection.for_other_scheme,
            now,
        );
        self.0.successes.update_tracked(&refresh.cooldown);
    }

    /// Records that `origin` accepted a request that was sent with the token `fingerprint`. `sent_at` is `None` if a
    /// success was reported within the last 100 ms.
    ///
    /// On the path of every successful request: one relaxed load, unless the origin is in a cooldown or its new token
    /// is untested.
    pub(crate) fn on_accepted(
        &self,
        origin: usize,
        fingerprint: TokenFingerprint,
        sent_at: Option<Instant>,
    ) {
        if let Some(sent_at) = sent_at {
            self.0.successes.record(origin, sent_at);
        }
        // Checked without a lock: only an origin in a cooldown needs the refresh state.
        if self.0.successes.is_tracked(origin) {
            let mut refresh = lock(&self.0.refresh);
            let current = read(&self.0.snapshot).current.clone();
            // A late response to an older token says nothing about the current one.
            if current.is_some_and(|c| c.fingerprint == fingerprint) {
                refresh.cooldown.on_accepted(origin);
                self.0.successes.update_tracked(&refresh.cooldown);
            }
        }
    }
}
