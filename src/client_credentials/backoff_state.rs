//! Failures that are remembered until the next attempt is due.
//!
//! | failure | back-off |
//! |---|---|
//! | transient | doubles from 1 s to 60 s, with jitter |
//! | permanent | doubles from 30 s to 500 s, and up to a fifth longer |
//!
//! A `Retry-After` extends either, up to the configured bound. All callers receive the remembered error during the
//! back-off. After a permanent failure, the source is checked for a changed secret at most every 5 s, when a caller
//! needs a token.
//!
//! The state exists from the first failure to the next success. A forced refresh ignores an active back-off, but its
//! failure is added to the series.
//!
//! The jitter differs on purpose. A transient failure hits all processes at once, and a random half of the interval
//! spreads their retries. A permanent one is found by each process separately; there a fifth suffices, and the interval
//! stays predictable for the operator who fixes it.

use std::{sync::Arc, time::Duration};

use super::{TokenError, TokenErrorKind, error::FailureHistory, settings::Settings};
use crate::{backoff::Backoff, clock::Moment};

/// A series of failed fetches, and the back-off after the last one.
///
/// Times are kept on both clocks, so that a back-off ends on time after the machine was suspended.
#[derive(Debug)]
pub(super) struct BackoffState {
    /// The last error.
    error: TokenError,
    /// Number of failed fetches in a row.
    consecutive_failures: u32,
    /// Number of token requests in these fetches.
    requests: u32,
    /// When the first of these fetches began.
    since: Moment,
    /// End of the back-off.
    until: Moment,
    /// When the source may next be checked for a changed secret.
    recheck_at: Moment,
}

impl BackoffState {
    /// Adds the failure of a fetch that `began` some time ago to the series `known`, or starts a series.
    ///
    /// `random` is in `0.0..1.0`. The count of failures saturates, and with it the interval. The series keeps its start
    /// and its number of token requests, which the error reports to callers.
    pub(super) fn next(
        known: Option<&Self>,
        error: TokenError,
        settings: &Settings,
        began: Moment,
        now: Moment,
        random: f64,
    ) -> Self {
        // Credentials that were rejected twice in a row are wrong, even if one rejection alone may be transient.
        let refused = |error: &TokenError| error.kind() == TokenErrorKind::InvalidClient;
        let again = known.is_some_and(|known| refused(&known.error));
        let error = if again && refused(&error) {
            error.into_permanent()
        } else {
            error
        };
        let requests = known.map_or(0, |k| k.requests);
        let failures = known
            .map_or(0, |k| k.consecutive_failures)
            .saturating_add(1);
        let own = if error.is_transient() {
            TRANSIENT_BACKOFF.wait(failures, random)
        } else {
            // Up to a fifth longer, so that the processes of a fleet spread out.
            PERMANENT_BACKOFF
                .wait(failures, 1.0)
                .mul_f64(1.0 + random / 5.0)
        };
        // The server's `Retry-After` extends the back-off, up to the configured bound.
        let requested = error
            .retry_after()
            .unwrap_or_default()
            .min(settings.max_token_backoff);
        Self {
            // A fetch counts as at least one token request.
            requests: requests.saturating_add(error.requests().max(1)),
            error,
            consecutive_failures: failures,
            since: known.map_or(began, |k| k.since),
            until: now.after(own.max(requested)),
            recheck_at: now.after(RECHECK_INTERVAL),
        }
    }

    /// Returns whether the back-off is active.
    ///
    /// At the very end of the back-off it is no longer active: the first caller after it starts a fetch.
    pub(super) fn is_active(&self, now: Moment) -> bool {
        !self.until.has_passed(now)
    }

    /// Returns whether the caller may check for a changed secret. Only for a permanent failure, and at most once per
    /// [`RECHECK_INTERVAL`].
    ///
    /// A `true` result must be followed by a check: it postpones the next one, whatever comes of it.
    pub(super) fn recheck_is_due(&mut self, now: Moment) -> bool {
        let due = !self.error.is_transient() && self.recheck_at.has_passed(now);
        if due {
            self.recheck_at = now.after(RECHECK_INTERVAL);
        }
        due
    }

    /// Returns the error for callers, with the state of the series at `now`.
    ///
    /// A clone of the stored error, with times relative to `now`. All callers within one back-off get the same cause.
    pub(super) fn error(&self, now: Moment, credential: &Option<Arc<str>>) -> TokenError {
        self.error.with_history(FailureHistory {
            credential: credential.clone(),
            consecutive_failures: self.consecutive_failures,
            requests: self.requests,
            failing_for: now.elapsed_since(self.since),
            next_attempt_in: self.until.left(now),
        })
    }
}

/// Back-off after transient failures.
const TRANSIENT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// Back-off after permanent failures. With jitter, at most 10 min.
const PERMANENT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(500));
/// Minimum interval between two checks for a changed secret.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary instant to count from"
    )]
    fn permanent_backoff_is_at_most_ten_minutes_with_jitter() {
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
        let fail = |known: Option<BackoffState>, random| {
            let error = TokenError::permanent("was refused");
            BackoffState::next(known.as_ref(), error, &settings, now, now, random)
        };
        let wait = |failure: &BackoffState| failure.until.left(now);

        let first = fail(None, 0.0);
        let tenth = (2..=10).fold(fail(None, 1.0), |known, _| fail(Some(known), 1.0));

        assert_eq!(wait(&first), Duration::from_secs(30));
        assert_eq!(wait(&tenth), Duration::from_secs(600));
    }
}
