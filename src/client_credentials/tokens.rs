//! Runs fetches on separate tasks, and waits for them.
//!
//! 1. `warm` returns a usable token without waiting. It starts an early refresh if the token is stale.
//! 2. `obtain` asks the cache, which returns a token, an error or a fetch to wait for, with a guard for its first
//!    caller.
//! 3. The caller with the guard spawns the task of the fetch. It then waits like all other callers.
//! 4. The task publishes the result in the cache, which wakes the callers, and emits an event.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    FetchContext, FetchReason, SharedTokenSource, TokenError, TokenSource,
    cell::{Acquire, Lead, Published, Refusal, Refused, TokenCell},
    context::Surroundings,
    event::{TokenEvent, TokenEvents},
    flight::{Flight, Outcome},
    freshness::Freshness,
    store::TokenSharing,
    token::{Acquired, Provenance},
    waiting::Waiting,
};
use crate::{
    clock::{Moment, SharedClock},
    panics::surviving,
    sinks::Sinks,
    sync::{Mutex, lock},
    telemetry::span,
};

/// The token cache of one credential, and what a fetch needs.
pub(crate) struct Tokens {
    /// The shared token cache.
    pub(crate) cell: TokenCell,
    /// Source of new tokens.
    pub(crate) source: SharedTokenSource,
    /// Tried before the source. `None` without a store.
    pub(super) sharing: Option<TokenSharing>,
    /// The layer's clock.
    pub(crate) clock: SharedClock,
    /// Receivers of events.
    pub(crate) sinks: Sinks<TokenEvents>,
    /// Tasks of fetches, which a shutdown aborts. More than one if an overdue fetch was superseded.
    pub(super) tasks: Mutex<Vec<AbortHandle>>,
}

impl Tokens {
    /// Combines a token cache with a source.
    pub(crate) fn new(
        cell: TokenCell,
        source: SharedTokenSource,
        sharing: Option<TokenSharing>,
        clock: SharedClock,
        sinks: Sinks<TokenEvents>,
    ) -> Self {
        Self {
            cell,
            source,
            sharing,
            clock,
            sinks,
            tasks: Mutex::new(Vec::new()),
        }
    }

    /// Returns the usable token, if there is one, and how long its freshness does not change. Starts an early refresh
    /// if one is due. Never waits.
    pub(crate) fn warm(self: &Arc<Self>, now: Instant) -> Option<(Arc<Published>, Duration)> {
        let wall = self.clock.wall();
        let moment = Moment::new(now, wall);
        let (token, freshness) = self.cell.header(moment)?;
        if freshness == Freshness::Stale
            && let Some(lead) = self.cell.refresh_early(moment)
        {
            // Without a runtime the refresh does not start, and the token is used until it expires.
            drop(self.carry_out(lead));
        }
        // Zero for a stale token: the next check starts a refresh if there is none.
        let look_again = if freshness == Freshness::Stale {
            Duration::ZERO
        } else {
            token.lifetime.unchanged_for(now, wall)
        };
        Some((token, look_again))
    }

    /// Returns a usable token. Waits for the one fetch if there is none.
    ///
    /// # Errors
    ///
    /// The fetch has failed, its back-off is active, or no fetch can start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers. The fetch continues.
    pub(crate) async fn obtain(self: &Arc<Self>) -> Result<Arc<Published>, TokenError> {
        if let Some((token, _)) = self.warm(self.clock.now()) {
            return Ok(token);
        }
        match self.acquire().await {
            Err(error) => self.cell.usable_or(error, self.clock.moment()),
            obtained => obtained,
        }
    }

    /// Waits for a token or an error. Tries again if a fetch is abandoned, at most [`MAX_ABANDONED`] times.
    ///
    /// # Errors
    ///
    /// The fetch has failed, its back-off is active, no fetch can start, or too many were abandoned.
    async fn acquire(self: &Arc<Self>) -> Result<Arc<Published>, TokenError> {
        for _ in 0..MAX_ABANDONED {
            match self.cell.acquire(self.clock.moment()) {
                Acquire::Token(token) => return Ok(token),
                Acquire::Failed(error) => return Err(error),
                Acquire::Wait(flight, lead) => match self.follow(flight, lead).await? {
                    Outcome::Token(token) => return Ok(token),
                    Outcome::Failed(error) | Outcome::Unchanged(error) => return Err(error),
                    Outcome::Abandoned => {}
                },
            }
        }
        Err(TokenError::abandoned())
    }

