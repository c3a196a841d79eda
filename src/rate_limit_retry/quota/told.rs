//! What the server itself says about its window.

use std::time::Duration;

use tokio::time::Instant;

use super::admit::Admit;
use crate::{
    clock::after,
    rate_limit_retry::{
        headers::{Limit, Unit},
        store::SharedWindow,
    },
};

/// A window that the server has told about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) limit: Option<u64>,
    /// What remained by the last announcement.
    pub(super) remaining: u64,
    /// Number of requests that were counted here since, because their answers announced nothing.
    spent: u64,
    /// Answers without an announcement do not count: more of them were accepted than remained.
    uncounted: bool,
    pub(super) reset_at: Option<Instant>,
    /// The latest reset that was told.
    pub(super) furthest: Option<Instant>,
    /// The newest request whose answer was believed.
    pub(super) by: u64,
    /// Requests from this number on were sent after it was known what remains.
    after: u64,
    /// What remained at first, and how many of ours have been accepted since: whose requests made it fall?
    first: u64,
    ours: u64,
    began: Instant,
    /// When the server last said something.
    heard: Instant,
    /// The least that remained of a later window, and its reset, by answers that were overtaken.
    ahead: Option<(u64, Instant)>,
}

impl Told {
    pub(super) fn new(limit: &Limit, remaining: u64, by: u64, next: u64, now: Instant) -> Self {
        // A reset now is no end of a window: servers that round down announce one during its last second, others always.
        let reset = limit.reset.filter(|reset| !reset.is_zero());
        let reset_at = reset.map(|reset| after(now, reset));
        Self {
            limit: limit.limit,
            remaining,
            spent: 0,
            uncounted: false,
            reset_at,
            furthest: reset_at,
            by,
            after: next,
            first: remaining,
            ours: 0,
            began: now,
            heard: now,
            ahead: None,
        }
    }

    /// Takes in a later answer, to request `by`, where `next` is the number of the next request.
    ///
    /// An answer to a request sent after the last answer had come replaces what was known; of others, which may have
    /// overtaken each other, the least is believed. An answer from an earlier window says nothing.
    pub(super) fn note(&mut self, limit: &Limit, remaining: u64, by: u64, next: u64, now: Instant) {
        let fresh = Self::new(limit, remaining, by, next, now);
        self.furthest = self.furthest.max(fresh.reset_at);
        let (earlier, later) = match (self.reset_at, fresh.reset_at) {
            (Some(known), Some(told)) => (told + SAME_WINDOW < known, told > known + SAME_WINDOW),
            _ => (false, false),
        };
        let newer = later && by > self.by;
        if newer && remaining > self.left() {
            let overtaken = self.ahead.filter(|(_, reset)| fresh.ends_at(*reset));
            let least = overtaken.map_or(remaining, |(least, _)| least.min(remaining));
            *self = Self {
                remaining: least,
                ..fresh
            };
        } else if by >= self.after || newer {
            self.first = self.first.max(remaining);
            *self = Self {
                limit: fresh.limit.or(self.limit),
                first: self.first,
                ours: self.ours,
                began: self.began,
                furthest: self.furthest,
                reset_at: fresh.reset_at.or(self.reset_at),
                ..fresh
            };
        } else if !earlier {
            self.heard = now;
            if remaining < self.left() {
                (self.remaining, self.spent) = (remaining, 0);
                self.after = next;
                if later {
                    self.reset_at = fresh.reset_at;
                }
            } else if let Some(reset) = fresh.reset_at.filter(|_| later) {
                let known = self.ahead.filter(|(_, reset)| fresh.ends_at(*reset));
                let least = known.map_or(remaining, |(least, _)| least.min(remaining));
                self.ahead = Some((least, reset));
            }
            if by > self.by {
                self.by = by;
                self.reset_at = fresh.reset_at.or(self.reset_at);
            }
        }
    }

    /// A window of which another process has told.
    pub(super) fn shared(
        window: &SharedWindow,
        reset_at: Instant,
        next: u64,
        now: Instant,
    ) -> Self {
        Self {
            limit: window.limit,
            remaining: window.remaining,
            spent: 0,
            uncounted: false,
            reset_at: Some(reset_at),
            furthest: Some(reset_at),
            by: 0,
            after: next,
            first: window.remaining,
            ours: 0,
            began: now,
            heard: now,
            ahead: None,
        }
    }

    /// Other processes have told what remains of the window that ends then: less of this one, or of a later one.
    pub(super) fn heard_of(&mut self, remaining: u64, reset_at: Instant, next: u64) {
        let same = self.ends_at(reset_at);
        if same && remaining == self.remaining {
            return;
        }
        if !same {
            self.reset_at = Some(reset_at);
            self.furthest = self.furthest.max(self.reset_at);
        }
        (self.remaining, self.spent) = (remaining, 0);
        self.after = next;
    }

