//! How servers count: each model takes requests at the times of their arrival, in seconds since the start.

mod concurrency;
mod neighbour;
mod optimum;
mod replicas;
mod routes;
mod special;
mod tokens;
mod window;

pub use concurrency::Concurrency;
pub use neighbour::{Neighbour, Takes};
pub use optimum::optimum;
pub use replicas::{Balancer, Replicas};
pub use routes::Routes;
pub use special::{BrownOut, Lowered, PenaltyBox, Shed, Stacked};
pub use tokens::{Refill, Tokens};
pub use window::{Bucket, FixedWindow, SlidingCounter, SlidingLog};

use crate::job::Job;

/// The server's decision on one request, and what it can announce about it.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    pub status: u16,
    /// 0 where nothing is counted.
    pub limit: u64,
    pub window: f64,
    pub remaining: u64,
    /// The reset that is announced: when the quota is next (more) available, or full again.
    pub reset: f64,
    /// Whether `reset` is the time at which the quota is full again. It asks nobody to wait.
    pub full_again: bool,
    /// When a refused request would be accepted: what `Retry-After` says.
    pub retry: f64,
    /// Which requests a refusal asks to wait.
    pub binds: Binds,
    /// The name of the quota.
    pub resource: Option<&'static str>,
    /// A second quota, of tokens.
    pub tokens: Option<Quota>,
    /// From the arrival to the head of the response, in seconds.
    pub service: f64,
}

impl Verdict {
    /// Of one quota whose reset is the time for which to wait.
    fn new(accepted: bool, limit: u64, window: f64, remaining: u64, reset: f64) -> Self {
        Self {
            status: if accepted { 200 } else { 429 },
            limit,
            window,
            remaining,
            reset,
            full_again: false,
            retry: reset,
            binds: Binds::Client,
            resource: None,
            tokens: None,
            service: 0.0,
        }
    }

    /// Of a server that counts nothing.
    fn uncounted(status: u16, retry: f64) -> Self {
        Self {
            status,
            ..Self::new(true, 0, 0.0, 0, retry)
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Binds {
    /// All requests of the client, or those to the same resource, where it has a name.
    Client,
    /// Only the refused one: others may be accepted meanwhile.
    Request,
}

#[derive(Clone, Copy, Debug)]
pub struct Quota {
    pub limit: u64,
    pub remaining: u64,
    pub reset: f64,
}

pub trait Model: Send {
    fn take(&mut self, at: f64, job: &Job) -> Verdict;

    /// What becomes of a request if chance is on its side: no balancer picks another replica, nothing is shed.
    fn take_with_luck(&mut self, at: f64, job: &Job) -> Verdict {
        self.take(at, job)
    }

    /// The earliest time, `at` or later, at which a request could be accepted if no other arrived before.
    fn earliest(&self, at: f64, job: &Job) -> f64;
}
