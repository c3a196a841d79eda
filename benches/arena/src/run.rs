//! One run: a scenario, a contestant and a seed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    contestants::{Client, Contestant, Setup},
    job::{self, Job},
    model::optimum,
    scenario::{Load, Numbers, Scenario},
    world::{Record, World},
};

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Time needed ÷ the least time that the quota allows for what was done.
    pub ratio: f64,
    pub refused: usize,
    pub failed: usize,
    pub early: usize,
    /// Waits of single jobs, in seconds.
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    /// The most arrivals within 100 ms.
    pub peak: usize,
    /// Jain's index over what the processes got done; 1 is fair.
    pub jain: f64,
    /// Still at work after the twentyfold of the least time and two hours.
    pub unfinished: bool,
}

pub fn run(scenario: &Scenario, contestant: &Contestant, numbers: &Numbers, seed: u64) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(simulate(scenario, contestant, numbers, seed))
}

async fn simulate(
    scenario: &Scenario,
    contestant: &Contestant,
    numbers: &Numbers,
    seed: u64,
) -> Figures {
    let begins = scenario.load.begins(scenario, numbers, seed);
    let jobs = |jobs| job::list(scenario.mix, jobs, seed);
    let least = |jobs| {
        let mut model = (scenario.model)(numbers);
        optimum(&mut *model, jobs, &begins, scenario.rtt)
    };
    let world = World::new(scenario, numbers, seed, jobs(scenario.jobs).into());
    let world = Arc::new(world);
    let clients = clients(scenario, contestant, &world, seed);
    let work = Arc::new(Work {
        left: Mutex::new(jobs(scenario.jobs)),
        failed: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    for (number, begin) in begins.iter().enumerate() {
        let worker = Worker {
            client: Arc::clone(&clients[number * clients.len() / begins.len()]),
            work: Arc::clone(&work),
            random: fastrand::Rng::with_seed(seed * 7919 + number as u64),
            begin: Duration::from_secs_f64(*begin),
            leaving: scenario.leaving,
            jobs: match scenario.load {
                Load::Workers(_) => usize::MAX,
                Load::Poisson(_) => 1,
            },
        };
        tasks.spawn(worker.run());
    }
    let mut waits = Vec::new();
    let patience = least(jobs(scenario.jobs)) * 20.0 + 7200.0;
    let watched = timeout(Duration::from_secs_f64(patience), async {
        while let Some(done) = tasks.join_next().await {
            waits.extend(done.expect("no worker panics"));
        }
    });
    let unfinished = watched.await.is_err();
    let elapsed = world.elapsed();
    tasks.shutdown().await;
    let (record, failed) = (world.record(), lock(&work.failed));
    // Includes accepted requests of clients that had left.
    let accepted = record.accepted.iter().sum::<usize>();
    let more = accepted.saturating_sub(scenario.jobs - failed.len());
    let mut done = jobs(scenario.jobs + more);
    done.retain(|job| !failed.contains(&job.number));
    let ratio = elapsed / least(done).max(scenario.rtt);
    figures(ratio, unfinished, failed.len(), &record, waits)
}

/// Creates the clients of all processes.
fn clients(
    scenario: &Scenario,
    contestant: &Contestant,
    world: &Arc<World>,
    seed: u64,
) -> Vec<Arc<dyn Client>> {
    let client = |process| {
        (contestant.make)(Setup {
            world: Arc::clone(world),
            process,
            clock: world.clock(scenario.skew),
            seed: seed * 1000 + process as u64,
        })
    };
    (0..scenario.processes).map(client).collect()
}

/// The state that the workers share.
struct Work {
    left: Mutex<VecDeque<Job>>,
    /// Numbers of the failed jobs.
    failed: Mutex<Vec<usize>>,
}

struct Worker {
    client: Arc<dyn Client>,
    work: Arc<Work>,
    random: fastrand::Rng,
    begin: Duration,
    /// The share of callers who leave while they wait.
    leaving: f64,
    /// Maximum number of jobs that it does.
    jobs: usize,
}

impl Worker {
    /// Does jobs until none is left. Returns the duration of each.
    async fn run(mut self) -> Vec<f64> {
        let mut waits = Vec::new();
        if !self.begin.is_zero() {
            sleep(self.begin).await;
        }
        for _ in 0..self.jobs {
            let Some(job) = lock(&self.work.left).pop_front() else {
                break;
            };
            let began = Instant::now();
            let patience = if self.random.f64() < self.leaving {
                2.0 * self.random.f64()
            } else {
                1e9
            };
            let patience = Duration::from_secs_f64(patience);
            match timeout(patience, self.client.job(&job)).await {
                Ok(true) => waits.push(began.elapsed().as_secs_f64()),
                Ok(false) => lock(&self.work.failed).push(job.number),
                // The job of a client that has left is done later.
                Err(_) => lock(&self.work.left).push_front(job),
            }
        }
        waits
    }
}

fn figures(
    ratio: f64,
    unfinished: bool,
    failed: usize,
    record: &Record,
    mut waits: Vec<f64>,
) -> Figures {
    waits.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let index = (waits.len().saturating_sub(1)) as f64 * q;
        waits.get(index as usize).copied().unwrap_or_default()
    };
    Figures {
        ratio,
        refused: record.refused,
        failed,
        early: record.early,
        p50: quantile(0.5),
        p99: quantile(0.99),
        max: quantile(1.0),
        peak: peak(record.arrivals.clone()),
        jain: jain(&record.accepted),
        unfinished,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn peak(mut arrivals: Vec<f64>) -> usize {
    arrivals.sort_by(f64::total_cmp);
    let mut first = 0;
    let within = |(last, at): (usize, &f64)| {
        while arrivals[first] < at - 0.1 {
            first += 1;
        }
        last - first + 1
    };
    arrivals
        .iter()
        .enumerate()
        .map(within)
        .max()
        .unwrap_or_default()
}

fn jain(done: &[usize]) -> f64 {
    let sum: f64 = done.iter().map(|n| *n as f64).sum();
    let squares: f64 = done.iter().map(|n| (*n as f64).powi(2)).sum();
    sum * sum / (squares * done.len() as f64)
}
