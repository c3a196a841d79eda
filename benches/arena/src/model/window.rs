//! One limit at a time.

use std::collections::VecDeque;

use super::{Model, Verdict};

/// A number of requests per fixed window; the first window ends after `phase`.
#[derive(Clone)]
pub struct FixedWindow {
    pub(super) limit: u64,
    window: f64,
    phase: f64,
    current: i64,
    pub(super) used: u64,
}

impl FixedWindow {
    pub fn new(limit: u64, window: f64, phase: f64) -> Self {
        Self {
            limit,
            window,
            phase,
            current: i64::MIN,
            used: 0,
        }
    }

    fn number(&self, at: f64) -> i64 {
        ((at - self.phase) / self.window).floor() as i64
    }

    fn end(&self, number: i64) -> f64 {
        // A little later, so that a request sent then is never a rounding error too early.
        (number + 1) as f64 * self.window + self.phase + 1e-6
    }
}

impl Model for FixedWindow {
    fn take(&mut self, at: f64) -> Verdict {
        let number = self.number(at);
        if number != self.current {
            (self.current, self.used) = (number, 0);
        }
        let accepted = self.used < self.limit;
        self.used += u64::from(accepted);
        Verdict {
            status: if accepted { 200 } else { 429 },
            limit: self.limit,
            window: self.window,
            remaining: self.limit - self.used,
            reset: self.end(number),
        }
    }

    fn earliest(&self, at: f64) -> f64 {
        let number = self.number(at);
        if number == self.current && self.used >= self.limit {
            self.end(number)
        } else {
            at
        }
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
    fn take(&mut self, at: f64) -> Verdict {
        while self
            .log
            .front()
            .is_some_and(|first| *first <= at - self.window)
        {
            self.log.pop_front();
        }
        let accepted = self.log.len() < self.limit;
        if accepted || self.refused_count {
            self.log.push_back(at);
        }
        let over = self.log.len().saturating_sub(self.limit);
        let reset = self.log.get(over).map_or(at, |oldest| oldest + self.window);
        Verdict {
            status: if accepted { 200 } else { 429 },
            limit: self.limit as u64,
            window: self.window,
            remaining: self.limit.saturating_sub(self.log.len()) as u64,
            reset,
        }
    }

    fn earliest(&self, at: f64) -> f64 {
        let over = self.log.len().checked_sub(self.limit);
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
    fn take(&mut self, at: f64) -> Verdict {
        (self.number, self.last, self.this) = self.counts(at);
        let accepted = self.weighed(at) + 1.0 <= self.limit as f64 + 1e-9;
        self.this += u64::from(accepted);
        Verdict {
            status: if accepted { 200 } else { 429 },
            limit: self.limit,
            window: self.window,
            remaining: (self.limit as f64 - self.weighed(at)).max(0.0) as u64,
            reset: if self.weighed(at) + 1.0 <= self.limit as f64 {
                (self.number + 1) as f64 * self.window
            } else {
                self.earliest(at)
            },
        }
    }

    fn earliest(&self, at: f64) -> f64 {
        let mut at = at;
        // The weight falls linearly within a window: a few steps find the time.
        for _ in 0..4 {
            let over = self.weighed(at) + 1.0 - self.limit as f64;
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
    level: f64,
    at: f64,
}

impl Bucket {
    pub fn new(rate: f64, burst: f64) -> Self {
        Self {
            rate,
            burst,
            level: burst,
            at: 0.0,
        }
    }

    fn level(&self, at: f64) -> f64 {
        (self.level + (at - self.at).max(0.0) * self.rate).min(self.burst)
    }
}

impl Model for Bucket {
    fn take(&mut self, at: f64) -> Verdict {
        self.level = self.level(at);
        self.at = at;
        let accepted = self.level >= 1.0 - 1e-9;
        if accepted {
            self.level -= 1.0;
        }
        Verdict {
            status: if accepted { 200 } else { 429 },
            limit: self.burst as u64,
            window: self.burst / self.rate,
            remaining: self.level.max(0.0) as u64,
            reset: at + (1.0 - self.level).max(0.0) / self.rate,
        }
    }

    fn earliest(&self, at: f64) -> f64 {
        at + (1.0 - self.level(at)).max(0.0) / self.rate
    }
}
