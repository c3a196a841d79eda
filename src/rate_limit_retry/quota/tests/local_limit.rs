//! A limit that the caller sets.

use super::{super::local_limit::LocalLimiter, *};
use crate::rate_limit_retry::headers::Unit;

fn limiter(limit: LocalLimit) -> (LocalLimiter, Instant) {
    (LocalLimiter::new(limit), origin())
}

/// How many may be in flight together.
fn max_concurrency(limiter: &mut LocalLimiter, now: Instant) -> u32 {
    let first = (0..1000).find(|in_flight| limiter.admit(*in_flight, false, now).is_some());
    first.unwrap_or(1000)
}

/// Requests that go and end at the same moment.
fn complete(limiter: &mut LocalLimiter, count: u32, now: Instant) {
    for _ in 0..count {
        limiter.on_sent(now);
        limiter.on_completed(now);
    }
}

#[test]
fn max_concurrency_counts_only_requests_in_flight() {
    let (mut limiter, now) = limiter(LocalLimit::in_flight(3));
    complete(&mut limiter, 100, now);
    assert_eq!(max_concurrency(&mut limiter, now), 3);
    assert_eq!(
        limiter.admit(3, true, now),
        Some(SendTime::AfterResponse(None))
    );
    assert_eq!(limiter.admit(2, true, now), None);
    assert!(!limiter.has_recent(now));
}

#[test]
fn in_flight_and_ended_requests_count_towards_the_period() {
    let (mut limiter, now) = limiter(LocalLimit::per_minute(10));
    assert_eq!(max_concurrency(&mut limiter, now), 10);
    assert_eq!(
        limiter.admit(10, false, now),
        Some(SendTime::AfterResponse(None))
    );

    complete(&mut limiter, 4, now);
    complete(&mut limiter, 1, now + secs(1));

    assert_eq!(max_concurrency(&mut limiter, now + secs(1)), 5);
    let minute = now + secs(60);
    let wait = Some(SendTime::AfterResponse(Some(minute)));
    assert_eq!(limiter.admit(5, false, now + secs(1)), wait);
    assert_eq!(max_concurrency(&mut limiter, minute - ms(1)), 5);
    assert_eq!(max_concurrency(&mut limiter, minute), 9);
    assert_eq!(max_concurrency(&mut limiter, minute + secs(1)), 10);
}

#[test]
fn with_nothing_in_flight_the_next_request_waits_for_the_oldest_to_expire() {
    let (mut limiter, now) = limiter(LocalLimit::per_minute(2));
    complete(&mut limiter, 1, now);
    complete(&mut limiter, 1, now + secs(10));
    let wait = limiter.admit(0, false, now + secs(20));
    assert_eq!(wait, Some(SendTime::NotBefore(now + secs(60))));
    let wait = limiter.admit(1, false, now + secs(60));
    assert_eq!(wait, Some(SendTime::AfterResponse(Some(now + secs(70)))));
}

#[test]
fn requests_ending_close_together_are_merged() {
    for (later, together) in [(999, true), (1000, true), (1001, false)] {
        let (mut limiter, now) = limiter(LocalLimit::per_second(2));
        let later = now + Duration::from_micros(later);
        complete(&mut limiter, 1, now);
        complete(&mut limiter, 1, later);
        let end = if together { later } else { now } + secs(1);
        let wait = limiter.admit(0, false, later);
        assert_eq!(wait, Some(SendTime::NotBefore(end)), "{together}");
        assert_eq!(
            max_concurrency(&mut limiter, end),
            if together { 2 } else { 1 }
        );
        assert_eq!(max_concurrency(&mut limiter, later + secs(1)), 2);
    }
}

#[test]
fn the_limit_is_in_use_until_the_last_request_expires() {
    let (mut limiter, now) = limiter(LocalLimit::per_second(10));
    assert!(!limiter.has_recent(now));
    complete(&mut limiter, 1, now);
    complete(&mut limiter, 1, now + ms(500));
    assert!(limiter.has_recent(now + ms(500)));
    assert!(limiter.has_recent(now + ms(1499)));
    assert!(!limiter.has_recent(now + ms(1500)));
    assert!(!limiter.has_recent(now + ms(1501)));
}

#[test]
fn a_burst_is_sent_together_and_the_rest_evenly() {
    for (burst, smooth) in [(3, false), (1, false), (0, false), (3, true)] {
        let (mut limiter, now) = limiter(LocalLimit::per_second(10).burst(burst));
        let together = if smooth { 1 } else { burst.max(1) };
        for _ in 0..together {
            assert_eq!(limiter.admit(0, smooth, now), None);
            complete(&mut limiter, 1, now);
        }
        for next in 1..4 {
            let at = now + ms(100 * next);
            let wait = Some(SendTime::NotBefore(at));
            assert_eq!(limiter.admit(0, smooth, at - ms(99)), wait, "{burst}");
            assert_eq!(limiter.admit(0, smooth, at - ms(1)), wait, "{burst}");
            assert_eq!(limiter.admit(0, smooth, at), None, "{burst}");
            complete(&mut limiter, 1, at);
        }
        // A pause is not made up for.
        let later = now + secs(30);
        for _ in 0..together {
            assert_eq!(limiter.admit(0, smooth, later), None);
            complete(&mut limiter, 1, later);
        }
        let wait = Some(SendTime::NotBefore(later + ms(100)));
        assert_eq!(limiter.admit(0, smooth, later), wait, "{burst}");
    }
}

/// A limit that the server may know better.
fn documented() -> LocalLimit {
    LocalLimit {
        until_announced: true,
        ..LocalLimit::per_minute(5)
    }
}

fn announced(limit: u64) -> Limit {
    Limit {
        limit: Some(limit),
        ..Limit::default()
    }
}

#[test]
fn announced_limits_replace_documented_ones() {
    let (mut limiter, now) = limiter(documented());
    limiter.on_announced(&announced(7));
    assert_eq!(max_concurrency(&mut limiter, now), 7);
    limiter.on_announced(&announced(0));
    assert_eq!(max_concurrency(&mut limiter, now), 1);

    // The period stays until one is announced.
    complete(&mut limiter, 1, now);
    let wait = limiter.admit(0, false, now);
    assert_eq!(wait, Some(SendTime::NotBefore(now + secs(60))));
    limiter.on_announced(&Limit {
        window: Some(secs(10)),
        ..announced(1)
    });
    let wait = limiter.admit(0, false, now);
    assert_eq!(wait, Some(SendTime::NotBefore(now + secs(10))));
}

#[test]
fn announcements_for_other_scopes_change_no_limit() {
    let other = Limit {
        unit: Unit::ContentBytes,
        ..announced(1000)
    };
    for (limit, says) in [
        (LocalLimit::per_minute(5), announced(7)),
        (documented(), other),
        (documented(), Limit::default()),
        (documented(), announced(u64::MAX)),
    ] {
        let (mut limiter, now) = limiter(limit);
        limiter.on_announced(&says);
        assert_eq!(max_concurrency(&mut limiter, now), 5, "{says:?}");
    }
    let (mut limiter, now) = limiter(LocalLimit {
        until_announced: true,
        ..LocalLimit::in_flight(3)
    });
    limiter.on_announced(&announced(1));
    assert_eq!(max_concurrency(&mut limiter, now), 3);
}
