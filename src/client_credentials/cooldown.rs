//! Cooldown of forced refreshes: an API that answers every request with a 401 must not cause a stream of token
//! requests.
//!
//! | event | the origin | all other origins |
//! |---|---|---|
//! | a refresh after a 401 of the origin ends | the cooldown begins | a pause of 1 s |
//! | a refresh by hand ends | the cooldown begins | the cooldown begins |
//! | the origin rejects a replacement that it caused | the cooldown begins and doubles | |
//! | the origin rejects another origin's replacement | the cooldown begins | |
//! | the origin accepts a token | back to the initial length | |
//!
//! The length is at most half of the token's lifetime.
//!
//! The purpose is a bound on token requests: an API that rejects every token costs at most one token request per
//! cooldown, and the cooldown grows from 10 s to 10 min. A refresh because of age is not limited, and neither is the
//! first one after a 401.
//!
//! The state is part of the refresh state and has its lock. [`Successes`] is separate, because requests write it
//! without that lock.

use std::time::Duration;

use tokio::time::Instant;

use super::{FetchReason, TokenFingerprint};
use crate::{
    clock::Moment,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Minimum time between forced refreshes.
///
/// Each origin has its own cooldown, which grows with its rejections: an origin that rejects every token does not delay
/// a new token for the others. After any forced refresh there is a short pause for all origins.
///
/// Transitions of one origin:
///
/// | state | rejection of the current token | acceptance |
/// |---|---|---|
/// | replacement untested | cooldown begins; doubles if the origin caused the replacement | back to the base length |
/// | tested, base length | nothing is recorded; a fetch may start | nothing to do |
/// | tested, longer length | nothing is recorded | back to the base length |
#[derive(Debug)]
pub(super) struct Cooldown {
    /// Initial length, as configured.
    base: Duration,
    /// When the last forced refresh ended, whatever its origin.
    last_refresh: Option<Moment>,
    /// The token that replaced a rejected one, and the origin that rejected that one.
    replacement: Option<(TokenFingerprint, usize)>,
    /// The origin whose rejection causes the next replacement.
    rejected_at: Option<usize>,
    /// State of each allowed origin.
    origins: Box<[OriginCooldown]>,
}

/// Cooldown of one origin.
///
/// `is_untested` is set for all origins when a rejected token was replaced, and cleared by the first response of each
/// origin that says something about the token.
#[derive(Clone, Debug)]
struct OriginCooldown {
    /// Current length. Doubles with each rejected replacement, and returns to the base with a success.
    length: Duration,
    /// When the cooldown began; `None` before the first.
    since: Option<Moment>,
    /// Whether the origin has neither accepted nor rejected the replacement yet.
    is_untested: bool,
    /// When the origin last rejected a replacement in favor of another authentication scheme.
    wants_other_scheme: Option<Moment>,
}

impl Cooldown {
    /// Creates the cooldowns of `origins` origins, none of which is active.
    pub(super) fn new(base: Duration, origins: usize) -> Self {
        let at_origin = OriginCooldown {
            length: base,
            since: None,
            is_untested: false,
            wants_other_scheme: None,
        };
        Self {
            base,
            last_refresh: None,
            replacement: None,
            rejected_at: None,
            origins: vec![at_origin; origins].into(),
        }
    }

    /// Records that a token rejected at `origin` is about to be replaced.
    ///
    /// Kept until the refresh ends. A refresh that fails leaves no replacement, and the cooldown begins all the same.
    pub(super) fn set_rejected_at(&mut self, origin: usize) {
        self.rejected_at = Some(origin);
    }

    /// Records the end of a refresh, and its `replacement` token if it succeeded.
    ///
    /// Only [`FetchReason::Forced`] and [`FetchReason::Rejected`] start a cooldown. Only the token of the latter
    /// replaces a rejected one.
    pub(super) fn on_refresh_ended(
        &mut self,
        reason: FetchReason,
        replacement: Option<TokenFingerprint>,
        now: Moment,
    ) {
        let rejected_at = match reason {
            FetchReason::Forced => None,
            FetchReason::Rejected => self.rejected_at.take(),
            FetchReason::Cold | FetchReason::Early | FetchReason::Expired => return,
        };
        self.last_refresh = Some(now);
        self.replacement = replacement.zip(rejected_at);
        for (index, at) in self.origins.iter_mut().enumerate() {
            // Each origin has to judge the replacement anew, whichever rejected the former token.
            at.is_untested = self.replacement.is_some();
            // A refresh by hand starts the cooldown of every origin.
            if rejected_at.is_none_or(|origin| origin == index) {
                at.since = Some(now);
            }
        }
    }

    /// Returns whether it is too soon to replace a token that was rejected at `origin` and has a lifetime of `life`.
    ///
    /// At most half of the lifetime: an API whose clock is ahead rejects every token before it expires, and a longer
    /// cooldown would prevent its timely replacement.
    ///
    /// An origin that is not in the list has no cooldown of its own, only the common pause.
    pub(super) fn is_active(&self, origin: usize, now: Moment, life: Option<Duration>) -> bool {
        let lasts = |since: Option<Moment>, length: Duration| {
            since.is_some_and(|since| now.elapsed_since(since) < length)
        };
        let length = self.length(Some(origin), life);
        let here = self.origins.get(origin).and_then(|at| at.since);
        // The pause is never longer than the cooldown.
        lasts(here, length) || lasts(self.last_refresh, length.min(MIN_REFRESH_INTERVAL))
    }

    /// Returns the length of the cooldown at `origin` for a token with a lifetime of `life`.
    ///
    /// Also used for the cooldown that processes share through a store, so that all of them apply the same length.
    pub(super) fn length(&self, origin: Option<usize>, life: Option<Duration>) -> Duration {
        let at = origin.and_then(|origin| self.origins.get(origin));
        let length = at.map_or(self.base, |at| at.length);
        life.map_or(length, |life| length.min(life / 2))
    }

    /// Records that `origin` rejected the current token.
    ///
    /// If the token replaced a rejected one and `origin` has not accepted it since, a new token does not help. The
    /// cooldown of `origin` begins, and doubles if `origin` also rejected the previous token. Counted once per token
    /// and origin.
    pub(super) fn on_rejected(
        &mut self,
        fingerprint: TokenFingerprint,
        origin: usize,
        for_other_scheme: bool,
        now: Moment,
    ) {
        // The first rejection of a token says nothing about new tokens: that token may have been revoked.
        let Some((_, rejected_at)) = self.replacement.filter(|(token, _)| *token == fingerprint)
        else {
            return;
        };
        let Some(at) = self.origins.get_mut(origin).filter(|at| at.is_untested) else {
            return;
        };
        at.is_untested = false;
        at.since = Some(now);
        if origin == rejected_at {
            // A configured length above the bound is not shortened.
            at.length = at.length.saturating_mul(2).min(MAX_COOLDOWN.max(self.base));
            at.wants_other_scheme = for_other_scheme.then_some(now);
        }
    }

    /// Records that `origin` accepted the current token. The cooldown returns to its base length.
    ///
    /// Called only for origins that are tracked, and only for the current token.
    pub(super) fn on_accepted(&mut self, origin: usize) {
        if let Some(at) = self.origins.get_mut(origin) {
            at.is_untested = false;
            at.length = self.base;
        }
    }

    /// Returns whether a success with the current token at `origin` has to be reported.
    pub(super) fn is_tracked(&self, origin: usize) -> bool {
        let at = self.origins.get(origin);
        at.is_some_and(|at| at.is_untested || at.length > self.base)
    }

    /// Returns whether `origin` recently asked for another authentication scheme, for a token and for its replacement.
    pub(super) fn wants_other_scheme(&self, origin: usize, now: Moment) -> bool {
        let since = self
            .origins
            .get(origin)
            .and_then(|at| at.wants_other_scheme);
        since.is_some_and(|since| now.elapsed_since(since) < MAX_COOLDOWN)
    }
}

/// When each allowed origin last accepted a token.
///
/// Requests write it, at most once per [`RECORD_INTERVAL_MS`]. It is read when a token is rejected. All accesses are
/// relaxed: each value is meaningful by itself.
///
/// A success that is missed is harmless: a 401 of another origin may then take a working token out of use for the time
/// of one refresh.
#[derive(Debug)]
pub(super) struct Successes {
    /// Time that milliseconds are counted from.
    epoch: Instant,
    /// By origin, milliseconds from `epoch` to the last accepted request, plus [`RECORD_INTERVAL_MS`]. 0 for none.
    last: Box<[AtomicU64]>,
    /// By origin, whether the next success must be reported to the [`Cooldown`].
    tracked: Box<[AtomicBool]>,
}

impl Successes {
    /// Creates an empty record. `epoch` is the layer's creation time.
    pub(super) fn new(origins: usize, epoch: Instant) -> Self {
        Self {
            epoch,
            last: (0..origins).map(|_| AtomicU64::new(0)).collect(),
            tracked: (0..origins).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Records that `origin` accepted a request that was sent at `sent_at`.
    ///
    /// Ignored if the last recorded success is less than 100 ms older.
    pub(super) fn record(&self, origin: usize, sent_at: Instant) {
        let Some(last) = self.last.get(origin) else {
            return;
        };
        // Requests are compared by the time at which they were sent: a response may arrive late.
        let now = self.millis(sent_at);
        // Two threads may both store: either time is recent enough.
        if now
            >= last
                .load(Ordering::Relaxed)
                .saturating_add(RECORD_INTERVAL_MS)
        {
            last.store(now, Ordering::Relaxed);
        }
    }

    /// Returns whether the token of a request that `origin` rejected is known to work for others: another origin
    /// accepted it within the last 5 s, or this origin accepted it in a request that was sent after the rejected one.
    ///
    /// If it is, the rejection probably concerns one resource or one API. The token is then refreshed without taking it
    /// away from the requests that it works for.
    pub(super) fn is_accepted_by_others(
        &self,
        origin: usize,
        sent_at: Instant,
        now: Instant,
    ) -> bool {
        let refused = self.millis(sent_at);
        let recent = self.millis(now).saturating_sub(RECENT_MS);
        self.last
            .iter()
            .enumerate()
            .any(|(index, last)| match last.load(Ordering::Relaxed) {
                0 => false,
                // Accepted here, in a request that was sent later.
                at if index == origin => at > refused,
                // Accepted at another origin recently.
                at => at > recent,
            })
    }

    /// Returns whether `origin` has ever accepted a token.
    pub(super) fn was_accepted_at(&self, origin: usize) -> bool {
        let last = self.last.get(origin);
        last.is_some_and(|last| last.load(Ordering::Relaxed) > 0)
    }

    /// Returns whether `origin` accepted a request that was sent after `sent_at`.
    pub(super) fn was_accepted_since(&self, origin: usize, sent_at: Instant) -> bool {
        let last = self.last.get(origin);
        last.is_some_and(|last| last.load(Ordering::Relaxed) > self.millis(sent_at))
    }

    /// Copies from the cooldown which successes must be reported. The caller has locked the refresh state.
    ///
    /// Must be called after each change of the cooldown. A request that reads the old value reports one success too
    /// many or too few.
    pub(super) fn update_tracked(&self, cooldown: &Cooldown) {
        for (origin, watched) in self.tracked.iter().enumerate() {
            watched.store(cooldown.is_tracked(origin), Ordering::Relaxed);
        }
    }

    /// Returns whether the next success at `origin` must be reported.
    pub(super) fn is_tracked(&self, origin: usize) -> bool {
        let watched = self.tracked.get(origin);
        watched.is_some_and(|watched| watched.load(Ordering::Relaxed))
    }

    /// Converts a time to the unit of `last`. Never 0, which means none.
    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(since)
            .unwrap_or(u64::MAX)
            .saturating_add(RECORD_INTERVAL_MS)
    }
}

/// Minimum time between two forced refreshes, whichever origins cause them.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Upper bound on a cooldown that doubles, and on how long a demand for another scheme is remembered.
const MAX_COOLDOWN: Duration = Duration::from_secs(600);
/// Minimum interval between two recorded successes of one origin, in milliseconds.
const RECORD_INTERVAL_MS: u64 = 100;
/// Period in which a success at another origin shows that a token works, in milliseconds.
const RECENT_MS: u64 = 5_000;

#[cfg(all(test, not(tower_m2m_loom)))]
mod tests;
