//! Servers that do more than count.

use super::{FixedWindow, Model, Verdict};

/// Blocks a client for `block` seconds once it exceeds the quota.
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

/// Several limits at once. A request counts against all of them or none. Announces the tightest.
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
