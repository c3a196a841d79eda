use std::time::SystemTime;

use super::*;
use crate::{Clock, SystemClock, client_credentials::AccessToken};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn token(name: &str) -> TokenFingerprint {
    AccessToken::new(name).fingerprint()
}

fn start() -> Moment {
    Moment::new(SystemClock.now(), SystemTime::UNIX_EPOCH)
}

/// A cooldown of ten seconds since `now`, when `name` replaced a token that was rejected at `origin`.
fn cooldown(name: &str, origin: usize, now: Moment) -> Cooldown {
    let mut cooldown = Cooldown::new(10 * SECOND, 3);
    replaced(&mut cooldown, name, origin, now);
    cooldown
}

fn replaced(cooldown: &mut Cooldown, name: &str, origin: usize, now: Moment) {
    cooldown.set_rejected_at(origin);
    cooldown.on_refresh_ended(FetchReason::Rejected, Some(token(name)), now);
}

#[test]
fn the_cooldown_is_capped_at_half_of_the_lifetime() {
    let now = start();
    let cooldown = cooldown("a", 0, now);
    for (life, length) in [(None, 10), (Some(60), 10), (Some(20), 10), (Some(6), 3)] {
        let (life, length) = (life.map(Duration::from_secs), length * SECOND);

        assert_eq!(cooldown.length(Some(0), life), length);
        assert!(
            cooldown.is_active(0, now.after(length - MS), life),
            "{life:?}"
        );
        assert!(!cooldown.is_active(0, now.after(length), life), "{life:?}");
    }
    assert!(!Cooldown::new(10 * SECOND, 1).is_active(0, now, None));
}

#[test]
fn only_forced_refreshes_start_the_cooldown() {
    let now = start();
    for (reason, begins) in [
        (FetchReason::Cold, false),
        (FetchReason::Early, false),
        (FetchReason::Expired, false),
        (FetchReason::Forced, true),
        (FetchReason::Rejected, true),
    ] {
        let mut cooldown = Cooldown::new(10 * SECOND, 1);
        cooldown.set_rejected_at(0);
        cooldown.on_refresh_ended(reason, Some(token("a")), now);

        let later = now.after(10 * SECOND - MS);
        assert_eq!(cooldown.is_active(0, later, None), begins, "{reason:?}");
        // The token of a refresh by hand replaces no rejected token.
        cooldown.on_rejected(token("a"), 0, false, now);
        let doubled = cooldown.length(Some(0), None) == 20 * SECOND;
        assert_eq!(doubled, reason == FetchReason::Rejected, "{reason:?}");
    }
}

#[test]
fn the_cooldown_doubles_once_per_token_up_to_ten_minutes() {
    let now = start();
    let mut cooldown = Cooldown::new(10 * SECOND, 1);
    for length in [20, 40, 80, 160, 320, 600, 600] {
        replaced(&mut cooldown, "a", 0, now);
        cooldown.on_rejected(token("b"), 0, false, now);
        for _ in 0..2 {
            cooldown.on_rejected(token("a"), 0, false, now.after(SECOND));
            assert_eq!(cooldown.length(Some(0), None), length * SECOND);
        }
        // It begins anew with the rejection.
        let end = now.after(SECOND + length * SECOND - MS);
        assert!(cooldown.is_active(0, end, None));
    }
}

#[test]
fn a_base_beyond_ten_minutes_is_not_doubled_and_does_not_overflow() {
    let now = start();
    for base in [900 * SECOND, Duration::MAX] {
        let mut longer = Cooldown::new(base, 1);
        replaced(&mut longer, "a", 0, now);
        longer.on_rejected(token("a"), 0, false, now);

        assert_eq!(longer.length(Some(0), None), base);
        assert!(longer.is_active(0, now.after(899 * SECOND), None));
    }
    let mut none = Cooldown::new(Duration::ZERO, 1);
    replaced(&mut none, "a", 0, now);
    none.on_rejected(token("a"), 0, false, now);
    assert!(!none.is_active(0, now, None));
}

#[test]
fn cooldowns_are_per_origin_with_one_second_between_refreshes() {
    let now = start();
    let mut cooldown = cooldown("a", 1, now);
    cooldown.on_rejected(token("a"), 1, false, now);
    assert_eq!(cooldown.length(Some(1), None), 20 * SECOND);
    assert_eq!(cooldown.length(Some(0), None), 10 * SECOND);
    cooldown.on_accepted(0);

    for (origin, held) in [(0, SECOND), (1, 20 * SECOND), (2, SECOND)] {
        assert!(cooldown.is_active(origin, now.after(held - MS), None));
        assert!(
            !cooldown.is_active(origin, now.after(held), None),
            "{origin}"
        );
    }
    // It was not accepted there since: another one does not help at once.
    cooldown.on_rejected(token("a"), 2, false, now);
    assert_eq!(cooldown.length(Some(2), None), 10 * SECOND);
    assert!(cooldown.is_active(2, now.after(10 * SECOND - MS), None));
    assert!(!cooldown.is_active(2, now.after(10 * SECOND), None));
}

