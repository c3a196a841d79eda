//! How many go while it is not known what the server will take.

use super::{super::ramp::Ramp, *};

const PATIENCE: Duration = Duration::from_millis(250);

/// How many may be in flight, at most.
fn width(ramp: &mut Ramp, now: Instant) -> u32 {
    let first = (0..1000).find(|in_flight| ramp.admit(*in_flight, 0, PATIENCE, now).is_some());
    first.unwrap_or(1000)
}

#[test]
fn the_initial_window_is_at_least_one() {
    for (burst, expected) in [(0, 1), (1, 1), (2, 2), (8, 8)] {
        assert_eq!(width(&mut Ramp::cold(burst), origin()), expected);
    }
    assert_eq!(width(&mut Ramp::look(), origin()), 1);
    assert_eq!(width(&mut Ramp::open(), origin()), 1000);
}

#[test]
fn only_a_single_request_is_a_probe() {
    let mut look = Ramp::look();
    assert!(look.is_look());
    assert!(Ramp::cold(1).is_look());
    assert!(!Ramp::cold(2).is_look());
    assert!(!Ramp::open().is_look());
    look.widen();
    assert!(!look.is_look());
}

#[test]
fn the_first_outcome_opens_the_initial_window() {
    let now = origin();
    for open in [Ramp::widen, Ramp::unanswered] {
        let mut ramp = Ramp::cold(2);
        open(&mut ramp);
        assert_eq!(width(&mut ramp, now), 1000);
        open(&mut ramp);
        assert_eq!(width(&mut ramp, now), 1000);
    }
}

#[test]
fn the_initial_window_opens_after_its_timeout() {
    let now = origin();
    let mut ramp = Ramp::cold(2);
    ramp.entered(PATIENCE, now);
    ramp.entered(PATIENCE, now + ms(50));
    let wait = ramp.admit(2, 2, PATIENCE, now + ms(249));
    assert_eq!(wait, Some(Admit::AfterAnswer(Some(now + ms(250)))));

    assert_eq!(width(&mut ramp, now + ms(250)), 1000);
}

#[test]
fn each_success_after_a_probe_widens_the_window_up_to_256() {
    let now = origin();
    let mut ramp = Ramp::look();
    for expected in 2..=256 {
        ramp.widen();
        assert_eq!(width(&mut ramp, now), expected);
    }
    ramp.widen();
    assert_eq!(width(&mut ramp, now), 1000);
}

#[test]
fn a_probe_without_a_response_does_not_widen_the_window() {
    let mut ramp = Ramp::look();
    ramp.unanswered();
    assert_eq!(width(&mut ramp, origin()), 1);
}

#[test]
fn a_probe_times_out_after_eight_holds_and_doubles_the_window() {
    let start = origin();
    let mut ramp = Ramp::look();
    ramp.entered(PATIENCE, start);
    let until = start + 8 * PATIENCE;
    let wait = Some(Admit::AfterAnswer(Some(until)));
    assert_eq!(ramp.admit(1, 1, PATIENCE, start + ms(1)), wait);
    assert_eq!(ramp.admit(1, 1, PATIENCE, until - ms(1)), wait);

    assert_eq!(ramp.admit(1, 1, PATIENCE, until), None);
    assert_eq!(ramp.admit(2, 2, PATIENCE, until), None);

    // The time of the next step begins when somebody has to wait.
    let again = until + ms(100) + 8 * PATIENCE;
    let wait = Some(Admit::AfterAnswer(Some(again)));
    assert_eq!(ramp.admit(3, 3, PATIENCE, until + ms(100)), wait);
    assert_eq!(ramp.admit(3, 3, PATIENCE, again), None);
    assert_eq!(ramp.admit(6, 6, PATIENCE, again), None);
    assert!(ramp.admit(7, 7, PATIENCE, again).is_some());
}

#[test]
fn a_success_restarts_the_probe_timeout() {
    let start = origin();
    let mut ramp = Ramp::look();
    ramp.entered(PATIENCE, start);
    ramp.widen();
    let later = start + ms(1500);
    let wait = ramp.admit(2, 2, PATIENCE, later);
    assert_eq!(wait, Some(Admit::AfterAnswer(Some(later + 8 * PATIENCE))));
}

#[test]
fn timed_out_requests_are_counted_separately_until_they_end() {
    let start = origin();
    // Number 0 takes too long, and 1 and 2 go beside it; then one of them ends.
    for (ended, more) in [(0, false), (1, true), (2, true)] {
        let mut ramp = Ramp::look();
        ramp.entered(PATIENCE, start);
        let until = start + 8 * PATIENCE;
        assert_eq!(ramp.admit(1, 1, PATIENCE, until), None);
        ramp.ended(ended);
        let next = ramp.admit(2, 3, PATIENCE, until);
        assert_eq!(next.is_none(), more, "{ended}");
    }
}
