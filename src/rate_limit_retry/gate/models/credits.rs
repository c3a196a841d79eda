//! Requests on credit beside everything that ends their terms.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::rate_limit_retry::headers::Limit;

/// The fields of a response after which `remaining` of 100 requests remain.
fn fields(remaining: u64) -> HeaderMap {
    let field = |name, value: u64| (HeaderName::from_static(name), HeaderValue::from(value));
    HeaderMap::from_iter([
        field("x-ratelimit-limit", 100),
        field("x-ratelimit-remaining", remaining),
    ])
}

/// What these fields mean.
fn info(remaining: u64) -> RateLimitInfo {
    let mut info = RateLimitInfo::default();
    info.limits.push(Limit {
        limit: Some(100),
        remaining: Some(remaining),
        reset: Some(HOUR),
        ..Limit::default()
    });
    info
}

impl TestGate {
    /// Reports a success after which `remaining` requests remain.
    fn announce(&self, permit: Permit, remaining: u64) {
        let outcome = Outcome::Response {
            throttled: false,
            info: &info(remaining),
        };
        permit.settle(outcome, self.now);
    }

    /// Gives credits to one thread, which has learned the fields of the server.
    fn lend(&self, keys: &Keys) -> Arc<ThreadCredits> {
        for remaining in [100, 99] {
            self.announce(self.admit_now(keys), remaining);
        }
        let credits = self.gate.add_thread(keys).unwrap();
        credits.renew();
        for remaining in [100, 99] {
            credits.learn(&fields(remaining), None, &info(remaining));
        }
        credits
    }
}

/// Takes a permit on credit, if the terms allow it.
fn take(credits: &Arc<ThreadCredits>) -> Option<Permit> {
    credits.take().map(Permit::on_credit)
}

/// Sends one request on credit, if the terms allow it, and ends it.
fn use_credit(credits: &Arc<ThreadCredits>, world: &TestGate) {
    if let Some(mut permit) = take(credits)
        && !permit.finish_on_credit(&fields(98), None)
    {
        world.announce(permit, 98);
    }
}

#[test]
fn loom_a_hold_ends_credits() {
    explore("a credit taken beside a hold", || {
        let (world, keys) = (TestGate::new(2), keys(["a"]));
        let credits = world.lend(&keys);
        let throttled = world.admit_now(&keys);
        let held = Arc::new(AtomicBool::new(false));
        let hold = in_thread(&world, {
            let held = Arc::clone(&held);
            move |world| {
                world.throttle(throttled, 10 * SECOND);
                held.store(true, SeqCst);
            }
        });
        let before = held.load(SeqCst);
        if let Some(mut permit) = take(&credits) {
            assert!(!before, "taken during the hold");
            // In flight at the hold: it is finished or converted.
            if !permit.finish_on_credit(&fields(98), None) {
                world.announce(permit, 98);
            }
        }
        hold.join().unwrap();
        assert!(take(&credits).is_none());
        world.assert_idle();
    });
}

#[test]
fn loom_a_request_on_credit_is_counted_by_every_admission() {
    explore("a credit taken beside the end of its terms", || {
        let (world, keys) = (TestGate::new(2), keys(["a"]));
        let credits = world.lend(&keys);
        let key = keys[0].clone();
        let pause = in_thread(&world, move |world| {
            world.gate.pause(&key, world.now + SECOND, world.now);
        });
        let permit = take(&credits);
        pause.join().unwrap();
        let in_flight = world.gate.inspect(|_, quota, _| quota.in_flight());
        assert_eq!(in_flight, [u32::from(permit.is_some())]);
        drop(permit);
        world.assert_idle();
    });
}

#[test]
fn loom_the_end_of_a_request_on_credit_releases_waiters() {
    explore("a credit that ends beside a waiter", || {
        let (world, keys) = (TestGate::new(2), keys(["a"]));
        let credits = world.lend(&keys);
        let mut on_credit = take(&credits).unwrap();
        let counted = world.admit_now(&keys);
        let ends = in_thread(&world, move |world| {
            if !on_credit.finish_on_credit(&fields(98), None) {
                world.announce(on_credit, 98);
            }
        });
        // Only one more request is left, which the one on credit may have used.
        world.announce(counted, 1);
        match world.admit(&keys) {
            Admission::Admitted(permit) => drop(permit),
            Admission::Queued(waiter) => drop(world.wait_for_permit(waiter)),
            other => panic!("{other:?}"),
        }
        ends.join().unwrap();
        world.assert_idle();
    });
}

#[test]
fn loom_forgetting_a_partition_ends_credits() {
    explore("a credit used beside a forget", || {
        let (world, keys) = (TestGate::new(2), keys(["a"]));
        let credits = world.lend(&keys);
        let key = keys[0].clone();
        let forgets = in_thread(&world, move |world| world.gate.forget(&key, world.now));
        use_credit(&credits, &world);
        forgets.join().unwrap();
        world.assert_idle();
    });
}

#[test]
fn loom_another_window_begins_other_terms() {
    explore("a credit used beside the next window", || {
        let (world, keys) = (TestGate::new(2), keys(["a"]));
        let credits = world.lend(&keys);
        let counted = world.admit_now(&keys);
        let resets = in_thread(&world, move |world| {
            let next = TestGate {
                now: world.now + 2 * HOUR,
                ..world.clone()
            };
            next.announce(counted, 99);
        });
        use_credit(&credits, &world);
        resets.join().unwrap();
        // What was announced for the former window does not apply to this one.
        let remaining = world.gate.inspect(|_, quota, _| quota.announced_quota().1);
        assert!(remaining[0] >= Some(98), "{remaining:?}");
        world.assert_idle();
    });
}

#[test]
fn loom_credits_of_a_thread_that_ends_leave_nothing() {
    explore("credits dropped beside an admission", || {
        let (world, keys) = (TestGate::new(2), keys(["a"]));
        let credits = world.lend(&keys);
        let permit = take(&credits);
        let ends = in_thread(&world, move |_| drop((permit, credits)));
        drop(world.admit_now(&keys));
        ends.join().unwrap();
        world.assert_idle();
    });
}
