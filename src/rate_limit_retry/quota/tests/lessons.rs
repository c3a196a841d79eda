//! A habit that is taught step by step.

use super::*;
use crate::rate_limit_retry::quota::{
    habit::{Blocked, Kind},
    refused::Refusal,
};

/// The first request of all goes at 0; times are in milliseconds.
pub(super) struct Lessons {
    pub(super) habit: Habit,
    pub(super) began: Instant,
}

/// A refused request, with nothing else under way.
pub(super) const REFUSAL: Refusal = Refusal {
    sent: None,
    limit: None,
    silent: false,
    counted: true,
    behind: 1,
    in_flight: 0,
};

impl Lessons {
    pub(super) fn new() -> Self {
        Self {
            habit: Habit::NONE,
            began: origin(),
        }
    }

    /// Two windows of a minute with ten requests, and the first request of the third, at 120 s.
    pub(super) fn minutes() -> Self {
        let mut lessons = Self::new();
        for window in [0, 60_000] {
            lessons.accept(if window == 0 { 10 } else { 9 }, window);
            lessons.refuse(window + 1000, REFUSAL);
            lessons.reopen(window + 60_000);
        }
        lessons
    }

    pub(super) fn at(&self, millis: u64) -> Instant {
        self.began + ms(millis)
    }

    /// So many go at that time, and are accepted.
    pub(super) fn accept(&mut self, count: u64, at: u64) {
        let at = self.at(at);
        for _ in 0..count {
            self.habit.sent(at);
            self.habit.accepted(Look::default(), at);
        }
    }

    pub(super) fn refuse(&mut self, at: u64, refusal: Refusal) {
        let at = self.at(at);
        self.habit.sent(at);
        self.habit.refused(&refusal, at);
    }

    /// The first one is accepted, at the time that the server had named.
    pub(super) fn reopen(&mut self, at: u64) {
        let now = self.at(at);
        let look = Look {
            since: Some(now),
            sent: Some(now),
        };
        self.habit.sent(now);
        self.habit.accepted(look, now);
    }

    pub(super) fn blocked(&self) -> Blocked {
        self.habit.blocked.unwrap()
    }

    pub(super) fn admit(&self, in_flight: u32, at: u64) -> Verdict {
        // Whoever asks is told once that the allowance is used up.
        self.habit.clone().admit(in_flight, self.at(at))
    }

    pub(super) fn is_free(&self, in_flight: u32, at: u64) -> bool {
        matches!(self.admit(in_flight, at), Verdict::Free)
    }

    pub(super) fn has_rate(&self) -> bool {
        matches!(self.habit.kind, Kind::Rate(_))
    }
}
