//! One limit at a time.

use std::collections::{BTreeMap, VecDeque};

use super::{Model, Verdict};
use crate::job::Job;

/// A number of requests, or of what they cost, per fixed window; the first window ends after `phase`.
#[derive(Clone)]
pub struct FixedWindow {
    pub(super) limit: u64,
    window: f64,
    phase: f64,
    /// What was used of each window: the optimum also fills one before the last.
    pub(super) used: BTreeMap<i64, u64>,
}

impl FixedWindow {
    pub fn new(limit: u64, window: f64, phase: f64) -> Self {
        Self {
            limit,
            window,
            phase,
            used: BTreeMap::new(),
        }
    }

    pub(super) fn number(&self, at: f64) -> i64 {
        ((at - self.phase) / self.window).floor() as i64
    }

    pub(super) fn end(&self, number: i64) -> f64 {
        // A little later, so that a request sent then is never a rounding error too early.
        (number + 1) as f64 * self.window + self.phase + 1e-6
    }

    /// Returns the end of the window at `at`.
    pub(super) fn ends(&self, at: f64) -> f64 {
        self.end(self.number(at))
    }

    fn used(&self, number: i64) -> u64 {
        self.used.get(&number).copied().unwrap_or_default()
    }

    /// Returns what a response to an uncounted request announces.
    pub(super) fn peek(&self, at: f64) -> Verdict {
        let remaining = self.limit.saturating_sub(self.used(self.number(at)));
        Verdict::new(true, self.limit, self.window, remaining, self.ends(at))
    }
}

impl Model for FixedWindow {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        let used = self.used.entry(self.number(at)).or_default();
        let accepted = *used + job.cost <= self.limit;
        if accepted {
            *used += job.cost;
        }
        Verdict {
            status: if accepted { 200 } else { 429 },
            ..self.peek(at)
        }
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let mut number = self.number(at);
        let mut earliest = at;
        while self.used(number) + job.cost.min(self.limit) > self.limit {
            earliest = self.end(number);
            number += 1;
        }
        earliest
    }
}

/// A number of requests in any interval of the window's length.
pub struct SlidingLog {
    limit: usize,
    window: f64,
    refused_count: bool,
    log: VecDeque<f64>,
}

impl SlidingLog {
    pub fn new(limit: usize, window: f64) -> Self {
        Self {
            limit,
            window,
            refused_count: false,
            log: VecDeque::new(),
        }
    }

    /// Rejected requests count like the others.
    pub fn counting_refused(mut self) -> Self {
        self.refused_count = true;
        self
    }
}

impl Model for SlidingLog {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        while self
            .log
            .front()
            .is_some_and(|first| *first <= at - self.window)
        {
            self.log.pop_front();
        }
        let cost = job.cost as usize;
        let accepted = self.log.len() + cost <= self.limit;
        if accepted || self.refused_count {
            self.log.extend(std::iter::repeat_n(at, cost));
        }
        let over = (self.log.len() + cost).saturating_sub(self.limit + 1);
        let reset = self.log.get(over).map_or(at, |oldest| oldest + self.window);
        let remaining = self.limit.saturating_sub(self.log.len()) as u64;
        Verdict::new(accepted, self.limit as u64, self.window, remaining, reset)
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let over = (self.log.len() + job.cost as usize).checked_sub(self.limit + 1);
        match over.and_then(|over| self.log.get(over)) {
            Some(oldest) => at.max(oldest + self.window + 1e-6),
            None => at,
        }
    }
}

/// The last window counts by the share of it that is within a window's length.
pub struct SlidingCounter {
    limit: u64,
    window: f64,
    number: i64,
    last: u64,
    this: u64,
}

impl SlidingCounter {
    pub fn new(limit: u64, window: f64) -> Self {
        Self {
            limit,
            window,
            number: 0,
            last: 0,
            this: 0,
        }
    }

    fn counts(&self, at: f64) -> (i64, u64, u64) {
        let number = (at / self.window).floor() as i64;
        match number - self.number {
            0 => (number, self.last, self.this),
            1 => (number, self.this, 0),
            _ => (number, 0, 0),
        }
    }

    fn weighed(&self, at: f64) -> f64 {
        let (_, last, this) = self.counts(at);
        let passed = (at / self.window).fract();
        last as f64 * (1.0 - passed) + this as f64
    }
}

impl Model for SlidingCounter {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        (self.number, self.last, self.this) = self.counts(at);
        let (cost, limit) = (job.cost as f64, self.limit as f64);
        let accepted = self.weighed(at) + cost <= limit + 1e-9;
        if accepted {
            self.this += job.cost;
        }
        let remaining = (limit - self.weighed(at)).max(0.0) as u64;
        let reset = if self.weighed(at) + cost <= limit {
            (self.number + 1) as f64 * self.window
        } else {
            self.earliest(at, job)
        };
        Verdict::new(accepted, self.limit, self.window, remaining, reset)
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let mut at = at;
        // The weight falls linearly within a window: a few steps find the time.
        for _ in 0..4 {
            let over = self.weighed(at) + job.cost as f64 - self.limit as f64;
            if over <= 1e-9 {
                return at;
            }
            let (number, last, _) = self.counts(at);
            let end = (number + 1) as f64 * self.window;
            at = if last == 0 {
                end
            } else {
                (at + over * self.window / last as f64 + 1e-9).min(end)
            };
        }
        at
    }
}

/// A bucket that fills at `rate` and holds `burst` (the same as GCRA with that tolerance).
pub struct Bucket {
    rate: f64,
    burst: f64,
    full_again: bool,
    level: f64,
    at: f64,
}

impl Bucket {
    pub fn new(rate: f64, burst: f64) -> Self {
        Self {
            rate,
            burst,
            full_again: false,
            level: burst,
            at: 0.0,
        }
    }

    /// Sets the announced reset to the time at which the bucket is full again.
    pub fn announcing_full(mut self) -> Self {
        self.full_again = true;
        self
    }

    pub(super) fn limit(&self) -> u64 {
        self.burst as u64
    }

    pub(super) fn level(&self, at: f64) -> f64 {
        (self.level + (at - self.at).max(0.0) * self.rate).min(self.burst)
    }

    /// Returns the time at which the bucket is full again.
    pub(super) fn full(&self, at: f64) -> f64 {
        at + (self.burst - self.level(at)) / self.rate
    }
}

impl Model for Bucket {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        self.level = self.level(at);
        self.at = at;
        let accepted = self.level >= job.cost as f64 - 1e-9;
        if accepted {
            self.level -= job.cost as f64;
        }
        let retry = self.earliest(at, job);
        let reset = if self.full_again {
            self.full(at)
        } else {
            retry
        };
        let (limit, remaining) = (self.limit(), self.level.max(0.0) as u64);
        Verdict {
            full_again: self.full_again,
            retry,
            ..Verdict::new(accepted, limit, self.burst / self.rate, remaining, reset)
        }
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        at + (job.cost as f64 - self.level(at)).max(0.0) / self.rate
    }
}
