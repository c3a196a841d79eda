//! Who goes next.
//!
//! A request waits in the queues of the partitions that keep it back, and in no other: whoever waits for the end of one
//! partition's window stops nobody who needs only the others.

use std::{sync::Arc, task::Waker};

use tokio::time::Instant;

use super::{
    Keys,
    state::{Partition, State, Waiter},
};
use crate::rate_limit_retry::{
    PartitionKey,
    quota::{Admit, Pace},
};

impl State {
    /// Adds a request to the queues of the partitions that keep it back.
    pub(super) fn queue(&mut self, keys: &Keys, arrival: u64, pace: &Pace, now: Instant) {
        let waiter = Waiter {
            keys: Arc::clone(keys),
            waker: None,
            armed: None,
            granted: None,
            asides: 0,
        };
        self.waiters.insert(arrival, waiter);
        self.line_up(keys, arrival, false, pace, now);
    }

    /// Enters all partitions or none. In the error, until when one of them is held, if that is known.
    pub(super) fn try_enter(
        &mut self,
        keys: &[PartitionKey],
        arrival: u64,
        pace: &Pace,
        now: Instant,
    ) -> Result<Box<[u64]>, Option<Instant>> {
        let mut kept = None;
        for key in keys {
            kept = kept.max(self.keeps_back(key, arrival, pace, now));
        }
        if let Some(until) = kept {
            return Err(until);
        }
        let enter = |key| {
            let partition: Option<&mut Partition> = self.partitions.get_mut(key);
            partition.map_or(0, |p| p.quota.enter(pace, now))
        };
        Ok(keys.iter().map(enter).collect())
    }

    /// Whether a partition keeps a request back, and until when, if that is known.
    fn keeps_back(
        &mut self,
        key: &PartitionKey,
        arrival: u64,
        pace: &Pace,
        now: Instant,
    ) -> Option<Option<Instant>> {
        let partition = self.partitions.get_mut(key)?;
        match partition.quota.admit(pace, now) {
            Admit::Now => {
                let first = partition.queue.first();
                first.is_some_and(|first| *first < arrival).then_some(None)
            }
            Admit::AfterAnswer(_) => Some(None),
            Admit::NotBefore(at) => Some(Some(at)),
        }
    }

    /// Puts a request into the queues where it belongs now. Returns whether it has left one.
    fn line_up(
        &mut self,
        keys: &[PartitionKey],
        arrival: u64,
        everywhere: bool,
        pace: &Pace,
        now: Instant,
    ) -> bool {
        let mut left = false;
        for key in keys {
            let belongs =
                everywhere || keys.len() == 1 || self.keeps_back(key, arrival, pace, now).is_some();
            let Some(partition) = self.partitions.get_mut(key) else {
                continue;
            };
            if belongs {
                partition.queue.insert(arrival);
                partition.openness.set(false);
            } else {
                left |= partition.queue.remove(&arrival);
            }
        }
        left
    }

    /// The request is still kept back, perhaps by another partition than before. Returns whether it has left a queue.
    fn step_aside(
        &mut self,
        keys: &[PartitionKey],
        arrival: u64,
        pace: &Pace,
        now: Instant,
    ) -> bool {
        let asides = self.waiters.get(&arrival).map_or(0, |w| w.asides);
        // Whoever would be overtaken for ever, with one partition open while the other is not, keeps all places.
        let left = self.line_up(keys, arrival, asides >= MOST_ASIDES, pace, now);
        if let Some(waiter) = self.waiters.get_mut(&arrival).filter(|_| left) {
            waiter.asides += 1;
        }
        left
    }

    /// Grants whoever is first and may go, in these partitions and in those that this concerns.
    pub(super) fn let_go(
        &mut self,
        keys: &[PartitionKey],
        pace: &Pace,
        now: Instant,
    ) -> Vec<Waker> {
        let mut woken = Vec::new();
        let mut look: Vec<PartitionKey> = keys.to_vec();
        let mut touched = look.clone();
        while let Some(key) = look.pop() {
            let first = |state: &Self| state.partitions.get(&key)?.queue.first().copied();
            let Some(arrival) = first(self) else {
                continue;
            };
            let Some(wanted) = self.waiters.get(&arrival).map(|w| Arc::clone(&w.keys)) else {
                continue;
            };
            if let Ok(epochs) = self.try_enter(&wanted, arrival, pace, now) {
                for key in wanted.iter() {
                    if let Some(partition) = self.partitions.get_mut(key) {
                        partition.queue.remove(&arrival);
                    }
                }
                if let Some(waiter) = self.waiters.get_mut(&arrival) {
                    waiter.granted = Some(epochs);
                    woken.extend(waiter.waker.take());
                }
            } else if !self.step_aside(&wanted, arrival, pace, now) {
                continue;
            }
            look.extend(wanted.iter().cloned());
            if wanted.len() > 1 {
                touched.extend(wanted.iter().cloned());
            }
        }
        // Whoever is first must look again in time. A timer that is armed early enough stays: to wake each time would
        // never end.
        for arrival in self.firsts(&touched) {
            let Some(wanted) = self.waiters.get(&arrival).map(|w| Arc::clone(&w.keys)) else {
                continue;
            };
            let at = self.come_back_at(&wanted, arrival, pace, now);
            if let Some(waiter) = self.waiters.get_mut(&arrival)
                && at.is_some_and(|at| waiter.armed.is_none_or(|armed| at < armed))
            {
                woken.extend(waiter.waker.take());
            }
        }
        woken.extend(self.called_agents(&touched, pace, now));
        woken
    }

    /// The wakers of those who are first in these queues.
    pub(super) fn first_in_line(&mut self, keys: &[PartitionKey]) -> Vec<Waker> {
        let firsts = self.firsts(keys);
        let waker = |arrival| self.waiters.get_mut(&arrival)?.waker.take();
        firsts.into_iter().filter_map(waker).collect()
    }

    fn firsts(&self, keys: &[PartitionKey]) -> Vec<u64> {
        let first = |key| self.partitions.get(key)?.queue.first().copied();
        keys.iter().filter_map(first).collect()
    }

    /// When the first in a queue must look again, if no answer comes before. `None` for everybody else.
    pub(super) fn come_back_at(
        &mut self,
        keys: &[PartitionKey],
        arrival: u64,
        pace: &Pace,
        now: Instant,
    ) -> Option<Instant> {
        let mut at = None;
        for key in keys {
            let partition = self.partitions.get_mut(key)?;
            if partition.queue.first() == Some(&arrival) {
                at = at.max(match partition.quota.admit(pace, now) {
                    Admit::Now => None,
                    Admit::AfterAnswer(at) => at,
                    Admit::NotBefore(at) => Some(at),
                });
            }
        }
        at
    }
}

/// So often a request leaves a queue that does not keep it back.
const MOST_ASIDES: u32 = 8;
