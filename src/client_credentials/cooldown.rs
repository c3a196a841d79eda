//! Keeps an API that always says 401 from becoming a stream of token requests.

use std::time::Duration;

use tokio::time::Instant;

use super::{FetchReason, TokenIdentity};
use crate::{
    clock::Moment,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// How soon after a forced refresh the next one may follow.
///
/// Each origin has a cooldown of its own, which grows with its refusals: an origin that refuses every token does not
/// keep the others from a new one. After any forced refresh there is a short pause for all origins.
#[derive(Debug)]
pub(super) struct Cooldown {
    base: Duration,
    /// When the last forced refresh ended, whichever origin caused it.
    ended: Option<Moment>,
    /// The token that replaced a refused one, and the origin that refused that.
    replacement: Option<(TokenIdentity, usize)>,
    /// The origin whose refusal causes the next replacement.
    rejected_at: Option<usize>,
    origins: Box<[AtOrigin]>,
}

#[derive(Clone, Debug)]
struct AtOrigin {
    length: Duration,
    since: Option<Moment>,
    /// The replacement was neither accepted nor refused here yet.
    is_untested: bool,
    /// When a replacement was refused in favor of another authentication scheme, as the token before it was.
    wants_other_scheme: Option<Moment>,
}

impl Cooldown {
    pub(super) fn new(base: Duration, origins: usize) -> Self {
        let at_origin = AtOrigin {
            length: base,
            since: None,
            is_untested: false,
            wants_other_scheme: None,
        };
        Self {
            base,
            ended: None,
            replacement: None,
            rejected_at: None,
            origins: vec![at_origin; origins].into(),
        }
    }

    /// A token that was refused at `origin` is about to be replaced.
    pub(super) fn forced_by(&mut self, origin: usize) {
        self.rejected_at = Some(origin);
    }

    /// A refresh has ended. A token that was requested by [`FetchReason::Forced`] replaces no refused one.
    pub(super) fn ended(
        &mut self,
        reason: FetchReason,
        brought: Option<TokenIdentity>,
        now: Moment,
    ) {
        let rejected_at = match reason {
            FetchReason::Forced => None,
            FetchReason::Rejected => self.rejected_at.take(),
            FetchReason::Cold | FetchReason::Early | FetchReason::Expired => return,
        };
        self.ended = Some(now);
        self.replacement = brought.zip(rejected_at);
        for (index, at) in self.origins.iter_mut().enumerate() {
            at.is_untested = self.replacement.is_some();
            if rejected_at.is_none_or(|origin| origin == index) {
                at.since = Some(now);
            }
        }
    }

    /// Whether it is too soon to replace a token that lives for `life` and was refused at `origin`.
    ///
    /// An API whose clock runs ahead refuses every token before its end: a cooldown that outlasts the time for which a
    /// token is of use would keep it from ever being replaced in time. Half of the life is the limit.
    pub(super) fn holds(&self, origin: usize, now: Moment, life: Option<Duration>) -> bool {
        let lasts = |since: Option<Moment>, length: Duration| {
            since.is_some_and(|since| now.elapsed_since(since) < length)
        };
        let length = self.length(Some(origin), life);
        let here = self.origins.get(origin).and_then(|at| at.since);
        lasts(here, length) || lasts(self.ended, length.min(PAUSE))
    }

    /// How long it lasts at `origin` for a token that lives for `life`.
    pub(super) fn length(&self, origin: Option<usize>, life: Option<Duration>) -> Duration {
        let at = origin.and_then(|origin| self.origins.get(origin));
        let length = at.map_or(self.base, |at| at.length);
        life.map_or(length, |life| length.min(life / 2))
    }

    /// The current token was refused at `origin`.
    ///
    /// If it replaced a refused one and was not accepted there since, a new token does not help: the cooldown begins,
    /// and doubles where the token before was refused. Once per token and origin.
    pub(super) fn token_refused(
        &mut self,
        identity: TokenIdentity,
        origin: usize,
        for_other_scheme: bool,
        now: Moment,
    ) {
        let Some((_, rejected_at)) = self.replacement.filter(|(token, _)| *token == identity)
        else {
            return;
        };
        let Some(at) = self.origins.get_mut(origin).filter(|at| at.is_untested) else {
            return;
        };
        at.is_untested = false;
        at.since = Some(now);
        if origin == rejected_at {
            at.length = at.length.saturating_mul(2).min(LONGEST.max(self.base));
            at.wants_other_scheme = for_other_scheme.then_some(now);
        }
    }

    /// The current token was accepted at `origin`.
    pub(super) fn token_accepted(&mut self, origin: usize) {
        if let Some(at) = self.origins.get_mut(origin) {
            at.is_untested = false;
            at.length = self.base;
        }
    }

    /// Whether a success with the current token at `origin` is to be reported.
    pub(super) fn is_tracked(&self, origin: usize) -> bool {
        let at = self.origins.get(origin);
        at.is_some_and(|at| at.is_untested || at.length > self.base)
    }

    /// Whether `origin` wanted another authentication scheme of a token and of its replacement, not long ago.
    pub(super) fn wants_other_scheme(&self, origin: usize, now: Moment) -> bool {
        let since = self
            .origins
            .get(origin)
            .and_then(|at| at.wants_other_scheme);
        since.is_some_and(|since| now.elapsed_since(since) < LONGEST)
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
    /// Whether the cooldown is told of the next success, by origin.
    watched: Box<[AtomicBool]>,
}

impl Successes {
    pub(super) fn new(origins: usize, epoch: Instant) -> Self {
        Self {
            epoch,
            last: (0..origins).map(|_| AtomicU64::new(0)).collect(),
            watched: (0..origins).map(|_| AtomicBool::new(false)).collect(),
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

    /// Whether a token was ever accepted at `origin`.
    pub(super) fn any(&self, origin: usize) -> bool {
        let last = self.last.get(origin);
        last.is_some_and(|last| last.load(Ordering::Relaxed) > 0)
    }

    /// Whether a request to `origin` that was sent after `sent_at` was accepted.
    pub(super) fn any_since(&self, origin: usize, sent_at: Instant) -> bool {
        let last = self.last.get(origin);
        last.is_some_and(|last| last.load(Ordering::Relaxed) > self.millis(sent_at))
    }

    pub(super) fn watch(&self, cooldown: &Cooldown) {
        for (origin, watched) in self.watched.iter().enumerate() {
            watched.store(cooldown.is_tracked(origin), Ordering::Relaxed);
        }
    }

    pub(super) fn is_watched(&self, origin: usize) -> bool {
        let watched = self.watched.get(origin);
        watched.is_some_and(|watched| watched.load(Ordering::Relaxed))
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(since)
            .unwrap_or(u64::MAX)
            .saturating_add(RESOLUTION)
    }
}

/// Minimum time between two forced refreshes, whichever origins cause them.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);
const RESOLUTION: u64 = 100;
const RECENT: u64 = 5_000;

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests;
