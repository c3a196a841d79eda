//! The gate: lets requests go as their partitions' quotas allow, in order of arrival.
//!
//! A state machine without a runtime or a clock: `admit` answers with a [`Ticket`] or a [`Place`] in the queue; whoever
//! holds a place polls it, and sleeps until the time that the poll names. Only the first in a queue is told a time, so
//! that one timer is armed for each partition, whoever else waits.
//!
//! One lock, taken for assignments only; wakers are called after it is released. A request may have several keys: it
//! goes when all their quotas allow, and is counted by all of them or by none.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{
    PartitionKey,
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
    /// Who waits, by arrival.
    queue: BTreeMap<u64, ()>,
    /// Who was last told that he is first, and when to come back.
    first: Option<u64>,
}

struct Waiter {
    keys: Keys,
    waker: Option<Waker>,
    /// The epochs of his partitions, once he may go.
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
pub(crate) struct Ticket {
    gate: Gate,
    keys: Keys,
    epochs: Vec<u64>,
    arrival: u64,
    settled: bool,
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
        now: Instant,
    ) -> Admission {
        let mut state = lock(&self.0.state);
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
            }
        }
        let waiter = Waiter {
            keys: Arc::clone(keys),
            waker: None,
            granted: None,
        };
        state.waiters.insert(arrival, waiter);
        Admission::Wait(Place {
            gate: self.clone(),
            arrival,
        })
    }

    /// What is known about each partition.
    pub(crate) fn inspect<T>(&self, mut each: impl FnMut(&PartitionKey, &Quota, usize) -> T) -> Vec<T> {
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
            }
            state.let_go(std::slice::from_ref(key), &self.0.pace, now)
        };
        wake(woken);
    }

    fn ticket(&self, keys: Keys, epochs: Vec<u64>, arrival: u64) -> Ticket {
        Ticket {
            gate: self.clone(),
            keys,
            epochs,
            arrival,
            settled: false,
        }
    }
}

impl Ticket {
    /// The request's place in the order of arrival.
    pub(crate) fn arrival(&self) -> u64 {
        self.arrival
    }

    /// Whether a partition has been held since the ticket was given: then the request must not go.
    pub(crate) fn is_overtaken(&self, now: Instant) -> bool {
        let state = lock(&self.gate.0.state);
        self.keys.iter().any(|key| {
            let partition = state.partitions.get(key);
            partition.is_some_and(|p| p.quota.held_until(now).is_some())
        })
    }

    /// Tells all partitions what became of the request. Returns until when it would be held now.
    pub(crate) fn settle(mut self, learnt: Learnt<'_>, now: Instant) -> Option<Instant> {
        self.conclude(learnt, Some(now))
    }

    fn conclude(&mut self, learnt: Learnt<'_>, now: Option<Instant>) -> Option<Instant> {
        if std::mem::replace(&mut self.settled, true) {
            return None;
        }
        let inner = &self.gate.0;
        let random = inner.random.unit();
        let (held, woken) = {
            let mut state = lock(&inner.state);
            // A ticket that is dropped has no clock at hand; the last time known to the gate does.
            let now = now.or(state.last_time()).unwrap_or_else(|| state.some_time());
            state.clock = Some(now);
            let mut held = None;
            for (key, epoch) in self.keys.iter().zip(&self.epochs) {
                if let Some(partition) = state.partitions.get_mut(key) {
                    let until = partition.quota.learn(*epoch, learnt, &inner.pace, random, now);
                    held = held.max(until);
                }
            }
            (held, state.let_go(&self.keys, &inner.pace, now))
        };
        wake(woken);
        held
    }
}
