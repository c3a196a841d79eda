//! Requests on credit, with a server that counts, in random order.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

/// Takes a permit on credit, if the terms allow it.
fn take(credits: &Arc<ThreadCredits>) -> Option<Permit> {
    credits.take().map(Permit::on_credit)
}

/// A request that was sent.
struct Sent {
    permit: Permit,
    /// What remains after it, once the server has counted it; `None` if the server has rejected it.
    counted: Option<Option<u64>>,
}

/// Several threads and a server with one window.
struct World {
    gate: Gate,
    keys: Keys,
    now: Instant,
    threads: Vec<Option<Arc<ThreadCredits>>>,
    limit: u64,
    used: u64,
    sent: Vec<Sent>,
    on_credit: u64,
    rejected: u64,
    cancelled: u64,
}

impl World {
    fn new(threads: usize, limit: u64) -> Self {
        Self {
            gate: gate(),
            keys: keys("a"),
            now: Instant::now(),
            threads: vec![None; threads],
            limit,
            used: 0,
            sent: Vec::new(),
            on_credit: 0,
            rejected: 0,
            cancelled: 0,
        }
    }

    /// Sends a request as a thread does: on credit, or else through the gate. Returns whether it was sent.
    fn send(&mut self, thread: usize) -> bool {
        let credits = self.threads[thread].clone();
        let permit = if let Some(permit) = credits.as_ref().and_then(take) {
            self.on_credit += 1;
            permit
        } else {
            let request = AdmitRequest {
                keys: &self.keys,
                origin: None,
                sequence: None,
                deadline: None,
                load: &Load::ONE,
                tracks_cost: false,
                allow_fast_path: true,
            };
            let Admission::Admitted(mut permit) = self.gate.admit(&request, self.now) else {
                return false;
            };
            if permit.offers_credits() {
                let credits = credits
                    .or_else(|| self.gate.add_thread(&self.keys))
                    .unwrap();
                credits.renew();
                permit.set_credits(Arc::clone(&credits));
                self.threads[thread] = Some(credits);
            }
            permit
        };
        self.sent.push(Sent {
            permit,
            counted: None,
        });
        true
    }

    /// The server counts one of the requests that it has not counted yet.
    fn count(&mut self, which: usize) {
        let mut waiting = self.sent.iter_mut().filter(|sent| sent.counted.is_none());
        let many = waiting.by_ref().count();
        if many == 0 {
            return;
        }
        let mut waiting = self.sent.iter_mut().filter(|sent| sent.counted.is_none());
        let sent = waiting.nth(which % many).unwrap();
        let accepted = self.used < self.limit;
        self.used += u64::from(accepted);
        self.rejected += u64::from(!accepted);
        sent.counted = Some(accepted.then_some(self.limit - self.used));
    }

    /// One of the responses arrives.
    fn respond(&mut self, which: usize) {
        let counted = |(at, sent): (usize, &Sent)| sent.counted.map(|_| at);
        let arrived: Vec<_> = self.sent.iter().enumerate().filter_map(counted).collect();
        if arrived.is_empty() {
            return;
        }
        let mut sent = self.sent.swap_remove(arrived[which % arrived.len()]);
        let remaining = sent.counted.flatten();
        let (headers, info) = response(self.limit, remaining.unwrap_or_default());
        let throttled = remaining.is_none();
        if !throttled && sent.permit.finish_on_credit(&headers, None) {
            return;
        }
        sent.permit.count();
        if !throttled && let Some(credits) = sent.permit.credits() {
            credits.learn(&headers, None, &info);
        }
        let outcome = Outcome::Response {
            throttled,
            info: &info,
        };
        sent.permit.settle(outcome, self.now);
    }
}

