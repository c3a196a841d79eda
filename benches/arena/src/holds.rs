//! The waits that the server has requested, and whether a request disregards one.

use std::collections::HashMap;

use crate::{
    job::Job,
    model::{RejectionScope, Verdict},
};

/// The waits that the server has requested, and the times at which the clients received the requests.
#[derive(Default)]
pub struct Holds {
    held: HashMap<Held, Hold>,
    /// For each process and path, the resource that responses have named, and the time of the first such response.
    named: HashMap<(usize, &'static str), (&'static str, f64)>,
}

/// The requests that a wait applies to.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum Held {
    Process(usize),
    Resource(usize, &'static str),
    /// The job with this number.
    Job(usize),
}

#[derive(Clone, Copy)]
struct Hold {
    until: f64,
    since: f64,
}

/// Resolution of timers, in seconds.
const TICK: f64 = 0.001;

impl Holds {
    /// Records the verdict on a request of `process` and the requested wait, which the process knows from `since` on.
    pub fn record(
        &mut self,
        process: usize,
        job: &Job,
        verdict: &Verdict,
        until: Option<f64>,
        since: f64,
    ) {
        if let Some(resource) = verdict.resource {
            let named = self.named.entry((process, job.path));
            named.or_insert((resource, since));
        }
        let Some(until) = until else { return };
        let held = match (verdict.rejection_scope, verdict.resource) {
            (RejectionScope::Request, _) => Held::Job(job.number),
            (RejectionScope::Client, Some(resource)) => Held::Resource(process, resource),
            (RejectionScope::Client, None) => Held::Process(process),
        };
        let known = self.held.get(&held).map_or(0.0, |hold| hold.until);
        if until > known {
            let since = since + TICK;
            self.held.insert(held, Hold { until, since });
        }
    }

    /// Returns whether `process` sends a request during a wait that applies to it.
    pub fn is_early(&self, process: usize, job: &Job, now: f64) -> bool {
        let resource = self.named.get(&(process, job.path));
        let resource = resource.filter(|(_, since)| now > *since);
        [
            Some(Held::Process(process)),
            Some(Held::Job(job.number)),
            resource.map(|(resource, _)| Held::Resource(process, resource)),
        ]
        .into_iter()
        .flatten()
        .filter_map(|held| self.held.get(&held))
        .any(|hold| now > hold.since && now < hold.until - TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        job,
        model::{Concurrency, FixedWindow, Model, Routes},
    };

    /// Returns three jobs, the second of which has another route, and the verdict on the second request for the first
    /// one.
    fn refused(mut model: impl Model) -> (Vec<Job>, Verdict) {
        let mut jobs: Vec<_> = job::list(job::alike, 3, 1).into();
        jobs[1].path = "/search";
        model.take(0.0, &jobs[0]);
        let verdict = model.take(0.0, &jobs[0]);
        assert_eq!(verdict.status, 429);
        (jobs, verdict)
    }

    #[test]
    fn a_quota_that_is_used_up_holds_the_client() {
        let (jobs, verdict) = refused(FixedWindow::new(1, 60.0, 60.0));
        let mut holds = Holds::default();
        holds.record(0, &jobs[0], &verdict, Some(60.0), 0.1);

        assert!(holds.is_early(0, &jobs[1], 1.0));
        assert!(!holds.is_early(0, &jobs[1], 0.05), "not known yet");
        assert!(!holds.is_early(0, &jobs[1], 60.0), "over");
        assert!(!holds.is_early(1, &jobs[1], 1.0), "another process");
    }

    #[test]
    fn a_slot_that_is_not_free_holds_the_refused_request() {
        let (jobs, verdict) = refused(Concurrency::new(1, 0.2));
        let mut holds = Holds::default();
        holds.record(0, &jobs[0], &verdict, Some(1.0), 0.1);

        assert!(holds.is_early(0, &jobs[0], 0.5));
        assert!(!holds.is_early(0, &jobs[2], 0.5));
    }

    #[test]
    fn a_named_resource_holds_the_routes_that_have_named_it() {
        let quota = FixedWindow::new(1, 60.0, 60.0);
        let (jobs, verdict) = refused(Routes::default().with(Some("core"), &["/"], quota));
        let mut holds = Holds::default();
        holds.record(0, &jobs[0], &verdict, Some(60.0), 0.1);

        assert!(holds.is_early(0, &jobs[2], 1.0));
        assert!(!holds.is_early(0, &jobs[1], 1.0), "not named yet");
        holds.record(0, &jobs[1], &verdict, None, 2.0);
        assert!(holds.is_early(0, &jobs[1], 3.0));
    }
}
