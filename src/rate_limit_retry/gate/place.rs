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

    /// The ticket, once it is this one's turn, or until when it would have to wait where it cannot wait so long.
    /// Otherwise when to poll again at the latest.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, now: Instant) -> Turn {
        let inner = &self.gate.0;
        // The task's code runs outside the lock: it clones and drops wakers.
        let mut waker = Some(cx.waker().clone());
        let (former, woken, answer);
        {
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
            former = waiter.waker.take();
            waiter.armed = now;
            let (keys, latest) = (Arc::clone(&waiter.keys), waiter.latest);
            state.come_back(self.arrival, &inner.pace, now);
            state.set_aside(&keys, self.arrival, &inner.pace, now);
            woken = state.let_go(&keys, &inner.pace, now);
            let waiter = state.waiters.get_mut(&self.arrival);
            let granted = waiter.and_then(|waiter| waiter.granted.take());
            answer = if let Some(epochs) = granted {
                state.remove_waiter(self.arrival);
                Turn::Ready(Ticket::new(self.gate.clone(), keys, epochs, self.arrival))
            } else {
                let until = state.kept_back(&keys, self.arrival, &inner.pace, now);
                let until = until.flatten().zip(latest);
                if let Some((until, _)) = until.filter(|(until, latest)| until > latest) {
                    Turn::TooLate(until)
                } else {
                    let at = state.come_back_at(&keys, self.arrival, &inner.pace, now);
                    state.wait_again(&keys, self.arrival);
                    if let Some(waiter) = state.waiters.get_mut(&self.arrival) {
                        waiter.armed = at;
                        waiter.waker = waker.take();
                    }
                    Turn::Pending(Some(at))
                }
            };
        }
        drop((former, waker));
        wake(woken);
        answer
    }
}

/// What a [`Place`] answers.
#[derive(Debug)]
pub(crate) enum Turn {
    Pending(Option<Instant>),
    /// A partition is held until then, which is later than the request can wait.
    TooLate(Instant),
    Ready(Ticket),
}

impl Place {
    fn leave(&self) {
        let inner = &self.gate.0;
        let (waiter, woken);
        {
            let mut state = lock(&inner.state);
            waiter = state.remove_waiter(self.arrival);
            let Some(waiter) = &waiter else {
                return;
            };
            let epochs = waiter.granted.iter().flatten();
            for (key, epoch) in waiter.keys.iter().zip(epochs) {
                if let Some(partition) = state.partitions.get_mut(key) {
                    // Granted, but gone before it was sent.
                    let (unsent, about) = (Learnt::NotSent, About::This);
                    partition
                        .quota
                        .learn(*epoch, unsent, about, &inner.pace, 0.0, None);
                }
            }
            woken = state.first_in_line(&waiter.keys);
        }
        drop(waiter);
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
