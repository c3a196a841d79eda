//! A quota that counts any stretch of time, and refused requests like the others.
//!
//! Windows that begin anew are the first guess. But if a window seems to hold less than the one before, and the requests
//! that were refused in the meantime make up the difference, then the server counts them. From then on requests go as
//! the log of all that was sent allows, and nobody looks early: each look would be counted, too.

use std::time::Duration;

use tokio::time::Instant;

use super::{admit::Admit, log::Log, window::round_below};
use crate::clock::after;

#[derive(Clone, Debug)]
pub(super) struct Slide {
    log: Log,
    /// When requests could go last, after a refusal, and how many have been accepted and refused since.
    opened: Instant,
    accepted: u64,
    refused: u64,
    /// How many were refused before that.
    refused_before: u64,
    /// How long a stretch is, at least and at most.
    least: Duration,
    most: Option<Duration>,
    /// How long at most, if those that were refused are not counted after all.
    longest: Option<Duration>,
    /// Whether requests go by it.
    active: bool,
    /// Requests that go so much later are counted later than those before them, whatever their ways.
    margin: Duration,
    /// When it is looked next whether the quota has grown, and how long until the one after.
    look_at: Option<Instant>,
    /// The allowance before the look.
    grown: Option<u64>,
}

impl Slide {
    /// So many were sent from `first` to `last`, and then one was refused.
    pub(super) fn new(first: Instant, last: Instant, count: u64) -> Self {
        Self {
            log: Log::new(first, last, count),
            opened: first,
            accepted: count,
            refused: 0,
            refused_before: 0,
            least: Duration::ZERO,
            most: None,
            longest: None,
            active: false,
            margin: Duration::ZERO,
            look_at: None,
            grown: None,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    pub(super) fn sent(&mut self, allowance: u64, now: Instant) {
        self.log
            .sent(allowance.saturating_mul(2).saturating_add(64), now);
    }

    pub(super) fn unsent(&mut self) {
        self.log.unsent();
    }

    pub(super) fn accepted(&mut self) {
        self.accepted += 1;
    }

    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    /// A look that was sent last was accepted; the one before was `refused`, if it is known when that was sent. Returns
    /// how many have been accepted since the last time.
    pub(super) fn reopened(
        &mut self,
        allowance: u64,
        sent: Instant,
        refused: Option<Instant>,
    ) -> u64 {
        self.opened = sent;
        self.refused_before = std::mem::take(&mut self.refused);
        let since = |later, known: Option<Duration>| {
            let oldest = self.log.before(later)?;
            let most = sent.saturating_duration_since(oldest);
            Some(known.map_or(most, |known| known.min(most)))
        };
        self.longest =
            since(allowance.saturating_add(self.refused_before), self.longest).or(self.longest);
        self.most = since(allowance, self.most).or(self.most);
        if let Some((oldest, refused)) = self.log.before(allowance + 1).zip(refused) {
            self.least = self.least.max(refused.saturating_duration_since(oldest));
        }
        if let Some(most) = self.most {
            self.least = self.least.min(most);
        }
        std::mem::take(&mut self.accepted)
    }

    /// A look that was sent last was refused, although it should not have been.
    pub(super) fn refused_again(&mut self, allowance: u64, sent: Instant) {
        if let Some(oldest) = self.log.before(allowance) {
            self.least = self.least.max(sent.saturating_duration_since(oldest));
            if self.most.is_some_and(|most| most <= self.least) {
                self.most = Some(self.least + self.least / 20);
            }
        }
    }

    /// Whether so much was sent before the last `behind` requests that a refusal is no wonder, although the window before
    /// had more room.
    pub(super) fn explains(&self, allowance: u64, behind: u64, now: Instant) -> bool {
        let most = self.longest.or(self.most).unwrap_or(self.least);
        let counted = now.checked_sub(most).map(|start| self.log.since(start));
        let ahead = self.sent_since_opening(behind);
        // Answers come late, and requests overtake each other: the more is missing, the less exactly it is known.
        let missing = allowance.saturating_sub(ahead);
        counted.is_some_and(|counted| counted.saturating_sub(behind) + missing / 8 >= allowance)
            && (missing <= self.refused_before || ahead < allowance / 2)
    }

    /// How many have gone since the last opening, before the last `behind`.
    pub(super) fn sent_since_opening(&self, behind: u64) -> u64 {
        // The look itself is the first of them.
        (self.log.since(self.opened) + 1).saturating_sub(behind)
    }

    /// How many were sent in the last stretch.
    pub(super) fn sent_within(&self, now: Instant) -> u64 {
        let start = now.checked_sub(self.length() + self.margin);
        start.map_or(0, |start| self.log.since(start))
    }

    /// A request was refused that went by the log. Returns whether the log is still to be believed: requests can
    /// overtake each other, and a look at what is beyond the allowance can fail.
    pub(super) fn refused_nevertheless(
        &mut self,
        allowance: &mut u64,
        behind: u64,
        in_flight: u64,
        now: Instant,
    ) -> bool {
        if let Some(before) = self.grown.take() {
            *allowance = before;
            return true;
        }
        let counted = self.sent_within(now).saturating_sub(behind);
        self.margin = (self.margin * 2).min((self.length() / 20).max(LEAST_MARGIN));
        counted + in_flight + *allowance / 20 >= *allowance
    }

    pub(super) fn activate(&mut self, now: Instant) {
        self.active = true;
        self.margin = (self.length() / 200).max(LEAST_MARGIN);
        self.look_at = Some(after(now, self.length() * RARE));
    }

    pub(super) fn deactivate(&mut self) {
        self.active = false;
    }

    /// When a request can go that the server should accept.
    pub(super) fn room(&self, allowance: u64) -> Option<Instant> {
        let oldest = self.log.before(allowance.saturating_sub(1))?;
        Some(after(oldest, self.length() + self.margin))
    }

    /// `None` if nothing speaks against one more.
    pub(super) fn admit(&self, allowance: u64, in_flight: u32, now: Instant) -> Option<Admit> {
        let at = self.room(allowance).filter(|at| *at > now)?;
        Some(if in_flight > 0 {
            Admit::AfterAnswer(Some(at))
        } else {
            Admit::NotBefore(at)
        })
    }

    /// Whether it is time to look whether there is more than the allowance, which is raised then.
    pub(super) fn looks(&mut self, allowance: &mut u64, now: Instant) -> bool {
        let due = self.look_at.is_some_and(|at| now >= at);
        if due {
            self.look_at = Some(after(now, self.length() * RARE));
            self.grown = Some(*allowance);
            *allowance = allowance.saturating_add((*allowance / 50).max(1));
        }
        due
    }

    /// How long a stretch is, as far as is known.
    pub(super) fn length(&self) -> Duration {
        let Some(most) = self.most else {
            return self.least + self.least / 20;
        };
        let between = |least, most| round_below(most + BLUR).filter(|round| *round + BLUR >= least);
        between(most, self.longest.map_or(most, |longest| longest.max(most)))
            .or_else(|| between(self.least, most))
            .unwrap_or(most)
    }
}

const LEAST_MARGIN: Duration = Duration::from_millis(20);
/// What is known of the times at which requests are counted is blurred by so much.
const BLUR: Duration = Duration::from_millis(30);
/// Once in so many stretches it is looked whether a quota has grown.
const RARE: u32 = 8;
