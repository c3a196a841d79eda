//! What must hold of a quota, whatever happens to it.

mod announced;
mod bounds;
mod concurrency;
mod contradictions;
mod control;
mod credit;
mod estimate;
mod estimator;
mod events;
mod fleet_share;
mod hold;
mod local_limit;
mod merge_remote;
mod next_report;
mod pacing;
mod penalty;
mod record;
mod report;
mod send_log;
mod server;
mod simulation;
mod sliding_detection;
mod sliding_window;
mod slow_start;
mod test_estimator;
mod token_bucket;
mod windows;

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::*;
use crate::{
    backoff::Backoff,
    rate_limit_retry::{
        Cost,
        headers::{Limit, RateLimitInfo},
        route::RouteClass,
    },
};

const CONFIG: QuotaConfig = QuotaConfig {
    initial_window: 8,
    initial_window_timeout: Duration::from_millis(250),
    max_hold: Duration::from_secs(3600),
    pacing: Pacing::Burst,
    backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
    shared: false,
};

#[expect(
    clippy::disallowed_methods,
    reason = "an arbitrary instant to count from"
)]
fn origin() -> Instant {
    Instant::now()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// 100 requests until then.
fn limit_with_reset(reset: Duration) -> Limit {
    Limit {
        limit: Some(100),
        reset: Some(reset),
        ..Limit::default()
    }
}

/// A response that announces one quota.
fn announcing(limit: u64, remaining: u64, reset: Duration) -> RateLimitInfo {
    let limit = Limit {
        limit: Some(limit),
        remaining: Some(remaining),
        reset: Some(reset),
        ..Limit::default()
    };
    RateLimitInfo {
        limits: vec![limit],
        ..RateLimitInfo::default()
    }
}

fn with_retry_after(hint: Duration) -> RateLimitInfo {
    RateLimitInfo {
        retry_after: Some(hint),
        ..RateLimitInfo::default()
    }
}

/// A quota and the time.
struct TestQuota {
    quota: Quota,
    config: QuotaConfig,
    now: Instant,
}

impl TestQuota {
    fn new() -> Self {
        Self::with(CONFIG)
    }

    fn with(config: QuotaConfig) -> Self {
        Self {
            quota: Quota::new(&config, None),
            config,
            now: origin(),
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    fn admit(&mut self) -> SendTime {
        self.quota.admit(&Load::ONE, &self.config, self.now)
    }

    /// Sends one request, if it may go.
    fn send(&mut self) -> Option<u64> {
        (self.admit() == SendTime::Now)
            .then(|| self.quota.enter(&Load::ONE, &self.config, self.now))
    }

    /// Sends one request, whether it may go or not.
    fn enter(&mut self) -> u64 {
        self.quota.enter(&Load::ONE, &self.config, self.now)
    }

    fn record(&mut self, number: u64, outcome: Outcome<'_>) -> Option<Instant> {
        self.record_for(number, outcome, Scope::Partition)
    }

    fn record_for(&mut self, number: u64, outcome: Outcome<'_>, scope: Scope) -> Option<Instant> {
        let now = Some(self.now);
        let recorded = self.quota.record(
            Sent {
                number,
                load: &Load::ONE,
            },
            outcome,
            scope,
            &self.config,
            0.5,
            now,
        );
        recorded.held_until
    }

    fn succeed(&mut self, number: u64, info: &RateLimitInfo) {
        self.record(
            number,
            Outcome::Response {
                throttled: false,
                info,
            },
        );
    }

    fn throttle(&mut self, number: u64, info: &RateLimitInfo) -> Option<Instant> {
        self.record(
            number,
            Outcome::Response {
                throttled: true,
                info,
            },
        )
    }

    /// Lets time pass until a request may go, with nothing in flight.
    ///
    /// # Panics
    ///
    /// If it is not live: it names no time, or one that is not later, or too many.
    fn wait(&mut self) -> Duration {
        assert_eq!(self.quota.in_flight(), 0);
        let began = self.now;
        for _ in 0..200 {
            match self.admit() {
                SendTime::Now => return self.now - began,
                SendTime::NotBefore(at) => {
                    assert!(at > self.now, "a wait that has ended");
                    self.now = at;
                }
                SendTime::AfterResponse(_) => panic!("no response will arrive"),
                SendTime::Never => panic!("one request is never too many"),
            }
        }
        panic!("too many waits: {:?}", self.quota);
    }
}

#[test]
fn an_unknown_partition_starts_slowly_and_then_admits_all() {
    let mut world = TestQuota::new();
    let numbers: Vec<_> = (0..8).filter_map(|_| world.send()).collect();
    assert_eq!(numbers.len(), 8);
    assert_eq!(
        world.admit(),
        SendTime::AfterResponse(Some(world.now + CONFIG.initial_window_timeout))
    );

    world.succeed(numbers[3], &RateLimitInfo::default());

    assert!((0..1000).all(|_| world.send().is_some()));
}

#[test]
fn a_slow_first_response_does_not_stall_others() {
    let mut world = TestQuota::new();
    assert_eq!((0..9).filter_map(|_| world.send()).count(), 8);

    world.advance(CONFIG.initial_window_timeout);

    assert!((0..1000).all(|_| world.send().is_some()));
}

#[test]
fn a_hanging_request_does_not_stall_requests_after_a_hold() {
    let mut world = TestQuota::new();
    let slow = world.send();
    let refused = world.send().unwrap();
    world.throttle(refused, &with_retry_after(secs(5)));
    assert!(slow.is_some());
    world.advance(secs(6));
    let SendTime::AfterResponse(Some(at)) = world.admit() else {
        panic!("{:?}", world.quota)
    };
    assert_eq!(at, world.now + 8 * CONFIG.initial_window_timeout);

    world.now = at;

    assert!(world.send().is_some() && world.send().is_some() && world.send().is_none());
}

#[test]
fn an_exhausted_quota_is_probed_after_max_hold() {
    let mut world = TestQuota::new();
    let first = world.send().unwrap();
    world.succeed(first, &announcing(100, 0, secs(20 * 3600)));

    assert_eq!(world.wait(), CONFIG.max_hold);
    let probe = world.send().unwrap();
    assert!(world.send().is_none());
    world.throttle(probe, &announcing(100, 0, secs(19 * 3600)));

    assert_eq!(world.wait(), CONFIG.max_hold);
}

#[test]
fn while_a_shared_quota_is_exhausted_the_next_probe_is_in_the_future() {
    let mut world = TestQuota::new();
    let numbers: Vec<_> = (0..8).filter_map(|_| world.send()).collect();
    // Nine of ten went to others.
    world.succeed(numbers[0], &announcing(100, 90, secs(60)));
    world.succeed(numbers[1], &announcing(100, 0, secs(60)));
    world.advance(secs(60));

    let SendTime::AfterResponse(Some(at)) = world.admit() else {
        panic!("{:?}", world.quota)
    };
    assert!(at > world.now);
}

#[test]
fn after_an_idle_period_an_exhausted_window_is_ignored() {
    let mut world = TestQuota::new();
    let window = |world: &mut TestQuota| {
        for _ in 0..100 {
            let number = world.send().unwrap();
            world.succeed(number, &RateLimitInfo::default());
        }
        let number = world.send().unwrap();
        world.throttle(number, &with_retry_after(secs(60)));
        world.wait();
    };
    window(&mut world);
    window(&mut world);
    for _ in 0..100 {
        let number = world.send().unwrap();
        world.succeed(number, &RateLimitInfo::default());
    }

    world.advance(secs(61 * 60));

    assert_eq!(world.wait(), Duration::ZERO);
}

#[test]
fn estimates_are_kept_for_an_hour() {
    let mut world = TestQuota::new();
    for hint in [60, 60] {
        let number = world.send().unwrap();
        world.succeed(number, &RateLimitInfo::default());
        let number = world.send().unwrap();
        world.throttle(number, &with_retry_after(secs(hint)));
        world.wait();
    }
    let number = world.send().unwrap();
    world.succeed(number, &RateLimitInfo::default());
    assert!(!world.quota.is_idle(world.now + secs(3599)));
    assert!(world.quota.is_idle(world.now + secs(3600)));
}
