//! Tokens that are rejected or dropped while they are replaced.

use super::*;

#[test]
fn loom_a_late_401_changes_nothing_for_the_new_token() {
    explore("a late 401 against a new generation", || {
        let world = World::filled();
        let (guard, number) = world.early();
        let renewal = in_thread(&world, move |world| world.succeed(guard, number));
        let other = in_thread(&world, |world| match world.rejected(0) {
            RejectionOutcome::Replaced(token) => assert_ne!(token.fingerprint, fingerprint(0)),
            RejectionOutcome::Final | RejectionOutcome::Wait(..) => panic!("a token is there"),
        });
        let token = match world.rejected(1) {
            RejectionOutcome::Replaced(token) => token,
            RejectionOutcome::Wait(fetch, None) => match wait(fetch) {
                Outcome::Token(token) => token,
                Outcome::Abandoned | Outcome::Failed(_) | Outcome::Unchanged(_) => {
                    panic!("the renewal succeeds")
                }
            },
            RejectionOutcome::Final | RejectionOutcome::Wait(_, Some(_)) => {
                panic!("the renewal is under way")
            }
        };
        assert_eq!(token.fingerprint, fingerprint(2));
        renewal.join().unwrap().unwrap();
        other.join().unwrap();
        assert_eq!(world.usable(), Some(fingerprint(2)));
        world.assert_idle();
    });
}

#[test]
fn loom_two_401s_for_one_token_cause_one_fetch() {
    explore("two 401s for one token", || {
        let world = World::filled();
        let replace = |world: World| match world.rejected(1) {
            RejectionOutcome::Replaced(token) => token.fingerprint,
            RejectionOutcome::Wait(fetch, guard) => {
                if let Some(guard) = guard {
                    world.succeed(guard, world.fetches.fetch_add(1, Relaxed) + 1);
                }
                match wait(fetch) {
                    Outcome::Token(token) => token.fingerprint,
                    Outcome::Abandoned | Outcome::Failed(_) | Outcome::Unchanged(_) => {
                        panic!("the attempt succeeds")
                    }
                }
            }
            RejectionOutcome::Final => panic!("nothing stands in the way"),
        };
        let other = in_thread(&world, replace);
        // A concurrent caller never gets the rejected token after its successor.
        let caller = in_thread(&world, |world| {
            let first = world.caller().unwrap().generation;
            assert!(world.caller().unwrap().generation >= first);
        });
        assert_eq!(replace(world.clone()), fingerprint(2));
        assert_eq!(other.join().unwrap(), fingerprint(2));
        caller.join().unwrap();
        assert_eq!(world.fetches(), 2);
        world.assert_idle();
    });
}

#[test]
fn loom_a_rejected_token_is_used_again_if_the_fetch_fails() {
    for lost in [false, true] {
        explore("a renewal after a 401 that fails", move || {
            let world = World::filled();
            let refused = in_thread(&world, move |world| match world.rejected(1) {
                RejectionOutcome::Wait(fetch, Some(guard)) => {
                    if lost {
                        drop(guard);
                    } else {
                        world.fail(guard);
                    }
                    assert!(!matches!(wait(fetch), Outcome::Token(_)));
                }
                _ => panic!("no other refresh is in progress"),
            });
            let caller = world.caller_with(|_, _| panic!("the token is there"));
            // A caller that waited for the failed renewal uses the token that there is.
            assert_eq!(caller.unwrap().fingerprint, fingerprint(1));
            refused.join().unwrap();
            assert_eq!(world.usable(), Some(fingerprint(1)));
            world.assert_idle();
        });
    }
}

#[test]
fn loom_invalidation_during_a_refresh_never_restores_the_old_token() {
    explore("refresh beside invalidate", || {
        let world = World::filled();
        let (guard, number) = world.early();
        let renewal = in_thread(&world, move |world| world.succeed(guard, number));
        let reader = in_thread(&world, |world| {
            let seen = [0; 3].map(|_| world.usable());
            let old = seen.iter().rposition(|seen| *seen == Some(fingerprint(1)));
            let other = seen.iter().position(|seen| *seen != Some(fingerprint(1)));
            assert!(old.is_none_or(|old| other.is_none_or(|other| old < other)));
        });
        world.cache.invalidate();
        assert_ne!(world.usable(), Some(fingerprint(1)));
        renewal.join().unwrap().unwrap();
        reader.join().unwrap();
        assert_ne!(world.usable(), Some(fingerprint(1)));
        assert_ne!(world.caller().unwrap().fingerprint, fingerprint(1));
        world.assert_idle();
    });
}
