//! Jobs, and the mixes of jobs in a load.

use std::collections::VecDeque;

/// A job, and the request that it needs.
#[derive(Clone, Debug)]
pub struct Job {
    /// Number of the job, from 0, in the order in which workers take them.
    pub number: usize,
    pub path: &'static str,
    /// What it finally costs of the quota.
    pub cost: u64,
    /// What a server that learns the cost later reserves on arrival. Also the estimate of clients that have one.
    pub estimate: u64,
    /// Time from the head of the response to the end of its body, in seconds.
    pub stream: f64,
}

impl Job {
    fn new(number: usize) -> Self {
        Self {
            number,
            path: "/",
            cost: 1,
            estimate: 1,
            stream: 0.0,
        }
    }

    fn costing(mut self, cost: u64) -> Self {
        (self.cost, self.estimate) = (cost, cost);
        self
    }
}

/// Creates the job with a number.
pub type Mix = fn(usize, &mut fastrand::Rng) -> Job;

/// Returns the first `jobs` of a mix. The same seed gives the same jobs.
pub fn list(mix: Mix, jobs: usize, seed: u64) -> VecDeque<Job> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..jobs).map(|number| mix(number, &mut random)).collect()
}

/// Equal jobs on one route.
pub fn alike(number: usize, _: &mut fastrand::Rng) -> Job {
    Job::new(number)
}

/// Costs of 1 to 5 in turn.
pub fn costs_by_turns(number: usize, _: &mut fastrand::Rng) -> Job {
    Job::new(number).costing(1 + number as u64 % 5)
}

/// Costs of 1 to 5, at random.
pub fn costs_at_random(number: usize, random: &mut fastrand::Rng) -> Job {
    Job::new(number).costing(random.u64(1..=5))
}

/// One in ten jobs uses a route that costs 20; the others use one that costs 1.
pub fn costs_by_route(number: usize, random: &mut fastrand::Rng) -> Job {
    let (path, cost) = match random.u32(0..10) {
        0 => ("/reports", 20),
        _ => ("/items", 1),
    };
    Job {
        path,
        ..Job::new(number).costing(cost)
    }
}

/// Completions of 200 to 4,000 tokens: a quarter is the prompt, and the server reserves 3,000 for the completion.
pub fn completions(number: usize, random: &mut fastrand::Rng) -> Job {
    let cost = random.u64(200..=4000);
    let prompt = cost / 4;
    Job {
        path: "/v1/chat/completions",
        cost,
        estimate: prompt + 3000,
        // 500 tokens a second.
        stream: (cost - prompt) as f64 / 500.0,
        ..Job::new(number)
    }
}

/// Requests for three resources. The small quotas get a little less than their share of the limits.
pub fn resources(number: usize, random: &mut fastrand::Rng) -> Job {
    let path = match random.u32(0..1000) {
        0..60 => "/search/code",
        60..280 => "/graphql",
        280..640 => "/repos/tower-rs/tower",
        _ => "/users/tower-rs",
    };
    Job {
        path,
        ..Job::new(number)
    }
}

/// Half of the requests go to a route without a limit.
pub fn half_unlimited(number: usize, random: &mut fastrand::Rng) -> Job {
    let path = if random.bool() { "/status" } else { "/data" };
    Job {
        path,
        ..Job::new(number)
    }
}
