//! Keeps an API that always says 401 from becoming a stream of token requests.

use std::time::Duration;

use tokio::time::Instant;

use super::{FetchReason, TokenIdentity};
use crate::{
    clock::after,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// How soon after a forced refresh the next one may follow.
#[derive(Debug)]
pub(super) struct Cooldown {
    base: Duration,
    length: Duration,
    /// When the last forced refresh ended.
    ended: Option<Instant>,
    /// The token that took the place of a refused one, until it was accepted in that place, or refused as well.
    brought: Option<TokenIdentity>,
    /// Where the one before it was refused.
    forced_by: Option<usize>,
    doubled_for: Option<usize>,
}

impl Cooldown {
    pub(super) fn new(base: Duration) -> Self {
        Self {
            base,
            length: base,
            ended: None,
            brought: None,
            forced_by: None,
            doubled_for: None,
        }
    }

    /// A token that was refused at `origin` is about to be replaced.
    pub(super) fn forced_by(&mut self, origin: usize) {
        self.forced_by = Some(origin);
    }

    /// A refresh has ended. What somebody asked for by hand replaces no refused token.
    pub(super) fn ended(
        &mut self,
        reason: FetchReason,
        brought: Option<TokenIdentity>,
        now: Instant,
    ) {
        if matches!(reason, FetchReason::Forced | FetchReason::Rejected) {
            self.ended = Some(now);
            self.brought = brought.filter(|_| reason == FetchReason::Rejected);
        }
    }

    /// Whether it is too soon to replace a token that lives for `life`.
    ///
    /// An API whose clock runs ahead refuses every token before its end: a cooldown that outlasts the time for which a
    /// token is of use would keep it from ever being replaced in time. Half of the life is the limit.
    pub(super) fn holds(&self, now: Instant, life: Option<Duration>) -> bool {
        let length = self.length(life);
        self.ended.is_some_and(|ended| now < after(ended, length))
    }

    /// How long it lasts for a token that lives for `life`.
    pub(super) fn length(&self, life: Option<Duration>) -> Duration {
        life.map_or(self.length, |life| self.length.min(life / 2))
    }

    /// The current token was refused at `origin`. If it took the place of a refused one and was not accepted there since,
    /// the cooldown doubles, once per token.
    pub(super) fn token_refused(&mut self, identity: TokenIdentity, origin: usize, now: Instant) {
        if self.brought == Some(identity) {
            self.brought = None;
            self.ended = Some(now);
            self.length = (self.length * 2).min(LONGEST.max(self.base));
            self.doubled_for = Some(origin);
        }
    }

    /// The current token was accepted at `origin`.
    pub(super) fn token_accepted(&mut self, origin: usize) {
        if self.watched() == Some(origin) {
            self.brought = None;
            self.forced_by = None;
            self.doubled_for = None;
            self.length = self.base;
        }
    }

    /// Where a success with the current token is to be told.
    pub(super) fn watched(&self) -> Option<usize> {
        self.doubled_for.or(self.forced_by)
    }
}

/// When the token was last accepted at each allowed origin.
///
/// Written by requests, but at most every [`RESOLUTION`]; read when a token is refused.
#[derive(Debug)]
pub(super) struct Successes {
    epoch: Instant,
    /// Milliseconds since `epoch` plus [`RESOLUTION`], by origin; 0 for never.
    last: Box<[AtomicU64]>,
    /// The origin (plus one) whose next success the cooldown is told; 0 for none.
    watched: AtomicUsize,
}

impl Successes {
    pub(super) fn new(origins: usize, epoch: Instant) -> Self {
        Self {
            epoch,
            last: (0..origins).map(|_| AtomicU64::new(0)).collect(),
            watched: AtomicUsize::new(0),
        }
    }

    pub(super) fn record(&self, origin: usize, sent_at: Instant) {
        let Some(last) = self.last.get(origin) else {
            return;
        };
        let now = self.millis(sent_at);
        if now >= last.load(Ordering::Relaxed).saturating_add(RESOLUTION) {
            last.store(now, Ordering::Relaxed);
        }
    }

    /// Whether the token of a request that was refused at `origin` is known to work for others: accepted at another
    /// origin within the last seconds, or at this one in a request that was sent after the refused one.
    pub(super) fn works_elsewhere(&self, origin: usize, sent_at: Instant, now: Instant) -> bool {
        let refused = self.millis(sent_at);
        let recent = self.millis(now).saturating_sub(RECENT);
        self.last
            .iter()
            .enumerate()
            .any(|(index, last)| match last.load(Ordering::Relaxed) {
                0 => false,
                at if index == origin => at > refused,
                at => at > recent,
            })
    }

    pub(super) fn watch(&self, origin: Option<usize>) {
        self.watched
            .store(origin.map_or(0, |index| index + 1), Ordering::Relaxed);
    }

    pub(super) fn is_watched(&self, origin: usize) -> bool {
        self.watched.load(Ordering::Relaxed) == origin + 1
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(since)
            .unwrap_or(u64::MAX)
            .saturating_add(RESOLUTION)
    }
}

const LONGEST: Duration = Duration::from_secs(600);
const RESOLUTION: u64 = 100;
const RECENT: u64 = 5_000;

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests;
