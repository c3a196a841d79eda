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
pub use neighbour::{Neighbour, Schedule};
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
    /// 0 if the server does not count the request.
    pub limit: u64,
    pub window: f64,
    pub remaining: u64,
    /// The announced reset: when more of the quota is available, or when it is full again.
    pub reset: f64,
    /// Whether `reset` is the time at which the quota is full again. Such a reset does not request a wait.
    pub full_again: bool,
    /// When a rejected request would be accepted: the value of `Retry-After`.
    pub retry: f64,
    /// Which requests a rejection requests to wait.
    pub rejection_scope: RejectionScope,
    /// The name of the quota.
    pub resource: Option<&'static str>,
    /// A second quota, of tokens.
    pub tokens: Option<Quota>,
    /// Time from the arrival of the request to the head of the response, in seconds.
    pub service: f64,
}

impl Verdict {
    /// Creates the verdict by one quota, whose reset is the end of the wait.
    fn new(accepted: bool, limit: u64, window: f64, remaining: u64, reset: f64) -> Self {
        Self {
            status: if accepted { 200 } else { 429 },
            limit,
            window,
            remaining,
            reset,
            full_again: false,
            retry: reset,
            rejection_scope: RejectionScope::Client,
            resource: None,
            tokens: None,
            service: 0.0,
        }
    }

    /// Creates the verdict on a request that is not counted.
    fn uncounted(status: u16, retry: f64) -> Self {
        Self {
            status,
            ..Self::new(true, 0, 0.0, 0, retry)
        }
    }
}

/// The requests that a rejection requests to wait.
#[derive(Clone, Copy, Debug)]
pub enum RejectionScope {
    /// All requests of the client, or those to the same resource if it has a name.
    Client,
    /// Only the rejected one: others may be accepted meanwhile.
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

    /// Takes a request with the best outcome of all random choices: the best replica, and no shedding.
    fn take_best_case(&mut self, at: f64, job: &Job) -> Verdict {
        self.take(at, job)
    }

    /// Returns the earliest time, `at` or later, at which a request could be accepted if no other arrived before.
    fn earliest(&self, at: f64, job: &Job) -> f64;
}
