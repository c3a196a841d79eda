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

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary instant to count from"
)]
mod tests {
    use super::*;

    #[test]
    fn each_success_of_the_last_ten_seconds_is_counted_once() {
        let began = Instant::now();
        let budget = FaultBudget::new(began);
        let at = |seconds| began + Duration::from_secs(seconds);
        let succeed = |n| (0..n).for_each(|_| budget.deposit());
        // How many succeeded, when it is looked, and how many count.
        for (succeeded, looked, counted) in [
            (0, 0, 0),
            (7, 0, 7),
            (0, 1, 0),
            (40, 11, 40),
            // Of those of twenty seconds the half.
            (40, 31, 20),
            (0, 90, 0),
            (30_000, 91, 20_000),
        ] {
            succeed(succeeded);

            assert_eq!(budget.recent(at(looked)), counted, "after {looked} s");
        }
    }

    #[test]
    fn ten_faults_a_second_are_retried_and_a_fifth_of_what_succeeds() {
        let now = Instant::now();
        let budget = FaultBudget::new(now);
        let retried = || (0..1000).filter(|_| budget.withdraw(now)).count();
        assert_eq!(retried(), 100);

        (0..50).for_each(|_| budget.deposit());

        assert_eq!(retried(), 10);
    }
}
