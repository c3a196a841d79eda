//! One fetch with a store beside it: look, wait for whoever is at it, or fetch for all.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    CacheIdentity, Lease, LeaseHolder, StoreError, StoreErrorKind, StoredToken, TokenSharing,
    adoption::{SHORTEST, Wanted, adopt},
    shared::Erased,
};
use crate::{
    client_credentials::{
        AccessToken, FetchContext, FetchReason, SharedTokenSource, TokenError, TokenEvent,
        TokenSource,
        context::CellState,
        token::{Acquired, Provenance},
    },
    clock::after,
    panics::surviving,
    store::{Access, Change},
    sync::lock,
};

/// One process at the store, for one fetch.
pub(super) struct Visit<'a> {
    sharing: &'a TokenSharing,
    source: &'a SharedTokenSource,
    cx: FetchContext<'a>,
    /// The cell as it was when the fetch began.
    cell: &'a CellState,
    identity: CacheIdentity,
    holder: LeaseHolder,
    began: Instant,
    wanted: Wanted,
}

/// What came of asking the store.
enum Found {
    /// There is a token, or the one at hand must do.
    Token(Acquired),
    /// This process fetches for all.
    Lead,
    /// Every process fetches on its own.
    Alone,
}

impl TokenSharing {
    /// A token from the store, or from `source`, which is then stored.
    pub(crate) async fn fetch(
        &self,
        source: &SharedTokenSource,
        cx: FetchContext<'_>,
        cell: &CellState,
    ) -> Result<Acquired, TokenError> {
        if source.revokes() {
            return Err(TokenError::configuration(
                "is not possible: a token that is shared with other processes must not be revoked when one of them ends; \
                 leave out `.revoke_on_shutdown(..)`, or the layer's `.store(..)`",
            ));
        }
        match source.cache_identity().await {
            Some(identity) => Visit::new(self, source, cx, cell, identity).fetch().await,
            None => source.fetch(cx).await.map(Acquired::from),
        }
    }
}

impl<'a> Visit<'a> {
    pub(super) fn new(
        sharing: &'a TokenSharing,
        source: &'a SharedTokenSource,
        cx: FetchContext<'a>,
        cell: &'a CellState,
        identity: CacheIdentity,
    ) -> Self {
        let wanted = Wanted {
            reason: cx.reason(),
            known: [
                cell.current.as_ref().map(|current| current.identity),
                cell.dropped,
                cx.rejected().map(|rejected| rejected.identity()),
            ],
            max_lifetime: sharing.settings.max_lifetime,
            refresh_before: cell.refresh_before,
        };
        Self {
            sharing,
            source,
            cx,
            cell,
            identity,
            holder: LeaseHolder::random(),
            began: cx.clock().now(),
            wanted,
        }
    }

    pub(super) async fn fetch(&self) -> Result<Acquired, TokenError> {
        let issued = match self.ask().await {
            Ok(Found::Token(token)) => return Ok(token),
            Ok(Found::Lead) => self.fetch_for_all().await,
            Ok(Found::Alone) => {
                let result = self.source.fetch(self.cx).await;
                if let Ok(token) = &result {
                    // Taken if the one who held the lease has failed.
                    self.put(token).await;
                }
                result
            }
            Err(_) => self.source.fetch(self.cx).await,
        };
        issued.map(Acquired::from)
    }

