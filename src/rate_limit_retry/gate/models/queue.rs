//! When a waiter leaves, the next one is admitted.

use super::*;

#[test]
fn loom_dropping_a_permit_admits_the_next_request() {
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
fn loom_concurrent_responses_wake_all_admitted_waiters() {
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
fn loom_all_queued_requests_are_admitted() {
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
                Admission::TooLate(_) | Admission::QueueFull(_) | Admission::CostTooHigh(..) => {
                    panic!("there is no hold")
                }
            }
        });
        // Not sent: the next request is admitted alone, too.
        permit.settle(Outcome::NotSent, world.now);
        waits.join().unwrap();
        arrives.join().unwrap();
        world.assert_idle();
    });
}

#[test]
fn loom_a_permit_dropped_when_granted_goes_to_the_next_waiter() {
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
fn loom_a_request_with_two_keys_waits_for_both() {
    explore("two partitions that open at once", || {
        let world = TestGate::new(1);
        let permits = [world.admit_now(&keys(["a"])), world.admit_now(&keys(["b"]))];
        let both = world.queue(&keys(["a", "b"]));
        let behind = world.queue(&keys(["b"]));
        let [a, b] = permits;
        let first = in_thread(&world, |world| {
            a.settle(Outcome::NotSent, world.now);
        });
        // A request that needs `b` only may be admitted first, while `a` blocks the other one.
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
fn loom_the_gate_is_idle_when_all_waiters_are_dropped() {
    explore("all waiters canceled", || {
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
