//! The optimum: the time that an omniscient client needs.

use std::collections::{HashMap, VecDeque};

use super::Model;
use crate::job::Job;

/// A worker with its next job, and the time from which its request can arrive.
struct Ready {
    job: Job,
    from: f64,
}

/// Returns the minimum time for the jobs. The request that can be accepted first is sent so that it arrives at that
/// time, but not before its worker begins. A worker takes the next job when it has received the whole response.
///
/// A request occupies its worker for a round trip, but no slot of the server while it is in transit: an omniscient
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
        // Of several with the same time, the one that has waited longest.
        let order = |(index, next): (usize, &Ready)| (arrival(next), next.from, index);
        let first = ready.iter().enumerate().map(order).min_by(|a, b| {
            let by_wait = a.1.total_cmp(&b.1);
            a.0.total_cmp(&b.0).then(by_wait).then(a.2.cmp(&b.2))
        });
        let (arrival, _, index) = first.expect("a worker is ready");
        let next = &mut ready[index];
        last.insert(next.job.path, arrival);
        let verdict = model.take_best_case(arrival, &next.job);
        assert_eq!(
            verdict.status, 200,
            "an omniscient client is never rejected"
        );
        let response_end = arrival + verdict.service + next.job.stream + half;
        end = end.max(response_end);
        match jobs.pop_front() {
            Some(job) => {
                *next = Ready {
                    job,
                    from: response_end + half,
                };
            }
            None => drop(ready.swap_remove(index)),
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        job::{self, Mix},
        model::{
            Balancer, Bucket, Concurrency, FixedWindow, Neighbour, Refill, Replicas, Routes,
            Schedule, Shed, Tokens,
        },
    };

    const RTT: f64 = 0.04;

    /// Returns a window of a minute that begins at the start.
    fn window(limit: u64) -> FixedWindow {
        FixedWindow::new(limit, 60.0, 60.0)
    }

    /// Returns the time that 16 workers need for this number of jobs.
    fn seconds(mut model: impl Model, mix: Mix, jobs: usize) -> f64 {
        optimum(&mut model, job::list(mix, jobs, 1), &[0.0; 16], RTT)
    }

    fn assert_near(seconds: f64, expected: f64) {
        let off = (seconds - expected).abs();
        assert!(off < 1e-3, "{seconds} s instead of {expected} s");
    }

    #[test]
    fn all_slots_work_all_the_time() {
        let seconds = seconds(Concurrency::new(8, 0.2), job::alike, 80);

        assert_near(seconds, 10.0 * 0.2 + RTT);
    }

    #[test]
    fn replicas_give_their_sum() {
        for balancer in [
            Balancer::RoundRobin(0),
            Balancer::Random(fastrand::Rng::with_seed(1)),
        ] {
            let replicas = Replicas::new((0..4).map(|_| window(2)).collect(), balancer);

            assert_near(seconds(replicas, job::alike, 17), 120.0 + RTT / 2.0);
        }
    }

    #[test]
    fn a_replica_whose_window_ends_first_is_used_first() {
        let late = FixedWindow::new(2, 60.0, 60.0);
        let soon = FixedWindow::new(2, 60.0, 30.0);
        let mut replicas = Replicas::new(vec![late, soon], Balancer::RoundRobin(0));
        let jobs = job::list(job::alike, 6, 1);
        let seconds = optimum(&mut replicas, jobs, &[0.0], 10.0);

        // One request every 10 s. In the other order, no replica could accept the sixth one before 60 s.
        assert_near(seconds, 60.0);
    }

    #[test]
    fn a_neighbour_leaves_the_rest_of_each_window() {
        let neighbour = Neighbour::new(window(10), 5, Schedule::AtStart);

        assert_near(seconds(neighbour, job::alike, 15), 120.0 + RTT / 2.0);
    }

    #[test]
    fn a_neighbour_that_comes_later_gets_its_share_in_the_next_window() {
        let neighbour = Neighbour::new(window(10), 5, Schedule::Evenly);

        assert_near(seconds(neighbour, job::alike, 20), 120.0 + RTT / 2.0);
    }

    #[test]
    fn windows_are_filled_with_what_fits() {
        let jobs = job::list(job::costs_at_random, 500, 1);
        let windows = jobs.iter().map(|job| job.cost).sum::<u64>().div_ceil(30);
        let seconds = seconds(window(30), job::costs_at_random, 500);

        // In the order of the jobs, one that costs 5 would leave up to 4 unused at the end of each window.
        assert_near(seconds, (windows - 1) as f64 * 60.0 + RTT / 2.0);
    }

    #[test]
    fn a_bucket_is_not_waited_full() {
        let seconds = seconds(Bucket::new(1.0, 20.0).announcing_full(), job::alike, 30);

        assert_near(seconds, 10.0 + RTT);
    }

    #[test]
    fn what_was_reserved_too_much_comes_back() {
        let mut jobs = job::list(job::alike, 12, 1);
        for job in &mut jobs {
            (job.estimate, job.cost, job.stream) = (3000, 1000, 2.0);
        }
        let mut model = Tokens::new(500, 6000, Refill::Steady);
        let end = optimum(&mut model, jobs, &[0.0; 16], RTT);

        // Two at once. The unused rest of their reservations is returned after 2 s, and 100 per second are refilled.
        // 12,000 tokens in total, and another 2,000 for the reservation of the last one.
        assert!((80.0 - 0.1..=82.1).contains(&end), "{end} s");
    }

    #[test]
    fn a_small_quota_holds_its_own_routes_only() {
        let routes = Routes::default()
            .with(Some("search"), &["/search"], window(40))
            .with(Some("core"), &["/repos", "/users"], window(1000));
        let seconds = seconds(routes, job::resources, 400);

        assert!(seconds < 2.0, "{seconds} s");
    }

    #[test]
    fn an_omniscient_client_is_not_shed() {
        let shed = Shed::new(window(10), 0.9, fastrand::Rng::with_seed(1));

        assert_near(seconds(shed, job::alike, 20), 60.0 + RTT / 2.0);
    }
}
