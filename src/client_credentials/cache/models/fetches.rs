//! One fetch for all waiting callers, whichever of them is dropped.

use super::*;

#[test]
fn loom_concurrent_callers_share_one_fetch() {
    explore("callers that arrive together", || {
        let world = World::empty();
        let others = [0; 2].map(|_| in_thread(&world, |world| world.caller()));
        let mine = world.caller().unwrap();
        for other in others {
            assert_eq!(other.join().unwrap().unwrap().generation, mine.generation);
        }
        assert_eq!(world.fetches(), 1);
        world.assert_idle();
    });
}

#[test]
fn loom_dropping_the_fetch_guard_wakes_all_waiters() {
    for panics in [false, true] {
        explore("a leader that is dropped or panics", move || {
            let world = World::empty();
            let careless = move |world: World| {
                world.caller_with(|guard, number| {
                    if number > 1 {
                        world.succeed(guard, number);
                    } else if panics {
                        let work = AssertUnwindSafe(|| {
                            let _guard = guard;
                            std::panic::resume_unwind(Box::new(()));
                        });
                        assert!(catch_unwind(work).is_err());
                    }
                })
            };
            let other = in_thread(&world, careless);
            assert!(careless(world.clone()).is_ok());
            assert!(other.join().unwrap().is_ok());
            assert_eq!(world.fetches(), 2);
            world.assert_idle();
        });
    }
}

#[test]
fn loom_a_stalled_fetch_is_superseded_and_its_result_ignored() {
    for by_timer in [false, true] {
        explore("a runtime that shuts down", move || {
            let mut world = World::empty();
            let Acquire::Wait(fetch, Some(guard)) = world.cache.acquire(world.at()) else {
                panic!("there is no other caller");
            };
            world.fetches.fetch_add(1, Relaxed);
            let late = in_thread(&world, move |world| world.succeed(guard, 1).is_some());
            let waiter = in_thread(&world, {
                let fetch = Arc::clone(&fetch);
                move |world| {
                    wait(fetch);
                    world.caller().unwrap().generation
                }
            });
            if by_timer {
                world.cache.abandon(&fetch);
            } else {
                world.now = fetch.overdue_at();
            }
            let mine = world.caller().unwrap().generation;
            let in_time = late.join().unwrap();
            assert_eq!(waiter.join().unwrap(), mine);
            // One of the two was published.
            assert_eq!(world.generation(), 1);
            assert_eq!(
                world.usable(),
                Some(fingerprint(if in_time { 1 } else { 2 }))
            );
            world.assert_idle();
        });
    }
}

#[test]
fn loom_a_waiter_dropped_while_woken_does_not_consume_other_wakeups() {
    explore("a waiter dropped while being woken", || {
        let world = World::empty();
        let Acquire::Wait(fetch, Some(guard)) = world.cache.acquire(world.at()) else {
            panic!("there is no other caller");
        };
        let leaves = in_thread(&world, {
            let fetch = Arc::clone(&fetch);
            move |_| {
                poll_once(&fetch);
                // And comes back.
                assert!(matches!(wait(fetch), Outcome::Token(_)));
            }
        });
        let stays = in_thread(&world, {
            let fetch = Arc::clone(&fetch);
            move |_| assert!(matches!(wait(fetch), Outcome::Token(_)))
        });
        world.succeed(guard, 1).unwrap();
        leaves.join().unwrap();
        stays.join().unwrap();
    });
}

#[test]
fn loom_a_fetch_completes_without_waiters() {
    explore("all waiters dropped", || {
        let world = World::empty();
        let Acquire::Wait(fetch, Some(guard)) = world.cache.acquire(world.at()) else {
            panic!("there is no other caller");
        };
        let others = [0; 2].map(|_| {
            let fetch = Arc::clone(&fetch);
            in_thread(&world, move |_| poll_once(&fetch))
        });
        poll_once(&fetch);
        world.succeed(guard, 1).unwrap();
        for other in others {
            other.join().unwrap();
        }
        // No waker is left behind.
        assert_eq!(Arc::strong_count(&fetch), 1);
        assert_eq!(world.usable(), Some(fingerprint(1)));
        world.assert_idle();
    });
}

#[test]
fn loom_after_shutdown_no_fetch_starts_and_no_caller_waits() {
    explore("shutdown", || {
        let world = World::empty();
        let caller = in_thread(&world, |world| world.caller());
        if let Some(fetch) = world.cache.close() {
            wait(fetch);
        }
        let after = world.caller_with(|_, _| panic!("the cache is closed"));
        let before = caller.join().unwrap();
        assert_eq!(after.is_ok(), before.is_ok());
        assert_eq!(world.fetches(), usize::from(before.is_ok()));
        world.assert_idle();
    });
}

#[test]
fn loom_without_a_runtime_every_caller_gets_an_error() {
    explore("callers without a runtime", || {
        let world = World::empty();
        let refresher = Arc::new(Refresher::new(
            world.cache.clone(),
            BoxTokenSource::new(AccessToken::new("key")),
            None,
            SharedClock::default(),
            Sinks::default(),
            None,
        ));
        let other = thread::spawn({
            let refresher = Arc::clone(&refresher);
            move || block_on(refresher.get())
        });
        for error in [block_on(refresher.get()), other.join().unwrap()] {
            let kind = error.unwrap_err().kind();
            assert_eq!(kind, TokenErrorKind::Configuration);
        }
        world.assert_idle();
    });
}
