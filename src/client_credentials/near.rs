//! The token at hand: what a warm request reads instead of the cell.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use tokio::time::Instant;

use super::{TokenIdentity, exchange::Exchange};
use crate::{clock::after, sync::Mutex};

/// One place's copy of the header, with an allocation of its own. See [`Sharded`](crate::sharded::Sharded).
#[derive(Debug)]
pub(crate) struct Near {
    pub(crate) exchange: Arc<Exchange>,
    copy: Mutex<Option<Copied>>,
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
        Self {
            exchange,
            copy: Mutex::new(None),
        }
    }

    /// The header with the usable token, if there is one.
    ///
    /// Of what other threads use, this reads the cell's count of changes, on a line that is written when a token is
    /// published or refused; the lock, the copy and its reference count are this place's own.
    pub(crate) fn token(&self, now: Instant) -> Option<(HeaderValue, TokenIdentity)> {
        let changes = self.exchange.tokens.cell.changes();
        // Taken only where threads outnumber places: nobody waits for it.
        if let Ok(copy) = self.copy.try_lock()
            && let Some(copy) = &*copy
            && copy.changes == changes
            && now < copy.until
        {
            return Some((copy.header.clone(), copy.identity));
        }
        self.look(changes, now)
    }

    /// Takes another copy. `changes` was read before the token, so that a token published in between is noticed.
    #[cold]
    fn look(&self, changes: u64, now: Instant) -> Option<(HeaderValue, TokenIdentity)> {
        let (token, fresh_for) = self.exchange.tokens.warm(now)?;
        let mut header = HeaderValue::from_bytes(token.header.as_bytes())
            .unwrap_or_else(|_| token.header.clone());
        header.set_sensitive(true);
        let wall = self.exchange.tokens.clock.wall();
        let left = token.lifetime.left(now, wall).unwrap_or(LONGEST);
        if let Ok(mut copy) = self.copy.try_lock() {
            *copy = Some(Copied {
                header: header.clone(),
                identity: token.identity,
                changes,
                until: after(now, fresh_for.clamp(SHORTEST, LONGEST).min(left)),
            });
        }
        Some((header, token.identity))
    }
}

/// While a token is being renewed, so often is it looked whether another attempt is due.
const SHORTEST: Duration = Duration::from_millis(5);
/// So often is the wall clock compared, which notices that the machine was suspended.
const LONGEST: Duration = Duration::from_secs(1);
