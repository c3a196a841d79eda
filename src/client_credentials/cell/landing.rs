//! How flights end: with a token, with a failure, or with nothing.

use std::{sync::Arc, time::SystemTime};

use tokio::time::Instant;

use super::{Published, TokenCell, TokenVersion, wake};
use crate::{
    client_credentials::{
        AccessToken, TokenError,
        failure::Failure,
        flight::{Flight, Outcome},
        freshness::{Freshness, Lifetime},
    },
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
        now: Instant,
    ) -> Option<Outcome> {
        let outcome = {
            let mut desk = lock(&self.0.desk);
            let failure = desk.failure.as_ref();
            let error = failure.map(|f| f.error(now, &self.0.settings.credential));
            if !desk.take_flight(flight) {
                return None;
            }
            error.map_or(Outcome::Abandoned, Outcome::Failed)
        };
        wake(flight.settle(outcome.clone()));
        Some(outcome)
    }

    pub(in crate::client_credentials) fn land(
        &self,
        flight: &Flight,
        result: Result<AccessToken, TokenError>,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Outcome> {
        let settings = &self.0.settings;
        let random = self.0.random.unit();
        // All that can be done before a lock is taken.
        let prepared = result.and_then(|token| {
            let header = token.header_value(settings.scheme.as_deref())?;
            let asked_at = token.sent_at().unwrap_or(flight.began()).min(now);
            let lifetime = Lifetime::new(
                asked_at,
                wall.checked_sub(now - asked_at).unwrap_or(wall),
                token.lifetime(),
                token.refresh_in(),
                settings.refresh_before,
                random,
            );
            if lifetime.freshness(now, wall) == Freshness::Expired {
                return Err(TokenError::expired());
            }
            Ok((token, header, lifetime))
        });
        let (outcome, old) = {
            let mut desk = lock(&self.0.desk);
            if !desk.take_flight(flight) {
                return None;
            }
            let mut snapshot = self.0.change();
            snapshot.suspended = false;
            match prepared {
                Ok((token, header, lifetime)) => {
                    desk.failure = None;
                    snapshot.version += 1;
                    let published = Arc::new(Published {
                        identity: token.identity(),
                        lifetime,
                        version: TokenVersion(snapshot.version),
                        token,
                        header,
                    });
                    desk.cooldown
                        .ended(flight.reason(), Some(published.identity), now);
                    self.0.successes.watch(desk.cooldown.watched());
                    let old = snapshot.current.replace(Arc::clone(&published));
                    (Outcome::Token(published), old)
                }
                Err(error) => {
                    desk.cooldown.ended(flight.reason(), None, now);
                    let known = desk.failure.take();
                    let failure =
                        Failure::after(known, error, settings, flight.began(), now, random);
                    let error = failure.error(now, &settings.credential);
                    desk.failure = Some(failure);
                    (Outcome::Failed(error), None)
                }
            }
        };
        drop(old);
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
