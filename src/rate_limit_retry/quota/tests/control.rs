//! What is asked of a quota, and what its owner orders.

use super::*;
use crate::rate_limit_retry::store::{ProcessId, QuotaView};

/// A change that leaves a partition in use, or keeps requests from it.
type Change = fn(&mut World);

fn pause(world: &mut World) {
    world.quota.pause(world.now + secs(5));
}

fn hold(world: &mut World) {
    world.quota.hold(world.now + secs(5));
}

/// At most 10 in 5 s, one of which has gone.
fn cap(world: &mut World) {
    world.quota = Quota::new(&world.pace, Some(OwnLimit::per(10, secs(5))));
    let number = world.enter();
    world.accept(number, &Signals::default());
}

fn enter(world: &mut World) {
    world.enter();
}

/// So many requests are accepted, with answers that say nothing.
fn silence(world: &mut World, count: usize) {
    for _ in 0..count {
        let number = world.enter();
        world.accept(number, &Signals::default());
    }
}

#[test]
fn a_partition_is_held_until_its_hold_and_pause_end() {
    let mut world = World::new();
    let now = world.now;
    assert_eq!(world.quota.held_until(now), None);
    pause(&mut world);
    assert_eq!(world.quota.held_until(now), Some(now + secs(5)));
    assert_eq!(world.quota.refused_until(), None);
    for (hold, until) in [(2, 5), (9, 9), (8, 9), (10, 10)] {
        world.quota.hold(now + secs(hold));
        assert_eq!(world.quota.held_until(now), Some(now + secs(until)));
    }
    assert_eq!(world.quota.refused_until(), Some(now + secs(10)));
    assert!(world.quota.held_until(now + ms(9_999)).is_some());
    assert_eq!(world.quota.held_until(now + secs(10)), None);
}

#[test]
fn a_shorter_hold_does_not_replace_a_longer_one() {
    let mut world = World::new();
    let end = world.now + secs(10);
    for (seconds, until) in [(10, 10), (9, 10), (10, 10), (11, 11)] {
        world.quota.hold(world.now + secs(seconds));
        assert_eq!(world.quota.refused_until(), Some(world.now + secs(until)));
    }
    assert_eq!(world.admit(), Admit::NotBefore(end + secs(1)));
}

#[test]
fn a_pause_ends_at_its_deadline_or_on_resume() {
    for resumed in [false, true] {
        let mut world = World::new();
        pause(&mut world);
        let end = world.now + secs(5);
        assert_eq!(world.admit(), Admit::NotBefore(end));
        if resumed {
            world.quota.resume();
        } else {
            world.now = end - ms(1);
            assert_eq!(world.admit(), Admit::NotBefore(end));
            world.now = end;
        }

        // One goes, to see.
        let first = world.send().unwrap();
        assert_eq!(world.send(), None);
        world.accept(first, &Signals::default());
        assert!(world.send().is_some() && world.send().is_some());
        assert_eq!(world.send(), None);
    }
}

#[test]
fn resuming_an_active_partition_has_no_effect() {
    let mut world = World::new();

    world.quota.resume();

    assert_eq!((0..9).filter_map(|_| world.send()).count(), 8);
}

#[test]
fn the_snapshot_shows_the_last_announcement() {
    let mut world = World::new();
    assert_eq!(world.quota.known(), (None, None, None));
    assert_eq!(world.quota.last_used(), None);
    let number = world.enter();
    assert_eq!(world.quota.in_flight(), 1);

    world.accept(number, &telling(100, 50, secs(60)));

    let reset = Some(world.now + secs(60));
    assert_eq!(world.quota.known(), (Some(100), Some(50), reset));
    assert_eq!(world.quota.last_used(), Some(world.now));
    assert_eq!(world.quota.in_flight(), 0);
}

