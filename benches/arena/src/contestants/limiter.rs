//! A concurrency limit, for contestants that learn one. A request has a permit during each attempt, and not while it
//! waits for the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Response;
use tokio::{sync::Notify, time::Instant};

use super::{ATTEMPTS, Client, Sending, Setup, pause};
use crate::job::Job;

/// A rule that learns a concurrency limit.
pub trait Limit: Send {
    fn limit(&self) -> f64;

    /// Records that a request begins, with `in_flight` requests in flight including it.
    fn on_start(&mut self, _in_flight: usize) {}

    fn on_sample(&mut self, sample: &Sample);
}

/// A completed attempt.
pub struct Sample {
    /// Time of its end, in seconds since the client began.
    pub now: f64,
    pub round_trip: f64,
    /// Number of requests in flight when the attempt began, including it.
    pub in_flight: usize,
    pub status: u16,
}

/// Returns the wait after a rejected attempt, in seconds. Attempts are numbered from 0.
pub type Wait = Box<dyn Fn(&Response<()>, u32) -> f64 + Send + Sync>;

struct Limited<L> {
    setup: Setup,
    began: Instant,
    wait: Wait,
    state: Mutex<State<L>>,
    /// Notified when a permit becomes available.
    freed: Notify,
}

struct State<L> {
    limit: L,
    in_flight: usize,
}

impl<L: Limit> State<L> {
    fn has_room(&self) -> bool {
        self.in_flight == 0 || ((self.in_flight + 1) as f64) <= self.limit.limit()
    }
}

/// A permit for one attempt. A drop releases it.
struct Permit<'a, L: Limit> {
    of: &'a Limited<L>,
    since: Instant,
    in_flight: usize,
}

impl<L: Limit> Limited<L> {
    fn state(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Permit<'_, L>> {
        let mut state = self.state();
        if !state.has_room() {
            return None;
        }
        state.in_flight += 1;
        let in_flight = state.in_flight;
        state.limit.on_start(in_flight);
        if state.has_room() {
            // If the limit has grown, more than one request may start.
            self.freed.notify_one();
        }
        Some(Permit {
            of: self,
            since: Instant::now(),
            in_flight,
        })
    }

    async fn acquire(&self) -> Permit<'_, L> {
        loop {
            let freed = self.freed.notified();
            if let Some(permit) = self.take() {
                return permit;
            }
            freed.await;
        }
    }

    async fn attempt(&self, job: &Job) -> Response<()> {
        let permit = self.acquire().await;
        let reply = self.setup.exchange(job).await;
        let sample = Sample {
            now: self.began.elapsed().as_secs_f64(),
            round_trip: permit.since.elapsed().as_secs_f64(),
            in_flight: permit.in_flight,
            status: reply.status().as_u16(),
        };
        self.state().limit.on_sample(&sample);
        reply
    }
}

impl<L: Limit> Drop for Permit<'_, L> {
    fn drop(&mut self) {
        self.of.state().in_flight -= 1;
        self.of.freed.notify_one();
    }
}

impl<L: Limit> Client for Limited<L> {
    fn job<'a>(&'a self, job: &'a Job) -> Sending<'a> {
        Box::pin(async {
            for attempt in 0..ATTEMPTS {
                let reply = self.attempt(job).await;
                if reply.status().is_success() {
                    return true;
                }
                pause((self.wait)(&reply, attempt)).await;
            }
            false
        })
    }
}

pub fn client(setup: Setup, limit: impl Limit + 'static, wait: Wait) -> Arc<dyn Client> {
    Arc::new(Limited {
        setup,
        began: Instant::now(),
        wait,
        state: Mutex::new(State {
            limit,
            in_flight: 0,
        }),
        freed: Notify::new(),
    })
}
