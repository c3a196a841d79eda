//! How servers count: each model takes requests at the times of their arrival, in seconds since the start.

use std::collections::VecDeque;

/// What a server decides on one request, and what it could tell about it.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    pub status: u16,
    pub limit: u64,
    pub window: f64,
    pub remaining: u64,
    /// When the quota is next (more) available.
    pub reset: f64,
}

pub trait Model: Send {
    fn take(&mut self, at: f64) -> Verdict;
    /// The earliest time from `at` on at which a request would be accepted if nobody came before.
    fn earliest(&self, at: f64) -> f64;
}

/// So many in each window of the clock; the first edge comes after `phase`.
#[derive(Clone)]
pub struct FixedWindow {
    limit: u64,
    window: f64,
    phase: f64,
    current: i64,
    used: u64,
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

/// So many in any stretch of the window's length.
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

    /// Refused requests count like the others.
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

/// Whoever exceeds the quota once is blocked for `block` seconds.
pub struct PenaltyBox {
    inner: FixedWindow,
    block: f64,
    until: f64,
}

impl PenaltyBox {
    pub fn new(inner: FixedWindow, block: f64) -> Self {
        Self {
            inner,
            block,
            until: 0.0,
        }
    }
}

impl Model for PenaltyBox {
    fn take(&mut self, at: f64) -> Verdict {
        let mut verdict = if at < self.until {
            Verdict {
                status: 429,
                remaining: 0,
                ..self.inner.clone().take(at)
            }
        } else {
            self.inner.take(at)
        };
        if verdict.status == 429 {
            self.until = self.until.max(at + self.block);
            verdict.reset = self.until;
        }
        verdict
    }

    fn earliest(&self, at: f64) -> f64 {
        self.inner.earliest(at.max(self.until))
    }
}

/// A window whose limit is another one from some time on.
pub struct Lowered {
    inner: FixedWindow,
    from: f64,
    to: u64,
}

impl Lowered {
    pub fn new(inner: FixedWindow, from: f64, to: u64) -> Self {
        Self { inner, from, to }
    }
}

impl Model for Lowered {
    fn take(&mut self, at: f64) -> Verdict {
        if at >= self.from {
            self.inner.limit = self.to;
            self.inner.used = self.inner.used.min(self.to);
        }
        self.inner.take(at)
    }

    fn earliest(&self, at: f64) -> f64 {
        let mut inner = self.inner.clone();
        if at >= self.from {
            inner.limit = self.to;
        }
        inner.earliest(at)
    }
}

/// Several limits at once; a request is counted by all of them or by none. Tells about the tightest.
pub struct Stacked(pub Vec<Box<dyn Model>>);

impl Model for Stacked {
    fn take(&mut self, at: f64) -> Verdict {
        let free = self.earliest(at) <= at;
        let verdicts = self.0.iter_mut().filter_map(|model| {
            let blocks = model.earliest(at) > at;
            (free || blocks).then(|| model.take(at))
        });
        let tightest = verdicts.min_by(|a, b| {
            a.remaining
                .cmp(&b.remaining)
                .then(b.reset.total_cmp(&a.reset))
        });
        tightest.expect("at least one limit decides")
    }

    fn earliest(&self, at: f64) -> f64 {
        let mut at = at;
        for _ in 0..8 {
            let later = self.0.iter().map(|m| m.earliest(at)).fold(at, f64::max);
            if later <= at {
                break;
            }
            at = later;
        }
        at
    }
}

/// Says 503 during a brown-out.
pub struct BrownOut {
    pub inner: Box<dyn Model>,
    pub from: f64,
    pub until: f64,
}

impl Model for BrownOut {
    fn take(&mut self, at: f64) -> Verdict {
        if (self.from..self.until).contains(&at) {
            return Verdict {
                status: 503,
                limit: 0,
                window: 0.0,
                remaining: 0,
                reset: self.until,
            };
        }
        self.inner.take(at)
    }

    fn earliest(&self, at: f64) -> f64 {
        let inner = self.inner.earliest(at);
        if (self.from..self.until).contains(&inner) {
            self.inner.earliest(self.until)
        } else {
            inner
        }
    }
}

/// How long the work takes at least: each worker sends at the first moment at which it will be accepted.
pub fn optimum(model: &mut dyn Model, jobs: usize, workers: usize, rtt: f64) -> f64 {
    let mut free = vec![0.0_f64; workers.min(jobs)];
    let (mut end, mut last) = (0.0_f64, 0.0_f64);
    for job in 0..jobs {
        // Served in turn: all are alike, so the first to be free goes first.
        let worker = job % free.len();
        let arrival = model.earliest(last.max(free[worker] + rtt / 2.0));
        last = arrival;
        let verdict = model.take(arrival);
        assert_eq!(verdict.status, 200, "an omniscient client is never refused");
        free[worker] = arrival + rtt / 2.0;
        end = end.max(free[worker]);
    }
    end
}
