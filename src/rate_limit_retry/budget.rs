//! Retry budget: retries after transient failures are limited to a share of the successes in the same partition.
//!
//! The limits are those of [`TpsBudget`]: 10 retries per second without any success, and one retry for every five
//! successes within the last 10 s. Retries of throttled requests are not charged, because they follow the quota of
//! their partition.
//!
//! # Why
//!
//! When a server fails, retries multiply its load exactly when it can bear it least. The budget ties their number to
//! the successes: with few failures every one of them is retried, with many failures retries add at most 20 %.
//!
//! # Cost
//!
//! A success is one relaxed addition to a counter of the calling thread's shard. The lock is taken only after a
//! transient failure. Counters are summed up then, over all shards.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use tower::retry::budget::{Budget, TpsBudget};

use super::PartitionKey;
use crate::{
    sharded::Sharded,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
        lock,
    },
};

/// A [`TpsBudget`] for each account, so that failures of one origin do not use up the retries of another.
///
/// Each shard counts its successes without a lock. They are deposited when a request fails.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// Successes per shard and account.
    succeeded: Sharded<SuccessCounters>,
    /// When the budget was created: the start of the first interval of each account.
    created: Instant,
    /// Budget state by account. Contains only accounts with at least one failure.
    accounts: Mutex<HashMap<Account, AccountState>>,
}

/// Successes by account. The counters wrap around.
#[derive(Debug)]
struct SuccessCounters([AtomicU32; ACCOUNTS]);

/// Index of the counter and of the budget that a partition uses.
///
/// Partitions are hashed to [`ACCOUNTS`] accounts. This bounds the memory, and a successful request needs no map
/// lookup. Two partitions with the same account share a budget; with many partitions, that limits retries slightly more
/// or less than for each alone.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Account(u8);

/// Budget of one account.
#[derive(Debug)]
struct AccountState {
    /// Total of successes at the last deposit. Wraps around, as the counters do.
    deposited: u32,
    /// Time of the last deposit.
    updated: Instant,
    /// The token budget of tower.
    budget: TpsBudget,
}

impl Account {
    /// Returns the account of a request with these keys: that of the first key.
    pub(crate) fn of(keys: &[PartitionKey]) -> Self {
        // Requests without keys share the account of the empty key.
        let key = keys.first().map_or("", PartitionKey::as_str);
        // FNV-1a has no random seed, so tests are reproducible.
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(((hash >> 32) % ACCOUNTS as u64) as u8)
    }
}

impl RetryBudget {
    /// Creates a budget with no successes.
    pub(crate) fn new(now: Instant) -> Self {
        let counters = || SuccessCounters(std::array::from_fn(|_| AtomicU32::new(0)));
        Self {
            succeeded: Sharded::new(counters),
            created: now,
            accounts: Mutex::default(),
        }
    }

