//! What the gate's lock guards: the partitions, and who waits for them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    task::Waker,
};

use tokio::time::Instant;

use super::Keys;
use crate::{
    Origin,
    rate_limit_retry::{
        PartitionKey,
        pass::Openness,
        quota::{About, Admit, Learnt, Pace, Quota},
    },
};

#[derive(Default)]
pub(super) struct State {
    pub(super) partitions: HashMap<PartitionKey, Partition>,
    pub(super) waiters: HashMap<u64, Waiter>,
    pub(super) arrivals: u64,
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
    /// Who waits, by arrival.
    pub(super) queue: BTreeMap<u64, ()>,
}

pub(super) struct Waiter {
    pub(super) keys: Keys,
    pub(super) waker: Option<Waker>,
    /// When it looks again by itself, which only the first in a queue does.
    pub(super) armed: Option<Instant>,
    /// The epochs of the partitions, once this one may go.
    pub(super) granted: Option<Vec<u64>>,
}

impl State {
    pub(super) fn are_open(&self, keys: &Keys) -> bool {
        keys.iter().all(|key| {
            let partition = self.partitions.get(key);
            partition.is_some_and(|partition| partition.openness.get())
        })
    }

    /// Sees that the partitions are there, and that idle ones do not pile up.
    pub(super) fn make_room(
        &mut self,
        keys: &[PartitionKey],
        origin: Option<&Origin>,
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
            let mut quota = Quota::new(pace);
            self.bans.retain(|(_, until)| *until > now);
            let ban = self.bans.iter().find(|(banned, _)| Some(banned) == origin);
            if let Some((_, until)) = ban {
                quota.hold(*until);
            }
            let partition = Partition {
                origin: origin.cloned(),
                quota,
                openness: Arc::default(),
                queue: BTreeMap::new(),
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
        self.partitions.retain(|_, partition| {
            let keep = !partition.queue.is_empty() || needed(&partition.quota);
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

    /// Adds a request to the queues of all its partitions.
    pub(super) fn queue(&mut self, keys: &Keys, arrival: u64) {
        for key in keys.iter() {
            if let Some(partition) = self.partitions.get_mut(key) {
                partition.queue.insert(arrival, ());
                partition.openness.set(false);
            }
        }
        let waiter = Waiter {
            keys: Arc::clone(keys),
            waker: None,
            armed: None,
            granted: None,
        };
        self.waiters.insert(arrival, waiter);
    }

    /// Enters all partitions or none. In the error, until when one of them is held, if that is known.
    pub(super) fn try_enter(
        &mut self,
        keys: &[PartitionKey],
        arrival: u64,
        pace: &Pace,
        now: Instant,
    ) -> Result<Vec<u64>, Option<Instant>> {
        let mut blocked = false;
        let mut until = None;
        for key in keys {
            let Some(partition) = self.partitions.get_mut(key) else {
                continue;
            };
            blocked |= partition.queue.keys().next().is_some_and(|f| *f < arrival);
            match partition.quota.admit(pace, now) {
                Admit::Now => {}
                Admit::AfterAnswer(_) => blocked = true,
                Admit::NotBefore(at) => {
                    blocked = true;
                    until = until.max(Some(at));
                }
            }
        }
        if blocked {
            return Err(until);
        }
        let enter = |key| {
            let partition: Option<&mut Partition> = self.partitions.get_mut(key);
            partition.map_or(0, |p| p.quota.enter(pace, now))
        };
        Ok(keys.iter().map(enter).collect())
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
        while let Some(key) = look.pop() {
            let first = |state: &Self| Some(*state.partitions.get(&key)?.queue.keys().next()?);
            let Some(arrival) = first(self) else {
                continue;
            };
            let Some(wanted) = self.waiters.get(&arrival).map(|w| Arc::clone(&w.keys)) else {
                continue;
            };
            let Ok(epochs) = self.try_enter(&wanted, arrival, pace, now) else {
                continue;
            };
            for key in wanted.iter() {
                if let Some(partition) = self.partitions.get_mut(key) {
                    partition.queue.remove(&arrival);
                }
                look.push(key.clone());
            }
            if let Some(waiter) = self.waiters.get_mut(&arrival) {
                waiter.granted = Some(epochs);
                woken.extend(waiter.waker.take());
            }
        }
        // Whoever is first must look again in time. A timer that is armed early enough stays: to wake each time would
        // never end.
        for arrival in self.firsts(keys) {
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
        woken
    }

    /// The wakers of those who are first in these queues.
    pub(super) fn first_in_line(&mut self, keys: &[PartitionKey]) -> Vec<Waker> {
        let firsts = self.firsts(keys);
        let waker = |arrival| self.waiters.get_mut(&arrival)?.waker.take();
        firsts.into_iter().filter_map(waker).collect()
    }

    fn firsts(&self, keys: &[PartitionKey]) -> Vec<u64> {
        let first = |key| Some(*self.partitions.get(key)?.queue.keys().next()?);
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
            if partition.queue.keys().next() == Some(&arrival) {
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

pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

/// Beyond this many partitions, idle ones are forgotten.
const MOST_PARTITIONS: usize = 10_000;
