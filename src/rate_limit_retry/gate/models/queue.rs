//! Whoever leaves, the next one goes.

use super::*;

#[test]
fn loom_dropping_a_permit_admits_the_next_request() {
    explore("a ticket dropped while a place is polled", || {
        let (world, keys) = (World::new(1), keys(["a"]));
        let ticket = world.go(&keys);
        let place = world.queue(&keys);
        let leaves = in_thread(&world, |_| drop(ticket));
        drop(world.turn(place));
        leaves.join().unwrap();
        world.assert_at_rest();
    });
}

#[test]
fn loom_concurrent_responses_wake_all_admitted_waiters() {
    explore("two settles at once", || {
        let (world, keys) = (World::new(2), keys(["a"]));
        let tickets = [world.go(&keys), world.go(&keys)];
        let places = [world.queue(&keys), world.queue(&keys)];
        let answers = tickets.map(|ticket| in_thread(&world, |world| world.accept(ticket)));
        for place in places {
            drop(world.turn(place));
        }
        for answer in answers {
            answer.join().unwrap();
        }
        world.assert_at_rest();
    });
}

#[test]
fn loom_all_queued_requests_are_admitted() {
    explore("two who wait while another arrives", || {
        let (world, keys) = (World::new(1), keys(["a"]));
        let ticket = world.go(&keys);
        let first = world.queue(&keys);
        let waits = in_thread(&world, move |world| world.accept(world.turn(first)));
        let arrives = in_thread(&world, {
            let keys = Arc::clone(&keys);
            move |world| match world.admit(&keys) {
                Admission::Go(ticket) => world.accept(ticket),
                Admission::Wait(place) => world.accept(world.turn(place)),
                Admission::TooLate(_) | Admission::TooMany(_) => panic!("there is no hold"),
            }
        });
        // Not sent: the next one is as careful as this one was.
        ticket.settle(Learnt::NotSent, world.now);
        waits.join().unwrap();
        arrives.join().unwrap();
        world.assert_at_rest();
    });
}

#[test]
fn loom_a_permit_dropped_when_granted_goes_to_the_next_waiter() {
    for polled in [false, true] {
        explore("a place dropped when granted", move || {
            let (world, keys) = (World::new(1), keys(["a"]));
            let ticket = world.go(&keys);
            let (first, second) = (world.queue(&keys), world.queue(&keys));
            let answer = in_thread(&world, |world| {
                ticket.settle(Learnt::NotSent, world.now);
            });
            let leaves = in_thread(&world, move |world| {
                if polled {
                    world.look_in(first);
                } else {
                    drop(first);
                }
            });
            drop(world.turn(second));
            answer.join().unwrap();
            leaves.join().unwrap();
            world.assert_at_rest();
        });
    }
}

#[test]
fn loom_a_request_with_two_keys_waits_for_both() {
    explore("two partitions that open at once", || {
        let world = World::new(1);
        let tickets = [world.go(&keys(["a"])), world.go(&keys(["b"]))];
        let both = world.queue(&keys(["a", "b"]));
        let behind = world.queue(&keys(["b"]));
        let [a, b] = tickets;
        let first = in_thread(&world, |world| {
            a.settle(Learnt::NotSent, world.now);
        });
        // Whoever needs `b` only may go first, while `a` keeps the other back.
        let second = in_thread(&world, |world| {
            b.settle(Learnt::NotSent, world.now);
            drop(world.turn(behind));
        });
        drop(world.turn(both));
        for thread in [first, second] {
            thread.join().unwrap();
        }
        world.assert_at_rest();
    });
}

#[test]
fn loom_the_gate_is_idle_when_all_waiters_are_dropped() {
    explore("all places given up", || {
        let (world, keys) = (World::new(1), keys(["a"]));
        let ticket = world.go(&keys);
        let leave = [0; 2].map(|_| {
            let place = world.queue(&keys);
            in_thread(&world, |world| world.look_in(place))
        });
        drop(ticket);
        for thread in leave {
            thread.join().unwrap();
        }
        world.assert_at_rest();
        drop(world.go(&keys));
    });
}
