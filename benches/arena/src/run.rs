//! One run: a scenario, a contestant and a seed.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    contestants::{Contestant, Setup},
    job,
    model::optimum,
    scenario::{Load, Numbers, Scenario},
    world::World,
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
    let least = |done| {
        let mut model = (scenario.model)(numbers);
        optimum(&mut *model, jobs(done), &begins, scenario.rtt)
    };
    let world = World::new(scenario, numbers, seed, jobs(scenario.jobs).into());
    let world = Arc::new(world);
    let clients = (0..scenario.processes).map(|process| {
        (contestant.make)(Setup {
            world: Arc::clone(&world),
            process,
            clock: world.clock(scenario.skew),
            seed: seed * 1000 + process as u64,
        })
    });
    let clients: Vec<_> = clients.collect();
    let left = Arc::new(Mutex::new(jobs(scenario.jobs)));
    let failed = Arc::new(AtomicUsize::new(0));
    let each = match scenario.load {
        Load::Workers(_) => usize::MAX,
        Load::Poisson(_) => 1,
    };
    let mut tasks = tokio::task::JoinSet::new();
    for (worker, begin) in begins.iter().enumerate() {
        let client = Arc::clone(&clients[worker * clients.len() / begins.len()]);
        let (left, failed) = (Arc::clone(&left), Arc::clone(&failed));
        let mut random = fastrand::Rng::with_seed(seed * 7919 + worker as u64);
        let (begin, leaving) = (Duration::from_secs_f64(*begin), scenario.leaving);
        tasks.spawn(async move {
            let mut waits = Vec::new();
            if !begin.is_zero() {
                sleep(begin).await;
            }
            for _ in 0..each {
                let left = || left.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(job) = left().pop_front() else { break };
                let began = Instant::now();
                let patience = if random.f64() < leaving {
                    2.0 * random.f64()
                } else {
                    1e9
                };
                match timeout(Duration::from_secs_f64(patience), client.job(&job)).await {
                    Ok(true) => waits.push(began.elapsed().as_secs_f64()),
                    Ok(false) => drop(failed.fetch_add(1, Ordering::Relaxed)),
                    // A job of a client that has left is done later.
                    Err(_) => left().push_front(job),
                }
            }
            waits
        });
    }
    let mut waits = Vec::new();
    let watched = timeout(
        Duration::from_secs_f64(least(scenario.jobs) * 20.0 + 7200.0),
        async {
            while let Some(done) = tasks.join_next().await {
                waits.extend(done.expect("no worker panics"));
            }
        },
    );
    let unfinished = watched.await.is_err();
    let elapsed = world.elapsed();
    tasks.shutdown().await;
    let record = world.record();
    waits.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let index = (waits.len().saturating_sub(1)) as f64 * q;
        waits.get(index as usize).copied().unwrap_or_default()
    };
    let failed = failed.load(Ordering::Relaxed);
    // Requests accepted for a client that had left count as well.
    let accepted = record.accepted.iter().sum::<usize>();
    let done = accepted.max(scenario.jobs - failed).max(1);
    Figures {
        ratio: elapsed / least(done),
        refused: record.refused,
        failed,
        early: record.early,
        p50: quantile(0.5),
        p99: quantile(0.99),
        max: quantile(1.0),
        peak: peak(record.arrivals),
        jain: jain(&record.accepted),
        unfinished,
    }
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
