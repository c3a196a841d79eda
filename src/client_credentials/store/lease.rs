//! One fetch through a shared store: read the store, wait for the process that holds the lease, or acquire the lease
//! and fetch.
//!
//! The order of accesses is: read, lease, read again, cooldown, fetch, store. Every step may fail, and then this
//! process fetches on its own. At most one process fetches at a time, except when the store or a lease holder fails, or
//! the holder takes longer than half of another process's deadline.
//!
//! Why each step is there:
//!
//! | step | without it |
//! |---|---|
//! | first read | every process would take the lease in turn |
//! | lease | all processes would fetch at once when the token expires |
//! | second read | a process that got the lease late would fetch again |
//! | cooldown | an API that rejects every token would cause a fetch per process |
//! | renewal | the lease would have to be longer than the slowest token request |
//! | mark as failed | after a failure the others would try one after the other, each for its full time |

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    CacheKey, Lease, LeaseId, StoreError, StoreErrorKind, StoredToken, TokenSharing,
    boxed::Erased,
    reuse::{MIN_TIME_LEFT, ReusePolicy, reuse},
};
use crate::{
    catch_panic::catch_panic,
    client_credentials::{
        AccessToken, BoxTokenSource, FetchContext, FetchReason, TokenError, TokenEvent,
        TokenSource,
        context::CacheState,
        token::{Acquired, Provenance},
    },
    clock::add_capped,
    store::{Access, HealthChange},
    sync::lock,
};

/// One fetch of this process through the store.
///
/// Lives for one fetch. All decisions use the state of the cache at its start, so that they agree with each other.
pub(super) struct LeasedFetch<'a> {
    /// The store and its settings.
    sharing: &'a TokenSharing,
    /// The source that requests a token if the store has none.
    source: &'a BoxTokenSource,
    /// Reason, deadline and clock of the fetch.
    cx: FetchContext<'a>,
    /// State of the token cache (`TokenCache`) when the fetch began.
    cache: &'a CacheState,
    /// Cache key of the source's configuration.
    cache_key: CacheKey,
    /// Identifies this fetch as the holder of a lease.
    lease_id: LeaseId,
    /// When the fetch began. Lower bound for the issue time of a token whose request time is unknown.
    began: Instant,
    /// Requirements for a token from the store.
    policy: ReusePolicy,
}

/// Outcome of the lookup in the store.
///
/// Only the holder of the lease may assume that no other process fetches.
///
/// | lookup | who fetches | stored |
/// |---|---|---|
/// | `Token` | no process | it already is |
/// | `Leader` | this process | yes; the lease ends with it |
/// | `WithoutLease` | this process, possibly with others | if the lease is marked as failed |
enum Lookup {
    /// A token from the store, or the current one if it must stay in use.
    Token(Acquired),
    /// This process holds the lease and fetches for all.
    Leader,
    /// This process fetches without the lease.
    WithoutLease,
}

impl TokenSharing {
    /// Returns a token from the store, or fetches one from `source` and stores it.
    ///
    /// A source without a cache key is never shared.
    ///
    /// # Errors
    ///
    /// A configuration error, if the source revokes its token on shutdown; otherwise any error of `source`. Failures of
    /// the store are not errors.
    ///
    /// # Cancel safety
    ///
    /// As for [`LeasedFetch::fetch`].
    pub(crate) async fn fetch(
        &self,
        source: &BoxTokenSource,
        cx: FetchContext<'_>,
        cache: &CacheState,
    ) -> Result<Acquired, TokenError> {
        if source.revokes() {
            return Err(TokenError::configuration(
                "was not sent: a token that is shared with other processes must not be revoked when one of them shuts \
                 down; remove `.revoke_on_shutdown(..)`, or the layer's `.store(..)`",
            ));
        }
        match source.cache_key().await {
            Some(cache_key) => {
                LeasedFetch::new(self, source, cx, cache, cache_key)
                    .fetch()
                    .await
            }
            None => source.fetch(cx).await.map(Acquired::from),
        }
    }
}

