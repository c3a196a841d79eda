//! The gate: lets requests go as their partitions' quotas allow, in order of arrival.
//!
//! A state machine without a runtime or a clock: `admit` answers with a [`Ticket`] or a [`Place`] in the queue; whoever
//! holds a place polls it, and sleeps until the time that the poll names. The first in a queue checks when it may go; the
//! others check later, which matters only if those before them are not polled.
//!
//! One lock, taken for assignments only; wakers are called after it is released. A request may have several keys: it
//! goes when all their quotas allow, and is counted by all of them or by none.

#[cfg(all(test, tower_m2m_loom))]
mod models;

mod agent;
mod dispatch;
mod keys;
mod openness;
mod partitions;
mod place;
mod queue;
mod state;
#[cfg(all(test, not(tower_m2m_loom)))]
mod tests;
mod ticket;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use self::state::{State, wake};
pub(crate) use self::{
    agent::Duty,
    keys::Keys,
    openness::Openness,
    place::{Place, Turn},
    ticket::Ticket,
};
use super::{
    PartitionKey,
    limits::OwnLimits,
    quota::{Admit, Pace, Quota},
};
use crate::{
    Origin,
    random::Random,
    sync::{Mutex, lock},
};

/// A cheap handle to the one gate of a layer.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    pace: Pace,
    limits: OwnLimits,
    /// So many may wait for one partition.
    max_waiting: usize,
    random: Random,
    state: Mutex<State>,
}

/// A request that wants to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) keys: &'a Keys,
    /// Where it goes, if more partitions than one are there.
    pub(crate) origin: Option<&'a Origin>,
    /// A retry keeps its place before those who came later.
    pub(crate) arrival: Option<u64>,
    /// It cannot wait for longer.
    pub(crate) latest: Option<Instant>,
    /// Whether it may go uncounted.
    pub(crate) passes: bool,
}

/// The answer to a request that wants to go.
#[derive(Debug)]
pub(crate) enum Admission {
    Go(Ticket),
    /// Its partition is held until then, which is later than it can wait.
    TooLate(Instant),
    /// So many wait for this partition already that there is no place in its queue.
    TooMany(PartitionKey),
    Wait(Place),
}

impl Gate {
    pub(crate) fn new(pace: Pace, limits: OwnLimits, max_waiting: usize, random: Random) -> Self {
        Self(Arc::new(Inner {
            pace,
            limits,
            max_waiting,
            random,
            state: Mutex::default(),
        }))
    }

    pub(crate) fn max_hold(&self) -> Duration {
        self.0.pace.max_hold
    }

    pub(crate) fn max_waiting(&self) -> usize {
        self.0.max_waiting
    }

    /// Lets a request go, queues it, or says that it cannot go in time or that too many wait.
    pub(crate) fn admit(&self, wish: &Wish<'_>, now: Instant) -> Admission {
        let keys = wish.keys;
        // Dropped after the lock is released.
        let mut removed = Vec::new();
        let mut state = lock(&self.0.state);
        if state.bypassed || (wish.passes && state.are_open(keys)) {
            return Admission::Go(Ticket::free());
        }
        let arrival = wish.arrival.unwrap_or_else(|| {
            state.arrivals += 1;
            state.arrivals
        });
        state.make_room(
            keys,
            wish.origin,
            &self.0.limits,
            &self.0.pace,
            now,
            &mut removed,
        );
        match state.try_enter(keys, arrival, &self.0.pace, now) {
            Ok(epochs) => {
                let agents = state.called_agents(keys, &self.0.pace, now);
                drop(state);
                wake(agents);
                let ticket = Ticket::new(self.clone(), Arc::clone(keys), epochs, arrival);
                return Admission::Go(ticket);
            }
            Err(Some(until)) if wish.latest.is_some_and(|latest| until > latest) => {
                return Admission::TooLate(until);
            }
            Err(_) => {}
        }
        // Whoever is sent again has been let in before.
        if wish.arrival.is_none()
            && let Some(full) = state.full(keys, self.0.max_waiting)
        {
            return Admission::TooMany(full.clone());
        }
        state.queue(keys, arrival, wish.latest, &self.0.pace, now);
        let agents = state.called_agents(keys, &self.0.pace, now);
        drop(state);
        wake(agents);
        Admission::Wait(Place::new(self.clone(), arrival))
    }

