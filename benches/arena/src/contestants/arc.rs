//! Vector's adaptive request concurrency with its defaults, from its source, and its Fibonacci back-off with full
//! jitter up to 30 s.
//!
//! `Retry-After` is not read. Whether current sinks read it was not verified.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Client, Setup,
    limiter::{self, Limit, Sample},
};

/// Updates the limit once per mean round trip: one more if it was reached and no response was a rejection or slow, 90 %
/// of it if one was.
struct Adaptive {
    limit: f64,
    /// Mean and variance of past round trips.
    past: Option<(f64, f64)>,
    next_update: f64,
    /// Sum and number of the round trips since the last update.
    current: (f64, f64),
    refused: bool,
    reached: bool,
}

const MAX: f64 = 200.0;
const DECREASE: f64 = 0.9;
const EWMA: f64 = 0.4;
const DEVIATIONS: f64 = 2.5;

impl Adaptive {
    fn update_past(&mut self, round_trip: f64) -> f64 {
        let (mean, variance) = self.past.map_or((round_trip, 0.0), |(mean, variance)| {
            let ahead = round_trip - mean;
            let step = EWMA * ahead;
            (mean + step, (1.0 - EWMA) * (variance + ahead * step))
        });
        self.past = Some((mean, variance));
        mean
    }

    fn adjust(&mut self, current: Option<f64>, past: (f64, f64)) {
        let (mean, threshold) = (past.0, past.1.sqrt() * DEVIATIONS);
        let is_quick = current.is_some_and(|current| current <= mean);
        let is_slow = current.unwrap_or(0.0) >= mean + threshold;
        if self.limit < MAX && self.reached && !self.refused && is_quick {
            self.limit += 1.0;
        } else if self.limit > 1.0 && (self.refused || is_slow) {
            self.limit = (self.limit * DECREASE).floor().max(1.0);
        }
    }
}

impl Limit for Adaptive {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_start(&mut self, in_flight: usize) {
        self.reached |= in_flight as f64 >= self.limit;
    }

    fn on_sample(&mut self, sample: &Sample) {
        if sample.status == 200 {
            self.current.0 += sample.round_trip;
            self.current.1 += 1.0;
        } else {
            self.refused = true;
        }
        let current = (self.current.1 > 0.0).then(|| self.current.0 / self.current.1);
        match (self.past, current) {
            (None, Some(current)) => {
                self.update_past(current);
                self.next_update = sample.now + current;
            }
            (Some(past), _) if sample.now >= self.next_update => {
                self.adjust(current, past);
                let mean = current.map_or(past.0, |current| self.update_past(current));
                self.next_update = sample.now + mean;
                self.current = (0.0, 0.0);
                (self.refused, self.reached) = (false, false);
            }
            _ => {}
        }
    }
}

pub fn client(setup: Setup) -> Arc<dyn Client> {
    let random = Mutex::new(fastrand::Rng::with_seed(setup.seed));
    let wait = move |attempt: u32| {
        let (mut last, mut this) = (0_u32, 1_u32);
        for _ in 0..=attempt.min(10) {
            (last, this) = (this, (last + this).min(30));
        }
        let jitter = random.lock().unwrap_or_else(PoisonError::into_inner).f64();
        f64::from(this) * jitter
    };
    let limit = Adaptive {
        limit: 1.0,
        past: None,
        next_update: 0.0,
        current: (0.0, 0.0),
        refused: false,
        reached: false,
    };
    limiter::client(setup, limit, Box::new(move |_, attempt| wait(attempt)))
}