impl<'a> LeasedFetch<'a> {
    /// Collects what the lookup needs and creates a new lease holder.
    pub(super) fn new(
        sharing: &'a TokenSharing,
        source: &'a BoxTokenSource,
        cx: FetchContext<'a>,
        cache: &'a CacheState,
        cache_key: CacheKey,
    ) -> Self {
        let wanted = ReusePolicy {
            reason: cx.reason(),
            known: [
                cache.current.as_ref().map(|current| current.fingerprint),
                cache.invalidated,
                cx.rejected().map(|rejected| rejected.fingerprint()),
            ],
            max_lifetime: sharing.settings.max_lifetime,
            refresh_before: cache.refresh_before,
        };
        Self {
            sharing,
            source,
            cx,
            cache,
            cache_key,
            lease_id: LeaseId::random(),
            began: cx.clock().now(),
            policy: wanted,
        }
    }

    /// Performs the fetch: from the store if possible, otherwise from the source. A failing store never fails the
    /// fetch.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the token request. A lease that is held is not released, and expires by itself.
    pub(super) async fn fetch(&self) -> Result<Acquired, TokenError> {
        let issued = match self.resolve().await {
            Ok(Lookup::Token(token)) => return Ok(token),
            Ok(Lookup::Leader) => self.fetch_and_store().await,
            Ok(Lookup::WithoutLease) => {
                let result = self.source.fetch(self.cx).await;
                if let Ok(token) = &result {
                    // Accepted if the lease holder has failed, so that other processes can use this token.
                    self.put(token).await;
                }
                result
            }
            Err(_) => self.source.fetch(self.cx).await,
        };
        issued.map(Acquired::from)
    }

    /// Reads the store and requests the lease, repeatedly while another process holds it.
    ///
    /// Waits for at most half of the time until the deadline. The other half remains for a fetch of its own.
    ///
    /// The intervals between lookups double from 20 ms to 250 ms, with jitter. With the default time limit of 30 s a
    /// process waits for about 15 s at most.
    ///
    /// # Errors
    ///
    /// Any failure of the store other than an unreadable entry. The caller then fetches without the store.
    async fn resolve(&self) -> Result<Lookup, StoreError> {
        // A forced refresh ignores the stored token, unless another process fetched it while this one waited for the
        // lease.
        let mut may_reuse = self.cx.reason() != FetchReason::Forced;
        let now = self.cx.clock().now();
        let wait_until = add_capped(now, self.cx.deadline().saturating_duration_since(now) / 2);
        let mut wait = INITIAL_POLL_INTERVAL;
        loop {
            if may_reuse && let Some(token) = self.lookup().await? {
                return Ok(Lookup::Token(token));
            }
            match self.lease().await? {
                Lease::Held => break,
                Lease::Failed => return Ok(Lookup::WithoutLease),
                Lease::Busy => {}
            }
            if self.cx.clock().now() >= wait_until {
                return Ok(Lookup::WithoutLease);
            }
            // Another process is fetching: its token is newer than this request.
            may_reuse = true;
            // Jitter of 50 to 150 %, so that waiting processes do not poll in step.
            sleep(wait.mul_f64(0.5 + self.cx.surroundings().random())).await;
            wait = (wait * 2).min(MAX_POLL_INTERVAL);
        }
        // Another process may have stored a token between the read and the lease.
        if may_reuse && let Some(token) = self.lookup().await? {
            self.release(None).await;
            return Ok(Lookup::Token(token));
        }
        if let Some(token) = self.suppress().await? {
            self.release(None).await;
            return Ok(Lookup::Token(token));
        }
        Ok(Lookup::Leader)
    }