#[test]
fn forgetting_clears_estimates_but_not_in_flight_requests() {
    let pace = Pace {
        shared: true,
        ..PACE
    };
    let mut world = World::with(pace);
    world.quota = Quota::new(&pace, Some(OwnLimit::in_flight(3)));
    let went = world.now;
    world.quota.report(ProcessId::random(), 0, went);
    world.quota.inform(&QuotaView::default(), secs(60), went);
    let (late, refused) = (world.enter(), world.enter());
    world.refuse(refused, &telling(100, 0, secs(60)));
    pause(&mut world);
    world.pass(secs(1));

    world.quota.forget(&pace);

    assert_eq!(world.quota.known(), (None, None, None));
    assert_eq!(world.quota.refused_until(), None);
    assert_eq!(world.quota.last_used(), Some(went));
    assert_eq!(world.quota.in_flight(), 1);
    assert_eq!(world.admit(), Admit::NotBefore(went + secs(5)));
    world.quota.resume();
    // The fleet is told of what is under way, and of nothing else.
    assert_eq!(world.quota.report_due(world.now), Some(went + ms(300)));
    // An answer to a request from before teaches nothing.
    world.accept(late, &telling(100, 50, secs(60)));
    assert_eq!(world.quota.known(), (None, None, None));
    // The numbers and the own limit go on.
    assert_eq!(world.enter(), 2);
    world.enter();
    world.enter();
    assert_eq!(world.admit(), Admit::AfterAnswer(None));
}

#[test]
fn a_partition_is_unused_without_requests_and_holds() {
    let world = World::new();
    assert!(world.quota.is_unused(world.now));
    for change in [pause, hold, cap, enter] as [Change; 4] {
        let mut world = World::new();
        change(&mut world);
        assert!(!world.quota.is_unused(world.now));
        assert!(!world.quota.is_idle(world.now));

        world.pass(secs(5));

        assert_eq!(
            world.quota.is_unused(world.now),
            world.quota.in_flight() == 0
        );
    }
}

#[test]
fn a_partition_is_idle_after_its_window_resets() {
    let mut world = World::new();
    let number = world.enter();
    world.accept(number, &telling(100, 50, secs(60)));
    assert!(world.quota.is_unused(world.now));
    assert!(!world.quota.is_idle(world.now + ms(59_999)));
    assert!(world.quota.is_idle(world.now + secs(60)));
}

#[test]
fn the_fast_path_is_closed_while_requests_are_blocked() {
    for (change, quiet) in [
        (pause as Change, false),
        (hold, false),
        (cap, false),
        (enter, true),
    ] {
        let mut world = World::new();
        change(&mut world);
        silence(&mut world, 1000);
        assert_eq!(world.quota.is_quiet(), quiet);
    }
}

#[test]
fn the_fast_path_is_closed_while_a_window_is_known() {
    let mut world = World::new();
    let number = world.enter();
    world.accept(number, &telling(100_000, 50_000, secs(60)));
    silence(&mut world, 1000);
    assert!(!world.quota.is_quiet());

    world.pass(secs(60));
    world.admit();

    assert!(world.quota.is_quiet());
}

#[test]
fn the_fast_path_is_closed_when_a_limit_is_estimated() {
    let mut world = World::new();
    silence(&mut world, 1);
    let number = world.enter();
    world.refuse(number, &hinting(secs(60)));
    world.wait();

    silence(&mut world, 1000);

    assert!(!world.quota.is_quiet());
}

#[test]
fn estimates_are_reported_to_observers() {
    let mut world = World::new();
    silence(&mut world, 10);
    let number = world.enter();
    world.refuse(number, &hinting(secs(60)));
    world.wait();
    silence(&mut world, 1);

    assert_eq!(world.quota.lesson().allowance, Some(10));
}

#[test]
fn request_numbers_follow_send_order() {
    let mut world = World::new();

    assert_eq!([world.enter(), world.enter(), world.enter()], [0, 1, 2]);

    assert_eq!(world.quota.in_flight(), 3);
}

#[test]
fn a_late_outcome_counts_as_sent_before_the_known_state() {
    let mut world = World::new();
    let numbers = [world.enter(), world.enter(), world.enter()];
    world.refuse(numbers[0], &hinting(secs(5)));

    assert_eq!(world.quota.adopt(), 2);

    assert_eq!(world.quota.in_flight(), 3);
    assert_eq!(world.enter(), 4);
}

#[test]
fn outcomes_on_the_fast_path_are_new_information() {
    let mut world = World::new();
    let number = world.enter();
    // It is not held for such a hint, but all that went before is old.
    world.refuse(number, &hinting(secs(90_000)));
    silence(&mut world, 999);
    assert_eq!(world.quota.adopt(), 0);

    silence(&mut world, 1);

    assert_eq!(world.quota.adopt(), 1);
}
