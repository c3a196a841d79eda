//! Drives the cell: carries out fetches on tasks of their own, and waits for them.

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

/// One credential's tokens: the cell, and what it needs to get new ones.
pub(crate) struct Tokens {
    pub(crate) cell: TokenCell,
    pub(crate) source: SharedTokenSource,
    /// Asked before the source, where the layer has a store.
    pub(super) sharing: Option<TokenSharing>,
    pub(crate) clock: SharedClock,
    pub(crate) sinks: Sinks<TokenEvents>,
    /// The tasks of fetches, for the shutdown: more than one where an overdue one was superseded.
    pub(super) tasks: Mutex<Vec<AbortHandle>>,
}

impl Tokens {
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

    /// The usable token, if there is one, and until when there is nothing to look at again. Starts an early refresh
    /// where that is due, and never waits.
    pub(crate) fn warm(self: &Arc<Self>, now: Instant) -> Option<(Arc<Published>, Duration)> {
        let wall = self.clock.wall();
        let moment = Moment::new(now, wall);
        let (token, freshness) = self.cell.header(moment)?;
        if freshness == Freshness::Stale
            && let Some(lead) = self.cell.refresh_early(moment)
        {
            // Without a runtime the token is used as long as it is valid.
            drop(self.carry_out(lead));
        }
        let look_again = if freshness == Freshness::Stale {
            Duration::ZERO
        } else {
            token.lifetime.unchanged_for(now, wall)
        };
        Some((token, look_again))
    }

    /// A usable token, waiting for the one fetch if there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing for anybody else.
    pub(crate) async fn obtain(self: &Arc<Self>) -> Result<Arc<Published>, TokenError> {
        if let Some((token, _)) = self.warm(self.clock.now()) {
            return Ok(token);
        }
        match self.acquire().await {
            Err(error) => self.cell.usable_or(error, self.clock.moment()),
            obtained => obtained,
        }
    }

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

    /// A new token, from one attempt now. An attempt under way counts; a flight that makes none does not.
    pub(crate) async fn force(self: &Arc<Self>) -> Result<Arc<Published>, TokenError> {
        for _ in 0..MAX_ABANDONED {
            match self.cell.force(self.clock.moment()) {
                Acquire::Token(token) => return Ok(token),
                Acquire::Failed(error) => return Err(error),
                Acquire::Wait(flight, lead) => {
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

    /// Another token than the refused one, or `None` if the refusal stands.
    pub(crate) async fn replacement(self: &Arc<Self>, refusal: Refusal) -> Option<Arc<Published>> {
        let refused = refusal.rejected.identity;
        let token = match self.cell.refused(refusal, self.clock.moment()) {
            Refused::Stands => None,
            Refused::Replaced(token) => Some(token),
            Refused::Wait(flight, lead) => {
                match self.follow(flight, lead).await.ok()? {
                    Outcome::Token(token) => Some(token),
                    Outcome::Failed(error) | Outcome::Unchanged(error) => {
                        self.cell.usable_or(error, self.clock.moment()).ok()
                    }
                    // The attempt was lost with its runtime: whoever needs a token now gets one the ordinary way.
                    Outcome::Abandoned => self.obtain().await.ok(),
                }
            }
        };
        // A caching issuer may hand out the refused token again.
        token.filter(|token| token.identity != refused)
    }

    /// Has a refused token replaced, without waiting for it. `false` if the refusal stands.
    pub(crate) fn renew_beside(self: &Arc<Self>, refusal: Refusal) -> bool {
        match self.cell.refused(refusal, self.clock.moment()) {
            Refused::Stands => return false,
            // Without a runtime the next request that needs the token asks for it.
            Refused::Wait(_, Some(lead)) => drop(self.carry_out(lead)),
            Refused::Replaced(_) | Refused::Wait(_, None) => {}
        }
        true
    }

    /// Waits for a flight, after carrying it out if that fell to us.
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

    /// Runs the flight on a task of its own, so that no caller's departure ends it.
    fn carry_out(self: &Arc<Self>, lead: Lead) -> Result<(), TokenError> {
        let runtime = Handle::try_current().map_err(|_| TokenError::no_runtime())?;
        let credential = self.cell.settings().credential.as_deref();
        let reason = lead.flight().reason().as_str();
        let flying = span::of_fetch(credential, reason, Arc::clone(self).fly(lead));
        self.register(&runtime.spawn(flying).abort_handle());
        Ok(())
    }

    /// Keeps the task of a fetch for the shutdown. One that was spawned while that began ends here.
    fn register(&self, task: &AbortHandle) {
        let mut tasks = lock(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.clone());
        drop(tasks);
        // A shutdown closes the cell before it takes the tasks: it has taken this one, or the cell is closed by now.
        if self.cell.is_closed() {
            task.abort();
        }
    }

    async fn fly(self: Arc<Self>, lead: Lead) {
        let flight = Arc::clone(lead.flight());
        let reason = flight.reason();
        let credential = self.cell.settings().credential.as_deref();
        let fetched = self.fetch_in_time(&flight).await;
        let now = self.clock.moment();
        let elapsed = now.instant().saturating_duration_since(flight.began());
        let outcome = match fetched {
            Fetched::SecretUnchanged => {
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

    pub(super) fn surroundings(&self, deadline: Instant) -> Surroundings<'_> {
        Surroundings::new(
            deadline,
            &self.clock,
            self.cell.random(),
            self.cell.settings().credential.as_deref(),
            &self.sinks,
        )
    }

    /// Asks the store and the source, within the flight's deadline, and survives its panics.
    async fn fetch_in_time(&self, flight: &Flight) -> Fetched {
        let work = async {
            if flight.is_recheck() && !self.source.changed().await {
                return Fetched::SecretUnchanged;
            }
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

enum Fetched {
    Result(Result<Acquired, TokenError>),
    SecretUnchanged,
}

/// So many times a caller starts again when attempts are lost with their runtimes.
const MAX_ABANDONED: usize = 3;

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use super::*;
    use crate::client_credentials::{AccessToken, ClientCredentialsLayer};

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_is_spawned_while_a_shutdown_begins_ends_at_once() {
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
    async fn a_shutdown_ends_superseded_fetches_too() {
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
