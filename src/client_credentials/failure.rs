//! A failure that is remembered: what every caller is told until the next attempt is due.

use std::{sync::Arc, time::Duration};

use super::{TokenError, TokenErrorKind, error::Memory, settings::Settings};
use crate::{backoff::Backoff, clock::Moment};

/// A series of failed attempts.
#[derive(Debug)]
pub(super) struct Failure {
    error: TokenError,
    failures: u32,
    requests: u32,
    since: Moment,
    until: Moment,
    /// When the secret may next be compared with the one that was refused.
    recheck_at: Moment,
}

impl Failure {
    /// The series `known`, if any, with one more failure, of a fetch that `began` some time ago.
    pub(super) fn after(
        known: Option<&Self>,
        error: TokenError,
        settings: &Settings,
        began: Moment,
        now: Moment,
        random: f64,
    ) -> Self {
        // Credentials that were refused without a reason twice in a row are wrong.
        let refused = |error: &TokenError| error.kind() == TokenErrorKind::CredentialsRefused;
        let again = known.is_some_and(|known| refused(&known.error));
        let error = if again && refused(&error) {
            error.lasting()
        } else {
            error
        };
        let requests = known.map_or(0, |k| k.requests);
        let failures = known.map_or(0, |k| k.failures).saturating_add(1);
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
            until: now.after(own.max(asked)),
            recheck_at: now.after(RECHECK),
        }
    }

    /// Whether the back-off is not over yet.
    pub(super) fn holds(&self, now: Moment) -> bool {
        !self.until.has_passed(now)
    }

    /// Whether somebody may look if the secret has changed; true at most every 5 s, and only for a permanent failure.
    pub(super) fn recheck_is_due(&mut self, now: Moment) -> bool {
        let due = !self.error.is_transient() && self.recheck_at.has_passed(now);
        if due {
            self.recheck_at = now.after(RECHECK);
        }
        due
    }

    /// The error as it is told at `now`.
    pub(super) fn error(&self, now: Moment, credential: &Option<Arc<str>>) -> TokenError {
        self.error.with_memory(Memory {
            credential: credential.clone(),
            failures: self.failures,
            requests: self.requests,
            failing_for: now.elapsed_since(self.since),
            next_attempt_in: self.until.left(now),
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
        let now = Moment::new(
            tokio::time::Instant::now(),
            std::time::SystemTime::UNIX_EPOCH,
        );
        let fail = |known: Option<Failure>, random| {
            let error = TokenError::permanent("was refused");
            Failure::after(known.as_ref(), error, &settings, now, now, random)
        };
        let wait = |failure: &Failure| failure.until.left(now);

        let first = fail(None, 0.0);
        let tenth = (2..=10).fold(fail(None, 1.0), |known, _| fail(Some(known), 1.0));

        assert_eq!(wait(&first), Duration::from_secs(30));
        assert_eq!(wait(&tenth), Duration::from_secs(600));
    }
}
