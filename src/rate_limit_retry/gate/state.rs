//! The state that the gate's lock guards: partitions and waiters.

use std::{
    collections::{BTreeMap, HashMap},
    task::Waker,
};

use tokio::time::Instant;

use super::{
    keys::{Keys, Numbers},
    partitions::{Partition, Partitions},
};
use crate::{
    Origin,
    rate_limit_retry::{
        Cost, PartitionKey,
        local_limits::LocalLimits,
        quota::{ExceededLimit, Load, Outcome, Quota, QuotaConfig, Scope},
    },
};

/// The state of a gate. All methods run under the gate's lock and call no code of a task.
///
/// `waiters` owns the waiters; queues and `granted` contain only their sequence numbers. A number in a queue always has
/// an entry in `waiters`, because [`remove_waiter`](Self::remove_waiter) removes it everywhere.
#[derive(Default)]
pub(super) struct GateState {
    /// The partitions by key.
    pub(super) partitions: Partitions,
    /// All waiters by sequence number, in a queue, granted or absent.
    pub(super) waiters: HashMap<u64, WaiterState>,
    /// Waiters that were granted and have not been polled since, with the time of the grant.
    pub(super) granted: BTreeMap<u64, Instant>,
    /// The last sequence number assigned. Numbers are unique among calls, so that they identify waiters; retries keep
    /// theirs.
    pub(super) last_sequence: u64,
    /// Whether every request is admitted at once.
    pub(super) bypassed: bool,
    /// Origin-wide holds: each origin once, with the end of its hold. Expired ones are removed when a partition is
    /// created and when a snapshot is taken. Usually empty, because few servers reject a whole client.
    origin_holds: Vec<(Origin, Instant)>,
}

/// How long a partition blocks a request. Of several partitions, the greatest value counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Blocked {
    /// Until an event at an unknown time, such as a response.
    EndUnknown,
    /// Until this time.
    Until(Instant),
    /// Forever: the request costs more than a limit.
    Forever,
}

/// A request that waits for admission.
///
/// It is in one of three states: queued in at least one of its partitions; granted (`granted` is set, in no queue);
/// or absent (in no queue until its next poll).
///
/// It becomes granted in a dispatch, and absent if it was queued or granted and is not polled in time. A poll of an
/// absent waiter enqueues it again with its old sequence number, so that it does not lose its position for good.
///
/// | from | to | by |
/// |---|---|---|
/// | (new) | queued | `add_waiter` |
/// | queued | granted | `dispatch` |
/// | queued | absent | `skip_unpolled` of a later waiter |
/// | granted | (removed), with a permit | its own poll |
/// | granted | absent, reservation released | `skip_unpolled` |
/// | absent | queued | `rejoin`, by its own poll |
/// | any | (removed) | drop |
pub(super) struct WaiterState {
    /// The partitions that count the request.
    pub(super) keys: Keys,
    /// What the request reserves when it is granted.
    pub(super) load: Load,
    /// Whether layers below may report the cost. Then its permit has a reservation.
    pub(super) tracks_cost: bool,
    /// The waker of the last poll. `None` before the first poll, during a poll, and once taken to be woken.
    pub(super) waker: Option<Waker>,
    /// The time until which the request can wait.
    pub(super) deadline: Option<Instant>,
    /// The time at which the waiter polls again without being woken; until its first poll, the time of its arrival.
    pub(super) next_check: Instant,
    /// The numbers that its partitions gave the request, in the order of the keys, once it is granted.
    pub(super) granted: Option<Numbers>,
    /// Whether the waiter was not polled in time. It is in no queue until its next poll.
    pub(super) unpolled: bool,
    /// Number of times that the request left a queue because another partition blocked it.
    pub(super) requeues: u32,
}

impl GateState {
    /// Returns whether all these partitions exist and are open.
    pub(super) fn have_fast_path(&self, keys: &Keys) -> bool {
        keys.iter().all(|key| {
            let partition = self.partitions.get(key);
            partition.is_some_and(|partition| partition.fast_path_flag().is_some())
        })
    }

    /// Returns whether a thread may get credits for requests with these keys. With several keys, it may not.
    pub(super) fn offer_credits(&self, keys: &[PartitionKey], config: &QuotaConfig) -> bool {
        let [key] = keys else {
            return false;
        };
        let partition = self.partitions.get(key);
        partition.is_some_and(|partition| partition.offers_credits(config))
    }

