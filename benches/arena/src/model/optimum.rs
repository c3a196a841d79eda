//! The yardstick: how long an omniscient client needs.

use std::collections::{HashMap, VecDeque};

use super::Model;
use crate::job::Job;

/// A worker with its next job, and the time from which its request can arrive.
struct Ready {
    job: Job,
    from: f64,
}

/// How long the work takes at least: whichever request can be accepted first is sent so that it arrives then, from the
/// time on at which its worker begins. A worker takes the next job when it has the whole answer to the last one.
///
/// A request occupies its worker for a round trip, but neither a slot nor a count while it is under way: an omniscient
/// client sends the next one before the slot is free.
pub fn optimum(model: &mut dyn Model, mut jobs: VecDeque<Job>, begins: &[f64], rtt: f64) -> f64 {
    let half = rtt / 2.0;
    let from = begins.iter().map(|begin| begin + half);
    let mut ready: Vec<_> = from
        .map_while(|from| jobs.pop_front().map(|job| Ready { job, from }))
        .collect();
    let mut last: HashMap<&str, f64> = HashMap::new();
    let mut end = 0.0_f64;
    while !ready.is_empty() {
        let arrival = |next: &Ready| {
            let last = last.get(next.job.path).copied().unwrap_or_default();
            model.earliest(next.from.max(last), &next.job)
        };
        // Of those that can be sent at the same time, the one that has waited longest.
        let order = |(index, next): (usize, &Ready)| (arrival(next), next.from, index);
        let first = ready.iter().enumerate().map(order).min_by(|a, b| {
            let by_wait = a.1.total_cmp(&b.1);
            a.0.total_cmp(&b.0).then(by_wait).then(a.2.cmp(&b.2))
        });
        let (arrival, _, index) = first.expect("somebody is ready");
        let next = &mut ready[index];
        last.insert(next.job.path, arrival);
        let verdict = model.take_with_luck(arrival, &next.job);
        assert_eq!(
            verdict.status, 200,
            "an omniscient client is never rejected"
        );
        let answered = arrival + verdict.service + next.job.stream + half;
        end = end.max(answered);
        match jobs.pop_front() {
            Some(job) => {
                *next = Ready {
                    job,
                    from: answered + half,
                };
            }
            None => drop(ready.swap_remove(index)),
        }
    }
    end
}
