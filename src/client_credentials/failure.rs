//! A failure that is remembered: what every caller is told until the next attempt is due.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{TokenError, TokenErrorKind, cell::Settings, error::Memory};
use crate::{backoff::Backoff, clock::after};

/// A series of failed attempts.
#[derive(Debug)]
pub(super) struct Failure {
    error: TokenError,
    failures: u32,
    requests: u32,
    since: Instant,
    until: Instant,
    /// When the secret may next be compared with the one that was refused.
    recheck_at: Instant,
}

impl Failure {
    /// The series `known`, if any, with one more failure, of a fetch that `began` some time ago.
    pub(super) fn after(
        known: Option<Self>,
        error: TokenError,
        settings: &Settings,
        began: Instant,
        now: Instant,
        random: f64,
    ) -> Self {
        // Credentials that were refused without a reason twice in a row are wrong.
        let refused = |error: &TokenError| error.kind() == TokenErrorKind::CredentialsRefused;
        let again = known.as_ref().is_some_and(|known| refused(&known.error));
        let error = if again && refused(&error) {
            error.lasting()
        } else {
            error
        };
        let requests = known.as_ref().map_or(0, |k| k.requests);
        let failures = known.as_ref().map_or(0, |k| k.failures).saturating_add(1);
        let own = if error.is_transient() {
            TRANSIENT.wait(failures, random)
        } else {
            PERMANENT.wait(failures, 1.0).mul_f64(1.0 + random / 5.0)
        };
        let asked = error
            .retry_after()
            .unwrap_or_default()
            .min(settings.max_token_backoff);
        Self {
            requests: requests.saturating_add(error.requests().max(1)),
            error,
            failures,
            since: known.map_or(began, |k| k.since),
            until: after(now, own.max(asked)),
            recheck_at: after(now, RECHECK),
        }
    }

    /// Whether the back-off is not over yet.
    pub(super) fn holds(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Whether somebody may look if the secret has changed; true at most every 5 s, and only for a permanent failure.
    pub(super) fn recheck_is_due(&mut self, now: Instant) -> bool {
        let due = !self.error.is_transient() && now >= self.recheck_at;
        if due {
            self.recheck_at = after(now, RECHECK);
        }
        due
    }

    /// The error as it is told at `now`.
    pub(super) fn error(&self, now: Instant, credential: &Option<Arc<str>>) -> TokenError {
        self.error.with_memory(Memory {
            credential: credential.clone(),
            failures: self.failures,
            requests: self.requests,
            failing_for: now.saturating_duration_since(self.since),
            next_attempt_in: self.until.saturating_duration_since(now),
        })
    }
}

const TRANSIENT: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// Ten minutes with the jitter.
const PERMANENT: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(500));
const RECHECK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary instant to count from"
    )]
    fn a_permanent_back_off_lasts_ten_minutes_at_most_with_its_jitter() {
        let settings = Settings {
            credential: None,
            refresh_before: Duration::ZERO,
            fetch_timeout: Duration::ZERO,
            max_token_backoff: Duration::ZERO,
            refresh_cooldown: Duration::ZERO,
            max_waiting: 1,
            scheme: None,
        };
        let now = Instant::now();
        let fail = |known, random| {
            let error = TokenError::permanent("was refused");
            Failure::after(known, error, &settings, now, now, random)
        };
        let wait = |failure: &Failure| failure.until - now;

        let first = fail(None, 0.0);
        let tenth = (2..=10).fold(fail(None, 1.0), |known, _| fail(Some(known), 1.0));

        assert_eq!(wait(&first), Duration::from_secs(30));
        assert_eq!(wait(&tenth), Duration::from_secs(600));
    }
}
