//! The bounds of an unannounced window's length, and the times of probes.

use super::*;
use crate::rate_limit_retry::quota::{
    bounds::{Bounds, TimeRange, snap_down},
    fixed_window::FixedWindow,
};

/// A window that opened between `opened` and `opened + blur`, and the next one, which opened at most that late, too.
fn lasting(length: Duration, blur: Duration) -> Bounds {
    let now = origin();
    let next = now + length;
    Bounds::between(opening(now, blur), opening(next, blur))
}

fn opening(at: Instant, blur: Duration) -> TimeRange {
    TimeRange {
        earliest: at,
        latest: at + blur,
    }
}

/// Between `min` and `max`.
fn bounds(min: Duration, max: Duration) -> Bounds {
    let now = origin();
    let next = TimeRange {
        earliest: now + min,
        latest: now + max,
    };
    Bounds::between(TimeRange::at(now), next)
}

fn at_least(min: Duration) -> Bounds {
    let now = origin();
    Bounds::at_least(now, TimeRange::at(now + min))
}

#[test]
fn a_window_lasts_from_one_opening_to_the_next() {
    let now = origin();
    let minute = lasting(secs(60), secs(2));
    let opened = opening(now, secs(2));

    assert_eq!(minute, bounds(secs(58), secs(62)));
    assert_eq!(minute.earliest_end(opened), now + secs(58));
    assert_eq!(minute.latest_end(opened), now + secs(64));
    assert_eq!(at_least(secs(58)).earliest_end(opened), now + secs(58));
    assert_eq!(at_least(secs(58)).latest_end(opened), now + secs(60));
}

#[test]
fn bounds_of_two_windows_are_intersected() {
    let minute = bounds(secs(50), secs(70));
    for (newer, both) in [
        (bounds(secs(55), secs(80)), bounds(secs(55), secs(70))),
        (bounds(secs(40), secs(65)), bounds(secs(50), secs(65))),
        (at_least(secs(60)), bounds(secs(60), secs(70))),
        (Bounds::UNKNOWN, minute),
        // They may be a little off.
        (at_least(ms(70_150)), bounds(ms(70_150), secs(70))),
        // The newer one if they contradict each other.
        (at_least(ms(70_151)), at_least(ms(70_151))),
        (bounds(secs(80), secs(90)), bounds(secs(80), secs(90))),
        (bounds(secs(5), secs(15)), bounds(secs(5), secs(15))),
    ] {
        assert_eq!(minute.intersect(newer), both);
    }
    assert_eq!(
        at_least(secs(50)).intersect(at_least(secs(60))),
        at_least(secs(60))
    );
}

#[test]
fn a_unique_common_length_is_chosen() {
    for (min, max, likely) in [
        (55_000, 60_500, 60_000),
        (59_900, 60_100, 60_000),
        // Off by no more than 150 ms.
        (60_150, 60_400, 60_000),
        (60_151, 60_400, 60_400),
        (59_000, 59_850, 60_000),
        (59_000, 59_849, 59_849),
        // A minute or 61 seconds, or any number of others.
        (59_000, 60_900, 60_900),
        (20_000, 62_000, 62_000),
    ] {
        let likely = Some(ms(likely));
        assert_eq!(
            bounds(ms(min), ms(max)).likely_length(),
            likely,
            "{min} to {max}"
        );
    }
    assert_eq!(at_least(secs(60)).likely_length(), None);
}

#[test]
fn the_longest_common_length_within_the_bounds() {
    assert_eq!(snap_down(ms(999)), None);
    assert_eq!(snap_down(secs(1)), Some(secs(1)));
    assert_eq!(snap_down(ms(59_999)), Some(secs(50)));
    assert_eq!(snap_down(secs(60)), Some(secs(60)));
    assert_eq!(snap_down(secs(9000)), Some(secs(7200)));
}

/// The times of the probes after the start of a window, if each is throttled at once.
fn probes(period: Bounds, blur: Duration, count: usize) -> Vec<u128> {
    let began = origin();
    let mut now = began + secs(1);
    let probe = |_| {
        now = period.next_probe(opening(began, blur), began + secs(1), now);
        (now - began).as_millis()
    };
    (0..count).map(probe).collect()
}

#[test]
fn an_unknown_window_is_probed_soon_and_then_at_common_lengths() {
    // After the throttle a second after the start; then a little after common lengths since the start.
    let all = [2000, 3000, 5000, 7151, 10_151, 15_151, 20_151];
    assert_eq!(probes(Bounds::UNKNOWN, Duration::ZERO, 7), all);
}

