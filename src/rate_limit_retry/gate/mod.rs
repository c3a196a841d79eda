//! The gate: admits requests as their partitions' quotas allow, in order of arrival.
//!
//! A state machine without a runtime or a clock. `admit` returns a [`Permit`] or a [`Waiter`]. The holder of a
//! waiter polls it and sleeps until the time that the poll returns. The first request in a
//! queue polls again when it may be sent; the others poll later, which matters only if those before them are not
//! polled.
//!
//! One mutex guards all partitions and waiters. It is held for short computations only. Wakers are called, and wakers
//! and removed partitions dropped, after it is released, because they run code of the task. A request may have
//! several keys: it is admitted when all their quotas allow, and is counted by all of them or by none.
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | `state` | everything behind the lock: partitions, waiters, origin-wide holds |
//! | `partitions` | the table of partitions, and the removal of idle ones |
//! | `queue` | the waiters of one partition, in order |
//! | `dispatch` | which waiter is admitted next; start here to understand the order |
//! | `waiter`, `permit` | the handles that a call holds before and after its admission |
//! | `keys` | the partitions of a request, and its number in each of them |
//! | `reservation` | the cost that a request has reserved, until it is settled |
//! | `credits` | requests that threads send without the lock, while an announced quota has much room |
//! | `grants` | the terms of these credits, and what threads count themselves |
//! | `openness` | the flag by which requests skip the gate |
//! | `outcomes` | the part of an outcome that concerns each partition |
//! | `agent` | the interface to the tasks that report to a store |
//! | `models`, `tests` | every interleaving of a few threads (loom); single-threaded sequences |
//!
//! # Life of a request
//!
//! - `admit` creates missing partitions and checks all quotas of the request. If one of them blocks it, it becomes
//!   a waiter in the queues of those partitions.
//! - An admitted request is counted as in flight by its partitions. Its [`Permit`] reports the outcome.
//! - Right before the send, [`Permit::is_held`] is checked once more, because a hold may have begun while the inner
//!   service was not ready.
//! - The cost that it has reserved is settled with the outcome, or later, when a layer below knows the cost; see
//!   `reservation`.
//! - A report may change the limits, so that it dispatches waiters: the first in a queue is granted when all of its
//!   partitions have room. A grant wakes the waiter, whose next poll returns the permit.
//!
//! # Order
//!
//! Requests have sequence numbers in the order of arrival. In each queue the smallest number is first. A retry keeps
//! its number. A request with several partitions waits only in those that block it; see `dispatch`.
//!
//! # Locking
//!
//! The gate's lock is never held together with another lock of the crate, and never while code of the user or of a
//! task runs. Methods collect wakers under the lock and return them to the caller, which calls [`wake_all`] after the
//! unlock.
//!
//! The same holds for destructors: a removed partition contains the waker of an agent, so it is dropped after the
//! unlock. Variables for removed partitions are therefore declared before the guard.
//!
//! # Invariants
//!
//! - Each key of a request that is counted or waits has a partition: partitions with requests in flight or with
//!   waiters are not removed.
//! - `in_flight` of a quota is the number of unsettled permits that were counted by it, plus grants that were not
//!   polled yet. Every permit settles exactly once, on drop at the latest.
//! - A waiter is in a queue, granted, or absent; see [`state::WaiterState`].
//! - The fast-path flag of a partition is set only while its queue is empty.
//!
//! # Complexity
//!
//! An admission or a report costs O(k log w) for k keys and w waiters, plus the same for each waiter that it grants.
//! Origin-wide holds, sweeps and the search for unpolled grants are bounded per call by constants.

#[cfg(all(test, tower_m2m_loom))]
mod models;

mod agent;
mod credits;
mod dispatch;
mod grants;
mod keys;
mod openness;
mod outcomes;
mod partitions;
mod permit;
mod queue;
mod reservation;
mod state;
#[cfg(all(test, not(tower_m2m_loom)))]
mod tests;
mod waiter;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub(crate) use self::{
    agent::Action,
    credits::ThreadCredits,
    keys::Keys,
    openness::FastPathFlag,
    permit::{CostReport, Permit, Settled},
    reservation::CostReservation,
    waiter::{Waiter, WaiterPoll},
};
use self::{
    keys::Numbers,
    partitions::Partition,
    state::{Blocked, GateState, wake_all},
};
use super::{
    PartitionKey,
    local_limits::LocalLimits,
    quota::{ExceededLimit, Load, Quota, QuotaConfig, SendTime},
};
use crate::{
    Origin,
    random::Random,
    sync::{Mutex, lock},
};

