//! Those who take part: each makes one client for each process.

mod ours;

use std::{future::Future, pin::Pin, sync::Arc};

use crate::world::World;

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
    /// By how much the client's wall clock is ahead.
    pub skew: f64,
    pub seed: u64,
}

pub struct Contestant {
    pub name: &'static str,
    pub make: fn(Setup) -> Arc<dyn Client>,
}

pub fn all() -> Vec<Contestant> {
    vec![Contestant {
        name: "tower-m2m",
        make: ours::client,
    }]
}
