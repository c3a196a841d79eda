//! The contestants. Each creates one client per process.
//!
//! A name with `(port)` is a rule written anew from its description, since the original is not Rust or not virtual in
//! time; all others are the released crates. In the arena every client has generous limits on retries and waits.

mod arc;
mod aws;
mod dialogue;
mod discord;
mod go_retryablehttp;
mod gradient2;
mod limiter;
mod octokit;
mod ours;
mod reqwest_retry;
mod tower_retry;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use tower_m2m::Clock;

use crate::{
    body::ResponseBody,
    job::Job,
    world::{Reply, Skewed, World},
};

/// The field with the number of a request's job, for contestants that send HTTP requests.
const JOB: &str = "x-job";

pub type Sending<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// What one process uses, shared by its workers.
pub trait Client: Send + Sync {
    /// Does one job; whether it succeeded.
    fn job<'a>(&'a self, job: &'a Job) -> Sending<'a>;
}

/// What a client is made for.
#[derive(Clone)]
pub struct Setup {
    pub world: Arc<World>,
    pub process: usize,
    pub clock: Skewed,
    pub seed: u64,
}

impl Setup {
    /// Returns the job of a request with these fields.
    fn job_of(&self, headers: &HeaderMap) -> &Job {
        let number = headers.get(JOB).and_then(|number| number.to_str().ok());
        self.world.job(number.expect("every request has its job"))
    }

    /// Sends a request, and returns the response when its head has arrived.
    async fn request(&self, job: &Job) -> Reply {
        self.world.request(self.process, job).await
    }

    /// Sends a request, and reads the response to the end of its body.
    async fn exchange(&self, job: &Job) -> Response<()> {
        let (head, body) = self.request(job).await.into_parts();
        read(body).await;
        Response::from_parts(head, ())
    }

    /// The client's wall clock, in seconds of the epoch.
    fn wall(&self) -> f64 {
        let since = self
            .clock
            .wall_clock()
            .duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs_f64()
    }
}

pub struct Contestant {
    pub name: &'static str,
    pub make: fn(Setup) -> Arc<dyn Client>,
    /// Its processes share a store: of use where there are several.
    pub shares: bool,
}

/// Ours first.
pub fn all() -> Vec<Contestant> {
    let contestant = |name, make| Contestant {
        name,
        make,
        shares: false,
    };
    vec![
        contestant("tower-m2m", ours::client),
        Contestant {
            shares: true,
            ..contestant("tower-m2m with a store", ours::shared)
        },
        contestant("tower::retry + TpsBudget", tower_retry::client),
        contestant("reqwest-retry, 20 retries", reqwest_retry::client),
        contestant("aws-smithy adaptive", aws::client),
        contestant("go-retryablehttp (port)", go_retryablehttp::client),
        contestant("octokit throttling (port)", octokit::client),
        contestant("Discord-style gate (port)", discord::client),
        contestant("Netflix Gradient2 (port)", gradient2::client),
        contestant("palantir/dialogue (port)", dialogue::client),
        contestant("Vector ARC (port)", arc::client),
    ]
}

/// Reads a body to its end.
async fn read(mut body: ResponseBody) {
    while body.frame().await.is_some() {}
}

/// A header that is a number.
fn number<B>(reply: &Response<B>, name: &str) -> Option<f64> {
    reply.headers().get(name)?.to_str().ok()?.parse().ok()
}

async fn pause(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds.max(0.0))).await;
}

/// How often a port sends a request at most.
const ATTEMPTS: u32 = 50;