/// A handle to the gate of a layer. Cheap to clone; all clones share one state.
///
/// Permits and waiters hold a clone, so that the state outlives the layer while requests are in flight.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

/// The settings and the state that all clones of a [`Gate`] share.
struct Inner {
    /// The settings of the quotas.
    config: QuotaConfig,
    /// The limits that the user has set, by partition.
    limits: LocalLimits,
    /// Maximum number of requests that wait for one partition. Does not apply to retries.
    max_waiting: usize,
    /// Source of the jitter of holds. Has a lock of its own, so that it is used before the gate's lock is taken.
    random: Random,
    /// The partitions and the waiters. Guarded by the gate's only lock.
    state: Mutex<GateState>,
}

/// A request for admission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmitRequest<'a> {
    /// The partitions that count the request.
    pub(crate) keys: &'a Keys,
    /// The request's destination; `None` if the partition is the origin's own.
    pub(crate) origin: Option<&'a Origin>,
    /// The sequence number of an earlier admission. A retry with it precedes requests that arrived later. `None`
    /// assigns the next number.
    pub(crate) sequence: Option<u64>,
    /// The time until which the request can wait. `None`: no limit.
    pub(crate) deadline: Option<Instant>,
    /// What the request reserves in its partitions.
    pub(crate) load: &'a Load,
    /// Whether layers below may report what the request has cost. If not, the cost is reserved without a handle, which
    /// saves an allocation.
    pub(crate) tracks_cost: bool,
    /// Whether the request may be admitted uncounted while all its partitions are open. `false` if the layer has to
    /// know about each request, for example for a store.
    pub(crate) allow_fast_path: bool,
}

/// The result of [`Gate::admit`].
#[derive(Debug)]
pub(crate) enum Admission {
    /// The request may be sent.
    Admitted(Permit),
    /// A partition is held until this time, which is later than the request can wait. Nothing was queued.
    TooLate(Instant),
    /// The queue of this partition is full. Nothing was queued.
    QueueFull(PartitionKey),
    /// The request costs more than a limit of this partition and can never be sent. Nothing was queued.
    CostTooHigh(PartitionKey, ExceededLimit),
    /// The request is queued. It is not admitted unless the waiter is polled.
    Queued(Waiter),
}

impl Gate {
    /// Creates a gate without partitions.
    pub(crate) fn new(
        config: QuotaConfig,
        limits: LocalLimits,
        max_waiting: usize,
        random: Random,
    ) -> Self {
        Self(Arc::new(Inner {
            config,
            limits,
            max_waiting,
            random,
            state: Mutex::default(),
        }))
    }

    /// Returns the upper bound on a hold.
    pub(crate) fn max_hold(&self) -> Duration {
        self.0.config.max_hold
    }

    /// Returns the maximum number of requests that wait for one partition.
    pub(crate) fn max_waiting(&self) -> usize {
        self.0.max_waiting
    }

    /// Admits a request, queues it, or rejects it: it cannot be sent in time, a queue is full, or its cost exceeds a
    /// limit.
    ///
    /// While the gate is bypassed, and for a request that may take the fast path, the permit is uncounted.
    ///
    /// A request that cannot wait until a known end of a hold is rejected at once. A retry is queued even if the
    /// queue is full.
    pub(crate) fn admit(&self, request: &AdmitRequest<'_>, now: Instant) -> Admission {
        let keys = request.keys;
        // Declared before the guard: dropped after the lock is released.
        let mut removed = Vec::new();
        let mut state = lock(&self.0.state);
        if state.bypassed || (request.allow_fast_path && state.have_fast_path(keys)) {
            return Admission::Admitted(Permit::uncounted());
        }
        let sequence = request.sequence.unwrap_or_else(|| {
            state.last_sequence += 1;
            state.last_sequence
        });
        state.ensure(
            keys,
            request.origin,
            &self.0.limits,
            &self.0.config,
            now,
            &mut removed,
        );
        match state.try_enter(keys, sequence, request.load, &self.0.config, now) {
            Ok(numbers) => {
                let agents = state.take_agent_wakers(keys, &self.0.config, now);
                let offers_credits =
                    request.allow_fast_path && state.offer_credits(keys, &self.0.config);
                drop(state);
                wake_all(agents);
                let cost = request.tracks_cost.then(|| request.load.cost.clone());
                let permit = Permit::new(
                    self.clone(),
                    Arc::clone(keys),
                    numbers,
                    sequence,
                    request.load.route,
                    cost,
                    offers_credits,
                );
                return Admission::Admitted(permit);
            }
            Err(Blocked::Until(until)) if request.deadline.is_some_and(|latest| until > latest) => {
                return Admission::TooLate(until);
            }
            Err(Blocked::Forever) => {
                if let Some((key, exceeded)) = state.exceeded_limit(keys, &request.load.cost, now) {
                    return Admission::CostTooHigh(key, exceeded);
                }
            }
            Err(_) => {}
        }
        // A retry has been admitted before: the bound of the queue applies to new requests only.
        if request.sequence.is_none()
            && let Some(full) = state.full_queue(keys, self.0.max_waiting)
        {
            return Admission::QueueFull(full.clone());
        }
        state.add_waiter(request, sequence, &self.0.config, now);
        let agents = state.take_agent_wakers(keys, &self.0.config, now);
        drop(state);
        wake_all(agents);
        Admission::Queued(Waiter::new(self.clone(), sequence))
    }

