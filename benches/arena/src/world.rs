//! One run's server: virtual time, round trips, headers on the wire, and a record of everything that arrives.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower_m2m::{Clock, test_util::MemoryQuotaStore};

use crate::{
    model::{Model, Verdict},
    scenario::{Numbers, Scenario},
};

pub type Reply = Response<Full<Bytes>>;

/// What the server says about its quota, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// `X-RateLimit-*` with an epoch on every response, and `Retry-After` on a rejection.
    Full,
    /// The same, on rejections only.
    OnRefusal,
    /// `X-RateLimit-*` with an epoch on every answer, and never `Retry-After`.
    NoRetryAfter,
    /// `Retry-After` in whole seconds on rejections.
    RetryAfter,
    /// `RateLimit` and `RateLimit-Policy` of the current IETF draft on every answer.
    Ietf,
    /// Nothing.
    Silent,
    /// Says that half of the quota remains, whatever is true, and `Retry-After: 1`.
    Misreporting,
}

pub struct World {
    rtt: f64,
    spread: f64,
    dialect: Dialect,
    started: Instant,
    state: Mutex<State>,
    /// What processes share that do so.
    pub store: MemoryQuotaStore,
}

struct State {
    model: Box<dyn Model>,
    random: fastrand::Rng,
    record: Record,
    /// For each process: before when it should not ask, and since when it knows.
    last_announced: Vec<Option<(f64, f64)>>,
}

/// What arrived.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub arrivals: Vec<f64>,
    pub refused: usize,
    pub early: usize,
    pub accepted: Vec<usize>,
}

impl World {
    pub fn new(scenario: &Scenario, numbers: &Numbers, seed: u64) -> Self {
        let processes = scenario.processes;
        let store = MemoryQuotaStore::new();
        store.set_latency(Duration::from_secs_f64(numbers.store_latency));
        store.set_loss(numbers.store_loss);
        Self {
            store,
            rtt: scenario.rtt,
            spread: scenario.spread,
            dialect: scenario.dialect,
            started: Instant::now(),
            state: Mutex::new(State {
                model: (scenario.model)(numbers),
                random: fastrand::Rng::with_seed(seed),
                record: Record {
                    accepted: vec![0; processes],
                    ..Record::default()
                },
                last_announced: vec![None; processes],
            }),
        }
    }

    /// A client's clock that is ahead by `skew` seconds.
    pub fn clock(&self, skew: f64) -> Skewed {
        Skewed {
            started: self.started,
            skew,
        }
    }

    /// One request of `process`, there and back.
    pub async fn request(&self, process: usize) -> Reply {
        let (there, back) = {
            let mut state = self.state();
            let sent = self.elapsed();
            if let Some((until, since)) = state.last_announced[process]
                && sent > since
                && sent < until - 0.001
            {
                state.record.early += 1;
            }
            let random = &mut state.random;
            (self.one_way(random), self.one_way(random))
        };
        sleep(Duration::from_secs_f64(there)).await;
        let reply = {
            let mut state = self.state();
            let at = self.elapsed();
            let verdict = state.model.take(at);
            let record = &mut state.record;
            record.arrivals.push(at);
            if verdict.status == 200 {
                record.accepted[process] += 1;
            } else {
                record.refused += 1;
            }
            let (reply, asked) = self.reply(verdict, at);
            if let Some(until) = asked {
                let known = state.last_announced[process].map_or(0.0, |(until, _)| until);
                if until > known {
                    // Timers are a millisecond coarse.
                    state.last_announced[process] = Some((until, at + back + 0.001));
                }
            }
            reply
        };
        sleep(Duration::from_secs_f64(back)).await;
        reply
    }

    /// How long one way takes.
    fn one_way(&self, random: &mut fastrand::Rng) -> f64 {
        let half = self.rtt / 2.0;
        if self.spread == 0.0 {
            return half * (0.9 + 0.2 * random.f64());
        }
        // Box and Muller's way to a normal distribution.
        let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
        half * (self.spread * normal).exp()
    }

    pub fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    pub fn record(&self) -> Record {
        self.state().record.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response, and the time before which the client is asked not to send again.
    fn reply(&self, verdict: Verdict, at: f64) -> (Reply, Option<f64>) {
        let refused = verdict.status != 200;
        let wall = UNIX_EPOCH + Duration::from_secs_f64(EPOCH + at);
        let mut reply = Response::builder()
            .status(StatusCode::from_u16(verdict.status).expect("a status"))
            .header("date", httpdate::fmt_http_date(wall));
        let wait = (verdict.reset - at).max(0.0).ceil();
        let epoch = (EPOCH + verdict.reset).ceil();
        let mut asked = None;
        let tells = |always: bool| always || refused;
        let quota = match self.dialect {
            Dialect::Full | Dialect::NoRetryAfter => verdict.limit > 0,
            Dialect::OnRefusal => tells(false) && verdict.limit > 0,
            Dialect::RetryAfter | Dialect::Ietf | Dialect::Silent | Dialect::Misreporting => false,
        };
        if quota {
            reply = reply
                .header("x-ratelimit-limit", verdict.limit)
                .header("x-ratelimit-remaining", verdict.remaining)
                .header("x-ratelimit-reset", epoch as u64);
            if refused {
                asked = Some(epoch - EPOCH);
            }
        }
        let hint = match self.dialect {
            Dialect::Full | Dialect::OnRefusal | Dialect::RetryAfter => Some(wait),
            Dialect::Misreporting => Some(1.0),
            Dialect::NoRetryAfter | Dialect::Ietf | Dialect::Silent => None,
        };
        if let (true, Some(hint)) = (refused, hint) {
            reply = reply.header("retry-after", hint as u64);
            asked = Some(at + hint);
        }
        match self.dialect {
            Dialect::Ietf if verdict.limit > 0 => {
                let (limit, window) = (verdict.limit, verdict.window.ceil());
                let remaining = verdict.remaining;
                reply = reply
                    .header(
                        "ratelimit-policy",
                        format!("\"default\";q={limit};w={window}"),
                    )
                    .header("ratelimit", format!("\"default\";r={remaining};t={wait}"));
                if refused {
                    asked = Some(at + wait);
                }
            }
            Dialect::Misreporting => {
                reply = reply
                    .header("x-ratelimit-limit", verdict.limit)
                    .header("x-ratelimit-remaining", verdict.limit / 2)
                    .header("x-ratelimit-reset", epoch as u64);
            }
            _ => {}
        }
        (
            reply.body(Full::default()).expect("headers of digits"),
            asked,
        )
    }
}

/// A client's clock: virtual time, off by `skew` seconds.
#[derive(Clone, Copy, Debug)]
pub struct Skewed {
    started: Instant,
    skew: f64,
}

impl Clock for Skewed {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_clock(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs_f64(EPOCH + self.skew) + self.started.elapsed()
    }
}

/// The server's wall clock at the start.
const EPOCH: f64 = 1_790_000_000.0;