#[test]
fn a_success_at_the_rejecting_origin_resets_the_cooldown() {
    let now = start();
    let mut cooldown = cooldown("a", 1, now);
    // Until it is accepted or rejected, each origin is tracked.
    assert!((0..3).all(|origin| cooldown.is_tracked(origin)));
    cooldown.on_rejected(token("a"), 1, false, now);
    cooldown.on_rejected(token("a"), 2, false, now);
    cooldown.on_accepted(0);

    assert_eq!(
        [0, 1, 2].map(|o| cooldown.is_tracked(o)),
        [false, true, false]
    );
    assert_eq!(cooldown.length(Some(1), None), 20 * SECOND);
    cooldown.on_accepted(1);
    assert_eq!(cooldown.length(Some(1), None), 10 * SECOND);
    assert!(!cooldown.is_tracked(1));
    assert!(!Cooldown::new(SECOND, 1).is_tracked(0));
    assert!(!cooldown.is_tracked(3));
}

#[test]
fn an_accepted_token_no_longer_counts_as_a_replacement() {
    let now = start();
    let mut cooldown = cooldown("a", 0, now);

    cooldown.on_accepted(0);
    cooldown.on_rejected(token("a"), 0, false, now);

    assert_eq!(cooldown.length(Some(0), None), 10 * SECOND);
}

#[test]
fn another_scheme_is_remembered_for_ten_minutes() {
    let now = start();
    for for_other_scheme in [false, true] {
        let mut cooldown = cooldown("a", 0, now);
        assert!(!cooldown.wants_other_scheme(0, now));

        cooldown.on_rejected(token("a"), 0, for_other_scheme, now);

        let wants = |after| cooldown.wants_other_scheme(0, now.after(after));
        assert_eq!(wants(600 * SECOND - MS), for_other_scheme);
        assert!(!wants(600 * SECOND));
        assert!(!cooldown.wants_other_scheme(1, now));
    }
}

#[test]
fn a_success_counts_for_other_origins_for_five_seconds() {
    let epoch = SystemClock.now();
    for at in [Duration::ZERO, SECOND, 3600 * SECOND] {
        let successes = Successes::new(2, epoch);
        let sent_at = epoch + at;
        assert!(!successes.is_accepted_by_others(0, sent_at, sent_at));
        successes.record(1, sent_at);

        for (later, works) in [(0, true), (4999, true), (5000, false), (9999, false)] {
            let now = sent_at + later * MS;
            assert_eq!(
                successes.is_accepted_by_others(0, now, now),
                works,
                "{later}"
            );
        }
    }
}

#[test]
fn at_the_same_origin_only_later_requests_count() {
    let epoch = SystemClock.now();
    let successes = Successes::new(1, epoch);
    let sent_at = epoch + SECOND;
    successes.record(0, sent_at);

    let works = |refused: Instant| successes.is_accepted_by_others(0, refused, sent_at + SECOND);
    assert!(works(sent_at - MS));
    assert!(!works(sent_at));
    assert!(!works(sent_at + MS));
}

#[test]
fn successes_are_recorded_every_100_ms() {
    let epoch = SystemClock.now();
    let successes = Successes::new(1, epoch);
    let noted = |at: u32, before: u32| {
        successes.record(0, epoch + at * MS);
        successes.is_accepted_by_others(0, epoch + before * MS, epoch + at * MS)
    };
    successes.record(0, epoch + 7 * MS);
    assert!(successes.is_accepted_by_others(0, epoch + 6 * MS, epoch + 7 * MS));
    assert!(!noted(106, 7));
    assert!(noted(107, 106));
    assert!(!noted(206, 107));
    // An origin that is not there has no successes.
    successes.record(1, epoch + SECOND);
    assert!(!successes.is_accepted_by_others(1, epoch, epoch + 20 * SECOND));
}

#[test]
fn tracked_origins_follow_the_cooldown() {
    let now = start();
    let successes = Successes::new(3, now.instant());
    let watched = || [0, 1, 2, 3].map(|origin| successes.is_tracked(origin));
    assert_eq!(watched(), [false; 4]);

    let mut cooldown = cooldown("a", 1, now);
    successes.update_tracked(&cooldown);
    assert_eq!(watched(), [true, true, true, false]);
    cooldown.on_accepted(1);
    successes.update_tracked(&cooldown);

    assert_eq!(watched(), [true, false, true, false]);
}

#[test]
fn successes_are_recorded_by_origin_and_send_time() {
    let epoch = SystemClock.now();
    let successes = Successes::new(2, epoch);
    successes.record(0, epoch + SECOND);

    assert_eq!(
        [0, 1, 2].map(|origin| successes.was_accepted_at(origin)),
        [true, false, false]
    );
    assert!(successes.was_accepted_since(0, epoch + SECOND - MS));
    assert!(!successes.was_accepted_since(0, epoch + SECOND));
    assert!(!successes.was_accepted_since(1, epoch) && !successes.was_accepted_since(2, epoch));
}
