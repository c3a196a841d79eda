//! The end of all work on tokens, and of the token itself where that is wanted.

use std::time::Duration;

use tokio::{runtime::Handle, time::timeout_at};

use super::{RevokeContext, TokenError, TokenEvent, TokenSource, tokens::Tokens, waiting::Waiting};
use crate::{clock::after, panics::surviving, sync::lock};

impl Tokens {
    /// No more fetches; the one under way is given up, and the token is revoked if the source does that.
    pub(crate) async fn shut_down(&self) {
        let under_way = self.cell.close();
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            task.abort();
        }
        if let Some(flight) = under_way
            && let Some(waiting) = Waiting::new(&self.cell, flight, usize::MAX)
        {
            waiting.await;
        }
        self.revoke().await;
    }

    async fn revoke(&self) {
        if self.sharing.is_some() {
            // Other processes use the token.
            return;
        }
        let now = self.clock.moment();
        let Some((token, _)) = self.cell.header(now) else {
            return;
        };
        let limit = LONGEST_REVOCATION.min(self.cell.settings().fetch_timeout);
        let deadline = after(now.instant(), limit);
        let cx = RevokeContext::new(self.surroundings(deadline));
        let Some(revocation) = self.source.revoke(&token.token, cx) else {
            return;
        };
        // From here on nobody is given the token. Whoever took it away before revokes it.
        if !self.cell.invalidate() {
            return;
        }
        let outcome = if Handle::try_current().is_ok() {
            match timeout_at(deadline, surviving(revocation)).await {
                Ok(outcome) => outcome.unwrap_or_else(|| Err(TokenError::panicked())),
                Err(_) => Err(TokenError::timeout(limit)),
            }
        } else {
            Err(TokenError::no_runtime())
        };
        let credential = self.cell.settings().credential.as_deref();
        self.sinks.emit(&match &outcome {
            Ok(()) => TokenEvent::Revoked { credential },
            Err(error) => TokenEvent::RevocationFailed { credential, error },
        });
    }
}

const LONGEST_REVOCATION: Duration = Duration::from_secs(5);
