//! The contestants. Each creates one client per process.
//!
//! A name with `(port)` is a rule written anew from its description, since the original is not Rust or not virtual in
//! time; all others are the released crates. In the arena every client has generous limits on retries and waits.

mod aws;
mod discord;
mod ours;
mod per_request;
mod reqwest_retry;
mod tower_retry;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_m2m::Clock;

use crate::world::{Reply, Skewed, World};

pub type Sending<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// What one process uses, shared by its workers.
pub trait Client: Send + Sync {
    /// Does one job; whether it succeeded.
    fn job(&self) -> Sending<'_>;
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
    async fn request(&self) -> Reply {
        self.world.request(self.process).await
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
        contestant("go-retryablehttp (port)", per_request::go_retryablehttp),
        contestant("octokit throttling (port)", per_request::octokit),
        contestant("Discord-style gate (port)", discord::client),
    ]
}

/// A header that is a number.
fn number(reply: &Reply, name: &str) -> Option<f64> {
    reply.headers().get(name)?.to_str().ok()?.parse().ok()
}

async fn pause(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds.max(0.0))).await;
}

/// How often a port sends a request at most.
const ATTEMPTS: u32 = 50;
