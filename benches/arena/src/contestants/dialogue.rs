//! palantir/dialogue, from its source: the limiter that increases cautiously and decreases aggressively, once for the
//! host and once for the endpoint, and the rule of its `RetryingChannel`, with more retries.
//!
//! All jobs count as one endpoint. `Retry-After` is not read. The back-off stops doubling at 64 s, because the
//! original has only 4 retries.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Client, Setup,
    limiter::{self, Limit, Sample},
};

/// Grows by one after as many successes at the limit as the limit, and falls to 90 % on a drop.
struct Cautious(f64);

const INITIAL: f64 = 20.0;
const DECREASE: f64 = 0.9;

impl Cautious {
    fn on_success(&mut self, in_flight: usize) {
        if in_flight as f64 >= (self.0 * DECREASE).floor() {
            self.0 += 1.0 / self.0;
        }
    }

    fn on_drop(&mut self) {
        self.0 = (self.0 * DECREASE).floor().max(1.0);
    }
}

struct Dialogue {
    host: Cautious,
    endpoint: Cautious,
}

impl Limit for Dialogue {
    fn limit(&self) -> f64 {
        self.host.0.min(self.endpoint.0)
    }

    fn on_sample(&mut self, sample: &Sample) {
        match sample.status {
            // These change only the endpoint's limit, and other errors only the host's.
            429 | 500 => self.endpoint.on_drop(),
            501..=599 => self.host.on_drop(),
            _ => {
                self.host.on_success(sample.in_flight);
                self.endpoint.on_success(sample.in_flight);
            }
        }
    }
}

/// Unit of the back-off, in seconds.
const SLOT: f64 = 0.25;

pub fn client(setup: Setup) -> Arc<dyn Client> {
    let random = Mutex::new(fastrand::Rng::with_seed(setup.seed));
    let wait = move |attempt: u32| {
        let jitter = random.lock().unwrap_or_else(PoisonError::into_inner).f64();
        SLOT * jitter * f64::from(2_u32.pow(attempt.min(8)))
    };
    let limit = Dialogue {
        host: Cautious(INITIAL),
        endpoint: Cautious(INITIAL),
    };
    limiter::client(setup, limit, Box::new(move |_, attempt| wait(attempt)))
}
