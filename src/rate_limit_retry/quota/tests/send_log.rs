//! What is remembered of what was sent.

use super::{super::send_log::SendLog, *};

/// Logs one request at `start`, and others at these times after it, of which `needed` are needed.
fn log(start: Instant, needed: u64, later: impl IntoIterator<Item = Duration>) -> SendLog {
    let mut log = SendLog::new(start, start, 1);
    for later in later {
        log.push(needed, start + later);
    }
    log
}

#[test]
fn requests_before_the_log_are_spread_evenly() {
    let start = origin();
    let log = SendLog::new(start, start + secs(10), 10);
    for second in 0..=10 {
        assert_eq!(log.count_since(start + secs(second)), 10 - second);
    }
    for later in 0..10 {
        assert_eq!(log.nth_last(later), Some(start + secs(10 - later)));
    }
    assert_eq!(log.nth_last(10), None);
}

#[test]
fn many_requests_before_the_log_use_fifty_buckets() {
    let start = origin();
    let log = SendLog::new(start, start + secs(50), 120);
    assert_eq!(log.count_since(start), 120);
    for second in 0..50 {
        let (first, last) = (start + secs(second), start + secs(second + 1));
        let part = log.count_since(first) - log.count_since(last);
        assert!((2..=3).contains(&part), "{second}: {part}");
        // 2.4 a second, rounded down.
        assert_eq!(120 - log.count_since(last), 12 * (second + 1) / 5);
        assert_eq!(
            log.count_since(first + ms(1)),
            log.count_since(last - ms(1))
        );
    }
}

#[test]
fn counting_excludes_the_given_instant() {
    let start = origin();
    let log = log(start, 100, [secs(1), secs(2)]);
    assert_eq!(log.count_since(start - ms(1)), 3);
    assert_eq!(log.count_since(start), 2);
    assert_eq!(log.count_since(start + secs(1)), 1);
    assert_eq!(log.count_since(start + secs(2)), 0);
}

#[test]
fn the_nth_last_request_is_found() {
    let start = origin();
    let log = log(start, 100, [secs(1), secs(2)]);
    assert_eq!(log.nth_last(0), Some(start + secs(2)));
    assert_eq!(log.nth_last(1), Some(start + secs(1)));
    assert_eq!(log.nth_last(2), Some(start));
    assert_eq!(log.nth_last(3), None);
}

#[test]
fn requests_within_a_250th_of_the_window_are_merged() {
    let start = origin();
    let log = log(
        start,
        100,
        [secs(249), secs(250), ms(250_100), ms(251_000), ms(251_100)],
    );
    // The part that began with the second one is over a second later.
    assert_eq!(log.nth_last(0), Some(start + ms(251_100)));
    assert_eq!(log.nth_last(2), Some(start + ms(251_100)));
    assert_eq!(log.nth_last(3), Some(start + secs(250)));
    assert_eq!(log.nth_last(4), Some(start + secs(250)));
    assert_eq!(log.nth_last(5), Some(start));
    assert_eq!(log.count_since(start + ms(249_999)), 5);
    assert_eq!(log.count_since(start + secs(250)), 3);
    assert_eq!(log.count_since(start + ms(251_099)), 3);
    assert_eq!(log.count_since(start + ms(251_100)), 0);
}

#[test]
fn the_log_keeps_only_needed_entries() {
    let start = origin();
    let log = log(start, 5, (1..=10).map(secs));
    assert_eq!(log.count_since(start - ms(1)), 5);
    assert_eq!(log.nth_last(4), Some(start + secs(6)));
    assert_eq!(log.nth_last(5), None);
}

#[test]
fn an_unneeded_bucket_is_dropped() {
    let start = origin();
    // Three at once, and then one a second.
    let times = [0, 0, 1, 2, 3, 4].map(secs);
    let log = |needed| log(start, needed, times);
    assert_eq!(log(8).count_since(start - ms(1)), 7);
    assert_eq!(log(5).count_since(start - ms(1)), 7);
    assert_eq!(log(4).count_since(start - ms(1)), 4);
    assert_eq!(log(3).count_since(start - ms(1)), 3);
}

#[test]
fn the_log_keeps_at_most_five_hundred_buckets() {
    let start = origin();
    // Each is further from the one before than a 250th of all the time.
    let mut times = vec![secs(1)];
    while times.len() < 500 {
        times.push(times[times.len() - 1].mul_f64(1.01));
    }
    assert_eq!(
        log(start, u64::MAX, times[..499].to_vec()).count_since(start - ms(1)),
        500
    );

    let full = log(start, u64::MAX, times);

    assert_eq!(full.count_since(start - ms(1)), 500);
    assert_eq!(full.nth_last(499), Some(start + secs(1)));
}

#[test]
fn canceled_requests_are_not_counted() {
    let start = origin();
    // The last two went together.
    let mut log = log(start, 5, [1, 2, 3, 3].map(secs));
    log.pop();
    assert_eq!(log.count_since(start - ms(1)), 4);
    assert_eq!(log.nth_last(0), Some(start + secs(3)));
    log.pop();
    assert_eq!(log.count_since(start - ms(1)), 3);
    assert_eq!(log.nth_last(0), Some(start + secs(2)));

    // There is room for two more before something is forgotten.
    log.push(5, start + secs(4));
    log.push(5, start + secs(5));
    assert_eq!(log.count_since(start - ms(1)), 5);
    log.push(5, start + secs(6));
    assert_eq!(log.count_since(start - ms(1)), 5);

    for left in [4, 3, 2, 1, 0, 0] {
        log.pop();
        assert_eq!(log.count_since(start - ms(1)), left);
    }
    assert_eq!(log.nth_last(0), None);
}