/// The fields of a response, and what they mean.
fn response(limit: u64, remaining: u64) -> (HeaderMap, RateLimitInfo) {
    let field = |name, value: u64| (HeaderName::from_static(name), HeaderValue::from(value));
    let headers = HeaderMap::from_iter([
        field("x-ratelimit-limit", limit),
        field("x-ratelimit-remaining", remaining),
        field("x-ratelimit-reset", 3600),
    ]);
    let mut info = RateLimitInfo::default();
    info.limits.push(Limit {
        limit: Some(limit),
        remaining: Some(remaining),
        reset: Some(HOUR),
        ..Limit::default()
    });
    (headers, info)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn threads_together_never_exceed_an_announced_quota(
        threads in 1_usize..5,
        limit in 20_u64..2000,
        steps in prop::collection::vec((0_u8..8, any::<prop::sample::Index>(), 1_usize..20), 100..400),
    ) {
        let mut world = World::new(threads, limit);
        // Before the first response, nothing is announced.
        prop_assert!(world.send(0));
        world.count(0);
        world.respond(0);
        for (what, which, often) in steps {
            for _ in 0..often {
                let which = which.index(1 << 20);
                match what {
                    0..3 => drop(world.send(which % threads)),
                    3..5 => world.count(which),
                    5..7 => world.respond(which),
                    // A request that the server has counted, or not, is cancelled.
                    _ if !world.sent.is_empty() && often == 1 => {
                        let at = which % world.sent.len();
                        drop(world.sent.swap_remove(at));
                        world.cancelled += 1;
                    }
                    _ => {}
                }
                let in_flight = world.gate.inspect(|_, quota, _| quota.in_flight());
                prop_assert_eq!(u64::from(in_flight.first().copied().unwrap_or(0)), world.sent.len() as u64);
            }
        }
        // The rest of the window, one by one.
        while !world.sent.is_empty() {
            world.count(0);
            world.respond(0);
        }
        while world.send(0) {
            world.count(0);
            world.respond(0);
        }

        // Whether the server has counted a cancelled request is not known, neither before nor after another response.
        let cancelled = world.cancelled;
        prop_assert!(world.rejected <= cancelled, "{} rejected, {cancelled} cancelled", world.rejected);
        prop_assert!(world.used + cancelled >= limit, "{} of {limit}", world.used);
        prop_assert_eq!(world.gate.inspect(|_, quota, _| quota.in_flight()), [0]);
    }
}

#[test]
fn most_requests_of_a_window_are_sent_on_credit() {
    let mut world = World::new(4, 5000);
    let mut thread = 0;
    while world.send(thread % 4) {
        world.count(0);
        world.respond(0);
        thread += 1;
    }

    assert_eq!((world.used, world.rejected), (5000, 0));
    // All but those that warm the threads up, and the last ones.
    assert!(world.on_credit > 4800, "{}", world.on_credit);
}

#[test]
fn a_hold_a_pause_and_a_forgotten_partition_end_credits() {
    let ends: [fn(&World); 3] = [
        |world| {
            let key = &world.keys[0];
            world.gate.pause(key, world.now + SECOND, world.now);
        },
        |world| world.gate.forget(&world.keys[0], world.now),
        |world| {
            let Admission::Admitted(permit) = admit(&world.gate, &world.keys, world.now) else {
                panic!("there is room")
            };
            let info = RateLimitInfo {
                retry_after: Some(SECOND),
                ..RateLimitInfo::default()
            };
            let outcome = Outcome::Response {
                throttled: true,
                info: &info,
            };
            permit.settle(outcome, world.now);
        },
    ];
    for end in ends {
        let mut world = World::new(1, 5000);
        for _ in 0..10 {
            assert!(world.send(0));
            world.count(0);
            world.respond(0);
        }
        let credits = world.threads[0].clone().unwrap();
        drop(take(&credits).expect("on credit"));

        end(&world);

        assert!(take(&credits).is_none());
    }
}

#[test]
fn a_429_on_credit_holds_the_partition() {
    let mut world = World::new(2, 5000);
    for thread in 0..20 {
        assert!(world.send(thread % 2));
        world.count(0);
        world.respond(0);
    }
    let on_credit = world.threads[0].as_ref().and_then(take);
    let permit = on_credit.expect("on credit");
    let info = RateLimitInfo {
        retry_after: Some(30 * SECOND),
        ..RateLimitInfo::default()
    };
    let outcome = Outcome::Response {
        throttled: true,
        info: &info,
    };
    let settled = permit.settle(outcome, world.now);

    assert!(settled.held_until >= Some(world.now + 30 * SECOND));
    let other = world.threads[1].as_ref().and_then(take);
    assert!(other.is_none());
    assert!(!world.send(1));
}

#[test]
fn credits_are_reserved_for_threads_that_exist() {
    let mut world = World::new(1, 5000);
    for _ in 0..10 {
        assert!(world.send(0));
        world.count(0);
        world.respond(0);
    }
    // Threads that come and go reserve nothing for long.
    for _ in 0..1000 {
        drop(world.gate.add_thread(&world.keys));
    }

    world.threads[0].as_ref().unwrap().renew();
    assert!(world.threads[0].as_ref().and_then(take).is_some());
}
