//! The gate: lets requests go as their partitions' quotas allow, in order of arrival.
//!
//! A state machine without a runtime or a clock: `admit` answers with a [`Ticket`] or a [`Place`] in the queue; whoever
//! holds a place polls it, and sleeps until the time that the poll names. Only the first in a queue is told a time, so
//! that one timer is armed for each partition, whoever else waits.
//!
//! One lock, taken for assignments only; wakers are called after it is released. A request may have several keys: it
//! goes when all their quotas allow, and is counted by all of them or by none.

#[cfg(all(test, tower_m2m_loom))]
mod models;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    task::{Context, Waker},
};

use tokio::time::Instant;

use super::{
    PartitionKey,
    pass::Openness,
    quota::{Admit, Learnt, Pace, Quota},
};
use crate::{
    random::Random,
    sync::{Mutex, lock},
};

/// A cheap handle to the one gate of a layer.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    pace: Pace,
    random: Random,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    partitions: HashMap<PartitionKey, Partition>,
    waiters: HashMap<u64, Waiter>,
    arrivals: u64,
}

struct Partition {
    quota: Quota,
    openness: Arc<Openness>,
    /// Who waits, by arrival.
    queue: BTreeMap<u64, ()>,
}

struct Waiter {
    keys: Keys,
    waker: Option<Waker>,
    /// When it looks again by itself, which only the first in a queue does.
    armed: Option<Instant>,
    /// The epochs of the partitions, once this one may go.
    granted: Option<Vec<u64>>,
}

pub(crate) type Keys = Arc<[PartitionKey]>;

/// The answer to a request that wants to go.
#[derive(Debug)]
pub(crate) enum Admission {
    Go(Ticket),
    /// Its partition is held until then, which is later than it can wait.
    TooLate(Instant),
    Wait(Place),
}

/// A request that is in flight. Settles itself as "unknown" when dropped.
pub(crate) struct Ticket(Option<Counted>);

/// A request that its partitions count.
struct Counted {
    gate: Gate,
    keys: Keys,
    epochs: Vec<u64>,
    arrival: u64,
}

/// A place in the queue; dropped, it is given up.
pub(crate) struct Place {
    gate: Gate,
    arrival: u64,
}

impl Gate {
    pub(crate) fn new(pace: Pace, seed: Option<u64>) -> Self {
        Self(Arc::new(Inner {
            pace,
            random: Random::new(seed),
            state: Mutex::default(),
        }))
    }

