//! A place in the queue.

use std::{fmt, sync::Arc, task::Context};

use tokio::time::Instant;

use super::{Gate, Ticket, state::wake};
use crate::{
    rate_limit_retry::quota::{About, Learnt},
    sync::lock,
};

/// A place in the queue; dropped, it is given up.
pub(crate) struct Place {
    gate: Gate,
    arrival: u64,
}

impl Place {
    pub(super) fn new(gate: Gate, arrival: u64) -> Self {
        Self { gate, arrival }
    }

    /// The ticket, once it is this one's turn. Otherwise when to poll again at the latest, which only the first in a
    /// queue is told.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, now: Instant) -> Turn {
        let inner = &self.gate.0;
        let mut state = lock(&inner.state);
        if state.bypassed {
            drop(state);
            self.leave();
            return Turn::Ready(Ticket::free());
        }
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
                Turn::Ready(Ticket::new(self.gate.clone(), keys, epochs, self.arrival))
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

impl Place {
    fn leave(&self) {
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
                        let quota = &mut partition.quota;
                        let about = About::This;
                        quota.learn(*epoch, Learnt::NotSent, about, &inner.pace, 0.0, None);
                    }
                }
            }
            state.first_in_line(&waiter.keys)
        };
        wake(woken);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.arrival)
    }
}
