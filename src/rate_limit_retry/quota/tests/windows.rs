//! Several announced quotas, the cost of requests, refills and replicas.

use super::*;
use crate::rate_limit_retry::headers::Unit;

/// A quota with a name, of which `remaining` is left.
fn named(name: &str, unit: Unit, limit: u64, remaining: u64, reset: Option<Duration>) -> Limit {
    Limit {
        name: Some(name.to_owned()),
        unit,
        limit: Some(limit),
        remaining: Some(remaining),
        reset,
        ..Limit::default()
    }
}

fn info(limits: Vec<Limit>) -> RateLimitInfo {
    RateLimitInfo {
        limits,
        ..RateLimitInfo::default()
    }
}

#[test]
fn each_named_quota_delays_by_itself() {
    let mut world = TestQuota::new();
    let number = world.send().unwrap();
    let both = info(vec![
        named("burst", Unit::Requests, 10, 0, Some(secs(2))),
        named("daily", Unit::Requests, 1000, 1, Some(secs(3600))),
    ]);
    world.succeed(number, &both);
    assert_eq!(world.wait(), secs(2));

    // The daily quota is exhausted, and the announcement of the other one does not change that.
    let number = world.send().unwrap();
    world.succeed(
        number,
        &info(vec![named(
            "daily",
            Unit::Requests,
            1000,
            0,
            Some(secs(600)),
        )]),
    );
    let number = world.enter();
    world.succeed(
        number,
        &info(vec![named("burst", Unit::Requests, 10, 9, Some(secs(2)))]),
    );

    assert_eq!(world.wait(), secs(600));
}

#[test]
fn quotas_without_a_name_are_distinguished_by_their_limit() {
    let mut world = TestQuota::new();
    let number = world.send().unwrap();
    world.succeed(number, &announcing(100, 0, secs(120)));
    let number = world.enter();
    // The server announces the one that is nearest to exhaustion.
    world.succeed(number, &announcing(20, 19, secs(1)));

    assert_eq!(world.wait(), secs(120));
}

#[test]
fn a_server_that_names_a_new_quota_each_time_uses_bounded_memory() {
    let mut world = TestQuota::new();
    for n in 0..10_000 {
        let number = world.enter();
        world.succeed(
            number,
            &info(vec![named(
                &format!("q{n}"),
                Unit::Requests,
                9,
                9,
                Some(secs(9)),
            )]),
        );
    }
    assert!(world.quota.windows.iter().count() <= 16);
    assert_eq!(world.admit(), SendTime::Now);
}

#[test]
fn the_cost_of_requests_in_tokens_is_learned() {
    let mut world = TestQuota::new();
    let tokens = |left| {
        info(vec![named(
            "tokens",
            Unit::Other,
            10_000,
            left,
            Some(secs(60)),
        )])
    };
    let mut left = 10_000;
    for _ in 0..8 {
        let number = world.enter();
        left -= 1000;
        world.succeed(number, &tokens(left));
    }
    // 2,000 tokens are left, for two requests.
    assert!(world.send().is_some() && world.send().is_some());
    assert!(matches!(world.admit(), SendTime::AfterResponse(Some(_))));
}

#[test]
fn a_request_waits_until_what_it_costs_remains() {
    let mut world = TestQuota::new();
    let number = world.enter();
    let left = info(vec![named(
        "tokens",
        Unit::Other,
        10_000,
        900,
        Some(secs(60)),
    )]);
    world.succeed(number, &left);
    let admit = |world: &mut TestQuota, tokens| {
        let load = Load::of(Cost::new().with("tokens", tokens), None);
        world.quota.admit(&load, &world.config, world.now)
    };

    assert_eq!(admit(&mut world, 900), SendTime::Now);
    assert_eq!(
        admit(&mut world, 901),
        SendTime::NotBefore(world.now + secs(60))
    );
    assert_eq!(admit(&mut world, 10_001), SendTime::Never);

    // What is in flight has reserved its part.
    let load = Load::of(Cost::new().with("tokens", 600), None);
    let first = world.quota.enter(&load, &world.config, world.now);
    assert_eq!(admit(&mut world, 300), SendTime::Now);
    assert!(matches!(admit(&mut world, 301), SendTime::AfterResponse(_)));
    let (sent, outcome) = (
        Sent {
            number: first,
            load: &load,
        },
        Outcome::NotSent,
    );
    world.quota.record(
        sent,
        outcome,
        Scope::Partition,
        &world.config,
        0.0,
        Some(world.now),
    );
    assert_eq!(admit(&mut world, 900), SendTime::Now);
}

