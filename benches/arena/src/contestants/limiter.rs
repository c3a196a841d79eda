//! A limit on what is under way, for the rules that learn one. A request holds its place for each attempt, and not
//! while it waits for the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Response;
use tokio::{sync::Notify, time::Instant};

use super::{ATTEMPTS, Client, Sending, Setup, pause};
use crate::job::Job;

/// How a limit is learned.
pub trait Limit: Send {
    fn limit(&self) -> f64;

    /// A request begins, the `in_flight`th that is under way.
    fn on_start(&mut self, _in_flight: usize) {}

    fn on_sample(&mut self, sample: &Sample);
}

/// What is known of an attempt at its end.
pub struct Sample {
    /// In seconds since the client began.
    pub now: f64,
    pub round_trip: f64,
    /// What was under way when the attempt began, itself among it.
    pub in_flight: usize,
    pub status: u16,
}

/// How long to wait after a rejected attempt (from 0).
pub type Wait = Box<dyn Fn(&Response<()>, u32) -> f64 + Send + Sync>;

struct Limited<L> {
    setup: Setup,
    began: Instant,
    wait: Wait,
    state: Mutex<State<L>>,
    /// A place is free.
    freed: Notify,
}

struct State<L> {
    limit: L,
    in_flight: usize,
}

impl<L: Limit> State<L> {
    fn has_place(&self) -> bool {
        self.in_flight == 0 || ((self.in_flight + 1) as f64) <= self.limit.limit()
    }
}

/// A place, which is free again when it is dropped.
struct Place<'a, L: Limit> {
    of: &'a Limited<L>,
    since: Instant,
    in_flight: usize,
}

impl<L: Limit> Limited<L> {
    fn state(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Place<'_, L>> {
        let mut state = self.state();
        if !state.has_place() {
            return None;
        }
        state.in_flight += 1;
        let in_flight = state.in_flight;
        state.limit.on_start(in_flight);
        if state.has_place() {
            // A limit that has risen has places for more than one.
            self.freed.notify_one();
        }
        Some(Place {
            of: self,
            since: Instant::now(),
            in_flight,
        })
    }

    async fn acquire(&self) -> Place<'_, L> {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.take() {
                return place;
            }
            freed.await;
        }
    }

    async fn attempt(&self, job: &Job) -> Response<()> {
        let place = self.acquire().await;
        let reply = self.setup.exchange(job).await;
        let sample = Sample {
            now: self.began.elapsed().as_secs_f64(),
            round_trip: place.since.elapsed().as_secs_f64(),
            in_flight: place.in_flight,
            status: reply.status().as_u16(),
        };
        self.state().limit.on_sample(&sample);
        reply
    }
}

impl<L: Limit> Drop for Place<'_, L> {
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