    /// Returns the flag of the fast path for the partition, if the partition is open and the only key.
    ///
    /// `None` for a request with several keys: the fast path reads one flag.
    ///
    /// The flag may outlive its partition. A partition that is removed clears its flag first, so that a cache that
    /// still refers to it goes back to the gate.
    pub(crate) fn fast_path_flag(&self, keys: &Keys) -> Option<Arc<FastPathFlag>> {
        let [key] = &**keys else {
            return None;
        };
        let state = lock(&self.0.state);
        state.partitions.get(key)?.fast_path_flag().cloned()
    }

    /// Counts a request that took the fast path, because its response carries something that the gate must record.
    ///
    /// The request has been sent already, so no quota is checked; the caller settles the permit at once.
    pub(crate) fn enter_late(&self, keys: &Keys, now: Instant) -> Permit {
        // Declared before the guard: dropped after the lock is released.
        let mut removed = Vec::new();
        let mut state = lock(&self.0.state);
        state.last_sequence += 1;
        let sequence = state.last_sequence;
        state.ensure(
            keys,
            None,
            &self.0.limits,
            &self.0.config,
            now,
            &mut removed,
        );
        let numbers = Numbers::of(keys, |key| {
            let partition = state.partitions.get_mut(key);
            partition.map_or(0, |partition| partition.quota.enter_late())
        });
        drop(state);
        // Nothing was reserved for it.
        Permit::new(
            self.clone(),
            Arc::clone(keys),
            numbers,
            sequence,
            None,
            None,
            false,
        )
    }

    /// Returns the time at which a request could be admitted, as far as is known: the latest of its partitions'
    /// times. `None` if no partition names one.
    ///
    /// Used for errors. Like an admission, it removes holds and windows that are over. Counts nothing and queues
    /// nothing.
    pub(crate) fn available_at(&self, keys: &Keys, load: &Load, now: Instant) -> Option<Instant> {
        let mut state = lock(&self.0.state);
        let send_time = |key| {
            let partition = state.partitions.get_mut(key)?;
            partition.collect_credits();
            match partition.quota.admit(load, &self.0.config, now) {
                SendTime::Now | SendTime::Never => None,
                SendTime::AfterResponse(at) => at,
                SendTime::NotBefore(at) => Some(at),
            }
        };
        keys.iter().filter_map(send_time).max()
    }

    /// Holds all partitions whose origins have an origin-wide hold, including those without a request since it began.
    ///
    /// Not bounded by a constant: for a snapshot only.
    pub(crate) fn apply_origin_holds(&self, now: Instant) {
        lock(&self.0.state).apply_all_origin_holds(now);
    }

    /// Calls `each` with the key, the quota and the queue length of every partition, and collects the results.
    ///
    /// The lock is held for all of it: `each` must not call the gate, and delays all requests that need the gate.
    pub(crate) fn inspect<T>(
        &self,
        mut each: impl FnMut(&PartitionKey, &Quota, usize) -> T,
    ) -> Vec<T> {
        let mut state = lock(&self.0.state);
        state
            .partitions
            .values_mut()
            .for_each(Partition::collect_credits);
        let partitions = state.partitions.iter();
        partitions
            .map(|(key, partition)| each(key, &partition.quota, partition.queue.len()))
            .collect()
    }

