//! A request that waits in the queues of the gate.
//!
//! A [`Waiter`] is a handle; its state is a [`WaiterState`](super::state::WaiterState) behind the gate's lock, found by
//! the sequence number. The handle is not a future, because it has no clock and no timer: the limiter polls it and
//! sleeps until the time that the poll returns.

use std::{fmt, sync::Arc, task::Context};

use tokio::time::Instant;

use super::{
    Gate, Permit,
    state::{Blocked, wake_all},
};
use crate::{
    rate_limit_retry::{PartitionKey, quota::ExceededLimit},
    sync::lock,
};

/// A waiting request. Dropping it leaves the queues.
///
/// If the request was granted and not polled since, the drop also releases what was reserved for it in its
/// partitions.
///
/// The drop wakes the next waiter of each queue, so that a cancelled call does not leave the quota unused until a timer
/// ends.
pub(crate) struct Waiter {
    /// The gate whose state has the waiter.
    gate: Gate,
    /// The sequence number, which is the waiter's key.
    sequence: u64,
}

impl Waiter {
    /// Creates the handle of a waiter that is in the gate's state.
    pub(super) fn new(gate: Gate, sequence: u64) -> Self {
        Self { gate, sequence }
    }

    /// Returns the permit once the request is admitted, the end of the hold if that is later than the request can
    /// wait, the limit that its cost exceeds, and otherwise the time at which to poll again at the latest.
    ///
    /// A poll enqueues the waiter again if it was absent, removes overdue waiters before it from its queues, and
    /// dispatches all of its partitions. So waiters make progress by their own timers even if no outcome is reported.
    ///
    /// After the permit was returned, a poll returns `Pending(None)`. After a rejection, the waiter stays in its
    /// queues until it is dropped.
    ///
    /// The task is woken for a grant, for an earlier time of the next poll, for a hold beyond its deadline, for a
    /// bypass, and when it may have become the first in a queue. Wake-ups may be spurious. While the gate is bypassed,
    /// the result is an uncounted permit.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, now: Instant) -> WaiterPoll {
        let inner = &self.gate.0;
        // Wakers run code of the task: they are cloned and dropped outside the lock.
        let mut waker = Some(cx.waker().clone());
        let (former, wakers, poll);
        {
            let mut state = lock(&inner.state);
            if state.bypassed {
                // `leave` takes the lock itself.
                drop(state);
                self.leave();
                return WaiterPoll::Ready(Permit::uncounted());
            }
            // Polled again after the waiter was removed or the permit returned.
            let Some(waiter) = state.waiters.get_mut(&self.sequence) else {
                return WaiterPoll::Pending(None);
            };
            // Taken, so that this poll does not wake its own task.
            former = waiter.waker.take();
            waiter.next_check = now;
            let (keys, deadline) = (Arc::clone(&waiter.keys), waiter.deadline);
            let (load, tracks_cost) = (waiter.load.clone(), waiter.tracks_cost);
            // Requests in front of this one that are not polled leave the queues before anything is granted.
            state.rejoin(self.sequence, &inner.config, now);
            state.skip_unpolled(&keys, self.sequence, &inner.config, now);
            wakers = state.dispatch(&keys, &inner.config, now);
            let waiter = state.waiters.get_mut(&self.sequence);
            let granted = waiter.and_then(|waiter| waiter.granted.take());
            poll = if let Some(numbers) = granted {
                // It left its queues when it was granted. Its waker was taken above, so no code of the task runs here.
                state.remove_waiter(self.sequence);
                let cost = tracks_cost.then_some(load.cost);
                WaiterPoll::Ready(Permit::new(
                    self.gate.clone(),
                    keys,
                    numbers,
                    self.sequence,
                    load.route,
                    cost,
                    false,
                ))
            } else {
                // Only a known end of a hold rejects: an unknown one may come in time.
                let blocked = state.all_blocked(&keys, self.sequence, &load, &inner.config, now);
                if let Some(Blocked::Until(until)) = blocked
                    && deadline.is_some_and(|deadline| until > deadline)
                {
                    WaiterPoll::TooLate(until)
                } else if blocked == Some(Blocked::Forever)
                    && let Some((key, exceeded)) = state.exceeded_limit(&keys, &load.cost, now)
                {
                    WaiterPoll::CostTooHigh(key, exceeded)
                } else {
                    let at = state.wake_at(&keys, self.sequence, &inner.config, now);
                    // A wake-up for its deadline was a false alarm if it can wait after all.
                    state.restore_deadlines(&keys, self.sequence);
                    if let Some(waiter) = state.waiters.get_mut(&self.sequence) {
                        waiter.next_check = at;
                        waiter.waker = waker.take();
                    }
                    WaiterPoll::Pending(Some(at))
                }
            };
        }
        drop((former, waker));
        wake_all(wakers);
        poll
    }
}

/// The result of [`Waiter::poll`].
#[derive(Debug)]
pub(crate) enum WaiterPoll {
    /// Not admitted. The caller polls again by this time, or when woken; `None` if the request is no longer in a queue.
    Pending(Option<Instant>),
    /// A partition is held until this time, which is later than the request can wait.
    TooLate(Instant),
    /// The request costs more than a limit of this partition, which was announced while the request waited.
    CostTooHigh(PartitionKey, ExceededLimit),
    /// Admitted.
    Ready(Permit),
}

impl Waiter {
    /// Leaves the queues and wakes their first waiters. Does nothing if that was done before.
    ///
    /// A grant that was not used is recorded as [`Outcome::NotSent`], so that it does not count against any limit. The
    /// first waiters are only woken, not dispatched: a drop has no clock, and their polls dispatch.
    fn leave(&self) {
        let inner = &self.gate.0;
        let (waiter, wakers);
        {
            let mut state = lock(&inner.state);
            waiter = state.remove_waiter(self.sequence);
            let Some(waiter) = &waiter else {
                return;
            };
            if let Some(numbers) = &waiter.granted {
                // Granted but never sent: the reservation is released.
                state.release(&waiter.keys, numbers, &waiter.load, &inner.config);
            }
            wakers = state.take_first_wakers(&waiter.keys);
        }
        drop(waiter);
        wake_all(wakers);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiter({})", self.sequence)
    }
}
