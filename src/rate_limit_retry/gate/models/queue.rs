//! Whoever leaves, the next one goes.

use super::*;

#[test]
fn loom_a_ticket_that_is_dropped_lets_the_next_one_go() {
    explore("a permit dropped while a waiter is polled", || {
        let (world, keys) = (TestGate::new(1), keys(["a"]));
        let permit = world.admit_now(&keys);
        let waiter = world.queue(&keys);
        let leaves = in_thread(&world, |_| drop(permit));
        drop(world.wait_for_permit(waiter));
        leaves.join().unwrap();
        world.assert_idle();
    });
}

#[test]
fn loom_answers_that_come_together_wake_all_who_may_go() {
    explore("two settles at once", || {
        let (world, keys) = (TestGate::new(2), keys(["a"]));
        let permits = [world.admit_now(&keys), world.admit_now(&keys)];
        let waiters = [world.queue(&keys), world.queue(&keys)];
        let answers = permits.map(|permit| in_thread(&world, |world| world.succeed(permit)));
        for waiter in waiters {
            drop(world.wait_for_permit(waiter));
        }
        for answer in answers {
            answer.join().unwrap();
        }
        world.assert_idle();
    });
}

#[test]
fn loom_requests_in_the_queue_all_get_their_turn() {
    explore("two who wait while another arrives", || {
        let (world, keys) = (TestGate::new(1), keys(["a"]));
        let permit = world.admit_now(&keys);
        let first = world.queue(&keys);
        let waits = in_thread(&world, move |world| {
            world.succeed(world.wait_for_permit(first))
        });
        let arrives = in_thread(&world, {
            let keys = Arc::clone(&keys);
            move |world| match world.admit(&keys) {
                Admission::Admitted(permit) => world.succeed(permit),
                Admission::Queued(waiter) => world.succeed(world.wait_for_permit(waiter)),
                Admission::TooLate(_) | Admission::QueueFull(_) => panic!("there is no hold"),
            }
        });
        // Not sent: the next one is as careful as this one was.
        permit.settle(Outcome::NotSent, world.now);
        waits.join().unwrap();
        arrives.join().unwrap();
        world.assert_idle();
    });
}

#[test]
fn loom_a_place_that_is_given_up_when_granted_goes_to_the_next() {
    for polled in [false, true] {
        explore("a waiter dropped when granted", move || {
            let (world, keys) = (TestGate::new(1), keys(["a"]));
            let permit = world.admit_now(&keys);
            let (first, second) = (world.queue(&keys), world.queue(&keys));
            let answer = in_thread(&world, |world| {
                permit.settle(Outcome::NotSent, world.now);
            });
            let leaves = in_thread(&world, move |world| {
                if polled {
                    world.poll_once(first);
                } else {
                    drop(first);
                }
            });
            drop(world.wait_for_permit(second));
            answer.join().unwrap();
            leaves.join().unwrap();
            world.assert_idle();
        });
    }
}

#[test]
fn loom_a_request_with_two_keys_goes_when_both_allow() {
    explore("two partitions that open at once", || {
        let world = TestGate::new(1);
        let permits = [world.admit_now(&keys(["a"])), world.admit_now(&keys(["b"]))];
        let both = world.queue(&keys(["a", "b"]));
        let behind = world.queue(&keys(["b"]));
        let [a, b] = permits;
        let first = in_thread(&world, |world| {
            a.settle(Outcome::NotSent, world.now);
        });
        // Whoever needs `b` only may go first, while `a` keeps the other back.
        let second = in_thread(&world, |world| {
            b.settle(Outcome::NotSent, world.now);
            drop(world.wait_for_permit(behind));
        });
        drop(world.wait_for_permit(both));
        for thread in [first, second] {
            thread.join().unwrap();
        }
        world.assert_idle();
    });
}

#[test]
fn loom_when_all_who_wait_leave_the_gate_is_free() {
    explore("all waiters given up", || {
        let (world, keys) = (TestGate::new(1), keys(["a"]));
        let permit = world.admit_now(&keys);
        let leave = [0; 2].map(|_| {
            let waiter = world.queue(&keys);
            in_thread(&world, |world| world.poll_once(waiter))
        });
        drop(permit);
        for thread in leave {
            thread.join().unwrap();
        }
        world.assert_idle();
        drop(world.admit_now(&keys));
    });
}
