//! Runs fetches on separate tasks, and waits for them.
//!
//! 1. `get_cached` returns a usable token without waiting. It starts an early refresh if the token is stale.
//! 2. `get` calls the cache, which returns a token, an error or a fetch to wait for, with a guard for its first caller.
//! 3. The caller with the guard spawns the task of the fetch. It then waits like all other callers.
//! 4. The task publishes the result in the cache, which wakes the callers, and emits an event.
//!
//! A fetch runs on the runtime of the caller that started it. If that runtime shuts down, its tasks are dropped, the
//! guard abandons the fetch, and the callers on other runtimes start another one. After three such fetches a caller
//! gives up, so that a program that creates a runtime per request does not loop.
//!
//! No function of this module holds a lock across an `await`.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    BoxTokenSource, FetchContext, FetchReason, TokenError, TokenScope, TokenSource,
    cache::{Acquire, CachedToken, FetchGuard, Rejection, RejectionOutcome, TokenCache},
    context::SourceContext,
    event::{TokenEvent, TokenEvents},
    freshness::Freshness,
    in_flight::{InFlightFetch, Outcome},
    scoped_tokens::ScopedTokens,
    step_up::LearnedScopes,
    store::TokenSharing,
    token::{Acquired, Provenance},
    waiting::WaitFuture,
};
use crate::{
    catch_panic::catch_panic,
    clock::{Moment, SharedClock},
    sinks::Sinks,
    sync::{Mutex, lock},
    telemetry::span,
};

/// The token cache of one credential, and what a fetch needs.
///
/// One for each layer, shared by all threads, handles and tasks of fetches. It is dropped with the last of them, not
/// with the layer.
pub(crate) struct Refresher {
    /// The shared token cache.
    pub(crate) cache: TokenCache,
    /// Source of new tokens.
    pub(crate) source: BoxTokenSource,
    /// Tried before the source. `None` without a store.
    pub(super) sharing: Option<Arc<TokenSharing>>,
    /// The layer's clock.
    pub(crate) clock: SharedClock,
    /// Receivers of events.
    pub(crate) sinks: Sinks<TokenEvents>,
    /// Scopes learned from challenges of APIs. `None` without step-up.
    pub(crate) learned: Option<Arc<LearnedScopes>>,
    /// Tokens for other scopes. `None` for those themselves.
    pub(super) scoped: Option<ScopedTokens<Self>>,
    /// Tasks of fetches, which a shutdown aborts. More than one if an overdue fetch was superseded.
    pub(super) tasks: Mutex<Vec<AbortHandle>>,
    /// When the certificate of the token is read next. `None` before the first token with one.
    pub(super) certificate_due: Mutex<Option<Instant>>,
}

impl Refresher {
    /// Combines a token cache with a source.
    pub(crate) fn new(
        cache: TokenCache,
        source: BoxTokenSource,
        sharing: Option<Arc<TokenSharing>>,
        clock: SharedClock,
        sinks: Sinks<TokenEvents>,
        learned: Option<Arc<LearnedScopes>>,
    ) -> Self {
        Self {
            cache,
            source,
            sharing,
            clock,
            sinks,
            learned,
            scoped: None,
            tasks: Mutex::new(Vec::new()),
            certificate_due: Mutex::new(None),
        }
    }

    /// Sets the tokens for other scopes.
    pub(crate) fn with_scoped(self, scoped: ScopedTokens<Self>) -> Self {
        let scoped = Some(scoped);
        Self { scoped, ..self }
    }

    /// Returns the tokens for `scope`: these, if it requests what the source requests.
    pub(crate) fn for_scope(self: &Arc<Self>, scope: &TokenScope) -> Arc<Self> {
        let Some(scoped) = self.scoped.as_ref().filter(|_| !scope.is_empty()) else {
            return Arc::clone(self);
        };
        let tokens = scoped.get(scope, self.clock.now());
        // A shutdown closes the entries that exist. One that is created later is closed here.
        if self.cache.is_closed() {
            drop(tokens.cache.close());
        }
        tokens
    }

    /// Returns the usable token, if there is one, and how long its freshness does not change. Starts an early refresh
    /// if one is due. Never waits.
    ///
    /// The duration is what a local copy may rely on. It is zero for a stale token, so that the thread comes back and
    /// starts a refresh as soon as none is in flight.
    pub(crate) fn get_cached(
        self: &Arc<Self>,
        now: Instant,
    ) -> Option<(Arc<CachedToken>, Duration)> {
        let wall = self.clock.wall_clock();
        let moment = Moment::new(now, wall);
        let (token, freshness) = self.cache.header(moment)?;
        if freshness == Freshness::Stale
            && let Some(guard) = self.cache.refresh_early(moment)
        {
            // Without a runtime the refresh does not start, and the token is used until it expires.
            drop(self.spawn_fetch(guard));
        }
        if token.token.certificate().is_some() {
            self.watch_certificate(&token, now);
        }
        // Zero for a stale token: the next check starts a refresh if there is none.
        let valid_for = if freshness == Freshness::Stale {
            Duration::ZERO
        } else {
            token.lifetime.unchanged_for(now, wall)
        };
        Some((token, valid_for))
    }