#[test]
fn probe_delays_are_between_half_a_second_and_two_hours() {
    let now = origin();
    let opened = TimeRange::at(now);
    for (later, probe) in [
        (ms(500), ms(1000)),
        (ms(501), ms(2000)),
        (ms(3500), ms(4000)),
        (ms(3501), ms(5151)),
        (ms(4651), ms(5151)),
        (ms(4652), ms(7151)),
        (ms(7_199_651), ms(7_200_151)),
        (ms(7_199_652), ms(7_199_652 + 7_200_000)),
    ] {
        let at = Bounds::UNKNOWN.next_probe(opened, now, now + later);
        assert_eq!(at - now, probe, "{later:?}");
    }
}

#[test]
fn a_window_is_not_probed_before_its_lower_bound() {
    assert_eq!(
        probes(at_least(secs(40)), Duration::ZERO, 2),
        [40_151, 45_151]
    );
    assert_eq!(probes(at_least(ms(40_151)), Duration::ZERO, 1), [40_151]);
    assert_eq!(probes(at_least(ms(40_152)), Duration::ZERO, 1), [45_151]);
    assert_eq!(probes(at_least(secs(40)), secs(2), 1), [42_151]);
}

#[test]
fn a_common_length_is_probed_at_its_end_and_once_after() {
    // A fiftieth later, at least 150 ms and at most two seconds.
    for (length, later) in [(60, 1200), (10, 200), (3600, 2000), (100, 2000)] {
        let at = u128::from(length) * 1000;
        let all = probes(lasting(secs(length), ms(100)), Duration::ZERO, 2);
        assert_eq!(all, [at, at + later]);
    }
    // Where the opening was blurred, in steps of 150 ms.
    let minute = lasting(secs(60), ms(100));
    assert_eq!(probes(minute, ms(250), 3), [60_150, 60_250, 61_450]);
    assert_eq!(
        probes(minute, ms(600), 5),
        [60_150, 60_300, 60_450, 60_600, 61_800]
    );
}

#[test]
fn an_unknown_length_is_probed_in_six_steps() {
    // From 62 s to 74 s.
    let all = [64_000, 66_000, 68_000, 70_000, 72_000, 74_000, 75_480];
    assert_eq!(probes(bounds(secs(62), secs(74)), Duration::ZERO, 7), all);
    // If that was all wrong, at the next round time.
    assert_eq!(
        probes(bounds(secs(62), secs(74)), Duration::ZERO, 8)[7],
        90_151
    );
}

#[test]
fn if_a_common_length_was_wrong_the_others_are_probed() {
    // 60 s is the only round one.
    let period = bounds(secs(52), ms(60_500));
    let all = [60_000, 61_200, 61_710];
    assert_eq!(probes(period, Duration::ZERO, 3), all);
}

#[test]
fn the_limit_holds_for_2_to_32_windows_before_a_probe() {
    let mut window = FixedWindow::new(100, Bounds::UNKNOWN);
    for windows in [0, 2, 4, 8, 16, 32, 32] {
        for _ in 0..windows {
            assert!(window.hold_at_limit(100, false));
        }
        assert!(!window.hold_at_limit(100, false));
        assert_eq!(window.limit, 101);
        window.limit = 100;
        window.confirm();
    }
}

#[test]
fn probes_beyond_the_limit_grow() {
    let mut window = FixedWindow::new(100, Bounds::UNKNOWN);
    for (accepted, allowance) in [(100, 101), (101, 103), (103, 107), (107, 115)] {
        assert!(!window.hold_at_limit(accepted, false));
        assert_eq!(window.limit, allowance);
    }
    // A window that opened by chance may have been used before.
    let mut window = FixedWindow::new(100, Bounds::UNKNOWN);
    window.confirm();
    assert!(!window.hold_at_limit(100, true));
    assert!(window.hold_at_limit(101, false));
}

#[test]
fn a_window_10_percent_smaller_is_probed_immediately() {
    for (held, enough) in [(90, true), (89, false), (120, true)] {
        let mut window = FixedWindow::new(100, Bounds::UNKNOWN);
        window.confirm();

        window.update(held, bounds(secs(60), secs(60)));

        assert_eq!((window.limit, window.confirmed), (held, held));
        assert_eq!(window.length, bounds(secs(60), secs(60)));
        assert_eq!(window.hold_at_limit(held, false), enough, "{held}");
    }
}
