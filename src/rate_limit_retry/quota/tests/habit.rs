//! What refusals teach about windows and rates that nobody tells.

use super::{
    lessons::{Lessons, REFUSAL},
    *,
};
use crate::rate_limit_retry::quota::{refused::Refusal, window::Between};

#[test]
fn without_throttling_all_requests_are_admitted() {
    let mut lessons = Lessons::new();
    lessons.accept(1000, 0);
    assert!(!lessons.habit.is_known());
    assert!(!lessons.habit.is_paced());
    assert!(lessons.is_free(1000, 0));
    assert_eq!(lessons.habit.lesson(), Lesson::default());
    assert_eq!(lessons.habit.room(0), None);
}

#[test]
fn short_throttling_indicates_a_rate_and_long_throttling_a_window() {
    for (lasted, rate) in [(2200, true), (2201, false)] {
        let mut lessons = Lessons::new();
        lessons.accept(10, 0);
        lessons.refuse(1000, REFUSAL);
        assert!(lessons.habit.is_known());

        lessons.reopen(1000 + lasted);

        assert_eq!(lessons.has_rate(), rate, "{lasted}");
        let allowance = (!rate).then_some(10);
        assert_eq!(lessons.habit.lesson().allowance, allowance);
    }
}

#[test]
fn a_rate_is_measured_between_short_throttlings() {
    let mut lessons = Lessons::new();
    lessons.accept(10, 0);
    lessons.refuse(1000, REFUSAL);
    for second in 2..12 {
        lessons.accept(1, second * 1000);
    }
    assert!(lessons.has_rate());
    assert!(!lessons.habit.is_paced());
    lessons.refuse(11_000, REFUSAL);
    lessons.accept(1, 12_000);
    // Ten in ten seconds.
    assert_eq!(lessons.habit.lesson().rate, Some(1.0));
    assert!(lessons.habit.is_paced());
    assert_eq!(lessons.habit.room(0), None);
    assert!(lessons.habit.slide.is_none());
    assert!(matches!(lessons.admit(0, 12_000), Verdict::Wait(_)));
    // It had been sent before the last refusal.
    lessons.habit.accepted_late();
    assert_eq!(lessons.habit.lesson().rate, Some(1.1));

    lessons.refuse(13_000, REFUSAL);
    lessons.accept(1, 15_201);

    assert!(!lessons.has_rate());
    assert!(!lessons.habit.is_paced());
}

#[test]
fn the_limit_in_the_first_429_is_used_unless_more_were_sent() {
    for (first, second, allowance) in [
        (Some(100), None, 100),
        (Some(39), None, 40),
        (None, None, 40),
        // A look is refused that names one.
        (None, Some(100), 100),
        (Some(100), Some(50), 50),
    ] {
        let mut lessons = Lessons::new();
        lessons.accept(40, 0);
        for (at, limit) in [(1000, first), (2000, second)] {
            lessons.refuse(at, Refusal { limit, ..REFUSAL });
        }
        lessons.reopen(60_000);
        assert_eq!(lessons.habit.lesson().allowance, Some(allowance));

        // From then on what has gone is known better.
        lessons.accept(39, 60_000);
        let limit = Some(100);
        lessons.refuse(61_000, Refusal { limit, ..REFUSAL });
        lessons.reopen(120_000);
        assert_eq!(lessons.habit.lesson().allowance, Some(40));
    }
}

#[test]
fn a_window_exhausted_by_others_is_not_an_estimate() {
    let mut lessons = Lessons::new();
    lessons.refuse(0, REFUSAL);

    lessons.reopen(60_000);

    assert!(!lessons.habit.is_known());
}

#[test]
fn requests_in_flight_at_a_429_count_if_accepted() {
    let mut lessons = Lessons::new();
    lessons.accept(10, 0);
    lessons.refuse(1000, REFUSAL);
    lessons.habit.accepted_late();
    lessons.habit.accepted_late();

    lessons.reopen(60_000);

    assert_eq!(lessons.habit.lesson().allowance, Some(12));
}

