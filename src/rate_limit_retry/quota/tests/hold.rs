//! The length of a hold after a throttling response.

use super::*;

/// How long the hold is after each of some refusals in a row.
fn holds(world: &mut TestQuota, info: &RateLimitInfo, count: usize) -> Vec<Duration> {
    let hold = |_| {
        let number = world.enter();
        let until = world.throttle(number, info);
        let hold = until.unwrap() - world.now;
        world.advance(hold);
        world.admit();
        hold
    };
    (0..count).map(hold).collect()
}

#[test]
fn retry_after_gets_1_percent_jitter_up_to_250_ms() {
    // Half of the jitter, as the random number has it.
    for (hint, hold) in [
        (ms(100), Some(Duration::from_micros(100_500))),
        (secs(10), Some(ms(10_050))),
        (secs(25), Some(ms(25_125))),
        (secs(60), Some(ms(60_125))),
        (secs(4000), Some(CONFIG.max_hold)),
        (secs(86_400), Some(CONFIG.max_hold)),
        (secs(259_200), Some(CONFIG.max_hold)),
        (secs(30 * 86_400), Some(CONFIG.max_hold)),
    ] {
        let mut world = TestQuota::new();
        let number = world.enter();
        let until = world.throttle(number, &with_retry_after(hint));
        assert_eq!(until.map(|until| until - world.now), hold, "{hint:?}");
    }
}

#[test]
fn without_retry_after_probes_follow_after_1_2_and_4_seconds() {
    let mut world = TestQuota::new();
    let began = world.now;
    let mut times = Vec::new();
    for _ in 0..3 {
        holds(&mut world, &RateLimitInfo::default(), 1);
        times.push(world.now - began);
    }
    // With a hundredth of jitter.
    let micros = [1_010_000, 2_009_900, 4_019_901];
    assert_eq!(times, micros.map(Duration::from_micros));

    let zero = holds(&mut TestQuota::new(), &with_retry_after(Duration::ZERO), 1);
    assert_eq!(zero, [ms(1010)]);
}

#[test]
fn probe_delays_range_from_half_the_initial_to_the_maximum_backoff() {
    for (backoff, hold) in [
        (Backoff::new(secs(5), secs(60)), ms(2525)),
        (Backoff::new(ms(10), ms(400)), ms(404)),
    ] {
        let mut world = TestQuota::with(QuotaConfig { backoff, ..CONFIG });
        assert_eq!(holds(&mut world, &RateLimitInfo::default(), 1), [hold]);
    }
}

#[test]
fn a_retry_after_wrong_three_times_is_too_short() {
    let mut world = TestQuota::new();
    let hint = with_retry_after(ms(100));

    let micros = [100_500, 100_500, 100_500, 705_485];
    assert_eq!(
        holds(&mut world, &hint, 4),
        micros.map(Duration::from_micros)
    );

    // A hint is a hint again when a request has been accepted.
    let number = world.enter();
    world.succeed(number, &RateLimitInfo::default());
    assert_eq!(
        holds(&mut world, &hint, 1),
        [Duration::from_micros(100_500)]
    );
}

#[test]
fn a_wrong_retry_after_applies_if_it_is_longer() {
    let mut world = TestQuota::new();

    let holds = holds(&mut world, &with_retry_after(secs(20)), 4);

    assert_eq!(holds[3], ms(20_100));
}

#[test]
fn concurrent_throttling_counts_once() {
    let mut world = TestQuota::new();
    let numbers: Vec<_> = (0..6).map(|_| world.enter()).collect();
    for number in numbers {
        world.throttle(number, &with_retry_after(ms(100)));
    }
    world.advance(ms(101));
    world.admit();

    let believed = holds(&mut world, &with_retry_after(ms(100)), 2);

    assert_eq!(believed, [Duration::from_micros(100_500); 2]);
}

#[test]
fn the_longest_concurrent_retry_after_applies() {
    let mut world = TestQuota::new();
    let numbers: Vec<_> = (0..5).map(|_| world.enter()).collect();
    let began = world.now;
    for (number, info, hold) in [
        (0, &with_retry_after(secs(10)), ms(10_050)),
        (1, &with_retry_after(secs(5)), ms(10_050)),
        (2, &with_retry_after(secs(20)), ms(20_100)),
        // A request that was throttled together with the others, and without a wait, adds nothing.
        (3, &RateLimitInfo::default(), ms(20_100)),
    ] {
        let until = world.throttle(numbers[number], info);
        assert_eq!(until, Some(began + hold));
    }
}

#[test]
fn late_429s_without_retry_after_do_not_extend_a_hold() {
    let mut world = TestQuota::new();
    let late = world.enter();
    let long = world.enter();
    let until = world.throttle(long, &with_retry_after(secs(5)));
    assert_eq!(until, Some(world.now + ms(5025)));

    world.advance(ms(600));

    assert_eq!(world.throttle(late, &RateLimitInfo::default()), until);
}

/// Only when all of them were throttled is it certain that a rate, and not concurrency, is the cause.
#[test]
fn the_last_throttled_request_of_a_flight_begins_the_hold() {
    let mut world = TestQuota::new();
    let numbers = [world.enter(), world.enter(), world.enter()];
    for number in &numbers[..2] {
        assert_eq!(world.throttle(*number, &RateLimitInfo::default()), None);
        assert_eq!(world.send(), None);
    }

    let until = world.throttle(numbers[2], &RateLimitInfo::default());

    assert_eq!(until, Some(world.now + ms(1010)));
}

#[test]
fn late_429s_do_not_count_against_retry_after() {
    let mut world = TestQuota::new();
    let late = world.enter();
    holds(&mut world, &with_retry_after(ms(10)), 3);
    let number = world.enter();
    let guessed = world.throttle(number, &with_retry_after(ms(10))).unwrap();
    world.advance(guessed - world.now);

    let until = world.throttle(late, &with_retry_after(ms(10)));

    assert_eq!(until, Some(world.now + Duration::from_micros(10_050)));
}

#[test]
fn no_request_is_sent_before_a_hold_ends_and_one_at_its_end() {
    let mut world = TestQuota::new();
    let number = world.enter();
    let until = world.throttle(number, &with_retry_after(secs(5))).unwrap();
    world.now = until - ms(1);
    assert_eq!(world.admit(), SendTime::NotBefore(until));
    world.now = until;
    assert!(world.send().is_some());
    assert_eq!(world.send(), None);
}

#[test]
fn throttled_requests_count_only_if_no_limit_is_announced() {
    for (quiet, refusal, sliding) in [
        (0, RateLimitInfo::default(), true),
        (0, with_retry_after(secs(5)), false),
        (0, announcing(100, 0, secs(5)), false),
        (999, RateLimitInfo::default(), true),
        // Requests to a quiet partition are not counted.
        (1000, RateLimitInfo::default(), false),
    ] {
        let mut world = TestQuota::new();
        for _ in 0..quiet {
            let number = world.enter();
            world.succeed(number, &RateLimitInfo::default());
        }
        let number = world.enter();

        world.throttle(number, &refusal);

        let sliding_window = world.quota.estimator.sliding_window.is_some();
        assert_eq!(sliding_window, sliding, "{quiet} {refusal:?}");
    }
}