    /// What remains: as announced, less what was counted here since.
    pub(super) fn left(&self) -> u64 {
        self.remaining.saturating_sub(self.spent)
    }

    /// Whether the server itself has announced that nothing remains.
    pub(super) fn is_used_up(&self) -> bool {
        self.remaining == 0
    }

    /// Whether an answer contradicts what is known: nothing remained of this window, and a request was accepted all the
    /// same.
    pub(super) fn is_contradicted(&self, reset: Option<Duration>, now: Instant) -> bool {
        let later = self.reset_at.zip(reset);
        let later = later.is_some_and(|(known, reset)| after(now, reset) > known + SAME_WINDOW);
        self.is_used_up() && !later
    }

    /// Whether a window that resets then is this one.
    fn ends_at(&self, reset: Instant) -> bool {
        let at = self.reset_at.filter(|at| *at <= reset + SAME_WINDOW);
        at.is_some_and(|at| reset <= at + SAME_WINDOW)
    }

    /// A request was accepted.
    pub(super) fn accepted(&mut self) {
        self.ours += 1;
    }

    /// A request may have been counted, and its answer announces nothing.
    pub(super) fn spent(&mut self) {
        if !self.uncounted {
            self.spent = self.spent.saturating_add(1);
        }
    }

    /// A request was accepted, and its answer announces nothing: such requests may not count at all.
    pub(super) fn spent_silently(&mut self) {
        if self.left() == 0 && !self.is_used_up() {
            (self.spent, self.uncounted) = (0, true);
        }
        self.spent();
    }

    /// When requests may go again. Where others take a part of the quota, a little later than the reset: those of them
    /// that were refused wait for a time in whole seconds, and would come too late to a quota that is used up.
    ///
    /// A quota that is used up is believed for `longest`.
    pub(super) fn over_at(&self, share: f64, longest: Duration) -> Option<Instant> {
        let reset = self.reset_at?;
        let over = if share > ALONE {
            reset
        } else {
            let window = reset.saturating_duration_since(self.began);
            after(reset, (window / 200).min(Duration::from_secs(1)))
        };
        Some(if self.is_used_up() {
            over.min(after(self.heard, longest))
        } else {
            over
        })
    }

    /// Our part of what the quota loses, where `before` is what it was in earlier windows. All in flight may have been
    /// counted already.
    pub(super) fn share(&self, before: f64, in_flight: u32) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
        let (ours, fall) = (
            (self.ours + u64::from(in_flight)) as f64,
            self.first.saturating_sub(self.left()) as f64,
        );
        ((before * STEADY + ours) / (STEADY + fall)).clamp(0.0, 1.0)
    }

    /// How many more of ours have room, where others take all but a `share` of what remains.
    pub(super) fn room(&self, in_flight: u32, share: f64) -> f64 {
        self.ours(share) - f64::from(in_flight)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "beyond 2^53 nobody comes near the limit"
    )]
    fn ours(&self, share: f64) -> f64 {
        self.left() as f64 * share
    }

    /// `None` if nothing speaks against one more, where others take all but a `share` of what remains, and the window
    /// is `over` then.
    ///
    /// Only an announcement holds requests until the reset. What was counted here is no proof: it lets one go at a time.
    pub(super) fn admit(&self, in_flight: u32, share: f64, over: Option<Instant>) -> Option<Admit> {
        if self.left() > u64::from(in_flight) {
            let ours = self.ours(share);
            // What others have under way is not in the answer; they have about as much as we have, for their share. The
            // last ones are for whoever comes first.
            let fits = in_flight == 0 || (f64::from(in_flight) + 1.0) * (2.0 - share) <= ours;
            return (!fits).then_some(Admit::AfterAnswer(over));
        }
        match (over, in_flight) {
            (Some(over), 0) if self.is_used_up() => Some(Admit::NotBefore(over)),
            (over, 1..) => Some(Admit::AfterAnswer(over)),
            // It is not known that nothing remains, or not until when: one goes.
            (_, 0) => None,
        }
    }
}

/// The limit of which the fewest requests remain, and of those the one that resets last. Of what else is counted, a
/// request may cost any amount.
pub(super) fn tightest(limits: &[Limit]) -> Option<(&Limit, u64)> {
    limits
        .iter()
        .filter(|limit| limit.unit == Unit::Requests)
        .filter_map(|limit| Some((limit, limit.remaining?)))
        .min_by_key(|(limit, remaining)| (*remaining, std::cmp::Reverse(limit.reset)))
}

/// Resets in whole seconds, told at different times by answers that take different times, differ by up to this much and
/// mean the same.
pub(super) const SAME_WINDOW: Duration = Duration::from_millis(1500);
/// So many requests weigh as much as the windows before.
const STEADY: f64 = 4.0;
/// A share above this is all of it.
const ALONE: f64 = 0.9;
