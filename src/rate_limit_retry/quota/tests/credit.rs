//! When threads may send without asking, and how many.

use super::*;

/// A quota that has announced that `remaining` of 1,000 requests remain.
fn announced(remaining: u64) -> TestQuota {
    let mut world = TestQuota::new();
    let number = world.send().unwrap();
    world.succeed(number, &announcing(1000, remaining, secs(60)));
    world
}

fn terms(world: &TestQuota, threads: u32) -> Option<CreditTerms> {
    world.quota.credit_terms(threads, &world.config)
}

#[test]
fn all_threads_together_reserve_an_eighth_of_what_remains() {
    for (remaining, threads, per_thread) in [(1000, 1, 125), (1000, 4, 31), (160, 2, 10)] {
        let terms = terms(&announced(remaining), threads).unwrap();

        assert_eq!(terms.per_thread, per_thread);
        assert_eq!(terms.floor, 2 * u64::from(per_thread * threads));
    }
}

#[test]
fn near_the_limit_each_request_asks() {
    assert!(terms(&announced(16), 1).is_some());
    assert!(terms(&announced(15), 1).is_none());
    assert!(terms(&announced(16), 2).is_none());
}

#[test]
fn requests_in_flight_raise_the_floor() {
    let mut world = announced(1000);
    let before = terms(&world, 2).unwrap();
    for _ in 0..100 {
        world.send().unwrap();
    }

    let after = terms(&world, 2).unwrap();

    assert!(after.per_thread < before.per_thread);
    let reserved = u64::from(after.per_thread) * 2;
    assert_eq!(after.floor, 2 * (reserved + 100));
}

#[test]
fn anything_else_that_delays_requests_ends_credits() {
    let changes: [fn(&mut TestQuota); 6] = [
        |world| world.quota.pause(world.now + secs(1)),
        |world| world.quota.hold(world.now + secs(1)),
        |world| world.config.pacing = Pacing::Even,
        // Another quota, which is not announced, has throttled.
        |world| {
            let number = world.send().unwrap();
            let mut info = announcing(1000, 900, secs(60));
            info.retry_after = Some(secs(1));
            world.throttle(number, &info);
            world.advance(secs(2));
            let _ = world.admit();
        },
        // The server does not announce its quota any more.
        |world| {
            let number = world.send().unwrap();
            world.succeed(number, &RateLimitInfo::default());
        },
        // A quota of another unit.
        |world| {
            let mut info = announcing(1000, 900, secs(60));
            info.limits[0].name = Some("tokens".into());
            info.limits[0].unit = crate::rate_limit_retry::headers::Unit::Other;
            let number = world.send().unwrap();
            world.succeed(number, &info);
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut world = announced(1000);
        assert!(terms(&world, 1).is_some());
        change(&mut world);

        assert_eq!(terms(&world, 1), None, "change {at}");
    }
}

#[test]
fn what_threads_may_still_send_is_reserved() {
    let mut world = announced(100);
    world.quota.on_credits_used(Usage::default(), 10, 30);

    let sent = (0..100).take_while(|_| world.send().is_some()).count();

    assert_eq!(sent, 60);
}

#[test]
fn what_was_used_is_recorded_as_if_it_had_been_counted() {
    let mut world = announced(1000);
    let used = Usage {
        sent: 300,
        accepted: 290,
        lowest: Some(700),
    };
    world.quota.on_credits_used(used, 10, 0);

    assert_eq!(world.quota.announced_quota().1, Some(700));
    assert_eq!(world.quota.in_flight(), 10);
    // What is known already is not raised.
    let used = Usage {
        lowest: Some(800),
        ..used
    };
    world.quota.on_credits_used(used, 0, 0);
    assert_eq!(world.quota.announced_quota().1, Some(700));
    // A response to a later request shows that others use next to nothing of the quota.
    let number = world.send().unwrap();
    world.succeed(number, &announcing(1000, 409, secs(60)));
    let terms = terms(&world, 1).unwrap();
    assert!((48..=51).contains(&terms.per_thread), "{terms:?}");
}

#[test]
fn a_converted_request_belongs_to_the_epoch_of_its_terms() {
    let mut world = announced(1000);
    world.quota.on_credits_used(
        Usage {
            sent: 5,
            ..Usage::default()
        },
        5,
        20,
    );
    let converted = world.quota.enter_from_credit(Some(0));
    let mut info = announcing(1000, 0, secs(60));
    info.retry_after = Some(secs(30));

    let held = world.throttle(converted, &info);

    assert!(held >= Some(world.now + secs(30)));
    // Another one, whose terms the hold has ended, is about the time before.
    let late = world.quota.enter_from_credit(Some(0));
    assert!(late < converted + 6);
    world.succeed(late, &announcing(1000, 1000, secs(60)));
    assert_eq!(world.quota.held_until(world.now), held);
}
