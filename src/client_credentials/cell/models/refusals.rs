//! Tokens that are refused or dropped while they are replaced.

use super::*;

#[test]
fn loom_a_late_401_changes_nothing_for_the_new_token() {
    explore("a late 401 against a new generation", || {
        let world = World::filled();
        let (lead, number) = world.early();
        let renewal = in_thread(&world, move |world| world.succeed(lead, number));
        let other = in_thread(&world, |world| match world.refused(0) {
            Refused::Replaced(token) => assert_ne!(token.identity, identity(0)),
            Refused::Stands | Refused::Wait(..) => panic!("a token is there"),
        });
        let token = match world.refused(1) {
            Refused::Replaced(token) => token,
            Refused::Wait(flight, None) => match wait(flight) {
                Outcome::Token(token) => token,
                Outcome::Abandoned | Outcome::Failed(_) | Outcome::Unchanged(_) => {
                    panic!("the renewal succeeds")
                }
            },
            Refused::Stands | Refused::Wait(_, Some(_)) => panic!("the renewal is under way"),
        };
        assert_eq!(token.identity, identity(2));
        renewal.join().unwrap().unwrap();
        other.join().unwrap();
        assert_eq!(world.usable(), Some(identity(2)));
        world.assert_at_rest();
    });
}

#[test]
fn loom_two_401s_for_one_token_cost_one_attempt() {
    explore("two 401s for one token", || {
        let world = World::filled();
        let replace = |world: World| match world.refused(1) {
            Refused::Replaced(token) => token.identity,
            Refused::Wait(flight, lead) => {
                if let Some(lead) = lead {
                    world.succeed(lead, world.attempts.fetch_add(1, Relaxed) + 1);
                }
                match wait(flight) {
                    Outcome::Token(token) => token.identity,
                    Outcome::Abandoned | Outcome::Failed(_) | Outcome::Unchanged(_) => {
                        panic!("the attempt succeeds")
                    }
                }
            }
            Refused::Stands => panic!("nothing stands in the way"),
        };
        let other = in_thread(&world, replace);
        // Who needs a token meanwhile never gets the refused one after its successor.
        let caller = in_thread(&world, |world| {
            let first = world.caller().unwrap().version;
            assert!(world.caller().unwrap().version >= first);
        });
        assert_eq!(replace(world.clone()), identity(2));
        assert_eq!(other.join().unwrap(), identity(2));
        caller.join().unwrap();
        assert_eq!(world.attempts(), 2);
        world.assert_at_rest();
    });
}

#[test]
fn loom_a_refused_token_is_used_again_if_it_cannot_be_replaced() {
    for lost in [false, true] {
        explore("a renewal after a 401 that fails", move || {
            let world = World::filled();
            let refused = in_thread(&world, move |world| match world.refused(1) {
                Refused::Wait(flight, Some(lead)) => {
                    if lost {
                        drop(lead);
                    } else {
                        world.fail(lead);
                    }
                    assert!(!matches!(wait(flight), Outcome::Token(_)));
                }
                _ => panic!("nobody else renews"),
            });
            let caller = world.caller_who(|_, _| panic!("the token is there"));
            // A caller that waited for the failed renewal uses the token that there is.
            assert_eq!(caller.unwrap().identity, identity(1));
            refused.join().unwrap();
            assert_eq!(world.usable(), Some(identity(1)));
            world.assert_at_rest();
        });
    }
}

#[test]
fn loom_invalidation_beside_a_refresh_never_brings_the_old_token_back() {
    explore("refresh beside invalidate", || {
        let world = World::filled();
        let (lead, number) = world.early();
        let renewal = in_thread(&world, move |world| world.succeed(lead, number));
        let reader = in_thread(&world, |world| {
            let seen = [0; 3].map(|_| world.usable());
            let old = seen.iter().rposition(|seen| *seen == Some(identity(1)));
            let other = seen.iter().position(|seen| *seen != Some(identity(1)));
            assert!(old.is_none_or(|old| other.is_none_or(|other| old < other)));
        });
        world.cell.invalidate();
        assert_ne!(world.usable(), Some(identity(1)));
        renewal.join().unwrap().unwrap();
        reader.join().unwrap();
        assert_ne!(world.usable(), Some(identity(1)));
        assert_ne!(world.caller().unwrap().identity, identity(1));
        world.assert_at_rest();
    });
}
