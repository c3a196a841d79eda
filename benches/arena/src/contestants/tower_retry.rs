//! `tower::retry` with its exponential back-off (1 s to 60 s, jitter 0.99) and its budget (10 s, 10/s, 20 %).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tower::{
    BoxError, Service, ServiceExt,
    retry::{
        Policy, Retry,
        backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
        budget::{Budget, TpsBudget},
    },
    service_fn,
    util::rng::Rng,
};

use http::Response;

use super::{ATTEMPTS, Client, Sending, Setup};
use crate::job::Job;

type Reply = Response<()>;

/// One for all requests, so that their jitters differ: clones of tower's own generator all say the same.
#[derive(Clone)]
struct Seeded(Arc<Mutex<fastrand::Rng>>);

impl Rng for Seeded {
    fn next_u64(&mut self) -> u64 {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        random.u64(1..)
    }
}

#[derive(Clone)]
struct RetryThrottled {
    backoff: ExponentialBackoff<Seeded>,
    budget: Arc<TpsBudget>,
    left: u32,
}

impl Policy<Job, Reply, BoxError> for RetryThrottled {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, _: &mut Job, result: &mut Result<Reply, BoxError>) -> Option<Self::Future> {
        if result.as_ref().is_ok_and(|r| r.status().is_success()) {
            self.budget.deposit();
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.budget.withdraw().then(|| self.backoff.next_backoff())
    }

    fn clone_request(&mut self, job: &Job) -> Option<Job> {
        Some(job.clone())
    }
}

struct Retrying<S>(Retry<RetryThrottled, S>);

impl<S> Client for Retrying<S>
where
    S: Service<Job, Response = Reply, Error = BoxError> + Clone + Send + Sync,
    S::Future: Send,
{
    fn job<'a>(&'a self, job: &'a Job) -> Sending<'a> {
        Box::pin(async {
            let reply = self.0.clone().oneshot(job.clone()).await;
            reply.is_ok_and(|reply| reply.status().is_success())
        })
    }
}

pub fn client(setup: Setup) -> Arc<dyn Client> {
    let random = Seeded(Arc::new(Mutex::new(fastrand::Rng::with_seed(setup.seed))));
    let (min, max) = (Duration::from_secs(1), Duration::from_secs(60));
    let mut backoff = ExponentialBackoffMaker::new(min, max, 0.99, random).expect("1 s to 60 s");
    let policy = RetryThrottled {
        backoff: backoff.make_backoff(),
        budget: Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2)),
        left: ATTEMPTS - 1,
    };
    let service = service_fn(move |job: Job| {
        let setup = setup.clone();
        async move { Ok::<_, BoxError>(setup.exchange(&job).await) }
    });
    Arc::new(Retrying(Retry::new(policy, service)))
}
