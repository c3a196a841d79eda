//! Servers with a concurrency limit.

use super::{
    super::concurrency::{Cause, ThrottledRequest},
    simulation::{Load, Server, run},
    *,
};
use crate::rate_limit_retry::headers::Unit;

/// Processes a number of requests at a time, which may change, and throttles the rest at once.
struct Slots {
    /// The number of slots from a time on, in microseconds.
    steps: Vec<(u64, usize)>,
    service: u64,
    hint: Option<Duration>,
    running: usize,
}

impl Slots {
    fn new(slots: usize, service: u64) -> Self {
        Self {
            steps: vec![(0, slots)],
            service,
            hint: None,
            running: 0,
        }
    }
}

impl Server for Slots {
    fn take(&mut self, at: u64) -> (Result<u64, ()>, RateLimitInfo) {
        let slots = self
            .steps
            .iter()
            .rev()
            .find(|(from, _)| *from <= at)
            .unwrap()
            .1;
        if self.running >= slots {
            let info = RateLimitInfo {
                retry_after: self.hint,
                ..RateLimitInfo::default()
            };
            return (Err(()), info);
        }
        self.running += 1;
        (Ok(self.service), RateLimitInfo::default())
    }

    fn finish(&mut self, _at: u64) {
        self.running -= 1;
    }
}

fn load(workers: usize, jobs: usize, rtt: u64) -> Load {
    Load {
        processes: 1,
        workers,
        jobs,
        rtt,
        seed: 1,
    }
}

/// Returns the time ÷ the minimum, with a round trip for each request, and the share of throttled requests.
fn play(server: &mut Slots, workers: usize, jobs: usize, rtt: u64) -> (f64, f64) {
    let (slots, service) = (server.steps[0].1 as f64, server.service as f64 / 1e6);
    let figures = run(server, load(workers, jobs, rtt * 1000));
    let least = (jobs as f64 / slots).ceil() * (service + rtt as f64 / 1e3);
    let throttled = figures.throttled as f64 / jobs as f64;
    println!(
        "{slots} × {service} s: {:.3} {throttled:.3}",
        figures.seconds / least
    );
    (figures.seconds / least, throttled)
}

#[test]
fn all_slots_of_a_server_are_used_and_few_requests_throttled() {
    for (slots, service, workers, jobs) in [
        (1, 150_000, 16, 600),
        (3, 20_000, 16, 2000),
        (3, 2_000_000, 16, 300),
        (8, 200_000, 16, 2000),
        (8, 200_000, 64, 2000),
        (10, 150_000, 64, 2000),
        (100, 2_000_000, 256, 6000),
    ] {
        for rtt in [2, 40] {
            let mut server = Slots::new(slots, service);
            let (time, throttled) = play(&mut server, workers, jobs, rtt);
            assert!(time <= 1.06, "{slots} × {service}: {time}");
            assert!(throttled <= 0.05, "{slots} × {service}: {throttled}");
        }
    }
}

#[test]
fn a_wait_of_a_second_holds_the_throttled_request_only() {
    for workers in [16, 64] {
        let mut server = Slots::new(8, 200_000);
        server.hint = Some(secs(1));
        let (time, throttled) = play(&mut server, workers, 2000, 2);
        assert!(time <= 1.08, "{workers}: {time}");
        assert!(throttled <= 0.05, "{workers}: {throttled}");
    }
}

/// With even spacing, more requests than slots can be in flight, because some of them are in transit.
#[test]
fn the_round_trip_is_used_too() {
    let mut server = Slots::new(8, 200_000);
    let (time, throttled) = play(&mut server, 16, 2000, 40);
    // 1.1 times what the slots need; with at most as many requests in flight as slots, it would be 1.2.
    assert!(time <= 1.1 * 200.0 / 240.0, "{time}");
    assert!(throttled <= 0.05, "{throttled}");
}

