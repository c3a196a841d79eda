//! Dispatch: which waiter is admitted next.
//!
//! A request waits in the queues of the partitions that block it, and in no other: a request that waits for the
//! end of one partition's window does not block requests that need only other partitions.
//!
//! Waiters that are not polled must not block others either. A waiter that is overdue leaves its queues, or loses its
//! grant, until its next poll ([`GateState::skip_unpolled`]).
//!
//! # Liveness
//!
//! - The first waiter of a queue polls when the quota may have room, at the latest after one second while no time is
//!   known. Each poll dispatches, so that a lost wake-up only delays.
//! - Later waiters poll later, so that they take over if the first one's task is stuck.
//! - A waiter with several partitions may be requeued a bounded number of times, so that it is not overtaken forever
//!   by requests that need fewer partitions.
//!
//! # Example
//!
//! Request 1 needs partitions A and B, request 2 needs B only. A is held, B has room.
//!
//! | step | queue of A | queue of B |
//! |---|---|---|
//! | 1 arrives: A blocks it | 1 | |
//! | 2 arrives: B has room | 1 | (2 is admitted) |
//! | B is exhausted, 3 arrives for B | 1 | 3 |
//! | A's hold ends, B blocks 1: 1 is requeued | | 1, 3 |
//! | B is reset: 1 is first there and is granted | | 3 |
//!
//! Request 1 precedes request 3 in B, although it was enqueued there later: the order is that of the sequence numbers.

use std::{sync::Arc, task::Waker, time::Duration};

use tokio::time::Instant;

use super::{
    AdmitRequest,
    keys::Numbers,
    partitions::Partition,
    state::{Blocked, GateState, WaiterState},
};
use crate::{
    clock::add_capped,
    rate_limit_retry::{
        PartitionKey,
        quota::{Load, QuotaConfig, SendTime},
    },
};

