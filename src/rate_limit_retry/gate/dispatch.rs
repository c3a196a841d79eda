//! Who goes next.
//!
//! A request waits in the queues of the partitions that keep it back, and in no other: whoever waits for the end of one
//! partition's window stops nobody who needs only the others.

use std::{sync::Arc, task::Waker, time::Duration};

use tokio::time::Instant;

use super::{
    keys::Keys,
    partitions::Partition,
    state::{State, Waiter},
};
use crate::{
    clock::after,
    rate_limit_retry::{
        PartitionKey,
        quota::{About, Admit, Learnt, Pace},
    },
};

impl State {
    /// Adds a request to the queues of the partitions that keep it back.
    pub(super) fn queue(
        &mut self,
        keys: &Keys,
        arrival: u64,
        latest: Option<Instant>,
        pace: &Pace,
        now: Instant,
    ) {
        let waiter = Waiter {
            keys: Arc::clone(keys),
            waker: None,
            latest,
            armed: now,
            granted: None,
            absent: false,
            asides: 0,
        };
        self.waiters.insert(arrival, waiter);
        for key in keys.iter() {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.wanted += 1;
            }
        }
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
        if let Some(until) = self.kept_back(keys, arrival, pace, now) {
            return Err(until);
        }
        let enter = |key| {
            let partition: Option<&mut Partition> = self.partitions.get_mut(key);
            partition.map_or(0, |p| p.quota.enter(pace, now))
        };
        Ok(keys.iter().map(enter).collect())
    }

    /// Whether partitions keep a request back, and until when one of them is held, if that is known.
    pub(super) fn kept_back(
        &mut self,
        keys: &[PartitionKey],
        arrival: u64,
        pace: &Pace,
        now: Instant,
    ) -> Option<Option<Instant>> {
        let mut kept = None;
        for key in keys {
            kept = kept.max(self.keeps_back(key, arrival, pace, now));
        }
        kept
    }

    /// Whether a partition keeps a request back, and until when, if that is known.
    fn keeps_back(
        &mut self,
        key: &PartitionKey,
        arrival: u64,
        pace: &Pace,
        now: Instant,
    ) -> Option<Option<Instant>> {
        self.apply_bans(key, now);
        let partition = self.partitions.get_mut(key)?;
        match partition.quota.admit(pace, now) {
            Admit::Now => {
                let first = partition.queue.first();
                first.is_some_and(|first| first < arrival).then_some(None)
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
        let latest = self.waiters.get(&arrival).and_then(|waiter| waiter.latest);
        for key in keys {
            let belongs =
                everywhere || keys.len() == 1 || self.keeps_back(key, arrival, pace, now).is_some();
            let Some(partition) = self.partitions.get_mut(key) else {
                continue;
            };
            if belongs {
                partition.queue.insert(arrival, latest);
                partition.close();
            } else {
                left |= partition.queue.remove(arrival, latest);
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
            let first = |state: &Self| state.partitions.get(&key)?.queue.first();
            let Some(arrival) = first(self) else {
                continue;
            };
            let Some(wanted) = self.waiters.get(&arrival).map(|w| Arc::clone(&w.keys)) else {
                continue;
            };
            if let Ok(epochs) = self.try_enter(&wanted, arrival, pace, now) {
                self.granted.insert(arrival, now);
                let mut latest = None;
                if let Some(waiter) = self.waiters.get_mut(&arrival) {
                    waiter.granted = Some(epochs);
                    latest = waiter.latest;
                    woken.extend(waiter.waker.take());
                }
                self.leave_queues(&wanted, arrival, latest);
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
                && at < waiter.armed
            {
                woken.extend(waiter.waker.take());
            }
        }
        // Whoever cannot wait until the end of a hold is told of it now.
        for key in &touched {
            let Some(partition) = self.partitions.get_mut(key) else {
                continue;
            };
            if !partition.queue.is_empty()
                && let Admit::NotBefore(until) = partition.quota.admit(pace, now)
            {
                let late = partition.queue.take_late(until);
                woken.extend(self.take_wakers(&late));
            }
        }
        woken.extend(self.called_agents(&touched, pace, now));
        woken
    }

    /// The wakers of those who are first in these queues.
    pub(super) fn first_in_line(&mut self, keys: &[PartitionKey]) -> Vec<Waker> {
        let firsts = self.firsts(keys);
        self.take_wakers(&firsts)
    }

    /// Those that were woken because they cannot wait long enough, and can, are to be woken again.
    pub(super) fn wait_again(&mut self, keys: &[PartitionKey], arrival: u64) {
        let latest = self.waiters.get(&arrival).and_then(|waiter| waiter.latest);
        for key in keys {
            if let Some(partition) = self.partitions.get_mut(key)
                && partition.queue.contains(arrival)
            {
                partition.queue.insert(arrival, latest);
            }
        }
    }

    fn leave_queues(&mut self, keys: &[PartitionKey], arrival: u64, latest: Option<Instant>) {
        for key in keys {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.queue.remove(arrival, latest);
            }
        }
    }

    /// A request that is polled is in its queues, also if it was set aside.
    pub(super) fn come_back(&mut self, arrival: u64, pace: &Pace, now: Instant) {
        let waiter = self.waiters.get_mut(&arrival);
        if let Some(waiter) = waiter.filter(|waiter| waiter.absent) {
            waiter.absent = false;
            let keys = Arc::clone(&waiter.keys);
            self.line_up(&keys, arrival, false, pace, now);
        }
    }

    /// Lets requests that are not polled keep nobody else waiting: those before `by` in these queues that should have
    /// checked again lose their places until they do, and those that may go and have not noticed give that back.
    pub(super) fn set_aside(&mut self, keys: &[PartitionKey], by: u64, pace: &Pace, now: Instant) {
        for key in keys {
            while let Some(first) = self.partitions.get(key).and_then(|p| p.queue.first())
                && first < by
                && let Some(waiter) = self.waiters.get_mut(&first)
                && after(waiter.armed, OVERDUE) <= now
            {
                waiter.absent = true;
                let (wanted, latest) = (Arc::clone(&waiter.keys), waiter.latest);
                self.leave_queues(&wanted, first, latest);
            }
        }
        let overdue =
            |(arrival, at): (&u64, &Instant)| (after(*at, OVERDUE) <= now).then_some(*arrival);
        let granted = self
            .granted
            .iter()
            .take(MOST_TAKEN_BACK)
            .filter_map(overdue);
        for arrival in granted.collect::<Vec<_>>() {
            self.granted.remove(&arrival);
            let Some(waiter) = self.waiters.get_mut(&arrival) else {
                continue;
            };
            waiter.absent = true;
            let (wanted, epochs) = (Arc::clone(&waiter.keys), waiter.granted.take());
            for (key, epoch) in wanted.iter().zip(epochs.unwrap_or_default()) {
                if let Some(partition) = self.partitions.get_mut(key) {
                    let (unsent, about) = (Learnt::NotSent, About::This);
                    partition.quota.learn(epoch, unsent, about, pace, 0.0, None);
                }
            }
        }
    }

    fn firsts(&self, keys: &[PartitionKey]) -> Vec<u64> {
        let first = |key| self.partitions.get(key)?.queue.first();
        keys.iter().filter_map(first).collect()
    }

    /// When a waiting request must check again, if it is not woken before. The first in a queue does so when it may go.
    /// The others do so later, the later the farther behind they are, in case that those before them are not polled.
    pub(super) fn come_back_at(
        &mut self,
        keys: &[PartitionKey],
        arrival: u64,
        pace: &Pace,
        now: Instant,
    ) -> Instant {
        let (mut at, mut behind, again) = (None, 0, after(now, LATE));
        for key in keys {
            let Some(partition) = self.partitions.get_mut(key) else {
                continue;
            };
            let Some(first) = partition.queue.first().filter(|first| *first <= arrival) else {
                continue;
            };
            behind = behind.max(arrival - first);
            at = at.max(match partition.quota.admit(pace, now) {
                Admit::Now => None,
                Admit::AfterAnswer(at) => Some(at.map_or(again, |at| at.min(again))),
                Admit::NotBefore(at) => Some(at),
            });
        }
        if behind == 0 {
            return at.unwrap_or(again);
        }
        let behind = u32::try_from(behind).unwrap_or(u32::MAX);
        let late = LATE.saturating_add((LATE / BEHIND).saturating_mul(behind));
        after(at.unwrap_or(now), late)
    }
}

/// So often a request leaves a queue that does not keep it back.
const MOST_ASIDES: u32 = 8;
/// How much later than the first in a queue the next one checks.
const LATE: Duration = Duration::from_secs(if cfg!(tower_m2m_loom) { 3600 } else { 1 });
/// Each place behind the first adds one part of so many.
const BEHIND: u32 = 64;
/// Grace period after which a request that was to check again counts as not polled.
const OVERDUE: Duration = Duration::from_millis(500);
/// Maximum number of requests that are examined at once for whether they have noticed that they may go.
const MOST_TAKEN_BACK: usize = 64;
