//! Replicas behind a load balancer, each with a counter of its own.

use super::{FixedWindow, Model, RejectionScope, Verdict};
use crate::job::Job;

/// How the replica of a request is chosen.
pub enum Balancer {
    /// In turn.
    RoundRobin(usize),
    Random(fastrand::Rng),
}

impl Balancer {
    fn pick(&mut self, replicas: usize) -> usize {
        match self {
            Self::RoundRobin(next) => {
                *next += 1;
                *next % replicas
            }
            Self::Random(random) => random.usize(0..replicas),
        }
    }
}

/// Replicas that each count the requests that they receive. A response announces the state of one replica, and a
/// rejection requests only the rejected request to wait, because other replicas may still accept some.
pub struct Replicas {
    replicas: Vec<FixedWindow>,
    balancer: Balancer,
}

impl Replicas {
    pub fn new(replicas: Vec<FixedWindow>, balancer: Balancer) -> Self {
        Self { replicas, balancer }
    }
}

impl Model for Replicas {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        let picked = self.balancer.pick(self.replicas.len());
        Verdict {
            rejection_scope: RejectionScope::Request,
            ..self.replicas[picked].take(at, job)
        }
    }

    /// Chooses the replica whose window ends first, of those that accept the request: its unused rest is lost first.
    fn take_best_case(&mut self, at: f64, job: &Job) -> Verdict {
        let free = |replica: &&mut FixedWindow| replica.earliest(at, job) <= at;
        let soonest = self
            .replicas
            .iter_mut()
            .filter(free)
            .min_by(|a, b| a.ends(at).total_cmp(&b.ends(at)));
        match soonest {
            Some(replica) => replica.take(at, job),
            None => self.take(at, job),
        }
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let earliest = self.replicas.iter().map(|r| r.earliest(at, job));
        earliest.fold(f64::INFINITY, f64::min)
    }
}
