//! The token at hand: what a warm request reads instead of the cell.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use tokio::time::Instant;

use super::{
    TokenIdentity,
    exchange::{Exchange, Sent},
    token::secret_bytes,
};
use crate::{clock::after, sync::Mutex};

/// One shard's copy of the header, with an allocation of its own. See [`Sharded`](crate::sharded::Sharded).
#[derive(Debug)]
pub(crate) struct Near {
    pub(crate) exchange: Arc<Exchange>,
    local: Mutex<Local>,
}

#[derive(Debug)]
struct Local {
    copy: Option<Copied>,
    /// By origin: from when on a success is to be told again.
    told: Box<[Option<Instant>]>,
}

#[derive(Debug)]
struct Copied {
    header: HeaderValue,
    identity: TokenIdentity,
    /// Worth nothing when the cell has changed since, or from this time on.
    changes: u64,
    until: Instant,
}

impl Near {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        let told = vec![None; exchange.authorizer.origins.len()].into();
        Self {
            exchange,
            local: Mutex::new(Local { copy: None, told }),
        }
    }

    /// The header with the usable token, if there is one, for a request that is sent to `origin` now.
    ///
    /// Of what other threads use, this reads the cell's count of changes, on a line that is written when a token is
    /// published or refused; the lock, the copy and its reference count are this shard's own.
    pub(crate) fn token(&self, now: Instant, origin: usize) -> Option<(HeaderValue, Sent)> {
        let changes = self.exchange.tokens.cell.changes();
        // Taken only where threads outnumber shards: nobody waits for it.
        if let Ok(mut local) = self.local.try_lock()
            && let Local {
                copy: Some(copy),
                told,
            } = &mut *local
            && copy.changes == changes
            && now < copy.until
        {
            let sent = Sent {
                tell: is_due(told, origin, now),
                ..Sent::new(copy.identity, origin, now)
            };
            return Some((copy.header.clone(), sent));
        }
        let (header, identity) = self.look(changes, now)?;
        Some((header, Sent::new(identity, origin, now)))
    }

    /// Takes another copy. `changes` was read before the token, so that a token published in between is noticed.
    #[cold]
    fn look(&self, changes: u64, now: Instant) -> Option<(HeaderValue, TokenIdentity)> {
        let (token, fresh_for) = self.exchange.tokens.warm(now)?;
        let mut header = HeaderValue::from_maybe_shared(secret_bytes(token.header.as_bytes()))
            .unwrap_or_else(|_| token.header.clone());
        header.set_sensitive(true);
        let wall = self.exchange.tokens.clock.wall();
        let left = token.lifetime.left(now, wall).unwrap_or(LONGEST);
        if let Ok(mut local) = self.local.try_lock() {
            local.copy = Some(Copied {
                header: header.clone(),
                identity: token.identity,
                changes,
                until: after(now, fresh_for.clamp(SHORTEST, LONGEST).min(left)),
            });
        }
        Some((header, token.identity))
    }
}

/// Whether a success of a request sent now is worth telling: others have told of theirs until a moment ago.
fn is_due(told: &mut [Option<Instant>], origin: usize, now: Instant) -> bool {
    let Some(told) = told.get_mut(origin) else {
        return true;
    };
    let due = told.is_none_or(|told| now >= told);
    if due {
        *told = Some(after(now, TELL_EVERY));
    }
    due
}

/// While a token is being renewed, so often is it looked whether another attempt is due.
const SHORTEST: Duration = Duration::from_millis(5);
/// So often is the wall clock compared, which notices that the machine was suspended.
const LONGEST: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_millis(100);

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::SystemTime,
    };

    use super::*;
    use crate::{
        Clock, SystemClock,
        client_credentials::{AccessToken, ClientCredentialsLayer},
    };

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// Counts how often the wall clock is read, which is when a copy is taken.
    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>);

    impl Clock for Counting {
        fn now(&self) -> Instant {
            SystemClock.now()
        }

        fn wall(&self) -> SystemTime {
            self.0.fetch_add(1, SeqCst);
            SystemTime::UNIX_EPOCH
        }
    }

    /// With a token of this life in the cell.
    async fn near(life: Option<Duration>, clock: &Counting) -> Near {
        let mut token = AccessToken::new("key");
        if let Some(life) = life {
            token = token.expires_in(life);
        }
        let origin = "https://api.example".parse().unwrap();
        let layer = ClientCredentialsLayer::builder(token, origin);
        let near = Near::new(layer.clock(clock.clone()).build().into_exchange());
        assert!(near.token(SystemClock.now(), 0).is_none());
        near.exchange.tokens.obtain().await.unwrap();
        near
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_used_for_a_second_and_until_the_cell_changes() {
        let clock = Counting::default();
        let near = near(None, &clock).await;
        let now = SystemClock.now();
        // Whether a copy is taken for a request that is sent then.
        let takes = |at: Duration| {
            let before = clock.0.load(SeqCst);
            let (header, sent) = near.token(now + at, 0).unwrap();
            assert_eq!(header, "Bearer key");
            assert!(header.is_sensitive());
            assert_eq!((sent.at, sent.origin), (now + at, 0));
            clock.0.load(SeqCst) > before
        };
        assert!(takes(Duration::ZERO));
        assert!(!takes(Duration::ZERO));
        assert!(!takes(SECOND - MS));
        assert!(takes(SECOND));
        assert!(!takes(2 * SECOND - MS));

        assert!(near.exchange.tokens.cell.invalidate());

        assert!(near.token(now + 2 * SECOND - MS, 0).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_not_used_when_the_token_has_expired() {
        let near = near(Some(2 * SECOND), &Counting::default()).await;
        let now = SystemClock.now();

        assert!(near.token(now + 1999 * MS, 0).is_some());
        assert!(near.token(now + 2 * SECOND, 0).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_is_worth_telling_every_tenth_of_a_second() {
        let near = near(None, &Counting::default()).await;
        let now = SystemClock.now();
        let tells = |at: u32| near.token(now + at * MS, 0).unwrap().1.tell;
        // Whoever takes a copy tells in any case.
        assert!(tells(0));

        for (at, told) in [
            (1, true),
            (2, false),
            (100, false),
            (101, true),
            (200, false),
        ] {
            assert_eq!(tells(at), told, "{at}");
        }
        let mut none = Vec::new();
        assert!(is_due(&mut none, 0, now));
    }
}
