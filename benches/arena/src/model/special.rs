//! Servers that do more than count.

use super::{FixedWindow, Model, RejectionScope, Verdict};
use crate::job::Job;

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
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        let mut verdict = if at < self.until {
            Verdict {
                status: 429,
                remaining: 0,
                ..self.inner.clone().take(at, job)
            }
        } else {
            self.inner.take(at, job)
        };
        if verdict.status == 429 {
            self.until = self.until.max(at + self.block);
            (verdict.reset, verdict.retry) = (self.until, self.until);
        }
        verdict
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        self.inner.earliest(at.max(self.until), job)
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
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        if at >= self.from {
            self.inner.limit = self.to;
            for used in self.inner.used.values_mut() {
                *used = (*used).min(self.to);
            }
        }
        self.inner.take(at, job)
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let mut inner = self.inner.clone();
        if at >= self.from {
            inner.limit = self.to;
        }
        inner.earliest(at, job)
    }
}

/// Several limits at once. A request counts against all of them or none. Announces the tightest.
pub struct Stacked(pub Vec<Box<dyn Model>>);

impl Model for Stacked {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        let free = self.earliest(at, job) <= at;
        let verdicts = self.0.iter_mut().filter_map(|model| {
            let blocks = model.earliest(at, job) > at;
            (free || blocks).then(|| model.take(at, job))
        });
        let tightest = verdicts.min_by(|a, b| {
            a.remaining
                .cmp(&b.remaining)
                .then(b.reset.total_cmp(&a.reset))
        });
        tightest.expect("at least one limit decides")
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let mut at = at;
        for _ in 0..8 {
            let later = self
                .0
                .iter()
                .map(|m| m.earliest(at, job))
                .fold(at, f64::max);
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
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        if (self.from..self.until).contains(&at) {
            return Verdict::uncounted(503, self.until);
        }
        self.inner.take(at, job)
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let inner = self.inner.earliest(at, job);
        if (self.from..self.until).contains(&inner) {
            self.inner.earliest(self.until, job)
        } else {
            inner
        }
    }
}

/// Rejects a share of the requests at random, without counting them.
pub struct Shed {
    inner: FixedWindow,
    share: f64,
    random: fastrand::Rng,
}

impl Shed {
    pub fn new(inner: FixedWindow, share: f64, random: fastrand::Rng) -> Self {
        Self {
            inner,
            share,
            random,
        }
    }
}

/// `Retry-After` for a shed request, in seconds.
const SHED_WAIT: f64 = 1.0;

impl Model for Shed {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        if self.random.f64() < self.share {
            return Verdict {
                status: 503,
                retry: at + SHED_WAIT,
                rejection_scope: RejectionScope::Request,
                ..self.inner.peek(at)
            };
        }
        self.inner.take(at, job)
    }

    fn take_best_case(&mut self, at: f64, job: &Job) -> Verdict {
        self.inner.take(at, job)
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        self.inner.earliest(at, job)
    }
}