    async fn ask(&self) -> Result<Found, StoreError> {
        // Whoever asks for a new token by hand takes no other, unless it was fetched meanwhile.
        let mut looks = self.cx.reason() != FetchReason::Forced;
        let now = self.cx.clock().now();
        let patience = after(now, self.cx.deadline().saturating_duration_since(now) / 2);
        let mut wait = FIRST_WAIT;
        loop {
            if looks && let Some(token) = self.look().await? {
                return Ok(Found::Token(token));
            }
            match self.lease().await? {
                Lease::Held => break,
                Lease::Failed => return Ok(Found::Alone),
                Lease::Busy => {}
            }
            if self.cx.clock().now() >= patience {
                return Ok(Found::Alone);
            }
            looks = true;
            sleep(wait.mul_f64(0.5 + self.cx.surroundings().random())).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        // Somebody may have put a token between the look and the lease.
        if looks && let Some(token) = self.look().await? {
            self.release(None).await;
            return Ok(Found::Token(token));
        }
        if let Some(token) = self.held_back().await? {
            self.release(None).await;
            return Ok(Found::Token(token));
        }
        Ok(Found::Lead)
    }

    /// A token to be used here, if there is one. What cannot be read is not there.
    async fn look(&self) -> Result<Option<Acquired>, StoreError> {
        let clock = self.cx.clock();
        let asked = clock.now();
        let answer = self
            .ask_store(|store| store.get(&self.identity), Access::Read)
            .await;
        match answer {
            Ok(entry) => {
                let token = entry.and_then(|e| adopt(&e, &self.wanted, asked, clock.now()));
                Ok(token.map(|token| Acquired {
                    token,
                    provenance: Provenance::Shared,
                }))
            }
            Err(error) if error.kind() == StoreErrorKind::Unreadable => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The refused token, where it is too soon to have it replaced: as if the issuer had given it out again. Otherwise it
    /// is removed for all.
    async fn held_back(&self) -> Result<Option<Acquired>, StoreError> {
        let current = self.cell.current.as_ref();
        let Some(current) = current.filter(|_| self.cx.reason() == FetchReason::Rejected) else {
            return Ok(None);
        };
        // An origin that refuses every token keeps only its own refusals from a new one.
        let rejected_at = self.cell.rejected_at;
        let here = match rejected_at.and_then(|index| self.sharing.origins.get(index)) {
            Some(origin) => self.identity.clone().field("origin", origin.to_string()),
            None => self.identity.clone(),
        };
        let length = self.cell.cooldown.min(LONGEST_COOLDOWN);
        if self.call(|store| store.cool_down(&here, length)).await? {
            // During a cooldown it stays there: others may not have met with a refusal, and a new one is not to be had.
            self.call(|store| store.remove(&self.identity, current.identity))
                .await?;
            return Ok(None);
        }
        let clock = self.cx.clock();
        let (now, wall) = (clock.now(), clock.wall());
        let since = current.lifetime.asked_at(now, wall);
        Ok(Some(Acquired {
            token: current.token.clone().with_sent_at(since),
            provenance: Provenance::Unchanged,
        }))
    }

    async fn fetch_for_all(&self) -> Result<AccessToken, TokenError> {
        let result = self.while_renewing(self.source.fetch(self.cx)).await;
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

    /// Whether `token` was stored, which ends the lease.
    async fn put(&self, token: &AccessToken) -> bool {
        let Some(stored) = self.to_store(token).await else {
            return false;
        };
        let put = self.call(|store| store.put(&self.identity, &stored, self.holder));
        put.await.unwrap_or_default()
    }

    /// The token, if it may be shared.
    async fn to_store(&self, token: &AccessToken) -> Option<StoredToken> {
        let now = self.cx.clock().now();
        let spent = now.saturating_duration_since(token.sent_at().unwrap_or(self.began));
        let stored = StoredToken::new(token.clone(), token.lifetime()?.saturating_sub(spent))?;
        let worth_it = stored.left() > SHORTEST
            && stored.lifetime() <= self.wanted.max_lifetime
            && token.is_shareable();
        // A secret that changed meanwhile may be the one that the token was granted for.
        let unchanged = self.source.cache_identity().await.as_ref() == Some(&self.identity);
        (worth_it && unchanged).then_some(stored)
    }

    async fn lease(&self) -> Result<Lease, StoreError> {
        let length = self.sharing.settings.lease;
        self.call(|store| store.lease(&self.identity, self.holder, length))
            .await
    }

    async fn release(&self, failed: Option<Duration>) {
        let release = self.call(|store| store.release(&self.identity, self.holder, failed));
        // If it fails, the lease ends by itself.
        drop(release.await);
    }

    /// Carries out `work`, and keeps the lease meanwhile.
    async fn while_renewing<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut renewal = pin!(async {
            loop {
                sleep(self.sharing.settings.lease / 3).await;
                drop(self.lease().await);
            }
        });
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => {
                let renewing: Poll<Infallible> = renewal.as_mut().poll(cx);
                renewing.map(|never| match never {})
            }
        })
        .await
    }

    async fn call<'s, T, F>(
        &'s self,
        ask: impl FnOnce(&'s dyn Erased) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + 's,
    {
        self.ask_store(ask, Access::Write).await
    }

    /// Asks the store, for a limited time, and tells when it begins to fail or to work again.
    async fn ask_store<'s, T, F>(
        &'s self,
        ask: impl FnOnce(&'s dyn Erased) -> F,
        access: Access,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + 's,
    {
        let limit = self.sharing.settings.timeout;
        let ask = surviving(async { ask(&*self.sharing.store.0).await });
        let answer = timeout(limit, ask)
            .await
            .unwrap_or_else(|_| Some(Err(StoreError::timeout(limit))))
            .unwrap_or_else(|| Err(StoreError::unavailable("panicked")));
        let error = answer.as_ref().err();
        let change = lock(&self.sharing.health).learn(access, error);
        let surroundings = self.cx.surroundings();
        match (change, error) {
            (Some(Change::Failed), Some(error)) => {
                surroundings.emit(|credential| TokenEvent::StoreFailed { credential, error });
            }
            (Some(_), _) => {
                surroundings.emit(|credential| TokenEvent::StoreRecovered { credential });
            }
            (None, _) => {}
        }
        answer
    }
}

/// Maximum cooldown that processes share. Stores take what lasts longer than an hour for none of ours.
const LONGEST_COOLDOWN: Duration = Duration::from_secs(3600);
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(250);
