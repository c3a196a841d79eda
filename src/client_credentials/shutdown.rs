//! Shutdown of all work on tokens, and revocation of the token.
//!
//! 1. The cache is closed: no further fetch starts.
//! 2. The tasks of fetches are aborted.
//! 3. The fetch that was in flight ends, and its waiters receive an error or a usable token.
//! 4. The token is revoked, if the source revokes tokens and no other process shares it.
//!
//! The same happens to the tokens for other scopes, one after the other.
//!
//! Requests are not aborted: they belong to the program. Those that wait for a token end with
//! [`TokenErrorKind::ShutDown`](super::TokenErrorKind::ShutDown), and those that have one are sent.

use std::time::Duration;

use tokio::{runtime::Handle, time::timeout_at};

use super::{
    RevokeContext, TokenError, TokenEvent, TokenSource, refresher::Refresher,
    scoped_tokens::ScopedTokens, waiting::WaitFuture,
};
use crate::{catch_panic::catch_panic, clock::add_capped, sync::lock};

impl Refresher {
    /// Prevents further fetches, aborts the one in flight, and revokes the token if the source does that.
    ///
    /// May be called more than once, also concurrently. The token is then revoked by one of the calls.
    ///
    /// # Cancel safety
    ///
    /// Fetches are aborted at the first poll. Dropping the future ends the revocation.
    pub(crate) async fn shut_down(&self) {
        let under_way = self.cache.close();
        // Closed first: a task that is registered later aborts itself. See `register`.
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            task.abort();
        }
        // An aborted task drops its guard, which wakes this waiter.
        if let Some(fetch) = under_way
            && let Some(waiting) = WaitFuture::new(&self.cache, fetch, usize::MAX)
        {
            waiting.await;
        }
        self.revoke().await;
        let scoped = self.scoped.as_ref().map(ScopedTokens::all);
        for tokens in scoped.into_iter().flatten() {
            // Boxed, because it is the same function. Those tokens have no further scopes of their own.
            Box::pin(tokens.shut_down()).await;
        }
    }

    /// Revokes the usable token and emits the result. Does nothing if other processes share it, or if the source
    /// revokes no tokens.
    ///
    /// Skipped without an event if there is no usable token. A token that expires during the revocation is sent to the
    /// server nevertheless, which answers 200 for a token that it does not know (RFC 7009 §2.2).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the revocation, and no event is emitted. The token is no longer used once the
    /// revocation has begun.
    async fn revoke(&self) {
        if self.sharing.is_some() {
            // Other processes use the token.
            return;
        }
        let now = self.clock.moment();
        let Some((token, _)) = self.cache.header(now) else {
            return;
        };
        let limit = REVOCATION_TIMEOUT.min(self.cache.settings().fetch_timeout);
        let deadline = add_capped(now.instant(), limit);
        let cx = RevokeContext::new(self.source_context(deadline));
        let Some(revocation) = self.source.revoke(&token.token, cx) else {
            return;
        };
        // From here on no request receives the token. If it is gone already, a concurrent shutdown may have taken it,
        // and then revokes it.
        if !self.cache.invalidate() {
            return;
        }
        // Timers need a runtime.
        let outcome = if Handle::try_current().is_ok() {
            match timeout_at(deadline, catch_panic(revocation)).await {
                Ok(outcome) => outcome.unwrap_or_else(|| Err(TokenError::panicked())),
                Err(_) => Err(TokenError::timeout(limit)),
            }
        } else {
            Err(TokenError::no_runtime())
        };
        let credential = self.cache.settings().credential.as_deref();
        self.sinks.emit(&match &outcome {
            Ok(()) => TokenEvent::Revoked { credential },
            Err(error) => TokenEvent::RevocationFailed { credential, error },
        });
    }
}

/// Upper bound on the time for a revocation.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(5);