    /// Returns the first of these partitions whose queue has at least `max_waiting` waiters.
    pub(super) fn full_queue<'a>(
        &self,
        keys: &'a [PartitionKey],
        max_waiting: usize,
    ) -> Option<&'a PartitionKey> {
        keys.iter().find(|key| {
            let partition = self.partitions.get(key);
            partition.is_some_and(|partition| partition.queue.len() >= max_waiting)
        })
    }

    /// Returns the first of these partitions with a limit that is lower than this cost, and the limit.
    pub(super) fn exceeded_limit(
        &self,
        keys: &[PartitionKey],
        cost: &Cost,
        now: Instant,
    ) -> Option<(PartitionKey, ExceededLimit)> {
        keys.iter().find_map(|key| {
            let exceeded = self.partitions.get(key)?.quota.exceeded_limit(cost, now)?;
            Some((key.clone(), exceeded))
        })
    }

    /// Creates the partitions that are missing, after removing idle ones.
    ///
    /// A new partition starts with the hold of its origin, if there is one. The caller drops `removed` after the lock
    /// is released.
    ///
    /// Called before each admission and before the owner holds or pauses a partition, so that `partitions.get_mut`
    /// succeeds for these keys as long as the lock is held.
    pub(super) fn ensure(
        &mut self,
        keys: &[PartitionKey],
        origin: Option<&Origin>,
        limits: &LocalLimits,
        config: &QuotaConfig,
        now: Instant,
        removed: &mut Vec<Partition>,
    ) {
        self.partitions.sweep(now, removed);
        for key in keys {
            if let Some(known) = self.partitions.get_mut(key) {
                // A partition that a handle created has no origin yet.
                if known.origin.is_none() {
                    known.origin = origin.cloned().map(Box::new);
                }
                continue;
            }
            let quota = Quota::new(config, limits.get(key));
            self.origin_holds.retain(|(_, until)| *until > now);
            let mut partition = Partition::new(origin, quota);
            partition.apply_origin_holds(&self.origin_holds, now);
            self.partitions.insert(key.clone(), partition);
        }
    }

    /// Returns which partitions the response to a request with these keys applies to.
    ///
    /// A throttling response applies to the whole origin only if it is marked as global and the destination of the
    /// first partition is known.
    ///
    /// With several keys and no such statement, the response may apply to any of them. Keys that only hold a route do
    /// not count: no server has a quota for them. Keys of named quotas do not count either: the response names the
    /// quota.
    ///
    /// The scope does not depend on the content of `info` otherwise. Whether an ambiguous response can be matched with
    /// one partition, by the limit that it names, is decided by each quota.
    pub(super) fn scope(&self, keys: &[PartitionKey], outcome: Outcome<'_>) -> Scope {
        let all = matches!(outcome, Outcome::Response { throttled: true, info } if info.global);
        let first = keys.first().and_then(|key| self.partitions.get(key));
        let is_route = |key: &PartitionKey| {
            key.resource().is_some() || self.partitions.get(key).is_some_and(|known| known.is_route)
        };
        if all && first.is_some_and(|partition| partition.origin.is_some()) {
            Scope::Origin
        } else if keys.len() > 1 && keys.iter().filter(|key| !is_route(key)).count() > 1 {
            Scope::Ambiguous
        } else {
            Scope::Partition
        }
    }

    /// Applies a throttling response to the whole origin of these partitions: holds its partitions until the given
    /// time. Returns the wakers of waiters that cannot wait that long.
    pub(super) fn hold_origin(&mut self, keys: &[PartitionKey], until: Instant) -> Vec<Waker> {
        let of = |key| self.partitions.get(key)?.origin.clone();
        let Some(origin) = keys.iter().find_map(of) else {
            return Vec::new();
        };
        let mut late = Vec::new();
        // The others are held when a request arrives for them: the work of one request is bounded.
        for partition in self.partitions.values_mut().take(MAX_ORIGIN_HOLDS_AT_ONCE) {
            if partition.origin.as_ref() == Some(&origin) {
                partition.hold_for_origin(until);
                late.extend(partition.queue.take_expiring(until));
            }
        }
        // A later response may shorten nothing: the longest hold counts.
        match self
            .origin_holds
            .iter_mut()
            .find(|(held, _)| *held == *origin)
        {
            Some((_, longest)) => *longest = until.max(*longest),
            // Bounded by the number of origins of the layer: expired entries are removed in `ensure`.
            None => self.origin_holds.push((*origin, until)),
        }
        self.take_wakers(&late)
    }

    /// Applies the hold of the partition's origin, if there is one.
    ///
    /// Called before each admission and each check of a permit, so that partitions beyond
    /// [`MAX_ORIGIN_HOLDS_AT_ONCE`] are held in time, too. Costs one comparison while no origin is held.
    pub(super) fn apply_origin_holds(&mut self, key: &PartitionKey, now: Instant) {
        if self.origin_holds.is_empty() {
            return;
        }
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.apply_origin_holds(&self.origin_holds, now);
        }
    }

    /// Applies all origin-wide holds that have not ended to all partitions.
    pub(super) fn apply_all_origin_holds(&mut self, now: Instant) {
        self.origin_holds.retain(|(_, until)| *until > now);
        if !self.origin_holds.is_empty() {
            for partition in self.partitions.values_mut() {
                partition.apply_origin_holds(&self.origin_holds, now);
            }
        }
    }

    /// Takes the wakers of these waiters. A waiter without one is skipped: it is being polled or has been woken.
    pub(super) fn take_wakers(&mut self, sequences: &[u64]) -> Vec<Waker> {
        let waker = |sequence| self.waiters.get_mut(sequence)?.waker.take();
        sequences.iter().filter_map(waker).collect()
    }

    /// Removes a waiter from all queues and returns it. The caller drops it after the lock is released.
    ///
    /// A reservation of a granted waiter is not released here: the caller uses it or reports it as not sent.
    pub(super) fn remove_waiter(&mut self, sequence: u64) -> Option<WaiterState> {
        let waiter = self.waiters.remove(&sequence)?;
        self.granted.remove(&sequence);
        for key in waiter.keys.iter() {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.queue.remove(sequence, waiter.deadline);
                partition.waiter_count = partition.waiter_count.saturating_sub(1);
            }
        }
        Some(waiter)
    }
}

/// Maximum number of partitions that an origin-wide hold examines at once, under the lock. The others are held at their
/// next request.
const MAX_ORIGIN_HOLDS_AT_ONCE: usize = 1_000;

/// Wakes these tasks. Called without the lock, because a waker runs code of the task.
pub(super) fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
