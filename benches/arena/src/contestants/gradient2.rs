//! Netflix/concurrency-limits: `Gradient2Limit` with its defaults, from its source. Each sample updates the limit,
//! without the windowed limit that usually contains it.
//!
//! It has no rule for retries; those of go-retryablehttp are used.

use std::sync::Arc;

use super::{
    Client, Setup, go_retryablehttp,
    limiter::{self, Limit, Sample},
};

/// The limit follows the ratio of the long-term mean to the last round trip, plus a queue of 4. Rejections have no
/// influence.
struct Gradient2 {
    limit: f64,
    long: f64,
    samples: u32,
}

const MIN: f64 = 20.0;
const MAX: f64 = 200.0;
const QUEUE: f64 = 4.0;
const SMOOTHING: f64 = 0.2;
const TOLERANCE: f64 = 1.5;

impl Gradient2 {
    /// Returns the mean of the first 10 round trips, and then an exponential mean over 600.
    fn long_term(&mut self, round_trip: f64) -> f64 {
        self.samples += 1;
        let weight = if self.samples <= 10 {
            1.0 / f64::from(self.samples)
        } else {
            2.0 / 601.0
        };
        self.long += (round_trip - self.long) * weight;
        self.long
    }
}

impl Limit for Gradient2 {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_sample(&mut self, sample: &Sample) {
        let short = sample.round_trip.max(1e-6);
        let long = self.long_term(short);
        if long / short > 2.0 {
            self.long *= 0.95;
        }
        if (sample.in_flight as f64) < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * long / short).clamp(0.5, 1.0);
        let next = self.limit * gradient + QUEUE;
        let smoothed = self.limit * (1.0 - SMOOTHING) + next * SMOOTHING;
        self.limit = smoothed.clamp(MIN, MAX);
    }
}

pub fn client(setup: Setup) -> Arc<dyn Client> {
    let limit = Gradient2 {
        limit: MIN,
        long: 0.0,
        samples: 0,
    };
    limiter::client(setup, limit, Box::new(go_retryablehttp::wait))
}
