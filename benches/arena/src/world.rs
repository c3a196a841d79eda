//! One run's server: virtual time, round trips, and a record of everything that arrives.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::Response;
use tokio::time::{Instant, sleep};
use tower_m2m::{Clock, test_util::MemoryQuotaStore};

use crate::{
    body::ResponseBody,
    dialect::{Dialect, EPOCH},
    holds::Holds,
    job::Job,
    model::Model,
    scenario::{Numbers, Scenario},
};

pub type Reply = Response<ResponseBody>;

pub struct World {
    rtt: f64,
    spread: f64,
    dialect: Dialect,
    started: Instant,
    jobs: Vec<Job>,
    state: Mutex<State>,
    /// What processes share that do so.
    pub store: MemoryQuotaStore,
}

struct State {
    model: Box<dyn Model>,
    random: fastrand::Rng,
    record: Record,
    holds: Holds,
}

/// What arrived.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub arrivals: Vec<f64>,
    pub refused: usize,
    pub early: usize,
    pub accepted: Vec<usize>,
}

impl World {
    pub fn new(scenario: &Scenario, numbers: &Numbers, seed: u64, jobs: Vec<Job>) -> Self {
        let processes = scenario.processes;
        let store = MemoryQuotaStore::new();
        store.set_latency(Duration::from_secs_f64(numbers.store_latency));
        store.set_loss(numbers.store_loss);
        store.set_seed(seed);
        Self {
            store,
            rtt: scenario.rtt,
            spread: scenario.spread,
            dialect: scenario.dialect,
            started: Instant::now(),
            jobs,
            state: Mutex::new(State {
                model: (scenario.model)(numbers),
                random: fastrand::Rng::with_seed(seed),
                record: Record {
                    accepted: vec![0; processes],
                    ..Record::default()
                },
                holds: Holds::default(),
            }),
        }
    }

    /// A client's clock that is ahead by `skew` seconds.
    pub fn clock(&self, skew: f64) -> Skewed {
        Skewed {
            started: self.started,
            skew,
        }
    }

    /// The job of a number, as a request carries it in its `x-job`.
    pub fn job(&self, number: &str) -> &Job {
        &self.jobs[number.parse::<usize>().expect("the number of a job")]
    }

    /// Sends a request of `process` for `job`, and returns the response when its head has arrived.
    pub async fn request(&self, process: usize, job: &Job) -> Reply {
        let (there, back) = {
            let mut state = self.state();
            if state.holds.is_early(process, job, self.elapsed()) {
                state.record.early += 1;
            }
            let random = &mut state.random;
            (self.one_way(random), self.one_way(random))
        };
        sleep(Duration::from_secs_f64(there)).await;
        let (fields, service, accepted) = {
            let mut state = self.state();
            let at = self.elapsed();
            let verdict = state.model.take(at, job);
            let accepted = verdict.status == 200;
            let record = &mut state.record;
            record.arrivals.push(at);
            if accepted {
                record.accepted[process] += 1;
            } else {
                record.refused += 1;
            }
            let head = self.dialect.head(&verdict, at);
            let known = at + verdict.service + back;
            let holds = &mut state.holds;
            holds.record(process, job, &verdict, head.until, known);
            (head.fields, verdict.service, accepted)
        };
        sleep(Duration::from_secs_f64(service + back)).await;
        let body = if accepted && job.stream > 0.0 {
            ResponseBody::completion(job.stream, job.cost)
        } else {
            ResponseBody::default()
        };
        fields.body(body).expect("headers of digits")
    }

    /// How long one way takes.
    fn one_way(&self, random: &mut fastrand::Rng) -> f64 {
        let half = self.rtt / 2.0;
        if self.spread == 0.0 {
            return half * (0.9 + 0.2 * random.f64());
        }
        // Box and Muller's way to a normal distribution.
        let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
        half * (self.spread * normal).exp()
    }

    pub fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    pub fn record(&self) -> Record {
        self.state().record.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's clock: virtual time, off by `skew` seconds.
#[derive(Clone, Copy, Debug)]
pub struct Skewed {
    started: Instant,
    skew: f64,
}

impl Clock for Skewed {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_clock(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs_f64(EPOCH + self.skew) + self.started.elapsed()
    }
}
