//! The model of a sliding window, in which throttled requests count, too.

use super::{super::sliding_window::SlidingWindow, *};

/// A server with a limit of one request: one was sent, a probe was throttled `least` later, and one was accepted `most`
/// after that.
fn between(least: Duration, most: Duration) -> (SlidingWindow, Instant) {
    let start = origin();
    let (refused, accepted) = (start + least, start + least + most);
    let mut slide = SlidingWindow::new(start, start, 1);
    slide.on_sent(1, refused);
    slide.on_sent(1, accepted);
    slide.on_recovered(1, accepted, Some(refused));
    (slide, accepted)
}

/// A window of ten seconds has just started; in the last second of the one before, this number of probes was throttled.
fn recovered_after(probes: u64) -> (SlidingWindow, Instant) {
    let start = origin();
    let now = start + secs(10);
    let mut slide = SlidingWindow::new(start, start, 1);
    for probe in 0..probes {
        slide.on_sent(100, start + ms(9000 + 50 * probe));
        slide.on_throttle();
    }
    slide.on_sent(100, now);
    slide.on_recovered(probes + 1, now, None);
    assert_eq!(slide.length(), secs(10));
    (slide, now)
}

/// Sends more requests, from a tenth of a second after `opened` on.
fn send(slide: &mut SlidingWindow, opened: Instant, count: u64) {
    for n in 1..=count {
        slide.on_sent(100, opened + ms(50 + 50 * n));
    }
}

#[test]
fn a_window_spans_limit_plus_one_accepted_requests() {
    let start = origin();
    let length = |refused_at: Option<Duration>, refused: u32| {
        // Ten were accepted, the eleventh was throttled, and a probe was accepted.
        let mut slide = SlidingWindow::new(start, start, 1);
        for second in 1..10 {
            slide.on_sent(10, start + secs(second));
        }
        slide.on_sent(10, start + ms(9500));
        for _ in 0..refused {
            slide.on_throttle();
        }
        let accepted = start + ms(10_300);
        slide.on_sent(10, accepted);
        slide.on_recovered(10, accepted, refused_at.map(|at| start + at));
        slide.length()
    };
    // From the second request on; but people choose round numbers.
    assert_eq!(length(None, 0), secs(7));
    // Nine and a half seconds after the first, one was throttled.
    assert_eq!(length(Some(ms(9500)), 0), ms(9300));
    // It may be that the eleventh was not counted: then it began with the first, and ten seconds are possible.
    assert_eq!(length(None, 1), secs(10));
    // What the log does not know says nothing.
    assert_eq!(length(Some(ms(9500)), 2), ms(9300));
}

#[test]
fn a_common_window_length_is_preferred() {
    // In milliseconds, give or take thirty.
    for (least, most, expected) in [
        (9000, 11_000, 10_000),
        (9000, 9970, 10_000),
        (9000, 9969, 9969),
        (10_030, 10_100, 10_000),
        (10_031, 10_100, 10_100),
        (10_010, 10_020, 10_000),
        (10_020, 10_020, 10_000),
        (0, 40_500, 40_000),
        (0, 400, 400),
        (59_000, 61_500, 61_000),
    ] {
        let (slide, _) = between(ms(least), ms(most));
        assert_eq!(slide.length(), ms(expected), "{least} to {most}");
    }
}

#[test]
fn a_lower_bound_of_the_window_is_extended_by_5_percent() {
    let start = origin();
    let mut slide = SlidingWindow::new(start, start, 1);
    assert_eq!(slide.length(), Duration::ZERO);
    for (probe, expected) in [(10, 10_500), (9, 10_500), (20, 21_000)] {
        let mut looked = slide.clone();
        looked.on_sent(1, start + secs(probe));
        looked.on_probe_throttled(1, start + secs(probe));
        slide.on_probe_throttled(0, start + secs(probe));
        assert_eq!(slide.length(), ms(expected));
        assert_eq!(looked.length(), ms(expected));
    }
    // What is not in the log says nothing.
    slide.on_probe_throttled(1, start + secs(100));
    assert_eq!(slide.length(), secs(21));
}

