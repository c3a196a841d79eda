//! The cell in every interleaving of a few threads.
#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary instant to count from"
)]

mod attempts;
mod refusals;

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Poll,
    time::{Duration, SystemTime},
};

use loom::{future::block_on, thread};

use super::*;
use crate::{
    client_credentials::{
        AccessToken, BoxTokenSource, Rejected, TokenErrorKind, flight::Waiter, tokens::Refresher,
    },
    clock::SharedClock,
    sinks::Sinks,
    sync::explore,
};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

/// A cell, and how many attempts have been made to fill it.
#[derive(Clone)]
struct World {
    cell: TokenCache,
    now: Instant,
    attempts: Arc<AtomicUsize>,
}

impl World {
    fn empty() -> Self {
        let settings = Settings {
            credential: None,
            refresh_before: Duration::from_secs(30),
            fetch_timeout: Duration::from_secs(30),
            max_token_backoff: Duration::from_secs(300),
            refresh_cooldown: Duration::from_secs(10),
            max_waiting: usize::MAX,
            scheme: Some("Bearer".into()),
        };
        let now = Instant::now();
        Self {
            cell: TokenCache::new(settings, 1, Some(7), now),
            now,
            attempts: Arc::default(),
        }
    }

    fn at(&self) -> Moment {
        Moment::new(self.now, WALL)
    }

    /// With `token-1` in it.
    fn filled() -> Self {
        let world = Self::empty();
        world.caller().unwrap();
        world
    }

    fn caller(&self) -> Result<Arc<CachedToken>, TokenError> {
        self.caller_who(|lead, number| drop(self.succeed(lead, number)))
    }

    /// Asks for a token, carries out with `fetch` what falls to it, waits, and asks again if nobody knows.
    fn caller_who(&self, fetch: impl Fn(Lead, usize)) -> Result<Arc<CachedToken>, TokenError> {
        loop {
            match self.cell.acquire(self.at()) {
                Acquire::Token(token) => return Ok(token),
                Acquire::Failed(error) => return Err(error),
                Acquire::Wait(flight, lead) => {
                    if let Some(lead) = lead {
                        fetch(lead, self.attempts.fetch_add(1, Relaxed) + 1);
                    }
                    match wait(flight) {
                        Outcome::Token(token) => return Ok(token),
                        Outcome::Failed(error) | Outcome::Unchanged(error) => {
                            return self.cell.token_or(error, self.at());
                        }
                        Outcome::Abandoned => {}
                    }
                }
            }
        }
    }

    fn succeed(&self, lead: Lead, number: usize) -> Option<Outcome> {
        let token = AccessToken::new(format!("token-{number}"));
        lead.finish(Ok(token), self.at())
    }

    fn fail(&self, lead: Lead) {
        let error = TokenError::transient("is down");
        lead.finish(Err::<AccessToken, _>(error), self.at());
    }

    /// The lead of a renewal beside the use of the token.
    fn early(&self) -> (Lead, usize) {
        let lead = self.cell.refresh_early(self.at()).unwrap();
        (lead, self.attempts.fetch_add(1, Relaxed) + 1)
    }

    fn refused(&self, number: usize) -> Refused {
        let refusal = Refusal {
            rejected: Rejected {
                identity: identity(number),
                challenges: Vec::new(),
            },
            origin: 0,
            sent_at: self.now,
            for_other_scheme: false,
        };
        self.cell.refused(refusal, self.at())
    }

    fn attempts(&self) -> usize {
        self.attempts.load(Relaxed)
    }

    /// The token that requests would use.
    fn usable(&self) -> Option<TokenFingerprint> {
        let (token, _) = self.cell.header(self.at())?;
        Some(token.identity)
    }

    fn version(&self) -> u64 {
        self.cell.0.snapshot.read().unwrap().version
    }

    fn assert_at_rest(&self) {
        assert!(self.cell.0.desk.lock().unwrap().flight.is_none());
        assert!(!self.cell.0.snapshot.read().unwrap().suspended);
    }
}

fn identity(number: usize) -> TokenFingerprint {
    AccessToken::new(format!("token-{number}")).identity()
}

fn wait(flight: Arc<InFlightFetch>) -> Outcome {
    let waiter = Waiter::new(flight, usize::MAX).unwrap();
    block_on(poll_fn(|cx| waiter.poll(cx)))
}

/// Waits for a moment, and leaves.
fn look_in(flight: &Arc<InFlightFetch>) {
    let waiter = Waiter::new(Arc::clone(flight), usize::MAX).unwrap();
    block_on(poll_fn(|cx| {
        drop(waiter.poll(cx));
        Poll::Ready(())
    }));
}

fn in_thread<T: 'static>(
    world: &World,
    work: impl FnOnce(World) -> T + 'static,
) -> thread::JoinHandle<T> {
    let world = world.clone();
    thread::spawn(move || work(world))
}