    /// Returns a new token from one fetch now, or from one in flight. A fetch in flight that finds the secret
    /// unchanged, or a token of another process, is followed by another one.
    ///
    /// # Errors
    ///
    /// The fetch has failed, none can start, or too many were abandoned.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers. The fetch continues.
    pub(crate) async fn force(self: &Arc<Self>) -> Result<Arc<Published>, TokenError> {
        for _ in 0..MAX_ABANDONED {
            match self.cell.force(self.clock.moment()) {
                Acquire::Token(token) => return Ok(token),
                Acquire::Failed(error) => return Err(error),
                Acquire::Wait(flight, lead) => {
                    // A fetch for another reason may load a token from the store, which is not a new one.
                    let is_forced = flight.reason() == FetchReason::Forced;
                    match self.follow(flight, lead).await? {
                        Outcome::Token(token)
                            if is_forced || token.provenance == Provenance::Issued =>
                        {
                            return Ok(token);
                        }
                        Outcome::Failed(error) => return Err(error),
                        Outcome::Token(_) | Outcome::Unchanged(_) | Outcome::Abandoned => {}
                    }
                }
            }
        }
        Err(TokenError::abandoned())
    }

    /// Waits for another token than the rejected one. `None` if there is none, or if it is too soon to fetch one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers. The fetch continues.
    pub(crate) async fn replacement(self: &Arc<Self>, refusal: Refusal) -> Option<Arc<Published>> {
        let refused = refusal.rejected.identity;
        let token = match self.cell.refused(refusal, self.clock.moment()) {
            Refused::Stands => None,
            Refused::Replaced(token) => Some(token),
            Refused::Wait(flight, lead) => {
                match self.follow(flight, lead).await.ok()? {
                    Outcome::Token(token) => Some(token),
                    Outcome::Failed(error) | Outcome::Unchanged(error) => {
                        // May be the rejected token, which is removed below.
                        self.cell.usable_or(error, self.clock.moment()).ok()
                    }
                    // The fetch was lost with its runtime. A token is obtained as for a new request.
                    Outcome::Abandoned => self.obtain().await.ok(),
                }
            }
        };
        // A caching issuer may return the rejected token again.
        token.filter(|token| token.identity != refused)
    }

    /// Starts to replace a rejected token without waiting for it. Returns `false` if there is none and it is too soon
    /// to fetch one.
    pub(crate) fn renew_beside(self: &Arc<Self>, refusal: Refusal) -> bool {
        match self.cell.refused(refusal, self.clock.moment()) {
            Refused::Stands => return false,
            // Without a runtime, the next request that needs a token starts the fetch.
            Refused::Wait(_, Some(lead)) => drop(self.carry_out(lead)),
            Refused::Replaced(_) | Refused::Wait(_, None) => {}
        }
        true
    }

    /// Waits for a fetch. Starts its task first if this caller holds the guard.
    ///
    /// # Errors
    ///
    /// There is no runtime, or too many callers wait already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes this caller from the waiters. The fetch continues.
    async fn follow(
        self: &Arc<Self>,
        flight: Arc<Flight>,
        lead: Option<Lead>,
    ) -> Result<Outcome, TokenError> {
        if let Some(lead) = lead {
            self.carry_out(lead)?;
        }
        let settings = self.cell.settings();
        match Waiting::new(&self.cell, flight, settings.max_waiting) {
            Some(waiting) => Ok(waiting.await),
            None => Err(TokenError::too_many_waiting(settings)),
        }
    }

    /// Runs the fetch on a separate task, so that it continues if its caller is dropped.
    ///
    /// # Errors
    ///
    /// There is no runtime. The guard is dropped, which abandons the fetch.
    fn carry_out(self: &Arc<Self>, lead: Lead) -> Result<(), TokenError> {
        let runtime = Handle::try_current().map_err(|_| TokenError::no_runtime())?;
        let credential = self.cell.settings().credential.as_deref();
        let reason = lead.flight().reason().as_str();
        let flying = span::of_fetch(credential, reason, Arc::clone(self).fly(lead));
        self.register(&runtime.spawn(flying).abort_handle());
        Ok(())
    }

