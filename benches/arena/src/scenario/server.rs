//! The servers of the scenarios, by the numbers that a run gives.

use super::Numbers;
use crate::model::{
    Balancer, BrownOut, Bucket, Concurrency, FixedWindow, Lowered, Model, Neighbour, PenaltyBox,
    Refill, Replicas, Routes, Schedule, Shed, SlidingCounter, SlidingLog, Stacked, Tokens,
};

/// Creates a server from a run's numbers.
pub type Server = fn(&Numbers) -> Box<dyn Model>;

pub fn fixed(n: &Numbers) -> Box<dyn Model> {
    Box::new(n.fixed())
}

pub fn sliding(n: &Numbers) -> Box<dyn Model> {
    Box::new(SlidingLog::new(n.limit as usize, n.window))
}

pub fn counter(n: &Numbers) -> Box<dyn Model> {
    Box::new(SlidingCounter::new(n.limit, n.window))
}

pub fn bucket(n: &Numbers) -> Box<dyn Model> {
    Box::new(Bucket::new(n.rate(), n.limit as f64 / 10.0))
}

pub fn quick(n: &Numbers) -> Box<dyn Model> {
    Box::new(Bucket::new(8.0 * n.rate(), 8.0 * n.rate()))
}

pub fn hourly(n: &Numbers) -> Box<dyn Model> {
    Box::new(FixedWindow::new(5000, 3600.0, 3600.0 * n.phase))
}

pub fn counting_throttled(n: &Numbers) -> Box<dyn Model> {
    Box::new(SlidingLog::new(n.limit as usize, n.window).counting_refused())
}

pub fn penalty(n: &Numbers) -> Box<dyn Model> {
    Box::new(PenaltyBox::new(n.fixed(), 5.0 * n.window))
}

pub fn stacked(n: &Numbers) -> Box<dyn Model> {
    Box::new(Stacked(vec![
        Box::new(FixedWindow::new(20, 1.0, n.phase)),
        Box::new(FixedWindow::new(100, 120.0, 120.0 * n.phase)),
    ]))
}

pub fn lowered(n: &Numbers) -> Box<dyn Model> {
    Box::new(Lowered::new(n.fixed(), 1.5 * n.window, n.limit / 3))
}

pub fn brown_out(n: &Numbers) -> Box<dyn Model> {
    Box::new(BrownOut {
        inner: Box::new(n.fixed()),
        from: n.window * n.phase + 0.4,
        until: n.window * n.phase + 20.4,
    })
}

/// Number of replicas that share the limit.
const REPLICAS: u64 = 4;

/// Creates replicas whose windows start together.
fn in_step(n: &Numbers, balancer: Balancer) -> Box<dyn Model> {
    let replicas = (0..REPLICAS).map(|_| n.part(REPLICAS, n.phase));
    Box::new(Replicas::new(replicas.collect(), balancer))
}

/// Creates replicas whose windows start at different times.
fn out_of_step(n: &Numbers, balancer: Balancer) -> Box<dyn Model> {
    let phase = |replica: u64| (n.phase + 0.618 * replica as f64).fract();
    let replicas = (0..REPLICAS).map(|replica| n.part(REPLICAS, phase(replica)));
    Box::new(Replicas::new(replicas.collect(), balancer))
}

pub fn replicas_in_step_at_random(n: &Numbers) -> Box<dyn Model> {
    in_step(n, Balancer::Random(n.random()))
}

pub fn replicas_in_step_by_turns(n: &Numbers) -> Box<dyn Model> {
    in_step(n, Balancer::RoundRobin(0))
}

pub fn replicas_out_of_step_at_random(n: &Numbers) -> Box<dyn Model> {
    out_of_step(n, Balancer::Random(n.random()))
}

pub fn replicas_out_of_step_by_turns(n: &Numbers) -> Box<dyn Model> {
    out_of_step(n, Balancer::RoundRobin(0))
}

pub fn concurrency(_: &Numbers) -> Box<dyn Model> {
    Box::new(Concurrency::new(8, 0.2))
}

pub fn neighbour_at_start(n: &Numbers) -> Box<dyn Model> {
    Box::new(Neighbour::new(n.fixed(), n.limit / 2, Schedule::AtStart))
}

pub fn neighbour_at_random(n: &Numbers) -> Box<dyn Model> {
    let schedule = Schedule::AtRandom(n.random());
    Box::new(Neighbour::new(n.fixed(), n.limit / 2, schedule))
}

pub fn neighbour_all_the_time(n: &Numbers) -> Box<dyn Model> {
    Box::new(Neighbour::new(n.fixed(), n.limit / 2, Schedule::Evenly))
}

/// Tokens per minute, and requests per minute: more than the tokens allow.
const TOKENS: u64 = 60_000;
const COMPLETIONS: u64 = 500;

pub fn tokens_in_a_bucket(_: &Numbers) -> Box<dyn Model> {
    Box::new(Tokens::new(COMPLETIONS, TOKENS, Refill::Steady))
}

pub fn tokens_in_windows(n: &Numbers) -> Box<dyn Model> {
    let refill = Refill::Windows(60.0 * n.phase);
    Box::new(Tokens::new(COMPLETIONS, TOKENS, refill))
}

/// Three named quotas of different sizes and windows.
pub fn resources(n: &Numbers) -> Box<dyn Model> {
    let phase = |more: f64| (n.phase + more).fract();
    let routes = Routes::default()
        .with(Some("core"), &["/repos", "/users"], n.part(1, n.phase))
        .with(Some("graphql"), &["/graphql"], n.part(3, phase(0.3)))
        .with(Some("search"), &["/search"], n.part(10, phase(0.7)));
    Box::new(routes)
}

/// One route with a limit; all others have none.
pub fn half_unlimited(n: &Numbers) -> Box<dyn Model> {
    Box::new(Routes::default().with(None, &["/data"], n.fixed()))
}

/// 3,600 per hour, refilled by one each second.
pub fn full_again_hourly(_: &Numbers) -> Box<dyn Model> {
    Box::new(Bucket::new(1.0, 3600.0).announcing_full())
}

pub fn full_again(n: &Numbers) -> Box<dyn Model> {
    Box::new(Bucket::new(n.rate(), n.limit as f64).announcing_full())
}

pub fn shed(n: &Numbers) -> Box<dyn Model> {
    Box::new(Shed::new(n.fixed(), 0.05, n.random()))
}