    /// Reads the store and returns its token if it meets the requirements. An unreadable entry counts as absent.
    ///
    /// An entry that cannot be read is left alone: another key ring may be able to read it.
    ///
    /// # Errors
    ///
    /// Any failure of the store other than an unreadable entry.
    async fn lookup(&self) -> Result<Option<Acquired>, StoreError> {
        let clock = self.cx.clock();
        // Taken before the call, so that the time of the call counts against the remaining lifetime.
        let started = clock.now();
        let reply = self
            .call_store(|store| store.get(&self.cache_key), Access::Read)
            .await;
        match reply {
            Ok(entry) => {
                let token = entry.and_then(|e| reuse(&e, &self.policy, started, clock.now()));
                Ok(token.map(|token| Acquired {
                    token: self.source.bind_stored(token),
                    provenance: Provenance::Shared,
                }))
            }
            Err(error) if error.kind() == StoreErrorKind::Unreadable => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the rejected token if the shared cooldown does not permit a replacement yet, as if the issuer had issued
    /// it again. Otherwise begins a cooldown, removes the token from the store for all processes and returns `None`.
    ///
    /// Processes whose tokens are rejected at the same time then cause one replacement together.
    ///
    /// # Errors
    ///
    /// Any failure of the store. The caller then fetches without the store, and the lease expires by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropped between its two calls, it leaves a cooldown without a removed token. The token is then replaced by the
    /// next rejection after the cooldown, or when it expires.
    async fn suppress(&self) -> Result<Option<Acquired>, StoreError> {
        let current = self.cache.current.as_ref();
        let Some(current) = current.filter(|_| self.cx.reason() == FetchReason::Rejected) else {
            return Ok(None);
        };
        // Each origin has its own cooldown. An origin that rejects every token does not delay a replacement for the
        // others.
        let rejected_at = self.cache.rejected_at;
        let cooldown_key = match rejected_at.and_then(|index| self.sharing.origins.get(index)) {
            Some(origin) => self.cache_key.clone().field("origin", origin.to_string()),
            None => self.cache_key.clone(),
        };
        let length = self.cache.cooldown.min(MAX_COOLDOWN);
        if self
            .write(|store| store.begin_cooldown(&cooldown_key, length))
            .await?
        {
            // Removed only outside a cooldown: during one no replacement is fetched, and other processes may still use
            // the token.
            self.write(|store| store.remove(&self.cache_key, current.fingerprint))
                .await?;
            return Ok(None);
        }
        let clock = self.cx.clock();
        let (now, wall) = (clock.now(), clock.wall_clock());
        let since = current.lifetime.requested_at(now, wall);
        Ok(Some(Acquired {
            token: current.token.clone().with_sent_at(since),
            provenance: Provenance::Unchanged,
        }))
    }

    /// Fetches with the lease and stores the token. On failure, marks the lease as failed for its length, so that other
    /// processes stop waiting.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing releases the lease, and it expires by itself after its length.
    async fn fetch_and_store(&self) -> Result<AccessToken, TokenError> {
        // The lease is renewed during the fetch, so its length may be shorter than that of a token request.
        let result = self.with_lease_renewal(self.source.fetch(self.cx)).await;
        match &result {
            Ok(token) => {
                if !self.put(token).await {
                    self.release(None).await;
                }
            }
            Err(_) => self.release(Some(self.sharing.settings.lease)).await,
        }
        result
    }

    /// Stores `token`, which also ends the lease. Returns whether it was stored.
    async fn put(&self, token: &AccessToken) -> bool {
        let Some(stored) = self.storable(token).await else {
            return false;
        };
        let put = self.write(|store| store.put(&self.cache_key, &stored, self.lease_id));
        put.await.unwrap_or_default()
    }

    /// Returns the entry to store, or `None` if the token must not or need not be shared.
    ///
    /// The cache key is computed again, because a rotation during the fetch would otherwise store the token of one
    /// secret under another.
    async fn storable(&self, token: &AccessToken) -> Option<StoredToken> {
        let now = self.cx.clock().now();
        // The lifetime counts from when the token was requested, the earliest time at which it can have been issued.
        let spent = now.saturating_duration_since(token.sent_at().unwrap_or(self.began));
        let stored = StoredToken::new(token.clone(), token.lifetime()?.saturating_sub(spent))?;
        let is_shareable = stored.left() > MIN_TIME_LEFT
            && stored.lifetime() <= self.policy.max_lifetime
            && token.is_shareable();
        // If the secret changed during the fetch, the token may belong to the new secret and so to another cache key.
        let unchanged = self.source.cache_key().await.as_ref() == Some(&self.cache_key);
        (is_shareable && unchanged).then_some(stored)
    }

    /// Acquires or renews the lease.
    async fn lease(&self) -> Result<Lease, StoreError> {
        let length = self.sharing.settings.lease;
        self.write(|store| store.lease(&self.cache_key, self.lease_id, length))
            .await
    }

    /// Ends the lease, or marks it as failed for the given duration. Ignores errors.
    async fn release(&self, failed: Option<Duration>) {
        let release = self.write(|store| store.release(&self.cache_key, self.lease_id, failed));
        // If the call fails, the lease expires by itself.
        drop(release.await);
    }

    /// Runs `work` and renews the lease after each third of its length. A failed renewal is ignored.
    ///
    /// Not a task of its own: it ends with the fetch, and needs no cancellation.
    async fn with_lease_renewal<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut renewal = pin!(async {
            loop {
                sleep(self.sharing.settings.lease / 3).await;
                // The lease may have been lost. The fetch continues, because its token is still valid.
                drop(self.lease().await);
            }
        });
        // `work` is polled first, so that no renewal follows its completion.
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => {
                let renewing: Poll<Infallible> = renewal.as_mut().poll(cx);
                renewing.map(|never| match never {})
            }
        })
        .await
    }

    /// Makes a call that writes to the store.
    async fn write<'s, T, F>(
        &'s self,
        request: impl FnOnce(&'s dyn Erased) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + 's,
    {
        self.call_store(request, Access::Write).await
    }

    /// Calls the store with the configured timeout. Emits an event when the store begins to fail or recovers. A panic
    /// of the store counts as a failure.
    ///
    /// The health is shared by all fetches of the layer, so that an outage is reported once.
    ///
    /// # Errors
    ///
    /// The store's error, or `Unavailable` after a timeout or a panic.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call of the store, which may have been executed. The health is not updated then.
    async fn call_store<'s, T, F>(
        &'s self,
        request: impl FnOnce(&'s dyn Erased) -> F,
        access: Access,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + 's,
    {
        // The timeout includes user code of the store, which may neither block the fetch for longer nor end it by a
        // panic.
        let limit = self.sharing.settings.timeout;
        let request = catch_panic(async { request(&*self.sharing.store.0).await });
        let reply = timeout(limit, request)
            .await
            .unwrap_or_else(|_| Some(Err(StoreError::timeout(limit))))
            .unwrap_or_else(|| Err(StoreError::unavailable("panicked")));
        let error = reply.as_ref().err();
        let change = lock(&self.sharing.health).record(access, error);
        let surroundings = self.cx.surroundings();
        match (change, error) {
            (Some(HealthChange::Failed), Some(error)) => {
                surroundings.emit(|credential| TokenEvent::StoreFailed { credential, error });
            }
            (Some(_), _) => {
                surroundings.emit(|credential| TokenEvent::StoreRecovered { credential });
            }
            (None, _) => {}
        }
        reply
    }
}

/// Maximum cooldown that processes share. Stores themselves accept up to 24 h.
const MAX_COOLDOWN: Duration = Duration::from_secs(3600);
/// First delay between two lookups while another process holds the lease. Doubles with each lookup.
const INITIAL_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum delay between two lookups.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(250);
