//! The gate in every interleaving of a few threads.
#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary instant to count from"
)]

mod credits;
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
        headers::RateLimitInfo,
        quota::{Load, Outcome, Pacing},
    },
    sync::explore,
};

const SECOND: Duration = Duration::from_secs(1);
/// Timers that end sooner than this fire; the others never do, so that only a wake-up makes progress.
const MAX_TIMER: Duration = Duration::from_secs(100);
const HOUR: Duration = Duration::from_secs(3600);

/// A gate that admits `burst` requests before the first response.
#[derive(Clone)]
struct TestGate {
    gate: Gate,
    now: Instant,
}

impl TestGate {
    fn new(burst: u32) -> Self {
        let config = QuotaConfig {
            initial_window: burst,
            initial_window_timeout: HOUR,
            max_hold: HOUR,
            pacing: Pacing::Burst,
            backoff: Backoff::new(SECOND, SECOND),
            shared: false,
        };
        Self {
            gate: Gate::new(
                config,
                LocalLimits::default(),
                usize::MAX,
                Random::new(Some(7)),
            ),
            now: Instant::now(),
        }
    }

    fn admit(&self, keys: &Keys) -> Admission {
        let request = AdmitRequest {
            keys,
            origin: None,
            sequence: None,
            deadline: None,
            load: &Load::ONE,
            tracks_cost: false,
            allow_fast_path: false,
        };
        self.gate.admit(&request, self.now)
    }

    fn admit_now(&self, keys: &Keys) -> Permit {
        match self.admit(keys) {
            Admission::Admitted(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    fn queue(&self, keys: &Keys) -> Waiter {
        match self.admit(keys) {
            Admission::Queued(waiter) => waiter,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the permit, as the layer does.
    fn wait_for_permit(&self, mut waiter: Waiter) -> Permit {
        let mut now = self.now;
        block_on(poll_fn(|cx| {
            loop {
                match waiter.poll(cx, now) {
                    WaiterPoll::Ready(permit) => return Poll::Ready(permit),
                    WaiterPoll::Pending(Some(at)) if at <= self.now + MAX_TIMER => now = at,
                    WaiterPoll::Pending(_) => return Poll::Pending,
                    WaiterPoll::TooLate(_) | WaiterPoll::CostTooHigh(..) => {
                        panic!("any wait is acceptable")
                    }
                }
            }
        }))
    }

    /// Polls a waiter once and drops it, with the permit if it was granted.
    fn poll_once(&self, mut waiter: Waiter) {
        block_on(poll_fn(|cx| {
            drop(waiter.poll(cx, self.now));
            Poll::Ready(())
        }));
    }

    fn succeed(&self, permit: Permit) {
        let info = RateLimitInfo::default();
        let outcome = Outcome::Response {
            throttled: false,
            info: &info,
        };
        permit.settle(outcome, self.now);
    }

    fn throttle(&self, permit: Permit, hint: Duration) {
        let mut info = RateLimitInfo::default();
        info.retry_after = Some(hint);
        let outcome = Outcome::Response {
            throttled: true,
            info: &info,
        };
        permit.settle(outcome, self.now);
    }

    /// Asserts that no request is in flight and none waits.
    fn assert_idle(&self) {
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
    world: &TestGate,
    work: impl FnOnce(&TestGate) -> T + 'static,
) -> thread::JoinHandle<T> {
    let world = world.clone();
    thread::spawn(move || work(&world))
}