    /// Resets what is known about a partition. Requests in flight and waiters stay.
    ///
    /// The local limit and a pause stay, too. Does nothing for a partition that does not exist. Waiters are
    /// dispatched, because the hold that they waited for may be gone.
    pub(crate) fn forget(&self, key: &PartitionKey, now: Instant) {
        let wakers = {
            let mut state = lock(&self.0.state);
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.forget(&self.0.config);
            }
            state.dispatch(std::slice::from_ref(key), &self.0.config, now)
        };
        wake_all(wakers);
    }

    /// Pauses a partition until the given time. Replaces an earlier pause.
    ///
    /// Creates the partition if it does not exist, so that a pause can precede the first request.
    pub(crate) fn pause(&self, key: &PartitionKey, until: Instant, now: Instant) {
        // Declared outside the guard's block: dropped after the lock is released.
        let mut removed = Vec::new();
        let wakers = {
            let mut state = lock(&self.0.state);
            let keys = std::slice::from_ref(key);
            state.ensure(
                keys,
                None,
                &self.0.limits,
                &self.0.config,
                now,
                &mut removed,
            );
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.quota.pause(until);
                partition.disable_fast_path();
            }
            // An earlier pause may have been longer: then waiters must check again sooner.
            state.dispatch(keys, &self.0.config, now)
        };
        wake_all(wakers);
    }

    /// Holds all requests of a route until the given time, as a throttling response does.
    ///
    /// Creates the route's partition if it does not exist. A hold that ends later stays. The end is taken for one that
    /// the server named.
    pub(crate) fn hold_route(&self, key: &PartitionKey, until: Instant, now: Instant) {
        // Declared outside the guard's block: dropped after the lock is released.
        let mut removed = Vec::new();
        let wakers = {
            let mut state = lock(&self.0.state);
            let keys = std::slice::from_ref(key);
            state.ensure(
                keys,
                None,
                &self.0.limits,
                &self.0.config,
                now,
                &mut removed,
            );
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.is_route = true;
                partition.quota.hold(until);
                partition.disable_fast_path();
            }
            state.dispatch(keys, &self.0.config, now)
        };
        wake_all(wakers);
    }

    /// Moves the named quotas of a partition to the partitions of their own, which are created if they do not exist.
    ///
    /// Returns nothing to waiters: those that the quotas have kept back are woken, and wait for the new partitions.
    pub(crate) fn divide(&self, key: &PartitionKey, named: &[PartitionKey], now: Instant) {
        // Declared outside the guard's block: dropped after the lock is released.
        let mut removed = Vec::new();
        let wakers = {
            let mut state = lock(&self.0.state);
            state.ensure(
                named,
                None,
                &self.0.limits,
                &self.0.config,
                now,
                &mut removed,
            );
            let partition = state.partitions.get_mut(key);
            let windows = partition.map(|partition| partition.divide(named));
            for window in windows.into_iter().flatten() {
                let of = named
                    .iter()
                    .find(|key| key.resource() == window.name_of_server());
                if let Some(partition) = of.and_then(|key| state.partitions.get_mut(key)) {
                    partition.quota.insert_window(window);
                }
            }
            let keys: Vec<_> = named.iter().chain([key]).cloned().collect();
            state.dispatch(&keys, &self.0.config, now)
        };
        wake_all(wakers);
    }

    /// Returns whether the named quotas of a partition have partitions of their own.
    pub(crate) fn is_divided(&self, key: &PartitionKey) -> bool {
        let state = lock(&self.0.state);
        let partition = state.partitions.get(key);
        partition.is_some_and(Partition::is_divided)
    }

    /// Starts or ends bypassing. While bypassed, the gate admits every request at once, including waiters.
    ///
    /// Quotas still record the requests that were counted before. Requests admitted while bypassed are counted only
    /// when their response carries something to record ([`enter_late`](Self::enter_late)).
    pub(crate) fn set_bypassed(&self, bypassed: bool) {
        let wakers = {
            let mut state = lock(&self.0.state);
            state.bypassed = bypassed;
            // Each waiter notices it in its next poll, which returns an uncounted permit.
            let waiters = state.waiters.values_mut().filter(|_| bypassed);
            waiters.filter_map(|waiter| waiter.waker.take()).collect()
        };
        wake_all(wakers);
    }

    /// Returns whether the gate is bypassed.
    pub(crate) fn is_bypassed(&self) -> bool {
        lock(&self.0.state).bypassed
    }

    /// Ends a pause. Waiters are admitted by slow start.
    ///
    /// Does nothing for a partition that does not exist or is not paused, except that waiters are dispatched.
    pub(crate) fn resume(&self, key: &PartitionKey, now: Instant) {
        let wakers = {
            let mut state = lock(&self.0.state);
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.quota.resume();
            }
            state.dispatch(std::slice::from_ref(key), &self.0.config, now)
        };
        wake_all(wakers);
    }
}
