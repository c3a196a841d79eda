//! When a quota is taken for one that counts any stretch of time, and refused requests, too.

use super::{
    lessons::{Lessons, REFUSAL},
    *,
};
use crate::rate_limit_retry::quota::{habit::Kind, refused::Refusal};

/// The answer says nothing.
const SILENT: Refusal = Refusal {
    silent: true,
    ..REFUSAL
};

/// When looks were refused after the first window.
const LOOKS: [u64; 6] = [2000, 5000, 10_000, 20_000, 40_000, 60_000];

/// Ten accepted at first and one refused after a second; then those looks, and at 61.5 s one that was accepted.
fn reopened(looks: &[u64]) -> Lessons {
    let mut lessons = Lessons::new();
    lessons.accept(10, 0);
    lessons.refuse(1000, SILENT);
    for look in looks {
        lessons.refuse(*look, SILENT);
    }
    look(&mut lessons, 61_500);
    lessons
}

/// The next window takes so many, that of the look among them, before one is refused at 62.1 s.
fn refused(looks: &[u64], accepted: u64, in_flight: u32) -> Lessons {
    let mut lessons = reopened(looks);
    lessons.accept(accepted - 1, 62_000);
    let refusal = Refusal {
        in_flight,
        ..SILENT
    };
    lessons.refuse(62_100, refusal);
    lessons
}

/// A look is accepted.
fn look(lessons: &mut Lessons, at: u64) {
    let now = lessons.at(at);
    let look = Look {
        since: None,
        sent: Some(now),
    };
    lessons.habit.sent(now);
    lessons.habit.accepted(look, now);
}

fn is_active(lessons: &Lessons) -> bool {
    lessons.habit.sliding().is_some()
}

/// How long a stretch is thought to be.
fn length(lessons: &Lessons) -> Duration {
    lessons.habit.slide.as_ref().unwrap().length()
}

#[test]
fn a_log_starts_only_if_throttled_requests_count() {
    for (silent, counted, log) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
        (false, false, false),
    ] {
        let mut lessons = Lessons::new();
        lessons.accept(10, 0);
        let refusal = Refusal {
            silent,
            counted,
            in_flight: 3,
            ..REFUSAL
        };

        lessons.refuse(1000, refusal);

        let sent = lessons
            .habit
            .slide
            .as_ref()
            .map(|slide| slide.sent_since_opening(1));
        // What was accepted, is under way, and was refused.
        assert_eq!(sent, log.then_some(14));
    }
}

#[test]
fn a_canceled_request_is_not_in_the_log() {
    let mut lessons = reopened(&LOOKS);
    let sent = |lessons: &Lessons| {
        let slide = lessons.habit.slide.as_ref().unwrap();
        slide.sent_since_opening(0)
    };
    lessons.accept(1, 62_000);
    assert_eq!(sent(&lessons), 2);

    lessons.habit.unsent();

    assert_eq!(sent(&lessons), 1);
}

#[test]
fn a_429_with_limits_does_not_count_throttled_requests() {
    let mut lessons = reopened(&LOOKS);
    assert!(lessons.habit.slide.is_some());

    lessons.refuse(62_000, REFUSAL);

    assert!(lessons.habit.slide.is_none());
}

#[test]
fn a_window_reduced_by_throttled_requests_is_sliding() {
    for (looks, accepted, in_flight, active) in [
        (&LOOKS[..], 4, 0, true),
        (&LOOKS[..], 4, 10, true),
        // Half of those under way may still be accepted, which makes ten.
        (&LOOKS[..], 4, 11, false),
        (&LOOKS[..], 4, 12, false),
        (&LOOKS[..], 10, 0, false),
        // Less was refused than is missing.
        (&LOOKS[5..], 4, 0, false),
    ] {
        let lessons = refused(looks, accepted, in_flight);

        assert_eq!(is_active(&lessons), active, "{looks:?} {in_flight}");
        assert_eq!(lessons.habit.is_paced(), active);
        assert_eq!(lessons.habit.allowance(), 10);
    }
}