#[test]
fn the_cost_of_each_route_is_learned() {
    let mut world = TestQuota::new();
    let [cheap, dear] =
        ["/search", "/export"].map(|path| Load::of(Cost::ONE, Some(RouteClass::of("GET", path))));
    let tokens = |left| {
        let limit = named("tokens", Unit::Other, 100_000, left, Some(secs(60)));
        info(vec![limit])
    };
    let mut left = 100_000;
    let mut send = |world: &mut TestQuota, load: &Load| {
        let number = world.quota.enter(load, &world.config, world.now);
        left -= if load.route == dear.route { 2_000 } else { 10 };
        let left = tokens(left);
        let (sent, outcome) = (
            Sent { number, load },
            Outcome::Response {
                throttled: false,
                info: &left,
            },
        );
        let now = Some(world.now);
        let scope = Scope::Partition;
        world
            .quota
            .record(sent, outcome, scope, &world.config, 0.0, now);
    };
    for _ in 0..46 {
        send(&mut world, &cheap);
        send(&mut world, &dear);
    }
    let admit =
        |world: &mut TestQuota, load: &Load| world.quota.admit(load, &world.config, world.now);

    // 7,540 are left: for three of the dear requests and many of the others.
    for _ in 0..2 {
        assert_eq!(admit(&mut world, &dear), SendTime::Now);
        world.quota.enter(&dear, &world.config, world.now);
    }
    world.quota.enter(&dear, &world.config, world.now);
    assert!(matches!(
        admit(&mut world, &dear),
        SendTime::AfterResponse(_)
    ));
    assert_eq!(admit(&mut world, &cheap), SendTime::Now);
    // All of it comes back when they end without having been sent.
    for number in [92, 93, 94] {
        let sent = Sent {
            number,
            load: &dear,
        };
        let now = Some(world.now);
        let scope = Scope::Partition;
        world
            .quota
            .record(sent, Outcome::NotSent, scope, &world.config, 0.0, now);
    }
    assert_eq!(admit(&mut world, &dear), SendTime::Now);
}

#[test]
fn a_reported_cost_returns_what_was_reserved_in_excess() {
    let mut world = TestQuota::new();
    let load = Load::of(Cost::new().with("tokens", 800), None);
    let number = world.quota.enter(&load, &world.config, world.now);
    let left = info(vec![named(
        "tokens",
        Unit::Other,
        1000,
        200,
        Some(secs(60)),
    )]);
    let sent = Sent {
        number,
        load: &load,
    };
    let outcome = Outcome::Response {
        throttled: false,
        info: &left,
    };
    world.quota.record(
        sent,
        outcome,
        Scope::Partition,
        &world.config,
        0.0,
        Some(world.now),
    );
    let next = Load::of(Cost::new().with("tokens", 700), None);
    let admit = |world: &mut TestQuota| world.quota.admit(&next, &world.config, world.now);
    assert!(matches!(admit(&mut world), SendTime::NotBefore(_)));

    let used = Cost::new().with("tokens", 300);
    world.quota.settle_cost(&load, Some(&used));

    assert_eq!(admit(&mut world), SendTime::Now);
}

#[test]
fn requests_do_not_wait_for_a_reset_that_means_full_again() {
    let mut world = TestQuota::new();
    // 1 a second, 100 at most: the reset is when the bucket is full.
    let bucket = |used: u64| announcing(100, 100 - used, secs(used));
    for used in 1..=100 {
        let number = world.enter();
        world.succeed(number, &bucket(used));
    }
    let wait = world.wait();
    assert!((secs(1)..=ms(1020)).contains(&wait), "{wait:?}");

    // A 429 with only that reset does not hold until then either.
    let number = world.enter();
    let mut full = bucket(100);
    full.retry_after = Some(secs(100));
    world.throttle(number, &full);
    assert!(world.wait() <= ms(1020), "{:?}", world.quota);
}

#[test]
fn a_wait_that_the_server_requests_is_obeyed_in_a_bucket_too() {
    let mut world = TestQuota::new();
    for used in 1..=100 {
        let number = world.enter();
        world.succeed(number, &announcing(100, 100 - used, secs(used)));
    }
    let number = world.enter();
    let mut throttled = announcing(100, 0, secs(100));
    (throttled.retry_after, throttled.is_requested) = (Some(secs(40)), true);
    world.throttle(number, &throttled);

    assert!(world.wait() >= secs(40));
}

#[test]
fn a_window_that_is_used_in_bursts_is_not_a_bucket() {
    let mut world = TestQuota::new();
    for _ in 0..4 {
        for used in 1..=10 {
            let number = world.enter();
            world.succeed(number, &announcing(10, 10 - used, secs(20)));
        }
        assert_eq!(world.wait(), secs(20));
    }
}

