use super::*;
use crate::{Clock, SystemClock, client_credentials::AccessToken};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn token(name: &str) -> TokenIdentity {
    AccessToken::new(name).identity()
}

/// Of ten seconds, since `now`, when `name` took the place of a token that was refused at `origin`.
fn cooldown(name: &str, origin: usize, now: Instant) -> Cooldown {
    let mut cooldown = Cooldown::new(10 * SECOND);
    cooldown.forced_by(origin);
    cooldown.ended(FetchReason::Rejected, Some(token(name)), now);
    cooldown
}

#[test]
fn it_lasts_for_its_length_but_for_half_of_a_life_at_most() {
    let now = SystemClock.now();
    let cooldown = cooldown("a", 0, now);
    for (life, length) in [(None, 10), (Some(60), 10), (Some(20), 10), (Some(6), 3)] {
        let (life, length) = (life.map(Duration::from_secs), length * SECOND);

        assert_eq!(cooldown.length(life), length);
        assert!(cooldown.holds(now + length - MS, life), "{life:?}");
        assert!(!cooldown.holds(now + length, life), "{life:?}");
    }
    assert!(!Cooldown::new(10 * SECOND).holds(now, None));
}

#[test]
fn only_what_was_asked_for_begins_it() {
    let now = SystemClock.now();
    for (reason, begins) in [
        (FetchReason::Cold, false),
        (FetchReason::Early, false),
        (FetchReason::Expired, false),
        (FetchReason::Forced, true),
        (FetchReason::Rejected, true),
    ] {
        let mut cooldown = Cooldown::new(10 * SECOND);
        cooldown.ended(reason, Some(token("a")), now);

        assert_eq!(cooldown.holds(now, None), begins, "{reason:?}");
        // What somebody asked for by hand replaces no refused token.
        cooldown.token_refused(token("a"), 0, now);
        let doubled = cooldown.length(None) == 20 * SECOND;
        assert_eq!(doubled, reason == FetchReason::Rejected, "{reason:?}");
    }
}

#[test]
fn it_doubles_once_per_token_up_to_ten_minutes() {
    let now = SystemClock.now();
    let mut cooldown = Cooldown::new(10 * SECOND);
    for length in [20, 40, 80, 160, 320, 600, 600] {
        cooldown.ended(FetchReason::Rejected, Some(token("a")), now);
        cooldown.token_refused(token("b"), 0, now);
        for _ in 0..2 {
            cooldown.token_refused(token("a"), 0, now + SECOND);
            assert_eq!(cooldown.length(None), length * SECOND);
        }
        // It begins anew with the refusal.
        assert!(cooldown.holds(now + SECOND + length * SECOND - MS, None));
    }
    let mut longer = Cooldown::new(900 * SECOND);
    longer.ended(FetchReason::Rejected, Some(token("a")), now);
    longer.token_refused(token("a"), 0, now);
    assert_eq!(longer.length(None), 900 * SECOND);
}

#[test]
fn a_success_where_the_token_was_refused_ends_the_doubling() {
    let now = SystemClock.now();
    let mut cooldown = cooldown("a", 1, now);
    assert_eq!(cooldown.watched(), Some(1));
    cooldown.token_refused(token("a"), 2, now);
    // Where it doubled is what counts then.
    assert_eq!(cooldown.watched(), Some(2));

    cooldown.token_accepted(1);
    assert_eq!(cooldown.length(None), 20 * SECOND);
    cooldown.token_accepted(2);
    assert_eq!(cooldown.length(None), 10 * SECOND);
    assert_eq!(cooldown.watched(), None);
    assert_eq!(Cooldown::new(SECOND).watched(), None);
}

#[test]
fn a_token_that_was_accepted_is_not_one_that_took_the_place_of_another() {
    let now = SystemClock.now();
    let mut cooldown = cooldown("a", 0, now);

    cooldown.token_accepted(0);
    cooldown.token_refused(token("a"), 0, now);

    assert_eq!(cooldown.length(None), 10 * SECOND);
}

#[test]
fn a_token_works_for_others_for_five_seconds_after_it_did() {
    let epoch = SystemClock.now();
    for at in [Duration::ZERO, SECOND, 3600 * SECOND] {
        let successes = Successes::new(2, epoch);
        let sent_at = epoch + at;
        assert!(!successes.works_elsewhere(0, sent_at, sent_at));
        successes.record(1, sent_at);

        for (later, works) in [(0, true), (4999, true), (5000, false), (9999, false)] {
            let now = sent_at + later * MS;
            assert_eq!(successes.works_elsewhere(0, now, now), works, "{later}");
        }
    }
}

#[test]
fn at_the_same_origin_only_a_later_request_counts() {
    let epoch = SystemClock.now();
    let successes = Successes::new(1, epoch);
    let sent_at = epoch + SECOND;
    successes.record(0, sent_at);

    let works = |refused: Instant| successes.works_elsewhere(0, refused, sent_at + SECOND);
    assert!(works(sent_at - MS));
    assert!(!works(sent_at));
    assert!(!works(sent_at + MS));
}

#[test]
fn a_success_is_noted_every_tenth_of_a_second_from_the_first_on() {
    let epoch = SystemClock.now();
    let successes = Successes::new(1, epoch);
    let noted = |at: u32, before: u32| {
        successes.record(0, epoch + at * MS);
        successes.works_elsewhere(0, epoch + before * MS, epoch + at * MS)
    };
    successes.record(0, epoch + 7 * MS);
    assert!(successes.works_elsewhere(0, epoch + 6 * MS, epoch + 7 * MS));
    assert!(!noted(106, 7));
    assert!(noted(107, 106));
    assert!(!noted(206, 107));
    // An origin that is not there has no successes.
    successes.record(1, epoch + SECOND);
    assert!(!successes.works_elsewhere(1, epoch, epoch + 20 * SECOND));
}

#[test]
fn one_origin_is_watched_or_none() {
    let successes = Successes::new(2, SystemClock.now());
    for watched in [Some(0), Some(1), None] {
        successes.watch(watched);
        for origin in 0..2 {
            assert_eq!(successes.is_watched(origin), watched == Some(origin));
        }
    }
}