#[test]
fn a_known_window_admits_its_limit_and_is_probed_at_its_end() {
    let mut lessons = Lessons::minutes();
    let lesson = lessons.habit.lesson();
    assert_eq!(
        (lesson.allowance, lesson.period),
        (Some(10), Some(secs(60)))
    );
    lessons.accept(8, 120_000);
    assert!(lessons.is_free(0, 121_000));
    let over = lessons.at(180_000);
    let wait = Admit::AfterAnswer(Some(over));
    assert!(matches!(lessons.admit(1, 121_000), Verdict::Wait(is) if is == wait));
    assert!(lessons.is_free(1, 180_000));

    lessons.accept(1, 120_000);

    assert!(matches!(lessons.admit(1, 121_000), Verdict::Wait(is) if is == wait));
    assert!(matches!(lessons.admit(0, 121_000), Verdict::Hold(until) if until == over));
    let late = lessons.at(181_200);
    assert!(lessons.is_free(0, 180_000));
    assert!(matches!(lessons.admit(0, 179_999), Verdict::Hold(until) if until == over));

    // Nobody who asks is told twice, and the look is free.
    let now = lessons.at(121_000);
    lessons.habit.admit(0, now);
    assert!(lessons.is_free(0, 121_000));
    assert_eq!(lessons.blocked().still, over);
    assert_eq!(lessons.habit.room(0), None);
    assert_eq!(lessons.habit.next_look(over), late);
}

#[test]
fn a_window_throttled_near_its_end_is_unchanged() {
    for (accepted, rate) in [(9, false), (8, true)] {
        let mut lessons = Lessons::minutes();
        lessons.accept(accepted - 1, 120_000);
        lessons.refuse(178_500, REFUSAL);

        lessons.reopen(180_000);

        assert_eq!(lessons.has_rate(), rate, "{accepted}");
        let allowance = (!rate).then_some(10);
        assert_eq!(lessons.habit.lesson().allowance, allowance);
    }
}

#[test]
fn a_request_after_the_window_opens_the_next() {
    for (at, accepted, opened) in [(179_999, 1, 120_000), (180_000, 0, 180_000)] {
        let mut lessons = Lessons::minutes();
        let now = lessons.at(at);

        lessons.habit.sent(now);

        assert_eq!(lessons.habit.accepted, accepted);
        let when = lessons.habit.opened.unwrap().when;
        assert_eq!(when, Between::at(lessons.at(opened)));
    }
    // Perhaps in the middle of a window: who has had all of it looks for more.
    let mut lessons = Lessons::minutes();
    lessons.accept(10, 180_000);
    assert!(matches!(lessons.admit(0, 181_000), Verdict::Look));
    // While requests are refused, no window is open.
    let mut lessons = Lessons::minutes();
    lessons.refuse(121_000, REFUSAL);
    lessons.refuse(190_000, REFUSAL);
    assert_eq!(lessons.habit.accepted, 1);
}

#[test]
fn headroom_excludes_accepted_and_in_flight_requests() {
    let mut lessons = Lessons::minutes();
    assert_eq!(lessons.habit.room(2), Some((7.0, lessons.at(180_000))));
    lessons.accept(9, 120_000);
    assert_eq!(lessons.habit.room(2), Some((-2.0, lessons.at(180_000))));
    lessons.refuse(121_000, REFUSAL);
    assert_eq!(lessons.habit.room(0), None);
}

#[test]
fn throttled_probes_are_counted() {
    let mut lessons = Lessons::new();
    lessons.accept(10, 0);
    for (looks, at) in [(0, 1000), (1, 2000), (2, 4000), (3, 8000)] {
        lessons.refuse(at, REFUSAL);
        assert_eq!(lessons.blocked().looks, looks);
        assert_eq!(lessons.blocked().still, lessons.at(at));
        assert_eq!(lessons.blocked().since, lessons.at(1000));
    }
}

#[test]
fn probes_become_rarer_if_they_may_be_counted() {
    let silent = Refusal {
        silent: true,
        ..REFUSAL
    };
    for (accepted, refusal, looks, patience) in [
        // Four times the looks is no more than eight, or than what was accepted.
        (0, silent, 2, 0),
        (0, silent, 3, 1500),
        (12, silent, 3, 0),
        (12, silent, 4, 2000),
        (0, REFUSAL, 3, 0),
    ] {
        let mut lessons = Lessons::new();
        lessons.accept(accepted, 0);
        for look in 0..=looks {
            lessons.refuse(1000 + look * 1000, refusal);
        }
        let now = lessons.at(1000 + looks * 1000);
        let wait = lessons.habit.patience(now);
        assert_eq!(wait, ms(patience), "{looks} for {accepted}");
    }
}
