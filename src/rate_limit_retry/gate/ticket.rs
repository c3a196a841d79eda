//! A request that may go, and what it owes: to tell what became of it.

use std::fmt;

use tokio::time::Instant;

use super::{Gate, Keys, state::wake};
use crate::{rate_limit_retry::quota::Learnt, sync::lock};

/// A request that is in flight. Settles itself as "unknown" when dropped.
pub(crate) struct Ticket(Option<Counted>);

/// A request that its partitions count.
struct Counted {
    gate: Gate,
    keys: Keys,
    epochs: Vec<u64>,
    arrival: u64,
}

impl Ticket {
    pub(super) fn new(gate: Gate, keys: Keys, epochs: Vec<u64>, arrival: u64) -> Self {
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
