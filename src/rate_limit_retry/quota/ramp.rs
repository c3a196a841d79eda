//! How many requests may be under way while it is not known what the server will take.

use std::time::Duration;

use tokio::time::Instant;

use super::admit::Admit;
use crate::clock::after;

/// Closed at first, and opened by answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp(Option<Step>);

#[derive(Clone, Copy, Debug)]
struct Step {
    /// So many may be in flight.
    width: u32,
    /// Widens by itself at this time, so that one slow answer does not stall everybody.
    until: Option<Instant>,
    /// Goes on after the first answer, one step for each success: when waiters would come as a herd.
    gradual: bool,
    /// So many requests with numbers below this one take too long, and are no longer counted.
    stuck: u32,
    before: u64,
}

impl Ramp {
    /// Nothing is known: a few may go, and the first answer opens it.
    pub(super) fn cold(burst: u32) -> Self {
        Self(Some(Step {
            width: burst.max(1),
            until: None,
            gradual: false,
            stuck: 0,
            before: 0,
        }))
    }

    /// One looks; then as many as have succeeded.
    pub(super) fn look() -> Self {
        Self(Some(Step {
            width: 1,
            until: None,
            gradual: true,
            stuck: 0,
            before: 0,
        }))
    }

    pub(super) fn open() -> Self {
        Self(None)
    }

    /// Whether one alone is to go, to see.
    pub(super) fn is_look(self) -> bool {
        self.0.is_some_and(|step| step.width == 1)
    }

    /// `None` if nothing speaks against one more, which would have the number `next`.
    pub(super) fn admit(
        &mut self,
        in_flight: u32,
        next: u64,
        patience: Duration,
        now: Instant,
    ) -> Option<Admit> {
        let step = self.0.as_mut()?;
        if in_flight.saturating_sub(step.stuck) < step.width {
            return None;
        }
        let until = step.ends(patience, now);
        if now < until {
            return Some(Admit::AfterAnswer(Some(until)));
        }
        if step.gradual {
            step.width = step.width.saturating_mul(2);
            step.until = None;
            step.stuck = in_flight;
            step.before = next;
        } else {
            self.0 = None;
        }
        None
    }

    pub(super) fn entered(&mut self, patience: Duration, now: Instant) {
        if let Some(step) = &mut self.0 {
            step.ends(patience, now);
        }
    }

    /// A request is no longer in flight.
    pub(super) fn ended(&mut self, number: u64) {
        if let Some(step) = &mut self.0
            && number < step.before
        {
            step.stuck = step.stuck.saturating_sub(1);
        }
    }

    /// An answer came that refuses nothing.
    pub(super) fn widen(&mut self) {
        match &mut self.0 {
            Some(step) if step.gradual => {
                step.width = step.width.saturating_add(1);
                step.until = None;
                if step.width > WIDEST {
                    self.0 = None;
                }
            }
            _ => self.0 = None,
        }
    }

    /// A request ended without an answer.
    pub(super) fn unanswered(&mut self) {
        if self.0.is_some_and(|step| !step.gradual) {
            self.0 = None;
        }
    }
}

impl Step {
    /// When it widens by itself, counted from the first time that anybody asked.
    fn ends(&mut self, patience: Duration, now: Instant) -> Instant {
        let patience = if self.gradual {
            patience.saturating_mul(LOOKS_LAST)
        } else {
            patience
        };
        *self.until.get_or_insert_with(|| after(now, patience))
    }
}

/// A look may take so many times longer than the first answer of all.
const LOOKS_LAST: u32 = 8;
/// A ramp that has come so far has nothing more to protect.
const WIDEST: u32 = 256;
