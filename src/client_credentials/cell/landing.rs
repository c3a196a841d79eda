//! How flights end: with a token, with a failure, or with nothing.

use std::sync::Arc;

use super::{Published, TokenCell, TokenVersion, wake};
use crate::{
    client_credentials::{
        TokenError,
        failure::Failure,
        flight::{Flight, Outcome},
        freshness::{Freshness, Lifetime},
        token::Acquired,
    },
    clock::Moment,
    sync::lock,
};

impl TokenCell {
    /// Ends a flight that nobody drives any more, so that its waiters ask again.
    pub(crate) fn abandon(&self, flight: &Flight) {
        if self.end(flight) {
            wake(flight.settle(Outcome::Abandoned));
        }
    }

    pub(in crate::client_credentials) fn stand_by(
        &self,
        flight: &Flight,
        now: Moment,
    ) -> Option<Outcome> {
        let outcome = {
            let mut desk = lock(&self.0.desk);
            let failure = desk.failure.as_ref();
            let error = failure.map(|f| f.error(now, &self.0.settings.credential));
            if !desk.take_flight(flight) {
                return None;
            }
            error.map_or(Outcome::Abandoned, Outcome::Unchanged)
        };
        wake(flight.settle(outcome.clone()));
        Some(outcome)
    }

    pub(in crate::client_credentials) fn land(
        &self,
        flight: &Flight,
        result: Result<Acquired, TokenError>,
        now: Moment,
    ) -> Option<Outcome> {
        let settings = &self.0.settings;
        let random = self.0.random.unit();
        let (instant, wall) = (now.instant(), now.wall());
        // All that can be done before a lock is taken.
        let prepared = result.and_then(|Acquired { token, provenance }| {
            let header = token.header_value(settings.scheme.as_deref())?;
            let asked_at = token.sent_at().unwrap_or(flight.began()).min(instant);
            let lifetime = Lifetime::new(
                asked_at,
                wall.checked_sub(instant - asked_at).unwrap_or(wall),
                token.lifetime(),
                token.refresh_in(),
                settings.refresh_before,
                random,
            );
            if lifetime.freshness(instant, wall) == Freshness::Expired {
                return Err(TokenError::expired());
            }
            Ok((token, provenance, header, lifetime))
        });
        let (outcome, old, known) = {
            let mut desk = lock(&self.0.desk);
            if !desk.take_flight(flight) {
                return None;
            }
            let mut snapshot = self.0.change();
            snapshot.suspended = false;
            let known = desk.failure.take();
            match prepared {
                Ok((token, provenance, header, lifetime)) => {
                    snapshot.version += 1;
                    let published = Arc::new(Published {
                        identity: token.identity(),
                        lifetime,
                        version: TokenVersion(snapshot.version),
                        token,
                        header,
                        provenance,
                    });
                    desk.cooldown
                        .ended(flight.reason(), Some(published.identity), now);
                    self.0.successes.watch(&desk.cooldown);
                    let old = snapshot.current.replace(Arc::clone(&published));
                    (Outcome::Token(published), old, known)
                }
                Err(error) => {
                    desk.cooldown.ended(flight.reason(), None, now);
                    self.0.successes.watch(&desk.cooldown);
                    let began = flight.began_at();
                    let failure =
                        Failure::after(known.as_ref(), error, settings, began, now, random);
                    let error = failure.error(now, &settings.credential);
                    desk.failure = Some(failure);
                    (Outcome::Failed(error), None, known)
                }
            }
        };
        // Zeroised, and a source's own error dropped, while no lock is held.
        drop((old, known));
        wake(flight.settle(outcome.clone()));
        Some(outcome)
    }

    fn end(&self, flight: &Flight) -> bool {
        let mut desk = lock(&self.0.desk);
        let ended = desk.take_flight(flight);
        if ended {
            self.0.change().suspended = false;
        }
        ended
    }
}
