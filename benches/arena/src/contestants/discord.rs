//! A gate as the Discord libraries have it, from the description of its rule: one count of what remains, shared by
//! all; a request takes one, waits for the reset if there is none, and its answer sets the count to the smaller of
//! the header and the limit less what is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Response;
use tokio::sync::Notify;

use super::{ATTEMPTS, Client, Sending, Setup, number, pause};
use crate::job::Job;

struct Gate {
    setup: Setup,
    state: Mutex<State>,
    /// Something came back, or became free.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// `None` before the first response; until then no request waits.
    limit: Option<f64>,
    remaining: f64,
    in_flight: f64,
    /// By the local clock.
    reset: f64,
}

impl State {
    /// Takes one of the remaining requests. Otherwise returns the wait, in seconds.
    fn take(&mut self, wall: f64) -> Result<(), f64> {
        if let Some(limit) = self.limit {
            if wall >= self.reset {
                self.remaining = limit - self.in_flight;
            }
            if self.remaining < 1.0 {
                // Past the reset, only what is under way can free anything.
                return Err((self.reset - wall).max(0.01));
            }
            self.remaining -= 1.0;
        }
        self.in_flight += 1.0;
        Ok(())
    }

    fn on_response(&mut self, reply: &Response<()>) {
        self.in_flight -= 1.0;
        let header = |name| number(reply, name);
        if let (Some(limit), Some(remaining), Some(reset)) = (
            header("x-ratelimit-limit"),
            header("x-ratelimit-remaining"),
            header("x-ratelimit-reset"),
        ) {
            self.limit = Some(limit);
            self.remaining = remaining.min(limit - self.in_flight);
            self.reset = reset;
        }
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn acquire(&self) {
        loop {
            let changed = self.changed.notified();
            let taken = self.state().take(self.setup.wall());
            let Err(wait) = taken else { return };
            tokio::select! {
                () = changed => {}
                () = pause(wait) => {}
            }
        }
    }
}

impl Client for Gate {
    fn job<'a>(&'a self, job: &'a Job) -> Sending<'a> {
        Box::pin(async {
            for attempt in 0..ATTEMPTS {
                self.acquire().await;
                let mut under_way = InFlight(Some(self));
                let reply = self.setup.exchange(job).await;
                under_way.0 = None;
                self.state().on_response(&reply);
                self.changed.notify_waiters();
                if reply.status().is_success() {
                    return true;
                }
                let hint = number(&reply, "retry-after");
                pause(hint.unwrap_or(1.0 + 2.0 * f64::from(attempt))).await;
            }
            false
        })
    }
}

/// Gives back what a request took whose caller has left.
struct InFlight<'a>(Option<&'a Gate>);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(gate) = self.0 {
            gate.state().in_flight -= 1.0;
            gate.changed.notify_waiters();
        }
    }
}

pub fn client(setup: Setup) -> Arc<dyn Client> {
    Arc::new(Gate {
        setup,
        state: Mutex::default(),
        changed: Notify::new(),
    })
}