impl GateState {
    /// Adds a waiter and enqueues it in the partitions that block it.
    pub(super) fn add_waiter(
        &mut self,
        request: &AdmitRequest<'_>,
        sequence: u64,
        config: &QuotaConfig,
        now: Instant,
    ) {
        let keys = request.keys;
        let waiter = WaiterState {
            keys: Arc::clone(keys),
            load: request.load.clone(),
            tracks_cost: request.tracks_cost,
            waker: None,
            deadline: request.deadline,
            next_check: now,
            granted: None,
            unpolled: false,
            requeues: 0,
        };
        self.waiters.insert(sequence, waiter);
        for key in keys.iter() {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.waiter_count += 1;
            }
        }
        self.enqueue(keys, sequence, false, config, now);
    }

    /// Counts a request in all partitions, or in none. Returns the numbers that the partitions gave it, in the order
    /// of the keys.
    ///
    /// # Errors
    ///
    /// A partition blocks the request.
    ///
    /// On an error, no partition counts the request: all of them are checked before the first one counts.
    pub(super) fn try_enter(
        &mut self,
        keys: &[PartitionKey],
        sequence: u64,
        load: &Load,
        config: &QuotaConfig,
        now: Instant,
    ) -> Result<Numbers, Blocked> {
        if let Some(blocked) = self.all_blocked(keys, sequence, load, config, now) {
            return Err(blocked);
        }
        Ok(Numbers::of(keys, |key| {
            let partition: Option<&mut Partition> = self.partitions.get_mut(key);
            partition.map_or(0, |partition| {
                let number = partition.quota.enter(load, config, now);
                // The request takes a part of what credits were derived from.
                partition.update_credits(config);
                number
            })
        }))
    }

    /// Returns how long the partitions block a request, as far as that is known; `None` if none of them does.
    pub(super) fn all_blocked(
        &mut self,
        keys: &[PartitionKey],
        sequence: u64,
        load: &Load,
        config: &QuotaConfig,
        now: Instant,
    ) -> Option<Blocked> {
        // The order of the variants decides: a partition with a known end outweighs one without.
        let mut blocked = None;
        for key in keys {
            blocked = blocked.max(self.blocked(key, sequence, load, config, now));
        }
        blocked
    }

    /// Returns how long this partition blocks a request; `None` if it does not.
    ///
    /// A partition also blocks a request while an earlier one waits in its queue, so that admissions follow the
    /// order of arrival.
    fn blocked(
        &mut self,
        key: &PartitionKey,
        sequence: u64,
        load: &Load,
        config: &QuotaConfig,
        now: Instant,
    ) -> Option<Blocked> {
        self.apply_origin_holds(key, now);
        let partition = self.partitions.get_mut(key)?;
        partition.collect_credits();
        let send_time = partition.quota.admit(load, config, now);
        // A window that is over ends its terms.
        partition.update_credits(config);
        match send_time {
            SendTime::Now => {
                // Its quota has room, but an earlier request waits for it, which may cost more.
                let first = partition.queue.first().filter(|first| *first < sequence)?;
                let load = self.waiters.get(&first).map(|waiter| &waiter.load);
                match load.map(|load| partition.quota.admit(load, config, now)) {
                    Some(SendTime::NotBefore(at)) => Some(Blocked::Until(at)),
                    _ => Some(Blocked::EndUnknown),
                }
            }
            SendTime::AfterResponse(_) => Some(Blocked::EndUnknown),
            SendTime::NotBefore(at) => Some(Blocked::Until(at)),
            SendTime::Never => Some(Blocked::Forever),
        }
    }

    /// Enqueues a waiter where it belongs now, and removes it from its other partitions' queues. Returns whether it
    /// left one.
    ///
    /// It belongs to the partitions that block it, and with `everywhere` to all of its partitions.
    ///
    /// A waiter with one partition always belongs there. Closes the fast path of each partition in whose queue it is.
    fn enqueue(
        &mut self,
        keys: &[PartitionKey],
        sequence: u64,
        everywhere: bool,
        config: &QuotaConfig,
        now: Instant,
    ) -> bool {
        let mut left = false;
        let waiter = self.waiters.get(&sequence);
        let latest = waiter.and_then(|waiter| waiter.deadline);
        let load = waiter.map_or(Load::ONE, |waiter| waiter.load.clone());
        for key in keys {
            let belongs = everywhere
                || keys.len() == 1
                || self.blocked(key, sequence, &load, config, now).is_some();
            let Some(partition) = self.partitions.get_mut(key) else {
                continue;
            };
            if belongs {
                // Requests on the fast path would overtake the waiter.
                partition.queue.insert(sequence, latest);
                partition.disable_fast_path();
            } else {
                left |= partition.queue.remove(sequence, latest);
            }
        }
        left
    }

    /// Requeues a waiter that is still blocked, perhaps by another partition than before. Returns whether it left a
    /// queue.
    ///
    /// Leaving the queue of a partition that has room lets the requests behind it be admitted there.
    fn requeue(
        &mut self,
        keys: &[PartitionKey],
        sequence: u64,
        config: &QuotaConfig,
        now: Instant,
    ) -> bool {
        let requeue_count = self.waiters.get(&sequence).map_or(0, |w| w.requeues);
        // A request whose partitions have room in turn, but never together, would be overtaken forever: after a
        // number of requeues it keeps its position in every queue.
        let left = self.enqueue(keys, sequence, requeue_count >= MAX_REQUEUES, config, now);
        if let Some(waiter) = self.waiters.get_mut(&sequence).filter(|_| left) {
            waiter.requeues += 1;
        }
        left
    }

    /// Grants the first waiters of these partitions that can be admitted, and returns the wakers to wake.
    ///
    /// A grant or a requeue changes who is first in the waiter's other partitions, so these are dispatched, too.
    /// Wakers of waiters that must poll sooner than they know, and of agents with a report due, are included.
    ///
    /// Terminates: each round grants a waiter, requeues one (at most [`MAX_REQUEUES`] times per waiter), or removes a
    /// partition from the list. It stops at the first waiter of a queue that cannot be admitted, so that its cost is
    /// proportional to the number of grants and not to the length of the queue.
    pub(super) fn dispatch(
        &mut self,
        keys: &[PartitionKey],
        config: &QuotaConfig,
        now: Instant,
    ) -> Vec<Waker> {
        // Usually no request waits.
        let waits = |key| {
            let partition = self.partitions.get(key);
            partition.is_some_and(|partition| !partition.queue.is_empty())
        };
        if !keys.iter().any(waits) {
            return self.take_agent_wakers(keys, config, now);
        }
        let mut woken = Vec::new();
        // `pending`: partitions whose first waiter is still to be examined. `touched`: all partitions that are
        // affected.
        let mut pending: Vec<PartitionKey> = keys.to_vec();
        let mut touched = pending.clone();
        while let Some(key) = pending.pop() {
            let first = |state: &Self| state.partitions.get(&key)?.queue.first();
            let Some(sequence) = first(self) else {
                continue;
            };
            let Some(waiter) = self.waiters.get(&sequence) else {
                continue;
            };
            let (wanted, load) = (Arc::clone(&waiter.keys), waiter.load.clone());
            match self.try_enter(&wanted, sequence, &load, config, now) {
                Ok(numbers) => {
                    self.granted.insert(sequence, now);
                    let mut latest = None;
                    if let Some(waiter) = self.waiters.get_mut(&sequence) {
                        waiter.granted = Some(numbers);
                        latest = waiter.deadline;
                        woken.extend(waiter.waker.take());
                    }
                    self.dequeue(&wanted, sequence, latest);
                }
                // Its next poll returns an error. The drop that follows wakes the next waiter.
                Err(Blocked::Forever) => {
                    woken.extend(self.take_wakers(&[sequence]));
                    continue;
                }
                // Neither granted nor requeued: the queue has not changed. This ends the loop, as requeues are bounded
                // per waiter.
                Err(_) if !self.requeue(&wanted, sequence, config, now) => continue,
                Err(_) => {}
            }
            pending.extend(wanted.iter().cloned());
            if wanted.len() > 1 {
                touched.extend(wanted.iter().cloned());
            }
        }
        // The first in a queue must poll in time. A timer that is set early enough stays: to wake each time would
        // never end, because each poll dispatches.
        for sequence in self.first_waiters(&touched) {
            let Some(wanted) = self.waiters.get(&sequence).map(|w| Arc::clone(&w.keys)) else {
                continue;
            };
            let at = self.wake_at(&wanted, sequence, config, now);
            if let Some(waiter) = self.waiters.get_mut(&sequence)
                && at < waiter.next_check
            {
                woken.extend(waiter.waker.take());
            }
        }
        woken.extend(self.take_expiring_wakers(&touched, config, now));
        woken.extend(self.take_agent_wakers(&touched, config, now));
        woken
    }

    /// Takes the wakers of waiters whose deadline is before the end of a hold, so that they are rejected early.
    fn take_expiring_wakers(
        &mut self,
        keys: &[PartitionKey],
        config: &QuotaConfig,
        now: Instant,
    ) -> Vec<Waker> {
        let mut woken = Vec::new();
        for key in keys {
            let Some(partition) = self.partitions.get_mut(key) else {
                continue;
            };
            // The others are sent after the first one, so that its cost determines the end of the hold.
            let first = partition.queue.first();
            if let Some(first) = first.and_then(|first| self.waiters.get(&first))
                && let SendTime::NotBefore(until) = partition.quota.admit(&first.load, config, now)
            {
                let late = partition.queue.take_expiring(until);
                woken.extend(self.take_wakers(&late));
            }
        }
        woken
    }

    /// Takes the wakers of the first waiters of these queues.
    pub(super) fn take_first_wakers(&mut self, keys: &[PartitionKey]) -> Vec<Waker> {
        let firsts = self.first_waiters(keys);
        self.take_wakers(&firsts)
    }

    /// Restores the deadline of a waiter that was woken as late but can wait after all, so that it is woken again.
    ///
    /// [`take_expiring`](super::queue::Queue::take_expiring) returns each waiter once. The end of the hold may have
    /// changed since.
    pub(super) fn restore_deadlines(&mut self, keys: &[PartitionKey], sequence: u64) {
        let latest = self
            .waiters
            .get(&sequence)
            .and_then(|waiter| waiter.deadline);
        for key in keys {
            if let Some(partition) = self.partitions.get_mut(key)
                && partition.queue.contains(sequence)
            {
                partition.queue.insert(sequence, latest);
            }
        }
    }

    /// Removes a waiter from the queues of its partitions.
    fn dequeue(&mut self, keys: &[PartitionKey], sequence: u64, latest: Option<Instant>) {
        for key in keys {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.queue.remove(sequence, latest);
            }
        }
    }

    /// Enqueues a waiter that is polled again after it was absent.
    ///
    /// Its sequence number has not changed, so that it comes before requests that arrived later.
    pub(super) fn rejoin(&mut self, sequence: u64, config: &QuotaConfig, now: Instant) {
        let waiter = self.waiters.get_mut(&sequence);
        if let Some(waiter) = waiter.filter(|waiter| waiter.unpolled) {
            waiter.unpolled = false;
            let keys = Arc::clone(&waiter.keys);
            self.enqueue(&keys, sequence, false, config, now);
        }
    }

    /// Keeps waiters that are not polled from blocking others.
    ///
    /// A waiter before `by` in these queues that is overdue leaves all of its queues. A granted waiter that was not
    /// polled since the grant loses it, and its reservation is released. Both are absent until their next poll.
    ///
    /// A task may hold a future without polling it, for example in a `select!` loop whose other branch is busy. Its
    /// position must not block requests that are polled.
    pub(super) fn skip_unpolled(
        &mut self,
        keys: &[PartitionKey],
        by: u64,
        config: &QuotaConfig,
        now: Instant,
    ) {
        for key in keys {
            while let Some(first) = self.partitions.get(key).and_then(|p| p.queue.first())
                && first < by
                && let Some(waiter) = self.waiters.get_mut(&first)
                && add_capped(waiter.next_check, POLL_GRACE) <= now
            {
                waiter.unpolled = true;
                let (wanted, latest) = (Arc::clone(&waiter.keys), waiter.deadline);
                self.dequeue(&wanted, first, latest);
            }
        }
        let overdue = |(sequence, at): (&u64, &Instant)| {
            (add_capped(*at, POLL_GRACE) <= now).then_some(*sequence)
        };
        // The oldest sequence numbers only, so that the work of one poll is bounded.
        let granted = self
            .granted
            .iter()
            .take(MAX_GRANT_CHECKS)
            .filter_map(overdue);
        for sequence in granted.collect::<Vec<_>>() {
            self.granted.remove(&sequence);
            let Some(waiter) = self.waiters.get_mut(&sequence) else {
                continue;
            };
            waiter.unpolled = true;
            let (wanted, load) = (Arc::clone(&waiter.keys), waiter.load.clone());
            if let Some(numbers) = waiter.granted.take() {
                self.release(&wanted, &numbers, &load, config);
            }
        }
    }

    /// Releases what was counted for a request that is not sent, in all of its partitions.
    pub(super) fn release(
        &mut self,
        keys: &[PartitionKey],
        numbers: &Numbers,
        load: &Load,
        config: &QuotaConfig,
    ) {
        for (key, number) in keys.iter().zip(numbers.as_slice()) {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.release(*number, load, config);
            }
        }
    }

    /// Returns the first waiter of each of these queues.
    fn first_waiters(&self, keys: &[PartitionKey]) -> Vec<u64> {
        let first = |key| self.partitions.get(key)?.queue.first();
        keys.iter().filter_map(first).collect()
    }

    /// Returns the time at which a waiter must poll again if it is not woken before.
    ///
    /// | position | time |
    /// |---|---|
    /// | first in all its queues, end of the hold known | that end |
    /// | first, otherwise | in 1 s at the latest |
    /// | later, `behind` numbers after the first | 1 s + `behind` / 64 s after the first's time |
    ///
    /// The first in a queue polls when it may be admitted. The others poll later than that, in case those before them
    /// are not polled. The delay grows with the difference in sequence numbers, which spreads the polls.
    pub(super) fn wake_at(
        &mut self,
        keys: &[PartitionKey],
        sequence: u64,
        config: &QuotaConfig,
        now: Instant,
    ) -> Instant {
        let (mut at, mut behind, again) = (None, 0, add_capped(now, CHECK_DELAY));
        let waiter = self.waiters.get(&sequence);
        let load = waiter.map_or(Load::ONE, |waiter| waiter.load.clone());
        for key in keys {
            let Some(partition) = self.partitions.get_mut(key) else {
                continue;
            };
            let Some(first) = partition.queue.first().filter(|first| *first <= sequence) else {
                continue;
            };
            behind = behind.max(sequence - first);
            // The latest time counts: the request needs all of its partitions.
            at = at.max(match partition.quota.admit(&load, config, now) {
                SendTime::Now => None,
                // Its poll returns an error at once.
                SendTime::Never => Some(now),
                SendTime::AfterResponse(at) => Some(at.map_or(again, |at| at.min(again))),
                SendTime::NotBefore(at) => Some(at),
            });
        }
        if behind == 0 {
            return at.unwrap_or(again);
        }
        let behind = u32::try_from(behind).unwrap_or(u32::MAX);
        let late =
            CHECK_DELAY.saturating_add((CHECK_DELAY / CHECK_DELAY_DIVISOR).saturating_mul(behind));
        add_capped(at.unwrap_or(now), late)
    }
}

/// Number of times that a request may be requeued before it keeps its position in every queue.
const MAX_REQUEUES: u32 = 8;
/// Delay of the second in a queue after the time at which the first polls; also the interval between polls while no
/// time is known. Under loom so long that no poll is due by itself.
const CHECK_DELAY: Duration = Duration::from_secs(if cfg!(tower_m2m_loom) { 3600 } else { 1 });
/// Divisor of the additional delay: each sequence number behind the first adds `CHECK_DELAY / CHECK_DELAY_DIVISOR`.
const CHECK_DELAY_DIVISOR: u32 = 64;
/// Grace period after which a waiter that was to poll counts as not polled. Longer than the delays of a busy runtime,
/// so that tasks which are merely late keep their position.
const POLL_GRACE: Duration = Duration::from_millis(500);
/// Maximum number of granted waiters that one poll examines for an overdue grant. Later polls examine the rest.
const MAX_GRANT_CHECKS: usize = 64;