    /// The word that says whether the partition is open, if it is.
    pub(crate) fn openness(&self, keys: &Keys) -> Option<Arc<Openness>> {
        let [key] = &**keys else {
            return None;
        };
        let state = lock(&self.0.state);
        state.partitions.get(key)?.openness().cloned()
    }

    /// Counts a request that went past the gate, because its answer says something that the gate should know.
    pub(crate) fn adopt(&self, keys: &Keys, now: Instant) -> Ticket {
        // Dropped after the lock is released.
        let mut removed = Vec::new();
        let mut state = lock(&self.0.state);
        state.arrivals += 1;
        let arrival = state.arrivals;
        state.make_room(keys, None, &self.0.limits, &self.0.pace, now, &mut removed);
        let adopt = |key| {
            let partition = state.partitions.get_mut(key);
            partition.map_or(0, |partition| partition.quota.adopt())
        };
        let epochs = keys.iter().map(adopt).collect();
        drop(state);
        Ticket::new(self.clone(), Arc::clone(keys), epochs, arrival)
    }

    /// When a request could go, as far as is known, if it cannot go now.
    pub(crate) fn next_chance(&self, keys: &Keys, now: Instant) -> Option<Instant> {
        let mut state = lock(&self.0.state);
        let chance = |key| match state
            .partitions
            .get_mut(key)?
            .quota
            .admit(&self.0.pace, now)
        {
            Admit::Now => None,
            Admit::AfterAnswer(at) => at,
            Admit::NotBefore(at) => Some(at),
        };
        keys.iter().filter_map(chance).max()
    }

    /// Holds all partitions whose origins have refused everything, also those to which no request has come since.
    pub(crate) fn apply_bans(&self, now: Instant) {
        lock(&self.0.state).apply_all_bans(now);
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
                partition.close();
            }
            state.let_go(std::slice::from_ref(key), &self.0.pace, now)
        };
        wake(woken);
    }

    /// Keeps everybody of a partition until then.
    pub(crate) fn pause(&self, key: &PartitionKey, until: Instant, now: Instant) {
        // Dropped after the lock is released.
        let mut removed = Vec::new();
        let woken = {
            let mut state = lock(&self.0.state);
            let keys = std::slice::from_ref(key);
            state.make_room(keys, None, &self.0.limits, &self.0.pace, now, &mut removed);
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.quota.pause(until);
                partition.close();
            }
            // An earlier pause may have been longer.
            state.let_go(keys, &self.0.pace, now)
        };
        wake(woken);
    }

    /// Holds all requests of a partition until then, as a refusal would.
    pub(crate) fn hold(&self, key: &PartitionKey, until: Instant, now: Instant) {
        let mut removed = Vec::new();
        let woken = {
            let mut state = lock(&self.0.state);
            let keys = std::slice::from_ref(key);
            state.make_room(keys, None, &self.0.limits, &self.0.pace, now, &mut removed);
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.quota.hold(until);
                partition.close();
            }
            state.let_go(keys, &self.0.pace, now)
        };
        wake(woken);
    }

    /// Lets everybody go at once, those who wait as well; or no longer.
    pub(crate) fn bypass(&self, bypassed: bool) {
        let woken = {
            let mut state = lock(&self.0.state);
            state.bypassed = bypassed;
            let waiters = state.waiters.values_mut().filter(|_| bypassed);
            waiters.filter_map(|waiter| waiter.waker.take()).collect()
        };
        wake(woken);
    }

    pub(crate) fn is_bypassed(&self) -> bool {
        lock(&self.0.state).bypassed
    }

    /// Ends a pause.
    pub(crate) fn resume(&self, key: &PartitionKey, now: Instant) {
        let woken = {
            let mut state = lock(&self.0.state);
            if let Some(partition) = state.partitions.get_mut(key) {
                partition.quota.resume();
            }
            state.let_go(std::slice::from_ref(key), &self.0.pace, now)
        };
        wake(woken);
    }
}