    /// Counts a success. Lock-free.
    pub(crate) fn deposit(&self, account: Account) {
        if let Some(count) = self.succeeded.local().0.get(usize::from(account.0)) {
            // Relaxed: the counter publishes no other data.
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Withdraws one retry. Returns whether the budget allows it.
    ///
    /// First deposits the successes since the last call. Takes the lock; called only after a transient failure.
    ///
    /// Costs O(shards) loads, and at most [`MAX_DEPOSITS`] deposits under the lock.
    pub(crate) fn withdraw(&self, account: Account, now: Instant) -> bool {
        // Read before the lock is taken: a success that is counted in between is deposited next time.
        let succeeded = self.successes(account);
        let mut accounts = lock(&self.accounts);
        let state = accounts
            .entry(account)
            .or_insert_with(|| AccountState::new(self.created));
        // Bounded by `MAX_DEPOSITS`, so that a long period of successes cannot block the thread.
        for _ in 0..state.recent(succeeded, now) {
            state.budget.deposit();
        }
        state.budget.withdraw()
    }

    /// Returns the total of successes of all shards. Not a consistent snapshot: counters that change meanwhile are read
    /// before or after the change.
    fn successes(&self, account: Account) -> u32 {
        let counts = self.succeeded.all().filter_map(|counters| {
            let count = counters.0.get(usize::from(account.0))?;
            Some(count.load(Ordering::Relaxed))
        });
        counts.fold(0, u32::wrapping_add)
    }
}

impl AccountState {
    /// Creates a state in which nothing has been deposited since `began`.
    fn new(began: Instant) -> Self {
        Self {
            deposited: 0,
            updated: began,
            budget: TpsBudget::new(BUDGET_TTL, MIN_RETRIES_PER_SECOND, RETRY_PERCENT),
        }
    }

    /// Returns the number of successes within the last [`BUDGET_TTL`] that have not been deposited, and marks them as
    /// deposited.
    fn recent(&mut self, succeeded: u32, now: Instant) -> u64 {
        // Correct across a wrap-around, as long as fewer than 2³² successes lie between two failures.
        let new = u64::from(succeeded.wrapping_sub(self.deposited));
        let passed = now.saturating_duration_since(self.updated);
        (self.deposited, self.updated) = (succeeded, now);
        let recent = if passed > BUDGET_TTL {
            // Only totals are known: assumes that successes are distributed evenly over the interval.
            let share = BUDGET_TTL.as_secs_f64() / passed.as_secs_f64();
            Duration::from_secs(new).mul_f64(share).as_secs()
        } else {
            new
        };
        recent.min(MAX_DEPOSITS)
    }
}

/// Number of accounts.
const ACCOUNTS: usize = 64;
/// Length of the window in which successes count.
const BUDGET_TTL: Duration = Duration::from_secs(10);
/// Number of retries per second that are allowed without any success.
const MIN_RETRIES_PER_SECOND: u32 = 10;
/// Retries allowed per success: 0.2 allows one retry for every five successes.
const RETRY_PERCENT: f32 = 0.2;
/// Maximum number of successes per deposit. More would allow no useful additional retries.
const MAX_DEPOSITS: u64 = 20_000;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary instant to count from"
)]
mod tests {
    use super::*;

    #[test]
    fn each_success_within_ten_seconds_is_counted_once() {
        let began = Instant::now();
        let budget = RetryBudget::new(began);
        let account = Account::of(&["https://api.example".into()]);
        let mut state = AccountState::new(began);
        let at = |seconds| began + Duration::from_secs(seconds);
        let succeed = |n| (0..n).for_each(|_| budget.deposit(account));
        // Number of successes, time of the reading in seconds, and number that counts.
        for (succeeded, looked, counted) in [
            (0, 0, 0),
            (7, 0, 7),
            (0, 1, 0),
            (40, 11, 40),
            // Half of the successes of twenty seconds.
            (40, 31, 20),
            (0, 90, 0),
            (30_000, 91, 20_000),
        ] {
            succeed(succeeded);

            let recent = state.recent(budget.successes(account), at(looked));
            assert_eq!(recent, counted, "after {looked} s");
        }
    }

    #[test]
    fn the_budget_allows_ten_retries_per_second_plus_20_percent_of_successes() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        let account = Account::of(&["https://api.example".into()]);
        let retried = || (0..1000).filter(|_| budget.withdraw(account, now)).count();
        assert_eq!(retried(), 100);

        (0..50).for_each(|_| budget.deposit(account));

        assert_eq!(retried(), 10);
    }

    #[test]
    fn retry_budgets_are_per_partition() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        let [bad, good] =
            ["https://bad.example", "https://good.example"].map(|key| Account::of(&[key.into()]));
        let retried = |account| (0..1000).filter(|_| budget.withdraw(account, now)).count();
        (0..50).for_each(|_| budget.deposit(good));

        assert_eq!(retried(bad), 100);

        assert_eq!(retried(good), 110);
        // A success at one origin does not pay for a retry at another.
        (0..50).for_each(|_| budget.deposit(good));
        assert_eq!(retried(bad), 0);
    }
}