    /// Returns a usable token. Waits for the one fetch if there is none.
    ///
    /// After a failure the cache is read once more: a token that was set aside because one request saw it rejected is
    /// usable again once its replacement has failed.
    ///
    /// # Errors
    ///
    /// The fetch has failed, its back-off is active, or no fetch can start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers. The fetch continues.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<Arc<CachedToken>, TokenError> {
        if let Some((token, _)) = self.get_cached(self.clock.now()) {
            return Ok(token);
        }
        match self.acquire().await {
            Err(error) => self.cache.token_or(error, self.clock.moment()),
            obtained => obtained,
        }
    }

    /// Waits for a token or an error. Tries again if a fetch is abandoned, at most [`MAX_ABANDONED`] times.
    ///
    /// Does not read the local copies and starts no early refresh.
    ///
    /// # Errors
    ///
    /// The fetch has failed, its back-off is active, no fetch can start, or too many were abandoned.
    async fn acquire(self: &Arc<Self>) -> Result<Arc<CachedToken>, TokenError> {
        for _ in 0..MAX_ABANDONED {
            match self.cache.acquire(self.clock.moment()) {
                Acquire::Token(token) => return Ok(token),
                Acquire::Failed(error) => return Err(error),
                Acquire::Wait(fetch, guard) => match self.join(fetch, guard).await? {
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
    /// The first round may join a fetch for another reason. Its token counts if the source has just issued it; then a
    /// second token request would be wasted.
    ///
    /// # Errors
    ///
    /// The fetch has failed, none can start, or too many were abandoned.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers. The fetch continues.
    pub(crate) async fn refresh_now(self: &Arc<Self>) -> Result<Arc<CachedToken>, TokenError> {
        for _ in 0..MAX_ABANDONED {
            match self.cache.refresh_now(self.clock.moment()) {
                Acquire::Token(token) => return Ok(token),
                Acquire::Failed(error) => return Err(error),
                Acquire::Wait(fetch, guard) => {
                    // A fetch for another reason may load a token from the store, which is not a new one.
                    let is_forced = fetch.reason() == FetchReason::Forced;
                    match self.join(fetch, guard).await? {
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
    /// Never returns the rejected token, even if the issuer returns it again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not affect other callers. The fetch continues.
    pub(crate) async fn refresh_and_wait(
        self: &Arc<Self>,
        rejection: Rejection,
    ) -> Option<Arc<CachedToken>> {
        let rejected = rejection.rejected.fingerprint;
        let token = match self.cache.reject(rejection, self.clock.moment()) {
            RejectionOutcome::Final => None,
            RejectionOutcome::Replaced(token) => Some(token),
            RejectionOutcome::Wait(fetch, guard) => {
                match self.join(fetch, guard).await.ok()? {
                    Outcome::Token(token) => Some(token),
                    Outcome::Failed(error) | Outcome::Unchanged(error) => {
                        // It may be the rejected token, which the filter below removes.
                        self.cache.token_or(error, self.clock.moment()).ok()
                    }
                    // The fetch was lost with its runtime. A token is obtained as for a new request.
                    Outcome::Abandoned => self.get().await.ok(),
                }
            }
        };
        // A caching issuer may return the rejected token again.
        token.filter(|token| token.fingerprint != rejected)
    }

    /// Starts to replace a rejected token without waiting for it. Returns `false` if there is none and it is too soon
    /// to fetch one.
    ///
    /// `true` means that later requests will have another token, not that this call started the fetch.
    pub(crate) fn refresh_in_background(self: &Arc<Self>, rejection: Rejection) -> bool {
        match self.cache.reject(rejection, self.clock.moment()) {
            RejectionOutcome::Final => return false,
            // Without a runtime, the next request that needs a token starts the fetch.
            RejectionOutcome::Wait(_, Some(guard)) => drop(self.spawn_fetch(guard)),
            RejectionOutcome::Replaced(_) | RejectionOutcome::Wait(_, None) => {}
        }
        true
    }

    /// Waits for a fetch. Starts its task first if this caller holds the guard.
    ///
    /// A caller that finds the queue full has started the fetch nevertheless: the task is spawned before the place is
    /// taken.
    ///
    /// # Errors
    ///
    /// There is no runtime, or too many callers wait already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes this caller from the waiters. The fetch continues.
    async fn join(
        self: &Arc<Self>,
        fetch: Arc<InFlightFetch>,
        guard: Option<FetchGuard>,
    ) -> Result<Outcome, TokenError> {
        if let Some(guard) = guard {
            self.spawn_fetch(guard)?;
        }
        let settings = self.cache.settings();
        match WaitFuture::new(&self.cache, fetch, settings.max_waiting) {
            Some(waiting) => Ok(waiting.await),
            None => Err(TokenError::queue_full(settings)),
        }
    }

    /// Runs the fetch on a separate task, so that it continues if its caller is dropped.
    ///
    /// The span of the task has no parent: the fetch serves all callers, and may outlive the one that started it.
    ///
    /// # Errors
    ///
    /// There is no runtime. The guard is dropped, which abandons the fetch.
    fn spawn_fetch(self: &Arc<Self>, guard: FetchGuard) -> Result<(), TokenError> {
        let runtime = Handle::try_current().map_err(|_| TokenError::no_runtime())?;
        let credential = self.cache.settings().credential.as_deref();
        let reason = guard.fetch().reason().as_str();
        let flying = span::fetch_span(credential, reason, Arc::clone(self).run_fetch(guard));
        self.register(&runtime.spawn(flying).abort_handle());
        Ok(())
    }

    /// Keeps the task of a fetch for the shutdown. Aborts it if the shutdown has already begun.
    pub(super) fn register(&self, task: &AbortHandle) {
        let mut tasks = lock(&self.tasks);
        // Ended tasks are removed here, so that the list does not grow.
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.clone());
        drop(tasks);
        // A shutdown closes the cache before it takes the tasks: either it has taken this task, or the cache is closed
        // by now.
        if self.cache.is_closed() {
            task.abort();
        }
    }

    /// Runs a fetch, publishes its result and emits an event. Its task is aborted by a shutdown.
    ///
    /// The event is emitted after the callers were woken, so that a slow sink delays no request. It is not emitted if
    /// the task is aborted or dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the guard. The waiters wake and call the cache again, and no event is emitted.
    async fn run_fetch(self: Arc<Self>, guard: FetchGuard) {
        let fetch = Arc::clone(guard.fetch());
        let reason = fetch.reason();
        let credential = self.cache.settings().credential.as_deref();
        // The guard stays on this task's stack meanwhile: whatever ends the task ends the fetch.
        let fetched = self.fetch_with_timeout(&fetch).await;
        let now = self.clock.moment();
        let elapsed = now.instant().saturating_duration_since(fetch.began());
        let outcome = match fetched {
            FetchOutcome::SecretUnchanged => {
                // No fetch was made: there is no event.
                guard.unchanged(now);
                return;
            }
            FetchOutcome::Result(result) => guard.complete(result, now),
        };
        self.sinks.emit(&match &outcome {
            Some(Outcome::Token(token)) => {
                let expires_in = token.token.lifetime();
                match token.provenance {
                    Provenance::Shared => TokenEvent::LoadedFromStore {
                        credential,
                        reason,
                        elapsed,
                        expires_in,
                    },
                    Provenance::Unchanged => TokenEvent::RefreshSuppressed { credential },
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
                TokenEvent::FetchSuperseded { credential, reason }
            }
        });
    }

    /// Returns what the source uses until `deadline`.
    pub(super) fn source_context(&self, deadline: Instant) -> SourceContext<'_> {
        SourceContext::new(
            deadline,
            &self.clock,
            self.cache.random(),
            self.cache.settings().credential.as_deref(),
            &self.sinks,
        )
    }

    /// Gets a token from the store or the source, within the deadline of the fetch. Catches panics of both.
    ///
    /// The time limit covers the recheck, the store and the source together. A source that ignores its deadline is
    /// dropped here.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops that of the source. The guard of the fetch, which the caller holds, ends the fetch.
    async fn fetch_with_timeout(&self, fetch: &InFlightFetch) -> FetchOutcome {
        let work = async {
            if fetch.is_recheck() && !self.source.changed().await {
                return FetchOutcome::SecretUnchanged;
            }
            // After the recheck, which is not a fetch.
            self.sinks.emit(&TokenEvent::FetchStarted {
                credential: self.cache.settings().credential.as_deref(),
                reason: fetch.reason(),
            });
            let cx = FetchContext::new(
                fetch.reason(),
                fetch.rejected(),
                self.source_context(fetch.deadline()),
            );
            FetchOutcome::Result(match &self.sharing {
                Some(sharing) => sharing.fetch(&self.source, cx, fetch.cache()).await,
                None => self.source.fetch(cx).await.map(Acquired::from),
            })
        };
        // Within the time limit, so that a panic is reported as such and not as a lost fetch.
        match timeout_at(fetch.deadline(), catch_panic(work)).await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => FetchOutcome::Result(Err(TokenError::panicked())),
            Err(_) => {
                let limit = self.cache.settings().fetch_timeout;
                FetchOutcome::Result(Err(TokenError::timeout(limit)))
            }
        }
    }
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresher").finish_non_exhaustive()
    }
}

/// Result of the work of a fetch.
enum FetchOutcome {
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
        let tokens = Arc::clone(&layer.into_auth().refresher);
        tokens.cache.close();
        assert!(lock(&tokens.tasks).is_empty());
        let fetch = tokio::spawn(std::future::pending::<()>());

        tokens.register(&fetch.abort_handle());

        assert!(fetch.await.unwrap_err().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_aborts_superseded_fetches() {
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(AccessToken::new("key"), origin).build();
        let tokens = Arc::clone(&layer.into_auth().refresher);
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
