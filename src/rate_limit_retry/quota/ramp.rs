//! How many requests may be under way while it is not known what the server will take.

use std::time::Duration;

use tokio::time::Instant;

use super::Admit;

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
}

impl Ramp {
    /// Nothing is known: a few may go, and the first answer opens it.
    pub(super) fn cold(burst: u32) -> Self {
        Self(Some(Step {
            width: burst.max(1),
            until: None,
            gradual: false,
        }))
    }

    /// One looks; then as many as have succeeded.
    pub(super) fn look() -> Self {
        Self(Some(Step {
            width: 1,
            until: None,
            gradual: true,
        }))
    }

    pub(super) fn open() -> Self {
        Self(None)
    }

    /// Whether one alone is to go, to see.
    pub(super) fn is_look(self) -> bool {
        self.0.is_some_and(|step| step.width == 1)
    }

    /// `None` if nothing speaks against one more.
    pub(super) fn admit(&mut self, in_flight: u32, now: Instant) -> Option<Admit> {
        let step = self.0.as_mut()?;
        if in_flight < step.width {
            return None;
        }
        if step.until.is_none_or(|until| now < until) {
            return Some(Admit::AfterAnswer(step.until));
        }
        if step.gradual {
            step.width = step.width.saturating_mul(2);
            step.until = None;
        } else {
            self.0 = None;
        }
        None
    }

    pub(super) fn entered(&mut self, patience: Duration, now: Instant) {
        if let Some(step) = &mut self.0 {
            let patience = if step.gradual {
                patience * LOOKS_LAST
            } else {
                patience
            };
            step.until
                .get_or_insert_with(|| crate::clock::after(now, patience));
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

/// A look may take so many times longer than the first answer of all.
const LOOKS_LAST: u32 = 8;
/// A ramp that has come so far has nothing more to protect.
const WIDEST: u32 = 256;