#[test]
fn an_unexpectedly_throttled_probe_lengthens_the_window() {
    for (probe, expected) in [
        // It was known to be at least so long, and at most so long.
        (8, ms(13_500)),
        (12, ms(13_500)),
        (13, ms(13_500)),
        (14, ms(14_700)),
        (18, ms(18_900)),
    ] {
        let (mut slide, now) = between(secs(10), ms(13_500));
        slide.on_probe_throttled(0, now);
        assert_eq!(slide.length(), secs(10));
        let probe = now + secs(probe);
        slide.on_probe_throttled(0, probe);
        let expected = if probe < now + ms(10_030) {
            secs(10)
        } else {
            expected
        };
        assert_eq!(slide.length(), expected, "{:?}", probe - now);
    }
}

#[test]
fn an_accepted_shorter_window_outweighs_a_throttled_longer_one() {
    let (mut slide, now) = between(secs(12), ms(10_500));
    assert_eq!(slide.length(), ms(10_500));
    slide.on_probe_throttled(0, now + secs(1));
    assert_eq!(slide.length(), ms(11_025));
}

#[test]
fn the_shortest_accepted_window_applies() {
    let (mut slide, mut now) = between(Duration::ZERO, ms(40_500));
    for (seconds, expected) in [(50, 40), (25, 25), (90, 25)] {
        now += secs(seconds);
        slide.on_sent(1, now);
        slide.on_recovered(1, now, None);
        assert_eq!(slide.length(), secs(expected));
    }
}

#[test]
fn each_opening_reports_accepted_requests_since_the_last() {
    let start = origin();
    let mut slide = SlidingWindow::new(start, start, 5);
    assert_eq!(slide.on_recovered(5, start + secs(10), None), 5);
    for _ in 0..3 {
        slide.on_success();
    }
    assert_eq!(slide.on_recovered(5, start + secs(20), None), 3);
    assert_eq!(slide.on_recovered(5, start + secs(30), None), 0);
}

#[test]
fn the_probe_and_later_requests_count_since_the_opening() {
    let (mut slide, now) = recovered_after(3);
    assert_eq!(slide.sent_since_start(0), 1);
    send(&mut slide, now, 4);
    assert_eq!(slide.sent_since_start(0), 5);
    assert_eq!(slide.sent_since_start(2), 3);
    assert_eq!(slide.sent_since_start(6), 0);
    slide.on_cancelled();
    assert_eq!(slide.sent_since_start(0), 4);
}

#[test]
fn a_429_is_explained_if_throttled_requests_fill_the_window() {
    // With a limit of 16: number of throttled probes, number accepted before the throttle, number sent after the
    // throttled request, and its time.
    for (probes, accepted, later, at, expected) in [
        (0, 16, 0, 8, true),
        (3, 13, 0, 8, true),
        (3, 12, 0, 8, false),
        (3, 13, 2, 8, true),
        (3, 12, 1, 8, false),
        // The window no longer contains the probes.
        (3, 13, 0, 10, false),
        // Half and more is missing, and not exactly known.
        (8, 8, 0, 8, true),
        (7, 8, 0, 8, false),
        (8, 7, 0, 8, true),
        (8, 6, 0, 8, false),
        (9, 6, 0, 8, true),
    ] {
        let (mut slide, now) = recovered_after(probes);
        // The probe was accepted, and the last of the others is the throttled one.
        send(&mut slide, now, accepted + later);
        let explained = slide.explains(16, later + 1, now + secs(at));
        assert_eq!(explained, expected, "{probes} {accepted} {later} {at}");
    }
}

