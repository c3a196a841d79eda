//! One attempt for all who wait, whoever of them is lost.

use super::*;

#[test]
fn loom_callers_who_come_together_cost_one_attempt() {
    explore("callers who come together", || {
        let world = World::empty();
        let others = [0; 2].map(|_| in_thread(&world, |world| world.caller()));
        let mine = world.caller().unwrap();
        for other in others {
            assert_eq!(other.join().unwrap().unwrap().version, mine.version);
        }
        assert_eq!(world.attempts(), 1);
        world.assert_at_rest();
    });
}

#[test]
fn loom_a_leader_who_is_dropped_or_panics_leaves_nobody_waiting() {
    for panics in [false, true] {
        explore("a leader who is dropped or panics", move || {
            let world = World::empty();
            let careless = move |world: World| {
                world.caller_who(|lead, number| {
                    if number > 1 {
                        world.succeed(lead, number);
                    } else if panics {
                        let work = AssertUnwindSafe(|| {
                            let _lead = lead;
                            std::panic::resume_unwind(Box::new(()));
                        });
                        assert!(catch_unwind(work).is_err());
                    }
                })
            };
            let other = in_thread(&world, careless);
            assert!(careless(world.clone()).is_ok());
            assert!(other.join().unwrap().is_ok());
            assert_eq!(world.attempts(), 2);
            world.assert_at_rest();
        });
    }
}

#[test]
fn loom_an_attempt_whose_runtime_stands_still_is_taken_over_and_then_ignored() {
    for by_timer in [false, true] {
        explore("a runtime that ends", move || {
            let mut world = World::empty();
            let Acquire::Wait(flight, Some(lead)) = world.cell.acquire(world.at()) else {
                panic!("nobody else is there");
            };
            world.attempts.fetch_add(1, Relaxed);
            let late = in_thread(&world, move |world| world.succeed(lead, 1).is_some());
            let waiter = in_thread(&world, {
                let flight = Arc::clone(&flight);
                move |world| {
                    wait(flight);
                    world.caller().unwrap().version
                }
            });
            if by_timer {
                world.cell.abandon(&flight);
            } else {
                world.now = flight.overdue_at();
            }
            let mine = world.caller().unwrap().version;
            let in_time = late.join().unwrap();
            assert_eq!(waiter.join().unwrap(), mine);
            // One of the two was published.
            assert_eq!(world.version(), 1);
            assert_eq!(world.usable(), Some(identity(if in_time { 1 } else { 2 })));
            world.assert_at_rest();
        });
    }
}

#[test]
fn loom_who_leaves_while_being_woken_takes_nobody_elses_wake_up() {
    explore("a waiter dropped while being woken", || {
        let world = World::empty();
        let Acquire::Wait(flight, Some(lead)) = world.cell.acquire(world.at()) else {
            panic!("nobody else is there");
        };
        let leaves = in_thread(&world, {
            let flight = Arc::clone(&flight);
            move |_| {
                look_in(&flight);
                // And comes back.
                assert!(matches!(wait(flight), Outcome::Token(_)));
            }
        });
        let stays = in_thread(&world, {
            let flight = Arc::clone(&flight);
            move |_| assert!(matches!(wait(flight), Outcome::Token(_)))
        });
        world.succeed(lead, 1).unwrap();
        leaves.join().unwrap();
        stays.join().unwrap();
    });
}

#[test]
fn loom_when_all_who_waited_have_left_the_token_comes_all_the_same() {
    explore("all waiters dropped", || {
        let world = World::empty();
        let Acquire::Wait(flight, Some(lead)) = world.cell.acquire(world.at()) else {
            panic!("nobody else is there");
        };
        let others = [0; 2].map(|_| {
            let flight = Arc::clone(&flight);
            in_thread(&world, move |_| look_in(&flight))
        });
        look_in(&flight);
        world.succeed(lead, 1).unwrap();
        for other in others {
            other.join().unwrap();
        }
        // No waker is left behind.
        assert_eq!(Arc::strong_count(&flight), 1);
        assert_eq!(world.usable(), Some(identity(1)));
        world.assert_at_rest();
    });
}

#[test]
fn loom_after_the_shutdown_nobody_starts_an_attempt_or_waits() {
    explore("shutdown", || {
        let world = World::empty();
        let caller = in_thread(&world, |world| world.caller());
        if let Some(flight) = world.cell.close() {
            wait(flight);
        }
        let after = world.caller_who(|_, _| panic!("the cell is closed"));
        let before = caller.join().unwrap();
        assert_eq!(after.is_ok(), before.is_ok());
        assert_eq!(world.attempts(), usize::from(before.is_ok()));
        world.assert_at_rest();
    });
}

#[test]
fn loom_without_a_runtime_every_caller_gets_an_error() {
    explore("callers without a runtime", || {
        let world = World::empty();
        let tokens = Arc::new(Refresher::new(
            world.cell.clone(),
            BoxTokenSource::new(AccessToken::new("key")),
            None,
            SharedClock::default(),
            Sinks::default(),
        ));
        let other = thread::spawn({
            let tokens = Arc::clone(&tokens);
            move || block_on(tokens.obtain())
        });
        for error in [block_on(tokens.obtain()), other.join().unwrap()] {
            let kind = error.unwrap_err().kind();
            assert_eq!(kind, TokenErrorKind::NoRuntime);
        }
        world.assert_at_rest();
    });
}