    /// Lets a request go, queues it, or says that it cannot go by `latest`. A retry keeps its `arrival`, and so its
    /// place before those who came later.
    pub(crate) fn admit(
        &self,
        keys: &Keys,
        arrival: Option<u64>,
        latest: Option<Instant>,
        passes: bool,
        now: Instant,
    ) -> Admission {
        let mut state = lock(&self.0.state);
        if passes && state.are_open(keys) {
            return Admission::Go(Ticket::free());
        }
        let arrival = arrival.unwrap_or_else(|| {
            state.arrivals += 1;
            state.arrivals
        });
        state.make_room(keys, &self.0.pace, now);
        match state.try_enter(keys, arrival, &self.0.pace, now) {
            Ok(epochs) => {
                drop(state);
                return Admission::Go(self.ticket(Arc::clone(keys), epochs, arrival));
            }
            Err(Some(until)) if latest.is_some_and(|latest| until > latest) => {
                return Admission::TooLate(until);
            }
            Err(_) => {}
        }
        for key in keys.iter() {
            if let Some(partition) = state.partitions.get_mut(key) {
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
        state.waiters.insert(arrival, waiter);
        Admission::Wait(Place {
            gate: self.clone(),
            arrival,
        })
    }

    /// The word that says whether the partition is open, if it is.
    pub(crate) fn openness(&self, keys: &Keys) -> Option<Arc<Openness>> {
        let [key] = &**keys else {
            return None;
        };
        let state = lock(&self.0.state);
        let openness = &state.partitions.get(key)?.openness;
        openness.get().then(|| Arc::clone(openness))
    }

    /// Counts a request that went past the gate, because its answer says something that the gate should know.
    pub(crate) fn adopt(&self, keys: &Keys, now: Instant) -> Ticket {
        let mut state = lock(&self.0.state);
        state.arrivals += 1;
        let arrival = state.arrivals;
        state.make_room(keys, &self.0.pace, now);
        let adopt = |key| {
            let partition: Option<&mut Partition> = state.partitions.get_mut(key);
            partition.map_or(0, |partition| partition.quota.adopt())
        };
        let epochs = keys.iter().map(adopt).collect();
        drop(state);
        self.ticket(Arc::clone(keys), epochs, arrival)
    }

    /// What is known about each partition.
    pub(crate) fn inspect<T>(
        &self,
        mut each: impl FnMut(&PartitionKey, &Quota, usize) -> T,
    ) -> Vec<T> {
        let state = lock(&self.0.state);
        let partitions = state.partitions.iter();
        partitions
            .map(|(key, partition)| each(key, &partition.quota, partition.queue.len()))
            .collect()
    }

    /// Forgets what is known about a partition; requests in flight and waiting ones stay.
    pub(crate) fn forget(&self, key: &PartitionKey, now: Instant) {
        let woken = {
            let mut state = lock(&self.0.state);
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.quota.forget(&self.0.pace);
                partition.openness.set(false);
            }
            state.let_go(std::slice::from_ref(key), &self.0.pace, now)
        };
        wake(woken);
    }

    fn ticket(&self, keys: Keys, epochs: Vec<u64>, arrival: u64) -> Ticket {
        Ticket(Some(Counted {
            gate: self.clone(),
            keys,
            epochs,
            arrival,
        }))
    }
}

impl Ticket {
    /// Of a request that went past the gate: nobody counts it.
    pub(crate) fn free() -> Self {
        Self(None)
    }

    pub(crate) fn is_free(&self) -> bool {
        self.0.is_none()
    }

    /// The request's place in the order of arrival.
    pub(crate) fn arrival(&self) -> Option<u64> {
        self.0.as_ref().map(|counted| counted.arrival)
    }

    /// Whether a partition has been held since the ticket was given: then the request must not go.
    pub(crate) fn is_overtaken(&self, now: Instant) -> bool {
        let Some(counted) = &self.0 else {
            return false;
        };
        let state = lock(&counted.gate.0.state);
        counted.keys.iter().any(|key| {
            let partition = state.partitions.get(key);
            partition.is_some_and(|p| p.quota.held_until(now).is_some())
        })
    }

