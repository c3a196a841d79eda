//! What the gate's lock guards: the partitions, and the requests that wait for them.

use std::{
    collections::{BTreeMap, HashMap},
    task::Waker,
};

use tokio::time::Instant;

use super::{
    keys::Keys,
    partitions::{Partition, Partitions},
};
use crate::{
    Origin,
    rate_limit_retry::{
        PartitionKey,
        limits::OwnLimits,
        quota::{About, Learnt, Pace, Quota},
    },
};

#[derive(Default)]
pub(super) struct State {
    pub(super) partitions: Partitions,
    pub(super) waiters: HashMap<u64, Waiter>,
    /// Waiters that may go and have not been polled since, and when that was decided.
    pub(super) granted: BTreeMap<u64, Instant>,
    pub(super) arrivals: u64,
    /// Everybody goes at once.
    pub(super) bypassed: bool,
    /// Origins that have refused everything, and until when.
    bans: Vec<(Origin, Instant)>,
}

pub(super) struct Waiter {
    pub(super) keys: Keys,
    pub(super) waker: Option<Waker>,
    /// It cannot wait for longer.
    pub(super) latest: Option<Instant>,
    /// When it checks again by itself; until its first poll, when it came.
    pub(super) armed: Instant,
    /// The epochs of the partitions, once this one may go.
    pub(super) granted: Option<Box<[u64]>>,
    /// Not polled in time: it is in no queue until it is.
    pub(super) absent: bool,
    /// How often it has left a queue because something else kept it back.
    pub(super) asides: u32,
}

impl State {
    pub(super) fn are_open(&self, keys: &Keys) -> bool {
        keys.iter().all(|key| {
            let partition = self.partitions.get(key);
            partition.is_some_and(|partition| partition.openness().is_some())
        })
    }

    /// A partition for which so many wait.
    pub(super) fn full<'a>(
        &self,
        keys: &'a [PartitionKey],
        most: usize,
    ) -> Option<&'a PartitionKey> {
        keys.iter().find(|key| {
            let partition = self.partitions.get(key);
            partition.is_some_and(|partition| partition.queue.len() >= most)
        })
    }

    /// Sees that the partitions are there, and that idle ones do not pile up. Those that are removed are to be dropped
    /// after the lock is released.
    pub(super) fn make_room(
        &mut self,
        keys: &[PartitionKey],
        origin: Option<&Origin>,
        limits: &OwnLimits,
        pace: &Pace,
        now: Instant,
        removed: &mut Vec<Partition>,
    ) {
        self.partitions.sweep(now, removed);
        for key in keys {
            if let Some(known) = self.partitions.get_mut(key) {
                if known.origin.is_none() {
                    known.origin = origin.cloned().map(Box::new);
                }
                continue;
            }
            let quota = Quota::new(pace, limits.get(key));
            self.bans.retain(|(_, until)| *until > now);
            let mut partition = Partition::new(origin, quota);
            partition.apply(&self.bans, now);
            self.partitions.insert(key.clone(), partition);
        }
    }

    /// What the answer to a request with these keys is about.
    pub(super) fn about(&self, keys: &[PartitionKey], learnt: Learnt<'_>) -> About {
        let all = matches!(learnt, Learnt::Answer { throttled: true, signals } if signals.global);
        let first = keys.first().and_then(|key| self.partitions.get(key));
        if all && first.is_some_and(|partition| partition.origin.is_some()) {
            About::All
        } else if keys.len() > 1 {
            About::OneOfSeveral
        } else {
            About::This
        }
    }

    /// A refusal was about everything that goes where these partitions' requests go: all are held until then. Returns the
    /// wakers of requests that cannot wait so long.
    pub(super) fn ban(&mut self, keys: &[PartitionKey], until: Instant) -> Vec<Waker> {
        let of = |key| self.partitions.get(key)?.origin.clone();
        let Some(origin) = keys.iter().find_map(of) else {
            return Vec::new();
        };
        let mut late = Vec::new();
        // The others are held when a request comes to them: no request pays for all.
        for partition in self.partitions.values_mut().take(MOST_BANNED_AT_ONCE) {
            if partition.origin.as_ref() == Some(&origin) {
                partition.ban(until);
                late.extend(partition.queue.take_late(until));
            }
        }
        match self.bans.iter_mut().find(|(banned, _)| *banned == *origin) {
            Some((_, longest)) => *longest = until.max(*longest),
            None => self.bans.push((*origin, until)),
        }
        self.take_wakers(&late)
    }

    /// Holds a partition whose origin has refused everything.
    pub(super) fn apply_bans(&mut self, key: &PartitionKey, now: Instant) {
        if self.bans.is_empty() {
            return;
        }
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.apply(&self.bans, now);
        }
    }

    /// The same for all partitions.
    pub(super) fn apply_all_bans(&mut self, now: Instant) {
        self.bans.retain(|(_, until)| *until > now);
        if !self.bans.is_empty() {
            for partition in self.partitions.values_mut() {
                partition.apply(&self.bans, now);
            }
        }
    }

    /// The wakers of these waiters.
    pub(super) fn take_wakers(&mut self, arrivals: &[u64]) -> Vec<Waker> {
        let waker = |arrival| self.waiters.get_mut(arrival)?.waker.take();
        arrivals.iter().filter_map(waker).collect()
    }

    /// Forgets a waiter, which the caller drops after the lock is released.
    pub(super) fn remove_waiter(&mut self, arrival: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&arrival)?;
        self.granted.remove(&arrival);
        for key in waiter.keys.iter() {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.queue.remove(arrival, waiter.latest);
                partition.wanted = partition.wanted.saturating_sub(1);
            }
        }
        Some(waiter)
    }
}

/// Maximum number of partitions that a refusal of everything holds at once.
const MOST_BANNED_AT_ONCE: usize = 1_000;

pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
