//! How many go while it is not known what the server will take.

use super::{super::slow_start::SlowStart, *};

const TIMEOUT: Duration = Duration::from_millis(250);

/// How many may be in flight, at most.
fn window(ramp: &mut SlowStart, now: Instant) -> u32 {
    let first = (0..1000).find(|in_flight| ramp.admit(*in_flight, 0, TIMEOUT, now).is_some());
    first.unwrap_or(1000)
}

#[test]
fn the_initial_window_is_at_least_one() {
    for (burst, expected) in [(0, 1), (1, 1), (2, 2), (8, 8)] {
        assert_eq!(window(&mut SlowStart::initial(burst), origin()), expected);
    }
    assert_eq!(window(&mut SlowStart::probe(), origin()), 1);
    assert_eq!(window(&mut SlowStart::finished(), origin()), 1000);
}

#[test]
fn only_a_single_request_is_a_probe() {
    let mut look = SlowStart::probe();
    assert!(look.is_probe());
    assert!(SlowStart::initial(1).is_probe());
    assert!(!SlowStart::initial(2).is_probe());
    assert!(!SlowStart::finished().is_probe());
    look.on_success();
    assert!(!look.is_probe());
}

#[test]
fn the_first_outcome_opens_the_initial_window() {
    let now = origin();
    for open in [SlowStart::on_success, SlowStart::on_no_response] {
        let mut ramp = SlowStart::initial(2);
        open(&mut ramp);
        assert_eq!(window(&mut ramp, now), 1000);
        open(&mut ramp);
        assert_eq!(window(&mut ramp, now), 1000);
    }
}

#[test]
fn the_initial_window_opens_after_its_timeout() {
    let now = origin();
    let mut ramp = SlowStart::initial(2);
    ramp.on_sent(TIMEOUT, now);
    ramp.on_sent(TIMEOUT, now + ms(50));
    let wait = ramp.admit(2, 2, TIMEOUT, now + ms(249));
    assert_eq!(wait, Some(SendTime::AfterResponse(Some(now + ms(250)))));

    assert_eq!(window(&mut ramp, now + ms(250)), 1000);
}

#[test]
fn each_success_after_a_probe_widens_the_window() {
    let now = origin();
    let mut ramp = SlowStart::probe();
    for expected in 2..=300 {
        ramp.on_success();
        assert_eq!(window(&mut ramp, now), expected);
    }
}

#[test]
fn a_probe_without_a_response_does_not_widen_the_window() {
    let mut ramp = SlowStart::probe();
    ramp.on_no_response();
    assert_eq!(window(&mut ramp, origin()), 1);
}

#[test]
fn a_probe_times_out_after_eight_holds_and_doubles_the_window() {
    let start = origin();
    let mut ramp = SlowStart::probe();
    ramp.on_sent(TIMEOUT, start);
    let until = start + 8 * TIMEOUT;
    let wait = Some(SendTime::AfterResponse(Some(until)));
    assert_eq!(ramp.admit(1, 1, TIMEOUT, start + ms(1)), wait);
    assert_eq!(ramp.admit(1, 1, TIMEOUT, until - ms(1)), wait);

    assert_eq!(ramp.admit(1, 1, TIMEOUT, until), None);
    assert_eq!(ramp.admit(2, 2, TIMEOUT, until), None);

    // The time of the next step begins when somebody has to wait.
    let again = until + ms(100) + 8 * TIMEOUT;
    let wait = Some(SendTime::AfterResponse(Some(again)));
    assert_eq!(ramp.admit(3, 3, TIMEOUT, until + ms(100)), wait);
    assert_eq!(ramp.admit(3, 3, TIMEOUT, again), None);
    assert_eq!(ramp.admit(6, 6, TIMEOUT, again), None);
    assert!(ramp.admit(7, 7, TIMEOUT, again).is_some());
}

#[test]
fn a_success_restarts_the_probe_timeout() {
    let start = origin();
    let mut ramp = SlowStart::probe();
    ramp.on_sent(TIMEOUT, start);
    ramp.on_success();
    let later = start + ms(1500);
    let wait = ramp.admit(2, 2, TIMEOUT, later);
    assert_eq!(
        wait,
        Some(SendTime::AfterResponse(Some(later + 8 * TIMEOUT)))
    );
}

#[test]
fn timed_out_requests_are_counted_separately_until_they_end() {
    let start = origin();
    // Number 0 takes too long, and 1 and 2 go beside it; then one of them ends.
    for (ended, more) in [(0, false), (1, true), (2, true)] {
        let mut ramp = SlowStart::probe();
        ramp.on_sent(TIMEOUT, start);
        let until = start + 8 * TIMEOUT;
        assert_eq!(ramp.admit(1, 1, TIMEOUT, until), None);
        ramp.on_completed(ended);
        let next = ramp.admit(2, 3, TIMEOUT, until);
        assert_eq!(next.is_none(), more, "{ended}");
    }
}
