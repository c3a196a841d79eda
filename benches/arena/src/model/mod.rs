//! How servers count: each model takes requests at the times of their arrival, in seconds since the start.

mod special;
mod window;

pub use special::{BrownOut, Lowered, PenaltyBox, Stacked};
pub use window::{Bucket, FixedWindow, SlidingCounter, SlidingLog};

/// The server's decision on one request, and what it can announce about it.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    pub status: u16,
    pub limit: u64,
    pub window: f64,
    pub remaining: u64,
    /// When the quota is next (more) available.
    pub reset: f64,
}

pub trait Model: Send {
    fn take(&mut self, at: f64) -> Verdict;
    /// The earliest time, `at` or later, at which a request would be accepted if no other arrived before.
    fn earliest(&self, at: f64) -> f64;
}

/// How long the work takes at least: each worker sends at the first moment at which it will be accepted, from the time
/// on at which it begins.
pub fn optimum(model: &mut dyn Model, jobs: usize, begins: &[f64], rtt: f64) -> f64 {
    let mut free = begins[..begins.len().min(jobs)].to_vec();
    let (mut end, mut last) = (0.0_f64, 0.0_f64);
    for job in 0..jobs {
        // Workers are alike, so jobs are assigned in turn.
        let worker = job % free.len();
        let arrival = model.earliest(last.max(free[worker] + rtt / 2.0));
        last = arrival;
        let verdict = model.take(arrival);
        assert_eq!(
            verdict.status, 200,
            "an omniscient client is never rejected"
        );
        free[worker] = arrival + rtt / 2.0;
        end = end.max(free[worker]);
    }
    end
}
