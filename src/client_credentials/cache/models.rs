//! The cache in every interleaving of a few threads.
#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary instant to count from"
)]

mod fetches;
mod rejections;

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
        AccessToken, BoxTokenSource, RejectedToken, TokenErrorKind, in_flight::Waiter,
        refresher::Refresher,
    },
    clock::SharedClock,
    sinks::Sinks,
    sync::explore,
};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

/// A cache, and the number of fetches started for it.
#[derive(Clone)]
struct World {
    cache: TokenCache,
    now: Instant,
    fetches: Arc<AtomicUsize>,
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
            cache: TokenCache::new(settings, 1, Some(7), now),
            now,
            fetches: Arc::default(),
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
        self.caller_with(|guard, number| drop(self.succeed(guard, number)))
    }

    /// Acquires a token: runs the fetch with `fetch` if it gets the guard, waits, and retries an abandoned fetch.
    fn caller_with(
        &self,
        fetch: impl Fn(FetchGuard, usize),
    ) -> Result<Arc<CachedToken>, TokenError> {
        loop {
            match self.cache.acquire(self.at()) {
                Acquire::Token(token) => return Ok(token),
                Acquire::Failed(error) => return Err(error),
                Acquire::Wait(waiter, guard) => {
                    if let Some(guard) = guard {
                        fetch(guard, self.fetches.fetch_add(1, Relaxed) + 1);
                    }
                    match wait(waiter) {
                        Outcome::Token(token) => return Ok(token),
                        Outcome::Failed(error) | Outcome::Unchanged(error) => {
                            return self.cache.token_or(error, self.at());
                        }
                        Outcome::Abandoned => {}
                    }
                }
            }
        }
    }

    fn succeed(&self, guard: FetchGuard, number: usize) -> Option<Outcome> {
        let token = AccessToken::new(format!("token-{number}"));
        guard.complete(Ok(token), self.at())
    }

    fn fail(&self, guard: FetchGuard) {
        let error = TokenError::transient("is down");
        guard.complete(Err::<AccessToken, _>(error), self.at());
    }

    /// The guard of a renewal beside the use of the token.
    fn early(&self) -> (FetchGuard, usize) {
        let guard = self.cache.refresh_early(self.at()).unwrap();
        (guard, self.fetches.fetch_add(1, Relaxed) + 1)
    }

    fn rejected(&self, number: usize) -> RejectionOutcome {
        let rejection = Rejection {
            rejected: RejectedToken {
                fingerprint: fingerprint(number),
                challenges: Vec::new(),
            },
            origin: 0,
            sent_at: self.now,
            for_other_scheme: false,
        };
        self.cache.reject(rejection, self.at())
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Relaxed)
    }

    /// The token that requests would use.
    fn usable(&self) -> Option<TokenFingerprint> {
        let (token, _) = self.cache.header(self.at())?;
        Some(token.fingerprint)
    }

    fn generation(&self) -> u64 {
        self.cache.0.snapshot.read().unwrap().generation
    }

    fn assert_idle(&self) {
        assert!(self.cache.0.refresh.lock().unwrap().in_flight.is_none());
        assert!(!self.cache.0.snapshot.read().unwrap().rejected);
    }
}

fn fingerprint(number: usize) -> TokenFingerprint {
    AccessToken::new(format!("token-{number}")).fingerprint()
}

fn wait(fetch: Arc<InFlightFetch>) -> Outcome {
    let waiter = Waiter::new(fetch, usize::MAX).unwrap();
    block_on(poll_fn(|cx| waiter.poll(cx)))
}

/// Waits for a moment, and leaves.
fn poll_once(fetch: &Arc<InFlightFetch>) {
    let waiter = Waiter::new(Arc::clone(fetch), usize::MAX).unwrap();
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
