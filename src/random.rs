//! The seedable source of jitter.

use crate::sync::{Mutex, lock};

/// Random numbers for jitter: one sequence per layer, so that a seed makes a run repeatable.
#[derive(Debug)]
pub(crate) struct Random(Mutex<fastrand::Rng>);

impl Random {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(Mutex::new(
            seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
        ))
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(&self) -> f64 {
        lock(&self.0).f64()
    }
}
