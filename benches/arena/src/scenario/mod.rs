//! What is played: the servers, the loads, and the goals.

mod kinds;
mod server;
mod table;

use crate::{
    dialect::Dialect,
    job::{self, Mix},
    model::FixedWindow,
    options::Options,
};

/// The numbers of the servers, where a scenario has none of its own.
pub struct Numbers {
    pub limit: u64,
    /// In seconds.
    pub window: f64,
    /// How much of the first window is left at the start, `0.0..1.0`.
    pub phase: f64,
    /// The store's round trip, in seconds, and the share of its answers that are lost.
    pub store_latency: f64,
    pub store_loss: f64,
    /// Seed of the server's random choices.
    pub seed: u64,
}

impl Numbers {
    fn fixed(&self) -> FixedWindow {
        FixedWindow::new(self.limit, self.window, self.window * self.phase)
    }

    /// Creates a window with a part of the limit. `phase` of it is left at the start.
    fn part(&self, parts: u64, phase: f64) -> FixedWindow {
        let limit = (self.limit / parts).max(1);
        FixedWindow::new(limit, self.window, self.window * phase)
    }

    /// Returns the generator of the server's random choices.
    fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed * 104_729)
    }

    /// Requests a second.
    fn rate(&self) -> f64 {
        self.limit as f64 / self.window
    }
}

pub struct Scenario {
    pub name: String,
    pub model: server::Server,
    pub dialect: Dialect,
    pub processes: usize,
    pub load: Load,
    pub mix: Mix,
    pub jobs: usize,
    /// In seconds, as usual.
    pub rtt: f64,
    /// Of the logarithm of the round trips; with 0 they are within a tenth of `rtt`.
    pub spread: f64,
    /// By how much the clients' wall clocks are ahead, in seconds.
    pub skew: f64,
    /// The share of callers who leave while they wait.
    pub leaving: f64,
    pub goal: Option<Goal>,
    /// With a store that the processes share.
    pub shared_goal: Option<Goal>,
    /// Whether it is in the plot.
    pub shown: bool,
}

#[derive(Clone, Copy)]
pub enum Load {
    /// Number of workers per process; each takes the next job when it has finished one.
    Workers(usize),
    /// Jobs that come by themselves, at random times, at this share of the quota.
    Poisson(f64),
}

impl Load {
    /// When each worker begins. The jobs of `Poisson` have a worker each.
    pub fn begins(self, scenario: &Scenario, numbers: &Numbers, seed: u64) -> Vec<f64> {
        match self {
            Self::Workers(workers) => vec![0.0; scenario.processes * workers],
            Self::Poisson(share) => {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut at = 0.0;
                let mut next = || {
                    at -= (1.0 - random.f64()).ln() / (share * numbers.rate());
                    at
                };
                (0..scenario.jobs).map(|_| next()).collect()
            }
        }
    }
}

/// What the median of the seeds has to reach.
#[derive(Clone, Copy)]
pub struct Goal {
    pub ratio: f64,
    pub refused: RefusedLimit,
    pub jain: f64,
    /// The figures by which the goal is missed at most today. They must not become worse.
    pub accepted_miss: Option<AcceptedMiss>,
}

#[derive(Clone, Copy)]
pub struct AcceptedMiss {
    pub ratio: f64,
    pub refused: usize,
}

#[derive(Clone, Copy)]
pub enum RefusedLimit {
    /// Of the jobs.
    Share(f64),
    Count(usize),
}

impl RefusedLimit {
    pub fn max(self, jobs: usize) -> usize {
        match self {
            Self::Share(share) => (jobs as f64 * share).floor() as usize,
            Self::Count(count) => count,
        }
    }
}

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    let mut all = table::all();
    all.extend(kinds::all());
    all
}

fn scenario(name: impl Into<String>) -> Scenario {
    Scenario {
        name: name.into(),
        model: server::fixed,
        dialect: Dialect::Full,
        processes: 1,
        load: Load::Workers(16),
        mix: job::alike,
        jobs: 1200,
        rtt: 0.04,
        spread: 0.0,
        skew: 0.0,
        leaving: 0.0,
        goal: None,
        shared_goal: None,
        shown: false,
    }
}

impl Scenario {
    /// Other clients than those in the table. Jobs for as many windows at least, where the limit is higher.
    pub fn vary(&mut self, options: &Options) {
        self.jobs = self.jobs.max(self.jobs * options.limit as usize / 300);
        self.rtt = options.rtt.unwrap_or(self.rtt);
        if let (Some(workers), Load::Workers(_)) = (options.workers, self.load) {
            self.load = Load::Workers(workers);
        }
        if let Some(processes) = options.processes.filter(|_| self.processes > 1) {
            self.processes = processes;
        }
        if let (Some(goal), Load::Workers(workers)) = (&mut self.goal, self.load)
            && let RefusedLimit::Count(2..) = goal.refused
        {
            goal.refused = RefusedLimit::Count(self.processes * workers + 2);
        }
    }

    fn server(mut self, model: server::Server, dialect: Dialect) -> Self {
        (self.model, self.dialect) = (model, dialect);
        self
    }

    fn workers(mut self, workers: usize) -> Self {
        self.load = Load::Workers(workers);
        self
    }

    fn processes(mut self, processes: usize, workers: usize) -> Self {
        self.processes = processes;
        self.workers(workers)
    }

    fn poisson(mut self, share: f64) -> Self {
        self.load = Load::Poisson(share);
        self
    }

    fn mix(mut self, mix: Mix) -> Self {
        self.mix = mix;
        self
    }

    fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs;
        self
    }

    fn spread(mut self, spread: f64) -> Self {
        self.spread = spread;
        self
    }

    fn skew(mut self, skew: f64) -> Self {
        self.skew = skew;
        self
    }

    fn leaving(mut self, leaving: f64) -> Self {
        self.leaving = leaving;
        self
    }

    fn goal(mut self, ratio: f64, refused: RefusedLimit) -> Self {
        self.goal = Some(Goal {
            ratio,
            refused,
            jain: if self.processes > 1 { 0.95 } else { 0.0 },
            accepted_miss: None,
        });
        self
    }

    fn shared_goal(mut self, ratio: f64, refused: RefusedLimit) -> Self {
        self.shared_goal = Some(Goal {
            ratio,
            refused,
            jain: 0.95,
            accepted_miss: None,
        });
        self
    }

    /// Sets the goal for Jain's index with a store.
    fn fair_to(mut self, jain: f64) -> Self {
        self.shared_goal.as_mut().expect("a goal").jain = jain;
        self
    }

    fn accepted_miss(mut self, ratio: f64, refused: usize) -> Self {
        let goal = self.goal.as_mut().expect("only a goal can be missed");
        goal.accepted_miss = Some(AcceptedMiss { ratio, refused });
        self
    }

    fn shown(mut self) -> Self {
        self.shown = true;
        self
    }
}
