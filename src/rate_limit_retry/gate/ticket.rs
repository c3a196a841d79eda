//! A request that may go, and what it owes: to tell what became of it.

use std::fmt;

use tokio::time::Instant;

use super::{Gate, keys::Keys, state::wake};
use crate::{
    rate_limit_retry::{
        PartitionKey,
        quota::{About, Learnt, Lesson},
    },
    sync::lock,
};

/// A request that is in flight. Settles itself as "unknown" when dropped.
pub(crate) struct Ticket(Option<Counted>);

/// A request that its partitions count.
struct Counted {
    gate: Gate,
    keys: Keys,
    epochs: Box<[u64]>,
    arrival: u64,
}

/// What follows from what became of a request.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Until when it would be held now.
    pub(crate) held_until: Option<Instant>,
    /// What has been learnt from it.
    pub(crate) lessons: Vec<(PartitionKey, Lesson)>,
    /// Nobody is held, and nobody is to be sent again because of what has been learnt.
    pub(crate) bypassed: bool,
}

impl Ticket {
    pub(super) fn new(gate: Gate, keys: Keys, epochs: Box<[u64]>, arrival: u64) -> Self {
        Self(Some(Counted {
            gate,
            keys,
            epochs,
            arrival,
        }))
    }

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
        let mut state = lock(&counted.gate.0.state);
        counted.keys.iter().any(|key| {
            state.apply_bans(key, now);
            let partition = state.partitions.get(key);
            partition.is_some_and(|p| p.quota.held_until(now).is_some())
        })
    }

    /// Tells all partitions what became of the request.
    pub(crate) fn settle(mut self, learnt: Learnt<'_>, now: Instant) -> Settled {
        let counted = self.0.take();
        counted.map_or_else(Settled::default, |counted| {
            counted.conclude(learnt, Some(now))
        })
    }
}

impl Counted {
    fn conclude(&self, learnt: Learnt<'_>, now: Option<Instant>) -> Settled {
        let inner = &self.gate.0;
        let random = inner.random.unit();
        let mut settled = Settled::default();
        let mut banned = None;
        let woken = {
            let mut state = lock(&inner.state);
            let about = state.about(&self.keys, learnt);
            settled.bypassed = state.bypassed;
            for (key, epoch) in self.keys.iter().zip(&self.epochs) {
                if let Some(partition) = state.partitions.get_mut(key) {
                    let quota = &mut partition.quota;
                    let before = quota.lesson();
                    let until = quota.learn(*epoch, learnt, about, &inner.pace, random, now);
                    settled.held_until = settled.held_until.max(until);
                    banned = banned.max(quota.refused_until());
                    let lesson = quota.lesson();
                    if lesson.is_news(&before) {
                        settled.lessons.push((key.clone(), lesson));
                    }
                    partition.update_openness();
                }
            }
            let mut woken = match banned.filter(|_| about == About::All) {
                Some(until) => state.ban(&self.keys, until),
                None => Vec::new(),
            };
            woken.extend(match now {
                Some(now) => state.let_go(&self.keys, &inner.pace, now),
                // Without a clock at hand: the first in each queue looks again.
                None => state.first_in_line(&self.keys),
            });
            woken
        };
        wake(woken);
        settled
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
