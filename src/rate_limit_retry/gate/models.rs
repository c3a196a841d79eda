//! The gate in every interleaving of a few threads.
#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary instant to count from"
)]

mod holds;
mod queue;

use std::{future::poll_fn, task::Poll, time::Duration};

use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use super::*;
use crate::{
    backoff::Backoff,
    rate_limit_retry::{
        headers::Signals,
        quota::{Learnt, Release},
    },
    sync::explore,
};

const SECOND: Duration = Duration::from_secs(1);
/// Timers that end sooner than this go off; the others never do, so that nothing but a wake-up helps.
const SOON: Duration = Duration::from_secs(100);
const HOUR: Duration = Duration::from_secs(3600);

/// A gate that lets `burst` requests go at first.
#[derive(Clone)]
struct World {
    gate: Gate,
    now: Instant,
}

impl World {
    fn new(burst: u32) -> Self {
        let pace = Pace {
            cold_burst: burst,
            cold_hold: HOUR,
            max_hold: HOUR,
            release: Release::Burst,
            backoff: Backoff::new(SECOND, SECOND),
            shared: false,
        };
        Self {
            gate: Gate::new(
                pace,
                LocalLimits::default(),
                usize::MAX,
                Random::new(Some(7)),
            ),
            now: Instant::now(),
        }
    }

    fn admit(&self, keys: &Keys) -> Admission {
        let wish = Wish {
            keys,
            origin: None,
            arrival: None,
            latest: None,
            passes: false,
        };
        self.gate.admit(&wish, self.now)
    }

    fn go(&self, keys: &Keys) -> Ticket {
        match self.admit(keys) {
            Admission::Go(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn queue(&self, keys: &Keys) -> Place {
        match self.admit(keys) {
            Admission::Wait(place) => place,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the ticket, as the layer does.
    fn turn(&self, mut place: Place) -> Ticket {
        let mut now = self.now;
        block_on(poll_fn(|cx| {
            loop {
                match place.poll(cx, now) {
                    Turn::Ready(ticket) => return Poll::Ready(ticket),
                    Turn::Pending(Some(at)) if at <= self.now + SOON => now = at,
                    Turn::Pending(_) => return Poll::Pending,
                    Turn::TooLate(_) => panic!("any wait is acceptable"),
                }
            }
        }))
    }

    /// Polls a place once, and leaves; with the ticket, if it was there.
    fn look_in(&self, mut place: Place) {
        block_on(poll_fn(|cx| {
            drop(place.poll(cx, self.now));
            Poll::Ready(())
        }));
    }

    fn accept(&self, ticket: Ticket) {
        let info = Signals::default();
        let learnt = Learnt::Answer {
            throttled: false,
            info: &info,
        };
        ticket.settle(learnt, self.now);
    }

    fn refuse(&self, ticket: Ticket, hint: Duration) {
        let mut info = Signals::default();
        info.retry_after = Some(hint);
        let learnt = Learnt::Answer {
            throttled: true,
            info: &info,
        };
        ticket.settle(learnt, self.now);
    }

    /// Nobody is in flight, and nobody waits.
    fn assert_at_rest(&self) {
        let left = self
            .gate
            .inspect(|_, quota, waiting| (quota.in_flight(), waiting));
        assert!(left.iter().all(|left| *left == (0, 0)), "{left:?}");
        assert!(lock(&self.gate.0.state).waiters.is_empty());
    }
}

fn keys<const N: usize>(names: [&'static str; N]) -> Keys {
    names.map(PartitionKey::new).into()
}

fn in_thread<T: 'static>(
    world: &World,
    work: impl FnOnce(&World) -> T + 'static,
) -> thread::JoinHandle<T> {
    let world = world.clone();
    thread::spawn(move || work(&world))
}
