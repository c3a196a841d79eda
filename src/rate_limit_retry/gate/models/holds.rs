//! No request is sent during a hold.

use super::*;

#[test]
fn loom_after_a_429_no_request_is_sent_before_the_hold_ends() {
    explore("a hold set while a request is admitted", || {
        let (world, keys) = (TestGate::new(2), keys(["a"]));
        let permit = world.admit_now(&keys);
        let held = Arc::new(AtomicBool::new(false));
        let refusal = in_thread(&world, {
            let held = Arc::clone(&held);
            move |world| {
                world.throttle(permit, 10 * SECOND);
                held.store(true, SeqCst);
            }
        });
        let before = held.load(SeqCst);
        let permit = match world.admit(&keys) {
            Admission::Admitted(permit) => {
                assert!(!before, "admitted during the hold");
                refusal.join().unwrap();
                // Checked right before the send.
                assert!(permit.is_held(world.now));
                assert!(!permit.is_held(world.now + 11 * SECOND));
                permit
            }
            Admission::Queued(waiter) => {
                refusal.join().unwrap();
                world.wait_for_permit(waiter)
            }
            Admission::TooLate(_) | Admission::QueueFull(_) | Admission::CostTooHigh(..) => {
                panic!("any wait is acceptable")
            }
        };
        permit.settle(Outcome::NotSent, world.now + 11 * SECOND);
        world.assert_idle();
    });
}

#[test]
fn loom_a_429_concurrent_with_a_success_holds_waiters() {
    explore("a refusal beside an acceptance", || {
        let (world, keys) = (TestGate::new(2), keys(["a"]));
        let (refused, accepted) = (world.admit_now(&keys), world.admit_now(&keys));
        let mut waiter = world.queue(&keys);
        let refusal = in_thread(&world, move |world| world.throttle(refused, 10 * SECOND));
        world.succeed(accepted);
        refusal.join().unwrap();
        // Either it was admitted in between and is held before the send, or it still waits.
        let poll = block_on(poll_fn(|cx| Poll::Ready(waiter.poll(cx, world.now))));
        let permit = match poll {
            WaiterPoll::Ready(permit) => {
                assert!(permit.is_held(world.now));
                permit
            }
            other @ (WaiterPoll::TooLate(_) | WaiterPoll::CostTooHigh(..)) => {
                panic!("any wait is acceptable: {other:?}")
            }
            WaiterPoll::Pending(at) => {
                assert!(at.is_some_and(|at| at >= world.now + 10 * SECOND));
                world.wait_for_permit(waiter)
            }
        };
        permit.settle(Outcome::NotSent, world.now);
        world.assert_idle();
    });
}

#[test]
fn loom_forgetting_a_hold_releases_waiters() {
    explore("a hold forgotten while a waiter is polled", || {
        let (world, keys) = (TestGate::new(1), keys(["a"]));
        world.throttle(world.admit_now(&keys), HOUR);
        let waiter = world.queue(&keys);
        let forgets = in_thread(&world, |world| {
            world.gate.forget(&PartitionKey::new("a"), world.now);
        });
        drop(world.wait_for_permit(waiter));
        forgets.join().unwrap();
        world.assert_idle();
    });
}
