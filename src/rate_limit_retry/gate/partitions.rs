//! The partitions of a gate, and how those are removed of which nothing need be known.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use tokio::time::Instant;

use super::{openness::Openness, queue::Queue};
use crate::{
    Origin,
    rate_limit_retry::{PartitionKey, quota::Quota},
};

/// Partitions by key.
///
/// There is no fixed maximum: a partition that is held, in use, paused or waited for is never removed. Beyond
/// [`MOST_PARTITIONS`], each request examines a few and removes those that are idle, so that no request pays for all.
#[derive(Default)]
pub(super) struct Partitions {
    by_key: HashMap<PartitionKey, Box<Partition>>,
    /// All keys, in the order in which they are examined.
    turn: VecDeque<PartitionKey>,
    /// Number of partitions that were examined since the last idle one.
    busy: usize,
}

pub(super) struct Partition {
    /// Where its requests go, if more partitions than one are there.
    pub(super) origin: Option<Box<Origin>>,
    pub(super) quota: Quota,
    /// Made when the partition is open for the first time.
    openness: Option<Arc<Openness>>,
    pub(super) queue: Queue,
    /// Number of waiting requests that have this partition among their keys.
    pub(super) wanted: u32,
    /// Until when the last refusal of everything held it.
    banned: Option<Instant>,
    /// The task that reports to the store, and when it looks again by itself.
    pub(super) agent: Option<(Waker, Instant)>,
}

impl Partition {
    pub(super) fn new(origin: Option<&Origin>, quota: Quota) -> Box<Self> {
        Box::new(Self {
            origin: origin.cloned().map(Box::new),
            quota,
            openness: None,
            queue: Queue::default(),
            wanted: 0,
            banned: None,
            agent: None,
        })
    }

    /// The word that says whether the partition is open, if it is.
    pub(super) fn openness(&self) -> Option<&Arc<Openness>> {
        self.openness.as_ref().filter(|openness| openness.get())
    }

    /// Holds the partition until then, because its origin has refused everything.
    pub(super) fn ban(&mut self, until: Instant) {
        self.banned = self.banned.max(Some(until));
        self.quota.hold(until);
        self.close();
    }

    /// The same where it was not known here.
    pub(super) fn apply(&mut self, bans: &[(Origin, Instant)], now: Instant) {
        let origin = self.origin.as_deref();
        let ban = bans.iter().find(|(banned, _)| Some(banned) == origin);
        if let Some((_, until)) = ban
            && *until > now
            && self.banned.is_none_or(|known| known < *until)
        {
            self.ban(*until);
        }
    }

    pub(super) fn close(&mut self) {
        if let Some(openness) = &self.openness {
            openness.set(false);
        }
    }

    /// Opens the partition if nothing is known of it but that it takes what comes, and closes it otherwise.
    pub(super) fn update_openness(&mut self) {
        if self.quota.is_quiet() && self.queue.is_empty() {
            self.openness.get_or_insert_default().set(true);
        } else {
            self.close();
        }
    }

    fn is_idle(&self, whatever_is_known: bool, now: Instant) -> bool {
        let idle = if whatever_is_known {
            self.quota.is_unused(now)
        } else {
            self.quota.is_idle(now)
        };
        idle && self.wanted == 0 && self.queue.is_empty()
    }
}

impl Partitions {
    pub(super) fn get(&self, key: &PartitionKey) -> Option<&Partition> {
        self.by_key.get(key).map(|partition| &**partition)
    }

    pub(super) fn get_mut(&mut self, key: &PartitionKey) -> Option<&mut Partition> {
        self.by_key.get_mut(key).map(|partition| &mut **partition)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PartitionKey, &Partition)> {
        let all = self.by_key.iter();
        all.map(|(key, partition)| (key, &**partition))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.by_key.values_mut().map(|partition| &mut **partition)
    }

    pub(super) fn insert(&mut self, key: PartitionKey, partition: Box<Partition>) {
        self.turn.push_back(key.clone());
        self.by_key.insert(key, partition);
    }

    /// Where there are many, removes idle ones among the next few. What has been learned of others that are not in use is
    /// removed only if none is idle. What is removed is to be dropped after the lock is released.
    pub(super) fn sweep(&mut self, now: Instant, removed: &mut Vec<Partition>) {
        if self.by_key.len() < MOST_PARTITIONS {
            return;
        }
        for _ in 0..EXAMINED {
            let Some(key) = self.turn.pop_front() else {
                break;
            };
            let all_are_busy = self.busy > self.turn.len();
            let idle = self
                .get(&key)
                .is_none_or(|partition| partition.is_idle(all_are_busy, now));
            if !idle {
                self.busy = self.busy.saturating_add(1);
                self.turn.push_back(key);
                continue;
            }
            if !all_are_busy {
                self.busy = 0;
            }
            if let Some(mut partition) = self.by_key.remove(&key) {
                partition.close();
                removed.push(*partition);
            }
            if self.by_key.len() < MOST_PARTITIONS {
                break;
            }
        }
        // Moves no more than a part of what was examined since.
        if self.by_key.len() < self.by_key.capacity() / 8 {
            self.by_key.shrink_to(self.by_key.len() * 2);
            self.turn.shrink_to(self.by_key.len() * 2);
        }
    }
}

/// Number of partitions from which on idle ones are removed.
const MOST_PARTITIONS: usize = 10_000;
/// Number of partitions that one request examines.
const EXAMINED: usize = 8;
