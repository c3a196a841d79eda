//! Nobody goes while a hold lasts.

use super::*;

#[test]
fn loom_after_a_429_no_request_is_sent_before_the_hold_ends() {
    explore("a hold set while a request is admitted", || {
        let (world, keys) = (World::new(2), keys(["a"]));
        let ticket = world.go(&keys);
        let held = Arc::new(AtomicBool::new(false));
        let refusal = in_thread(&world, {
            let held = Arc::clone(&held);
            move |world| {
                world.refuse(ticket, 10 * SECOND);
                held.store(true, SeqCst);
            }
        });
        let before = held.load(SeqCst);
        let ticket = match world.admit(&keys) {
            Admission::Go(ticket) => {
                assert!(!before, "let go during the hold");
                refusal.join().unwrap();
                // Looked at before it is sent.
                assert!(ticket.is_overtaken(world.now));
                assert!(!ticket.is_overtaken(world.now + 11 * SECOND));
                ticket
            }
            Admission::Wait(place) => {
                refusal.join().unwrap();
                world.turn(place)
            }
            Admission::TooLate(_) | Admission::TooMany(_) => panic!("any wait is acceptable"),
        };
        ticket.settle(Learnt::NotSent, world.now + 11 * SECOND);
        world.assert_at_rest();
    });
}

#[test]
fn loom_a_429_concurrent_with_a_success_holds_waiters() {
    explore("a refusal beside an acceptance", || {
        let (world, keys) = (World::new(2), keys(["a"]));
        let (refused, accepted) = (world.go(&keys), world.go(&keys));
        let mut place = world.queue(&keys);
        let refusal = in_thread(&world, move |world| world.refuse(refused, 10 * SECOND));
        world.accept(accepted);
        refusal.join().unwrap();
        // Either it was let go in between, and is overtaken, or it is held.
        let turn = block_on(poll_fn(|cx| Poll::Ready(place.poll(cx, world.now))));
        let ticket = match turn {
            Turn::Ready(ticket) => {
                assert!(ticket.is_overtaken(world.now));
                ticket
            }
            Turn::TooLate(_) => panic!("any wait is acceptable"),
            Turn::Pending(at) => {
                assert!(at.is_some_and(|at| at >= world.now + 10 * SECOND));
                world.turn(place)
            }
        };
        ticket.settle(Learnt::NotSent, world.now);
        world.assert_at_rest();
    });
}

#[test]
fn loom_forgetting_a_hold_releases_waiters() {
    explore("a hold forgotten while a place is polled", || {
        let (world, keys) = (World::new(1), keys(["a"]));
        world.refuse(world.go(&keys), HOUR);
        let place = world.queue(&keys);
        let forgets = in_thread(&world, |world| {
            world.gate.forget(&PartitionKey::new("a"), world.now);
        });
        drop(world.turn(place));
        forgets.join().unwrap();
        world.assert_at_rest();
    });
}