#[test]
fn a_changed_number_of_slots_is_found() {
    let mut server = Slots::new(10, 150_000);
    server.steps = vec![(0, 10), (10_000_000, 3), (40_000_000, 10)];
    let figures = run(&mut server, load(64, 6000, 2000));
    let rate = |from: f64, until: f64| {
        let accepted = figures
            .log
            .iter()
            .filter(|(at, ok)| *ok && *at >= from && *at < until);
        accepted.count() as f64 / (until - from)
    };
    let full = 10.0 / 0.152;
    assert!(rate(2.0, 10.0) > 0.95 * full, "{}", rate(2.0, 10.0));
    assert!(rate(12.0, 40.0) > 0.9 * 0.3 * full, "{}", rate(12.0, 40.0));
    // After 200 accepted requests, the limit has grown again.
    let recovered = figures.log.iter().filter(|(at, ok)| *ok && *at >= 40.0);
    let recovered = recovered.map(|(at, _)| *at).nth(200).unwrap();
    let rate = rate(recovered, recovered + 10.0);
    assert!(rate > 0.9 * full, "{rate} from {recovered}");
    assert!(figures.throttled < 6000 / 20, "{}", figures.throttled);
}

/// Accepts a number of requests in each window, whose processing takes `service`, and throttles others at once.
struct Windows {
    limit: u64,
    window: u64,
    service: u64,
    hinted: bool,
    used: (u64, u64),
}

impl Server for Windows {
    fn take(&mut self, at: u64) -> (Result<u64, ()>, RateLimitInfo) {
        let number = at / self.window;
        if self.used.0 != number {
            self.used = (number, 0);
        }
        self.used.1 += 1;
        if self.used.1 <= self.limit {
            return (Ok(self.service), RateLimitInfo::default());
        }
        let wait = Duration::from_micros((number + 1) * self.window - at);
        let info = RateLimitInfo {
            retry_after: self.hinted.then(|| secs(wait.as_secs() + 1)),
            ..RateLimitInfo::default()
        };
        (Err(()), info)
    }
}

#[test]
fn a_rate_is_not_taken_for_concurrency() {
    for (limit, window, service, workers, most) in [
        // 49 a second at 20 ms: fewer than one in flight.
        (49, 1_000_000, 0, 8, 0.06),
        // 300 a second, with more workers than that.
        (300, 1_000_000, 0, 1600, 1.0),
        (300, 60_000_000, 0, 16, 0.06),
        (300, 60_000_000, 200_000, 16, 0.08),
    ] {
        let mut server = Windows {
            limit,
            window,
            service,
            hinted: false,
            used: (0, 0),
        };
        let jobs = (limit * 10).max(3200) as usize;
        let figures = run(&mut server, load(workers, jobs, 20_000));
        let least = jobs as f64 / limit as f64 * window as f64 / 1e6;
        let throttled = figures.throttled as f64 / jobs as f64;
        println!(
            "{limit} in {window}: {:.3} {throttled:.3}",
            figures.seconds / least
        );
        assert!(
            figures.seconds <= 1.25 * least,
            "{limit}: {}",
            figures.seconds / least
        );
        assert!(throttled <= most, "{limit}: {throttled}");
    }
}

/// Throttles 1 % at random.
struct Chance(fastrand::Rng);

impl Server for Chance {
    fn take(&mut self, _at: u64) -> (Result<u64, ()>, RateLimitInfo) {
        let accepted = self.0.f64() >= 0.01;
        (
            accepted.then_some(150_000).ok_or(()),
            RateLimitInfo::default(),
        )
    }
}

#[test]
fn random_throttling_does_not_stop_a_client() {
    let mut server = Chance(fastrand::Rng::with_seed(1));
    let figures = run(&mut server, load(16, 8000, 4000));
    let least = 8000.0 / 16.0 * 0.154;
    assert!(figures.seconds < 1.3 * least, "{}", figures.seconds / least);
}

