//! Completion of a fetch: with a token, with a failure, or without an outcome.
//!
//! | function | caller | token | failures |
//! |---|---|---|---|
//! | `complete` | the task of the fetch | replaced by a new one | cleared, or one more |
//! | `keep_failure` | the task of a recheck that found the secret unchanged | kept | kept |
//! | `abandon` | a guard that is dropped, or a waiter of an overdue fetch | kept | kept |
//!
//! Each fetch ends once: the caller that removes it from the refresh state ends it. A superseded fetch is no longer
//! there, and its result is ignored. Waiters are woken last and without a lock, so that they find the new state.
//!
//! The order within `complete` is fixed: prepare without a lock, remove the fetch, write the snapshot, release both
//! locks, drop the old token, settle the fetch, wake. If the waiters were woken before the snapshot was written, they
//! would find the old state and start a second fetch.

use std::sync::Arc;

use super::{CachedToken, TokenCache, TokenGeneration, wake};
use crate::{
    client_credentials::{
        TokenError,
        backoff_state::BackoffState,
        freshness::{Freshness, Lifetime},
        in_flight::{InFlightFetch, Outcome},
        token::Acquired,
    },
    clock::Moment,
    sync::lock,
};

impl TokenCache {
    /// Ends a fetch that no task runs any longer. Its waiters call the cache again.
    ///
    /// Called by the drop of a guard, and by waiters of an overdue fetch. Does nothing if the fetch has ended or was
    /// superseded, so that it may be called any number of times.
    pub(crate) fn abandon(&self, fetch: &InFlightFetch) {
        if self.take_in_flight(fetch) {
            wake(fetch.settle(Outcome::Abandoned));
        }
    }

    /// Ends a recheck that found the secret unchanged. Waiters receive the remembered failure.
    ///
    /// Returns the outcome, or `None` if the fetch was superseded.
    ///
    /// The remembered error is created with the remaining back-off at `now`. If the back-off was cleared meanwhile,
    /// there is nothing to return: the waiters call the cache again.
    pub(in crate::client_credentials) fn keep_failure(
        &self,
        fetch: &InFlightFetch,
        now: Moment,
    ) -> Option<Outcome> {
        let outcome = {
            let mut refresh = lock(&self.0.refresh);
            let failure = refresh.backoff.as_ref();
            let error = failure.map(|f| f.error(now, &self.0.settings.credential));
            if !refresh.end_flight(fetch) {
                return None;
            }
            error.map_or(Outcome::Abandoned, Outcome::Unchanged)
        };
        wake(fetch.settle(outcome.clone()));
        Some(outcome)
    }

    /// Publishes the token of a fetch, or records its failure.
    ///
    /// Returns the outcome that waiters receive, or `None` if the fetch was superseded.
    ///
    /// A token that cannot be sent, or that expired on its way, counts as a failure of the fetch. Everything that may
    /// be slow or may run foreign code happens outside the locks: building the header value, dropping the old token,
    /// which zeroizes it, and waking.
    pub(in crate::client_credentials) fn complete(
        &self,
        fetch: &InFlightFetch,
        result: Result<Acquired, TokenError>,
        now: Moment,
    ) -> Option<Outcome> {
        let settings = &self.0.settings;
        let random = self.0.random.unit();
        let (instant, wall) = (now.instant(), now.wall_clock());
        // Done before a lock is taken.
        let prepared = result.and_then(|Acquired { token, provenance }| {
            let header = token.header_value(settings.scheme.as_deref())?;
            // The lifetime counts from the request, not from the response: the server issued the token in between.
            let asked_at = token.sent_at().unwrap_or(fetch.began()).min(instant);
            let lifetime = Lifetime::new(
                asked_at,
                wall.checked_sub(instant - asked_at).unwrap_or(wall),
                token.lifetime(),
                token.refresh_in(),
                settings.refresh_before,
                random,
            );
            // A failure, because it has a back-off. A published token that has expired would cause a token request per
            // request.
            if lifetime.freshness(instant, wall) == Freshness::Expired {
                return Err(TokenError::expired());
            }
            Ok((token, provenance, header, lifetime))
        });
        let (outcome, old, known) = {
            let mut refresh = lock(&self.0.refresh);
            // Superseded.
            if !refresh.end_flight(fetch) {
                return None;
            }
            let mut snapshot = self.0.change();
            // After a failure the rejected token is used again, as it may be valid for other requests.
            snapshot.rejected = false;
            let known = refresh.backoff.take();
            match prepared {
                Ok((token, provenance, header, lifetime)) => {
                    // Under the write lock, so that generations are published in their order.
                    snapshot.generation += 1;
                    let published = Arc::new(CachedToken {
                        fingerprint: token.fingerprint(),
                        lifetime,
                        generation: TokenGeneration(snapshot.generation),
                        token,
                        header,
                        provenance,
                    });
                    refresh.cooldown.on_refresh_ended(
                        fetch.reason(),
                        Some(published.fingerprint),
                        now,
                    );
                    self.0.successes.update_tracked(&refresh.cooldown);
                    let old = snapshot.current.replace(Arc::clone(&published));
                    (Outcome::Token(published), old, known)
                }
                Err(error) => {
                    refresh.cooldown.on_refresh_ended(fetch.reason(), None, now);
                    self.0.successes.update_tracked(&refresh.cooldown);
                    let began = fetch.began_at();
                    let failure =
                        BackoffState::next(known.as_ref(), error, settings, began, now, random);
                    let error = failure.error(now, &settings.credential);
                    refresh.backoff = Some(failure);
                    (Outcome::Failed(error), None, known)
                }
            }
        };
        // Dropped without a lock: this zeroizes the old token and drops a source's own error.
        drop((old, known));
        wake(fetch.settle(outcome.clone()));
        Some(outcome)
    }

    /// Ends the fetch and makes a rejected token usable again. Returns `false` for a superseded fetch.
    ///
    /// Exactly one of the concurrent callers gets `true`, and settles the fetch.
    fn take_in_flight(&self, fetch: &InFlightFetch) -> bool {
        let mut refresh = lock(&self.0.refresh);
        let ended = refresh.end_flight(fetch);
        if ended {
            self.0.change().rejected = false;
        }
        ended
    }
}