#[test]
fn a_request_is_admitted_when_the_nth_last_is_a_window_and_margin_old() {
    // The margin is a 200th of the window, and at least 30 ms.
    for (stretch, margin) in [(10, 50), (20, 100), (5, 30), (3, 30)] {
        let (mut slide, now) = between(Duration::ZERO, secs(stretch));
        assert!(!slide.is_active());
        slide.activate(now);
        assert!(slide.is_active());
        slide.on_sent(2, now + ms(500));
        let at = now + secs(stretch) + ms(margin);
        assert_eq!(slide.available_at(2), Some(at));
        assert_eq!(slide.available_at(1), Some(at + ms(500)));
        assert_eq!(slide.available_at(0), Some(at + ms(500)));
        assert_eq!(slide.available_at(5), None);

        let soon = at - ms(1);
        assert_eq!(slide.admit(2, 0, soon), Some(SendTime::NotBefore(at)));
        let wait = Some(SendTime::AfterResponse(Some(at)));
        assert_eq!(slide.admit(2, 1, soon), wait);
        assert_eq!(slide.admit(2, 1, at), None);
        assert_eq!(slide.admit(5, 1, now), None);

        // Number of the two that were sent in the last window.
        assert_eq!(slide.sent_in_window(soon), 2);
        assert_eq!(slide.sent_in_window(at), 1);
        assert_eq!(slide.sent_in_window(at + ms(500)), 0);

        slide.deactivate();
        assert!(!slide.is_active());
    }
}

#[test]
fn the_margin_doubles_with_each_429_up_to_5_percent() {
    for (stretch, margins) in [
        (10_000, [100, 200, 400, 500, 500]),
        (1000, [50; 5]),
        // It is never less than 30 ms.
        (300, [30; 5]),
    ] {
        let (mut slide, now) = between(Duration::ZERO, ms(stretch));
        slide.activate(now);
        for margin in margins {
            slide.on_unexpected_throttle(&mut 1, 0, 0, now);
            assert_eq!(slide.available_at(1), Some(now + ms(stretch + margin)));
        }
    }
}

#[test]
fn the_log_is_trusted_if_the_window_was_nearly_full() {
    // An allowance of 20, of which one may be missing.
    for (sent, behind, in_flight, expected) in [
        (20, 1, 0, true),
        (19, 1, 0, false),
        (19, 1, 1, true),
        (18, 1, 1, false),
        (21, 2, 0, true),
        (20, 2, 0, false),
    ] {
        let (mut slide, now) = recovered_after(0);
        slide.activate(now);
        // The probe is the first of them.
        send(&mut slide, now, sent - 1);
        let (mut allowance, later) = (20, now + secs(9));
        let believed = slide.on_unexpected_throttle(&mut allowance, behind, in_flight, later);
        assert_eq!(believed, expected, "{sent} {behind} {in_flight}");
        assert_eq!(allowance, 20);
    }
}

#[test]
fn every_32_windows_a_probe_tries_2_percent_more() {
    for (before, more) in [(100, 102), (120, 122), (20, 21), (1, 2)] {
        let (mut slide, now) = between(Duration::ZERO, secs(10));
        let mut allowance = before;
        assert!(!slide.try_probe(&mut allowance, now + secs(1000)));
        slide.activate(now);
        assert!(!slide.try_probe(&mut allowance, now + ms(319_999)));
        assert_eq!(allowance, before);
        assert!(slide.try_probe(&mut allowance, now + secs(320)));
        assert_eq!(allowance, more);
        assert!(!slide.try_probe(&mut allowance, now + ms(639_999)));

        // A throttle reverts it, and has no other effect.
        let room = slide.available_at(1);
        assert!(slide.on_unexpected_throttle(&mut allowance, 0, 0, now + secs(321)));
        assert_eq!(allowance, before);
        assert_eq!(slide.available_at(1), room);
        assert!(!slide.on_unexpected_throttle(&mut 100, 0, 0, now + secs(321)));

        assert!(slide.try_probe(&mut allowance, now + secs(640)));
        assert_eq!(allowance, more);
    }
}
