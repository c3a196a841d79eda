//! Counters of their own behind a load balancer.

use super::{Binds, FixedWindow, Model, Verdict};
use crate::job::Job;

/// Which replica a request goes to.
pub enum Balancer {
    /// One after the other.
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

/// Replicas that each count what they get. An answer says what is true of one replica, and a refusal asks only the
/// refused request to wait, as the others still take some.
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
            binds: Binds::Request,
            ..self.replicas[picked].take(at, job)
        }
    }

    /// To the replica whose window ends first, among those that have room: what it does not use is lost soonest.
    fn take_with_luck(&mut self, at: f64, job: &Job) -> Verdict {
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