    /// Keeps the task of a fetch for the shutdown. Aborts it if the shutdown has already begun.
    fn register(&self, task: &AbortHandle) {
        let mut tasks = lock(&self.tasks);
        // Ended tasks are removed here, so that the list does not grow.
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.clone());
        drop(tasks);
        // A shutdown closes the cache before it takes the tasks: either it has taken this task, or the cache is closed
        // by now.
        if self.cell.is_closed() {
            task.abort();
        }
    }

    /// Runs a fetch, publishes its result and emits an event. Its task is aborted by a shutdown.
    async fn fly(self: Arc<Self>, lead: Lead) {
        let flight = Arc::clone(lead.flight());
        let reason = flight.reason();
        let credential = self.cell.settings().credential.as_deref();
        let fetched = self.fetch_in_time(&flight).await;
        let now = self.clock.moment();
        let elapsed = now.instant().saturating_duration_since(flight.began());
        let outcome = match fetched {
            Fetched::SecretUnchanged => {
                // No fetch was made: there is no event.
                lead.unchanged(now);
                return;
            }
            Fetched::Result(result) => lead.finish(result, now),
        };
        self.sinks.emit(&match &outcome {
            Some(Outcome::Token(token)) => {
                let expires_in = token.token.lifetime();
                match token.provenance {
                    Provenance::Shared => TokenEvent::Adopted {
                        credential,
                        reason,
                        elapsed,
                        expires_in,
                    },
                    Provenance::Unchanged => TokenEvent::HeldBack { credential },
                    Provenance::Issued => TokenEvent::Fetched {
                        credential,
                        reason,
                        elapsed,
                        expires_in,
                    },
                }
            }
            Some(Outcome::Failed(error)) => TokenEvent::FetchFailed {
                credential,
                reason,
                elapsed,
                error,
            },
            Some(Outcome::Abandoned | Outcome::Unchanged(_)) | None => {
                TokenEvent::FetchIgnored { credential, reason }
            }
        });
    }

    /// Returns what the source uses until `deadline`.
    pub(super) fn surroundings(&self, deadline: Instant) -> Surroundings<'_> {
        Surroundings::new(
            deadline,
            &self.clock,
            self.cell.random(),
            self.cell.settings().credential.as_deref(),
            &self.sinks,
        )
    }

    /// Gets a token from the store or the source, within the deadline of the fetch. Catches panics of both.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops that of the source. The guard of the fetch, which the caller holds, ends the fetch.
    async fn fetch_in_time(&self, flight: &Flight) -> Fetched {
        let work = async {
            if flight.is_recheck() && !self.source.changed().await {
                return Fetched::SecretUnchanged;
            }
            // After the recheck, which is not a fetch.
            self.sinks.emit(&TokenEvent::FetchStarted {
                credential: self.cell.settings().credential.as_deref(),
                reason: flight.reason(),
            });
            let cx = FetchContext::new(
                flight.reason(),
                flight.rejected(),
                self.surroundings(flight.deadline()),
            );
            Fetched::Result(match &self.sharing {
                Some(sharing) => sharing.fetch(&self.source, cx, flight.cell()).await,
                None => self.source.fetch(cx).await.map(Acquired::from),
            })
        };
        match timeout_at(flight.deadline(), surviving(work)).await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => Fetched::Result(Err(TokenError::panicked())),
            Err(_) => {
                let limit = self.cell.settings().fetch_timeout;
                Fetched::Result(Err(TokenError::timeout(limit)))
            }
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// Result of the work of a fetch.
enum Fetched {
    /// A token, or the reason why there is none.
    Result(Result<Acquired, TokenError>),
    /// The fetch was a recheck, and the rejected secret has not changed.
    SecretUnchanged,
}

/// Maximum number of abandoned fetches that one caller waits for.
const MAX_ABANDONED: usize = 3;

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use super::*;
    use crate::client_credentials::{AccessToken, ClientCredentialsLayer};

    #[tokio::test(start_paused = true)]
    async fn a_fetch_spawned_during_shutdown_is_aborted() {
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), origin).build();
        let tokens = Arc::clone(&layer.into_exchange().tokens);
        tokens.cell.close();
        assert!(lock(&tokens.tasks).is_empty());
        let fetch = tokio::spawn(std::future::pending::<()>());

        tokens.register(&fetch.abort_handle());

        assert!(fetch.await.unwrap_err().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_aborts_superseded_fetches() {
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), origin).build();
        let tokens = Arc::clone(&layer.into_exchange().tokens);
        let fetches = [0; 3].map(|_| tokio::spawn(std::future::pending::<()>()));
        for fetch in &fetches {
            tokens.register(&fetch.abort_handle());
        }

        tokens.shut_down().await;

        for fetch in fetches {
            assert!(fetch.await.unwrap_err().is_cancelled());
        }
        // Those that have ended are not kept.
        tokens.register(&tokio::spawn(std::future::ready(())).abort_handle());
        tokio::task::yield_now().await;
        tokens.register(&tokio::spawn(std::future::ready(())).abort_handle());
        assert_eq!(lock(&tokens.tasks).len(), 1);
    }
}