#[test]
fn an_explained_429_lasts_one_window() {
    // The window opened at 60 s at the earliest, and lasts as long at least.
    for in_flight in [0, 12] {
        let lessons = refused(&LOOKS, 4, in_flight);
        assert!(lessons.blocked().explained);
        assert_eq!(lessons.blocked().still, lessons.at(120_000));
    }
    let lessons = refused(&LOOKS[5..], 4, 0);
    assert!(!lessons.blocked().explained);
    assert_eq!(lessons.blocked().still, lessons.at(62_100));
}

#[test]
fn the_next_probe_waits_for_headroom_in_the_log() {
    for (looks, accepted, in_flight, at) in [
        // It slides: 61 s, and a 200th, after the last but nine, of 5 s.
        (&LOOKS[..], 4, 0, 66_305),
        // Perhaps it does: the later one of that and of the round time after the last opening.
        (&LOOKS[..], 4, 12, 121_660),
        (&LOOKS[..], 9, 1, 122_500),
        // It does not.
        (&LOOKS[..0], 9, 1, 62_660),
    ] {
        let lessons = refused(looks, accepted, in_flight);

        let look = lessons.habit.next_look(lessons.at(62_100));

        assert_eq!(look, lessons.at(at), "{looks:?} {accepted}");
    }
}

#[test]
fn an_explained_smaller_window_slides_from_the_next_probe() {
    for (looks, accepted, late, active, allowance) in [
        (&LOOKS[..], 9, 0, true, 10),
        (&LOOKS[..], 10, 0, false, 10),
        (&LOOKS[..], 9, 1, false, 10),
        (&LOOKS[..0], 9, 0, false, 9),
    ] {
        let mut lessons = refused(looks, accepted, 2);
        assert!(!is_active(&lessons));
        for _ in 0..late {
            lessons.habit.accepted_late();
        }

        look(&mut lessons, 124_000);

        assert_eq!(is_active(&lessons), active, "{looks:?} {accepted}");
        assert_eq!(lessons.habit.lesson().allowance, Some(allowance));
        assert_eq!(lessons.habit.room(0).is_none(), active);
    }
}

#[test]
fn throttled_probes_bound_the_window_from_below() {
    // A round time is guessed that is no shorter than the time to the last look that was refused.
    let mut lessons = Lessons::new();
    lessons.accept(10, 0);
    lessons.refuse(1000, SILENT);
    lessons.refuse(58_000, SILENT);
    look(&mut lessons, 59_500);
    assert!(length(&lessons) > secs(59), "{:?}", length(&lessons));

    let mut lessons = Lessons::new();
    lessons.accept(10, 0);
    lessons.refuse(58_000, SILENT);
    look(&mut lessons, 61_500);
    assert_eq!(length(&lessons), secs(50));
}

/// One that slides, with a stretch of 61 s, and the first accepted at 70 s.
fn sliding() -> Lessons {
    let mut lessons = refused(&LOOKS, 4, 0);
    look(&mut lessons, 70_000);
    assert!(is_active(&lessons));
    lessons
}

#[test]
fn a_sliding_quota_is_probed_for_growth_every_eight_windows() {
    for (at, blocked, in_flight, looks) in [
        (500_000, false, 0, false),
        (560_000, false, 0, true),
        (560_000, false, 1, false),
        (560_000, true, 0, false),
    ] {
        let mut lessons = sliding();
        lessons.accept(10, at);
        if blocked {
            lessons.refuse(at, SILENT);
        }
        let now = lessons.at(at);

        let verdict = lessons.habit.admit(in_flight, now);

        assert_eq!(matches!(verdict, Verdict::Look), looks, "{verdict:?}");
        assert_eq!(lessons.habit.allowance(), if looks { 11 } else { 10 });
        if !looks {
            let Verdict::Wait(wait) = verdict else {
                panic!("{verdict:?}")
            };
            assert_eq!(matches!(wait, Admit::AfterAnswer(_)), in_flight > 0);
        }
    }
}

#[test]
fn an_unexplained_429_discards_the_log() {
    let mut lessons = sliding();
    lessons.accept(10, 200_000);
    lessons.refuse(200_100, SILENT);
    assert!(is_active(&lessons));

    let mut lessons = sliding();
    lessons.accept(3, 200_000);
    lessons.refuse(200_100, SILENT);
    assert!(!is_active(&lessons));
    assert_eq!(lessons.habit.accepted, 3);
    assert!(matches!(lessons.habit.kind, Kind::Window(_)));
}
