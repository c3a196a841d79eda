//! Retries after faults are a share of what succeeds in the same partition.

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

/// tower's budget, for each partition by itself: an origin that fails does not use up the retries of another. Successes
/// are counted by thread, and paid in when something fails.
#[derive(Debug)]
pub(crate) struct FaultBudget {
    succeeded: Sharded<Counters>,
    began: Instant,
    /// By partition; only those in which something has failed.
    accounts: Mutex<HashMap<Account, State>>,
}

/// Successes by account. They wrap around.
#[derive(Debug)]
struct Counters([AtomicU32; ACCOUNTS]);

/// Where a partition's successes are counted, and its retries charged. Partitions beyond [`ACCOUNTS`] share them, so that
/// memory is bounded and a warm request looks nothing up.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Account(u8);

#[derive(Debug)]
struct State {
    /// Successes that have been paid in, and when that was.
    paid: u32,
    at: Instant,
    budget: TpsBudget,
}

impl Account {
    /// The account of a request with these keys: that of the first one.
    pub(crate) fn of(keys: &[PartitionKey]) -> Self {
        // FNV-1a: the same in every process, so that tests repeat.
        let key = keys.first().map_or("", PartitionKey::as_str);
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(((hash >> 32) % ACCOUNTS as u64) as u8)
    }
}

impl FaultBudget {
    pub(crate) fn new(now: Instant) -> Self {
        let counters = || Counters(std::array::from_fn(|_| AtomicU32::new(0)));
        Self {
            succeeded: Sharded::new(counters),
            began: now,
            accounts: Mutex::default(),
        }
    }

    pub(crate) fn deposit(&self, account: Account) {
        if let Some(count) = self.succeeded.here().0.get(usize::from(account.0)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn withdraw(&self, account: Account, now: Instant) -> bool {
        let succeeded = self.successes(account);
        let mut accounts = lock(&self.accounts);
        let state = accounts
            .entry(account)
            .or_insert_with(|| State::new(self.began));
        for _ in 0..state.recent(succeeded, now) {
            state.budget.deposit();
        }
        state.budget.withdraw()
    }

    fn successes(&self, account: Account) -> u32 {
        let counts = self.succeeded.all().filter_map(|counters| {
            let count = counters.0.get(usize::from(account.0))?;
            Some(count.load(Ordering::Relaxed))
        });
        counts.fold(0, u32::wrapping_add)
    }
}

impl State {
    fn new(began: Instant) -> Self {
        Self {
            paid: 0,
            at: began,
            budget: TpsBudget::new(WINDOW, PER_SECOND, SHARE),
        }
    }

    /// How many successes of the last seconds have not been paid in.
    fn recent(&mut self, succeeded: u32, now: Instant) -> u64 {
        let new = u64::from(succeeded.wrapping_sub(self.paid));
        let passed = now.saturating_duration_since(self.at);
        (self.paid, self.at) = (succeeded, now);
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

/// Number of accounts.
const ACCOUNTS: usize = 64;
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
        let account = Account::of(&["https://api.example".into()]);
        let mut state = State::new(began);
        let at = |seconds| began + Duration::from_secs(seconds);
        let succeed = |n| (0..n).for_each(|_| budget.deposit(account));
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

            let recent = state.recent(budget.successes(account), at(looked));
            assert_eq!(recent, counted, "after {looked} s");
        }
    }

    #[test]
    fn ten_faults_a_second_are_retried_and_a_fifth_of_what_succeeds() {
        let now = Instant::now();
        let budget = FaultBudget::new(now);
        let account = Account::of(&["https://api.example".into()]);
        let retried = || (0..1000).filter(|_| budget.withdraw(account, now)).count();
        assert_eq!(retried(), 100);

        (0..50).for_each(|_| budget.deposit(account));

        assert_eq!(retried(), 10);
    }

    #[test]
    fn a_partition_that_fails_leaves_others_their_retries() {
        let now = Instant::now();
        let budget = FaultBudget::new(now);
        let [bad, good] =
            ["https://bad.example", "https://good.example"].map(|key| Account::of(&[key.into()]));
        let retried = |account| (0..1000).filter(|_| budget.withdraw(account, now)).count();
        (0..50).for_each(|_| budget.deposit(good));

        assert_eq!(retried(bad), 100);

        assert_eq!(retried(good), 110);
        // What succeeds at one pays for no retry at the other.
        (0..50).for_each(|_| budget.deposit(good));
        assert_eq!(retried(bad), 0);
    }
}