#[test]
fn an_announced_limit_bounds_what_is_in_flight() {
    let announcing = |limit, remaining| RateLimitInfo {
        limits: vec![Limit {
            unit: Unit::ConcurrentRequests,
            limit,
            remaining,
            ..Limit::default()
        }],
        ..RateLimitInfo::default()
    };
    for (limit, remaining, total) in [
        (Some(3), None, 3),
        // One that ends and four more; other clients use the rest.
        (Some(10), Some(4), 5),
        (None, Some(4), 5),
        (Some(10), Some(20), 10),
        (Some(0), None, 1),
    ] {
        let mut world = TestQuota::new();
        let number = world.send().unwrap();
        world.succeed(number, &announcing(limit, remaining));
        let sent = (0..100).filter_map(|_| world.send()).count();
        assert_eq!(sent, total, "{limit:?} {remaining:?}");
        assert_eq!(world.admit(), SendTime::AfterResponse(None));
    }
}

#[test]
fn requests_that_end_without_a_response_limit_nothing() {
    let mut world = TestQuota::new();
    let numbers: Vec<_> = (0..8).filter_map(|_| world.send()).collect();
    world.advance(secs(30));
    for number in numbers {
        world.record(number, Outcome::Unknown);
    }
    assert!((0..1000).all(|_| world.send().is_some()));
}

/// They were admitted before the first 429 began the hold that prevented their send.
#[test]
fn requests_that_were_not_sent_are_not_counted() {
    let mut world = TestQuota::new();
    let numbers: Vec<_> = (0..20).map(|_| world.enter()).collect();
    world.throttle(numbers[8], &with_retry_after(secs(1)));
    for number in &numbers[9..] {
        world.record(*number, Outcome::NotSent);
    }
    world.advance(secs(2));
    assert_eq!(world.send(), None);

    for number in &numbers[..8] {
        world.succeed(*number, &RateLimitInfo::default());
    }

    assert_eq!((0..100).filter_map(|_| world.send()).count(), 8);
}

#[test]
fn a_learned_limit_is_forgotten_after_ten_minutes() {
    let mut world = TestQuota::new();
    let numbers: Vec<_> = (0..20).map(|_| world.enter()).collect();
    for number in &numbers[8..] {
        world.throttle(*number, &RateLimitInfo::default());
    }
    assert_eq!(world.send(), None);
    for number in &numbers[..8] {
        world.succeed(*number, &RateLimitInfo::default());
    }
    assert_eq!((0..100).filter_map(|_| world.send()).count(), 8);

    world.advance(secs(600));

    assert!((0..100).all(|_| world.send().is_some()));
}

#[test]
fn a_throttle_during_a_long_poll_does_not_stop_the_client() {
    let mut world = TestQuota::new();
    let _poll = world.send().unwrap();
    let number = world.send().unwrap();
    world.throttle(number, &with_retry_after(secs(1)));
    let began = world.now;

    while world.send().is_none() {
        match world.admit() {
            SendTime::AfterResponse(Some(at)) | SendTime::NotBefore(at) => world.now = at,
            other => panic!("{other:?}"),
        }
    }

    assert!(world.now - began <= secs(11), "{:?}", world.now - began);
}

/// 9 callers send a little more than a bucket refills, and 8 a little less: as if 8 at a time were the limit.
#[test]
fn the_wait_after_many_requests_at_the_same_level_holds_all() {
    let throttled = |number, next, in_flight| ThrottledRequest {
        number,
        next,
        in_flight,
        hint: Some(secs(1)),
        exhausted: false,
    };
    // Accepted at a limit of 8, with 9 in flight since the last growth, and whether the wait holds all requests.
    for (accepted, held) in [(9, false), (35, false), (36, true), (400, true)] {
        let (mut limit, now) = (ConcurrencyLimit::default(), origin());
        let cause = limit.on_throttle(&throttled(8, 9, 8), now);
        assert_eq!(cause, Cause::Undecided);
        let mut number = 9;
        while limit.is_on_trial() {
            limit.admit(8, now);
            limit.on_success(number, 8, now);
            number += 1;
        }
        for _ in 0..accepted {
            limit.on_success(number, 9, now);
            number += 1;
        }

        let [first, straggler] = [8, 7]
            .map(|in_flight| limit.on_throttle(&throttled(number, number + 1, in_flight), now));

        assert_eq!(first, Cause::Concurrency { held }, "{accepted}");
        assert_eq!(straggler, Cause::Concurrency { held }, "{accepted}");
    }
}
