//! What the gate's lock guards: the partitions, and who waits for them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    task::Waker,
};

use tokio::time::Instant;

use super::Keys;
use crate::{
    Origin,
    rate_limit_retry::{
        PartitionKey,
        limits::OwnLimits,
        pass::Openness,
        quota::{About, Learnt, Pace, Quota},
    },
};

#[derive(Default)]
pub(super) struct State {
    pub(super) partitions: HashMap<PartitionKey, Partition>,
    pub(super) waiters: HashMap<u64, Waiter>,
    pub(super) arrivals: u64,
    /// Everybody goes at once.
    pub(super) bypassed: bool,
    /// Origins that have refused everything, and until when.
    bans: Vec<(Origin, Instant)>,
    /// So many partitions, and it is looked which ones can go.
    crowd: usize,
}

pub(super) struct Partition {
    /// Where its requests go, if more partitions than one are there.
    origin: Option<Origin>,
    pub(super) quota: Quota,
    pub(super) openness: Arc<Openness>,
    /// Who is kept back here, by arrival.
    pub(super) queue: BTreeSet<u64>,
    /// The task that tells the store, and when it looks again by itself.
    pub(super) agent: Option<(Waker, Instant)>,
}

pub(super) struct Waiter {
    pub(super) keys: Keys,
    pub(super) waker: Option<Waker>,
    /// When it looks again by itself, which only the first in a queue does.
    pub(super) armed: Option<Instant>,
    /// The epochs of the partitions, once this one may go.
    pub(super) granted: Option<Box<[u64]>>,
    /// How often it has left a queue because something else kept it back.
    pub(super) asides: u32,
}

impl State {
    pub(super) fn are_open(&self, keys: &Keys) -> bool {
        keys.iter().all(|key| {
            let partition = self.partitions.get(key);
            partition.is_some_and(|partition| partition.openness.get())
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

    /// Sees that the partitions are there, and that idle ones do not pile up.
    pub(super) fn make_room(
        &mut self,
        keys: &[PartitionKey],
        origin: Option<&Origin>,
        limits: &OwnLimits,
        pace: &Pace,
        now: Instant,
    ) {
        for key in keys {
            if let Some(known) = self.partitions.get_mut(key) {
                if known.origin.is_none() {
                    known.origin = origin.cloned();
                }
                continue;
            }
            if self.partitions.len() >= self.crowd.max(MOST_PARTITIONS) {
                self.sweep(now);
            }
            let mut quota = Quota::new(pace, limits.get(key));
            self.bans.retain(|(_, until)| *until > now);
            let ban = self.bans.iter().find(|(banned, _)| Some(banned) == origin);
            if let Some((_, until)) = ban {
                quota.hold(*until);
            }
            let partition = Partition {
                origin: origin.cloned(),
                quota,
                openness: Arc::default(),
                queue: BTreeSet::new(),
                agent: None,
            };
            self.partitions.insert(key.clone(), partition);
        }
    }

    /// Forgets partitions of which nothing is known, and if there are still too many, what has been learnt of others
    /// that nobody uses.
    fn sweep(&mut self, now: Instant) {
        self.keep(|quota| !quota.is_idle(now));
        if self.partitions.len() >= MOST_PARTITIONS {
            self.keep(|quota| !quota.is_unused(now));
        }
        // Not with each partition that comes while there is nothing to forget.
        self.crowd = self.partitions.len() + self.partitions.len() / 2;
    }

    fn keep(&mut self, needed: impl Fn(&Quota) -> bool) {
        let waiters = self.waiters.values();
        let wanted: HashSet<_> = waiters.flat_map(|waiter| waiter.keys.iter()).collect();
        self.partitions.retain(|key, partition| {
            let keep = wanted.contains(key) || needed(&partition.quota);
            if !keep {
                partition.openness.set(false);
            }
            keep
        });
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

    /// A refusal was about everything that goes where these partitions' requests go: all are held until then.
    pub(super) fn ban(&mut self, keys: &[PartitionKey], until: Instant) {
        let of = |key| self.partitions.get(key)?.origin.clone();
        let Some(origin) = keys.iter().find_map(of) else {
            return;
        };
        for partition in self.partitions.values_mut() {
            if partition.origin.as_ref() == Some(&origin) {
                partition.quota.hold(until);
            }
        }
        match self.bans.iter_mut().find(|(banned, _)| *banned == origin) {
            Some((_, longest)) => *longest = until.max(*longest),
            None => self.bans.push((origin, until)),
        }
    }
}

pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

/// Beyond this many partitions, idle ones are forgotten.
const MOST_PARTITIONS: usize = 10_000;
