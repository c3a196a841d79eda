//! octokit's throttling plugin, from its source: at most 10 requests in flight, searches one at a time and 2 s apart,
//! GraphQL and writes one at a time and 1 s apart. A retry skips the queues, and occupies none while it waits.
//!
//! If no quota remains, it waits until the reset by the local clock, rounded up, and one more second. Otherwise it
//! waits for `Retry-After`, or for a minute: each rejection counts as one by the secondary limit, which the original
//! recognizes by its body. Other errors follow its retry plugin: the square of the attempt, in seconds. Its priorities
//! of waiting requests are not ported.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Response;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use super::{ATTEMPTS, Client, Sending, Setup, number, pause};
use crate::job::Job;

struct Octokit {
    setup: Setup,
    global: Semaphore,
    search: Spaced,
    graphql: Spaced,
}

/// Spaces the starts of requests.
struct Spaced {
    next: Mutex<Instant>,
    apart: Duration,
}

impl Spaced {
    fn new(seconds: u64) -> Self {
        Self {
            next: Mutex::new(Instant::now()),
            apart: Duration::from_secs(seconds),
        }
    }

    /// Waits until the request may start, in the order of the calls.
    async fn turn(&self) {
        let start = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let start = (*next).max(Instant::now());
            *next = start + self.apart;
            start
        };
        sleep_until(start).await;
    }
}

impl Octokit {
    async fn attempt(&self, job: &Job, attempt: u32) -> Response<()> {
        if attempt > 0 {
            return self.setup.exchange(job).await;
        }
        if job.path.starts_with("/search/") {
            self.search.turn().await;
        }
        if job.path.starts_with("/graphql") {
            self.graphql.turn().await;
        }
        let _permit = self.global.acquire().await.expect("never closed");
        self.setup.exchange(job).await
    }

    /// Returns the wait after the rejected `attempt` (from 0), in seconds.
    fn wait(&self, reply: &Response<()>, attempt: u32) -> f64 {
        let hint = number(reply, "retry-after");
        let remaining = number(reply, "x-ratelimit-remaining");
        match number(reply, "x-ratelimit-reset") {
            _ if reply.status().is_server_error() => {
                hint.unwrap_or_else(|| f64::from(attempt + 1).powi(2))
            }
            Some(reset) if remaining == Some(0.0) => (reset - self.setup.wall()).ceil() + 1.0,
            _ => hint.unwrap_or(60.0),
        }
    }
}

impl Client for Octokit {
    fn job<'a>(&'a self, job: &'a Job) -> Sending<'a> {
        Box::pin(async {
            for attempt in 0..ATTEMPTS {
                let reply = self.attempt(job, attempt).await;
                if reply.status().is_success() {
                    return true;
                }
                pause(self.wait(&reply, attempt)).await;
            }
            false
        })
    }
}

pub fn client(setup: Setup) -> Arc<dyn Client> {
    Arc::new(Octokit {
        setup,
        global: Semaphore::new(10),
        search: Spaced::new(2),
        graphql: Spaced::new(1),
    })
}