    /// Tells all partitions what became of the request. Returns until when it would be held now.
    pub(crate) fn settle(mut self, learnt: Learnt<'_>, now: Instant) -> Option<Instant> {
        self.0.take()?.conclude(learnt, Some(now))
    }
}

impl Counted {
    fn conclude(&self, learnt: Learnt<'_>, now: Option<Instant>) -> Option<Instant> {
        let inner = &self.gate.0;
        let random = inner.random.unit();
        let (held, woken) = {
            let mut state = lock(&inner.state);
            let mut held = None;
            for (key, epoch) in self.keys.iter().zip(&self.epochs) {
                if let Some(partition) = state.partitions.get_mut(key) {
                    let quota = &mut partition.quota;
                    held = held.max(quota.learn(*epoch, learnt, &inner.pace, random, now));
                    let open = quota.is_quiet() && partition.queue.is_empty();
                    partition.openness.set(open);
                }
            }
            let woken = match now {
                Some(now) => state.let_go(&self.keys, &inner.pace, now),
                // Without a clock at hand: the first in each queue looks again.
                None => state.first_in_line(&self.keys),
            };
            (held, woken)
        };
        wake(woken);
        held
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(counted) = self.0.take() {
            counted.conclude(Learnt::Unknown, None);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.as_ref().map(|counted| &counted.keys);
        f.debug_struct("Ticket")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// The ticket, once it is this one's turn. Otherwise when to poll again at the latest, which only the first in a
    /// queue is told.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, now: Instant) -> Turn {
        let inner = &self.gate.0;
        let mut state = lock(&inner.state);
        let Some(waiter) = state.waiters.get_mut(&self.arrival) else {
            return Turn::Pending(None);
        };
        // Not woken by the poll itself.
        waiter.waker = None;
        let keys = Arc::clone(&waiter.keys);
        let woken = state.let_go(&keys, &inner.pace, now);
        let granted = state
            .waiters
            .get_mut(&self.arrival)
            .and_then(|waiter| waiter.granted.take());
        let answer = match granted {
            Some(epochs) => {
                state.waiters.remove(&self.arrival);
                Turn::Ready(self.gate.ticket(keys, epochs, self.arrival))
            }
            None => {
                let at = state.come_back_at(&keys, self.arrival, &inner.pace, now);
                if let Some(waiter) = state.waiters.get_mut(&self.arrival) {
                    waiter.armed = at;
                    waiter.waker = Some(cx.waker().clone());
                }
                Turn::Pending(at)
            }
        };
        drop(state);
        wake(woken);
        answer
    }
}

/// What a [`Place`] answers.
#[derive(Debug)]
pub(crate) enum Turn {
    Pending(Option<Instant>),
    Ready(Ticket),
}

impl Drop for Place {
    fn drop(&mut self) {
        let inner = &self.gate.0;
        let woken = {
            let mut state = lock(&inner.state);
            let Some(waiter) = state.waiters.remove(&self.arrival) else {
                return;
            };
            for (index, key) in waiter.keys.iter().enumerate() {
                if let Some(partition) = state.partitions.get_mut(key) {
                    partition.queue.remove(&self.arrival);
                    if let Some(epoch) = waiter.granted.as_ref().and_then(|e| e.get(index)) {
                        // Granted, but gone before it was sent.
                        partition
                            .quota
                            .learn(*epoch, Learnt::NotSent, &inner.pace, 0.0, None);
                    }
                }
            }
            state.first_in_line(&waiter.keys)
        };
        wake(woken);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.arrival)
    }
}

impl State {
    fn are_open(&self, keys: &Keys) -> bool {
        keys.iter().all(|key| {
            let partition = self.partitions.get(key);
            partition.is_some_and(|partition| partition.openness.get())
        })
    }

    /// Sees that the partitions are there, and that idle ones do not pile up.
    fn make_room(&mut self, keys: &Keys, pace: &Pace, now: Instant) {
        for key in keys.iter() {
            if !self.partitions.contains_key(key) {
                if self.partitions.len() >= MOST_PARTITIONS {
                    self.partitions.retain(|_, partition| {
                        let idle = partition.queue.is_empty() && partition.quota.is_idle(now);
                        if idle {
                            partition.openness.set(false);
                        }
                        !idle
                    });
                }
                let partition = Partition {
                    quota: Quota::new(pace),
                    openness: Arc::default(),
                    queue: BTreeMap::new(),
                };
                self.partitions.insert(key.clone(), partition);
            }
        }
    }

    /// Enters all partitions or none. In the error, until when one of them is held, if that is known.
    fn try_enter(
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
    fn let_go(&mut self, keys: &[PartitionKey], pace: &Pace, now: Instant) -> Vec<Waker> {
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
    fn first_in_line(&mut self, keys: &[PartitionKey]) -> Vec<Waker> {
        let firsts = self.firsts(keys);
        let waker = |arrival| self.waiters.get_mut(&arrival)?.waker.take();
        firsts.into_iter().filter_map(waker).collect()
    }

    fn firsts(&self, keys: &[PartitionKey]) -> Vec<u64> {
        let first = |key| Some(*self.partitions.get(key)?.queue.keys().next()?);
        keys.iter().filter_map(first).collect()
    }

    /// When the first in a queue must look again, if no answer comes before. `None` for everybody else.
    fn come_back_at(
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

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

/// Beyond this many partitions, idle ones are forgotten.
const MOST_PARTITIONS: usize = 10_000;
