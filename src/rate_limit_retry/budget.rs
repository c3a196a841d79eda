//! Retries after faults are a share of what succeeds.

use std::time::Duration;

use tokio::time::Instant;
use tower::retry::budget::{Budget, TpsBudget};

use crate::{
    sharded::Sharded,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        lock,
    },
};

/// tower's budget. What succeeds is counted by thread, and paid in when something fails.
#[derive(Debug)]
pub(crate) struct FaultBudget {
    succeeded: Sharded<AtomicU64>,
    paid: Mutex<Paid>,
    budget: TpsBudget,
}

#[derive(Clone, Copy, Debug)]
struct Paid {
    successes: u64,
    at: Instant,
}

impl FaultBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            succeeded: Sharded::new(|| AtomicU64::new(0)),
            paid: Mutex::new(Paid {
                successes: 0,
                at: now,
            }),
            budget: TpsBudget::new(WINDOW, PER_SECOND, SHARE),
        }
    }

    pub(crate) fn deposit(&self) {
        self.succeeded.here().fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        for _ in 0..self.recent(now) {
            self.budget.deposit();
        }
        self.budget.withdraw()
    }

    /// How many successes of the last seconds have not been paid in.
    fn recent(&self, now: Instant) -> u64 {
        let mut paid = lock(&self.paid);
        let successes = self
            .succeeded
            .all()
            .map(|n| n.load(Ordering::Relaxed))
            .sum();
        let new = successes - paid.successes;
        let passed = now.saturating_duration_since(paid.at);
        *paid = Paid { successes, at: now };
        let recent = if passed > WINDOW {
            // As many in each second as in any other.
            let share = WINDOW.as_secs_f64() / passed.as_secs_f64();
            Duration::from_secs(new).mul_f64(share).as_secs()
        } else {
            new
        };
        recent.min(MOST)
    }
}

/// A fifth of what succeeded within ten seconds, and ten a second besides.
const WINDOW: Duration = Duration::from_secs(10);
const PER_SECOND: u32 = 10;
const SHARE: f32 = 0.2;
/// More are not needed for any number of retries that makes sense.
const MOST: u64 = 20_000;