#[test]
fn an_exhausted_replica_holds_no_other_request_while_others_have_room() {
    let mut world = TestQuota::new();
    let mut left = [25_u64; 4];
    // In runs of different lengths, as a balancer distributes them.
    let turns = [0, 1, 1, 2, 3, 0, 2, 2, 3, 1, 0, 3];
    for turn in turns.iter().cycle().take(60) {
        let number = world.send().expect("replicas have room");
        left[*turn] -= 1;
        world.succeed(number, &announcing(25, left[*turn], secs(60)));
    }
    let throttled = world.send().unwrap();
    let mut none = announcing(25, 0, secs(60));
    none.retry_after = Some(secs(60));
    let sent = Sent {
        number: throttled,
        load: &Load::ONE,
    };
    let outcome = Outcome::Response {
        throttled: true,
        info: &none,
    };
    let recorded = world.quota.record(
        sent,
        outcome,
        Scope::Partition,
        &world.config,
        0.0,
        Some(world.now),
    );

    // The throttled request waits as long as its replica has requested, others do not.
    assert_eq!(recorded.own_hold, Some(world.now + secs(60)));
    assert_eq!(recorded.held_until, None);
    assert!(world.send().is_some());
}

#[test]
fn a_single_counter_is_not_mistaken_for_replicas() {
    let mut world = TestQuota::new();
    for left in (0..100).rev() {
        let number = world.send().expect("there is room");
        world.succeed(number, &announcing(100, left, secs(60)));
    }
    assert_eq!(world.wait(), secs(60));
}

#[test]
fn requests_of_unequal_cost_are_throttled_at_the_end_of_few_windows() {
    let mut world = TestQuota::new();
    let (mut left, mut throttled) = (100_u64, 0);
    for _ in 0..6 {
        let mut costs = [1, 2, 3, 4, 5].iter().cycle();
        while let Some(number) = world.send() {
            let cost = costs.next().unwrap();
            if *cost > left {
                throttled += 1;
                let mut info = announcing(100, left, secs(60));
                info.retry_after = Some(secs(60));
                world.throttle(number, &info);
                break;
            }
            left -= cost;
            world.succeed(number, &announcing(100, left, secs(60)));
        }
        world.wait();
        left = 100;
    }
    assert!(throttled <= 2, "{throttled}");
}

#[test]
fn a_documented_window_determines_the_reset_if_none_is_announced() {
    let mut world = TestQuota::new();
    let number = world.send().unwrap();
    let limit = Limit {
        limit: Some(10),
        remaining: Some(0),
        window: Some(secs(900)),
        ..Limit::default()
    };
    world.succeed(number, &info(vec![limit]));

    assert_eq!(world.wait(), secs(900));
}

#[test]
fn a_documented_refill_determines_the_wait_if_no_reset_is_announced() {
    let mut world = TestQuota::new();
    let number = world.send().unwrap();
    let limit = Limit {
        limit: Some(40),
        remaining: Some(0),
        refill: Some(2.0),
        ..Limit::default()
    };
    world.succeed(number, &info(vec![limit]));

    assert_eq!(world.wait(), ms(500));
}

#[test]
fn two_limits_of_one_name_are_two_quotas() {
    let mut world = TestQuota::new();
    let tokens = |limit, left| {
        info(vec![named(
            "tokens",
            Unit::Other,
            limit,
            left,
            Some(secs(30)),
        )])
    };
    // Two models share the names of the fields.
    for step in 1..=10 {
        let number = world.enter();
        world.succeed(number, &tokens(10_000, 10_000 - 500 * step));
        let number = world.enter();
        world.succeed(number, &tokens(30_000_000, 30_000_000 - 500 * step));
    }
    assert_eq!(world.admit(), SendTime::Now);
}

#[test]
fn a_limit_whose_window_is_over_refuses_no_request() {
    let mut world = TestQuota::new();
    let number = world.enter();
    world.succeed(
        number,
        &info(vec![named(
            "tokens",
            Unit::Other,
            10_000,
            10_000,
            Some(secs(60)),
        )]),
    );
    let load = Load::of(Cost::new().with("tokens", 12_000), None);
    let admit = |world: &mut TestQuota| world.quota.admit(&load, &world.config, world.now);
    assert_eq!(admit(&mut world), SendTime::Never);

    world.advance(secs(61));

    assert_eq!(admit(&mut world), SendTime::Now);
}

#[test]
fn a_pause_does_not_raise_the_learned_cost() {
    let mut world = TestQuota::new();
    let points = |left| {
        let mut limit = named("points", Unit::Other, 1000, left, None);
        limit.refill = Some(50.0);
        info(vec![limit])
    };
    for left in [990, 980, 970] {
        let number = world.enter();
        world.succeed(number, &points(left));
    }
    world.advance(secs(600));
    let number = world.enter();
    world.succeed(number, &points(990));

    assert!((0..10).all(|_| world.send().is_some()));
}

#[test]
fn a_quota_without_a_reset_that_is_not_announced_any_more_is_forgotten() {
    let mut world = TestQuota::new();
    let number = world.enter();
    world.succeed(
        number,
        &info(vec![named("batch", Unit::Requests, 10, 0, None)]),
    );
    for left in (0..100).rev() {
        let number = world.enter();
        world.succeed(
            number,
            &info(vec![named(
                "all",
                Unit::Requests,
                1000,
                900 + left,
                Some(secs(60)),
            )]),
        );
    }
    assert!(world.send().is_some() && world.send().is_some());
}
