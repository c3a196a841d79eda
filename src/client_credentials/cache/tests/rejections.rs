//! What a 401 and a success do.

use super::*;

impl World {
    fn rejected(&self, name: &str, origin: usize) -> RejectionOutcome {
        self.cache
            .reject(rejection(name, origin, self.now), self.at())
    }

    /// Returns the guard that the request rejected with the token `name` gets.
    fn replacing(&self, name: &str, origin: usize) -> FetchGuard {
        match self.rejected(name, origin) {
            RejectionOutcome::Wait(_, Some(guard)) => guard,
            other => panic!("{other:?}"),
        }
    }

    fn accepted(&self, name: &str, origin: usize) {
        self.cache
            .on_accepted(origin, fingerprint(name), Some(self.now));
    }

    /// How long a cooldown at the origin 0 lasts.
    fn cooldown(&self) -> Duration {
        lock(&self.cache.0.refresh).cooldown.length(Some(0), None)
    }
}

pub(super) fn rejection(name: &str, origin: usize, sent_at: Instant) -> Rejection {
    Rejection {
        rejected: RejectedToken {
            fingerprint: fingerprint(name),
            challenges: Vec::new(),
        },
        origin,
        sent_at,
        for_other_scheme: false,
    }
}

fn is_final(refused: &RejectionOutcome) -> bool {
    matches!(refused, RejectionOutcome::Final)
}

#[test]
fn a_rejected_token_is_unused_until_it_is_replaced() {
    let world = World::with("a");
    let guard = world.replacing("a", 0);

    assert_eq!(guard.fetch().reason(), FetchReason::Rejected);
    assert_eq!(
        guard.fetch().rejected().map(RejectedToken::fingerprint),
        Some(fingerprint("a"))
    );
    assert_eq!(world.usable(), None);
    assert!(matches!(
        world.rejected("a", 0),
        RejectionOutcome::Wait(_, None)
    ));
    world.succeed(guard, "b");

    assert_eq!(world.usable(), Some(fingerprint("b")));
    assert!(
        matches!(world.rejected("a", 0), RejectionOutcome::Replaced(token) if token.fingerprint == fingerprint("b"))
    );
}

#[test]
fn a_token_accepted_elsewhere_stays_in_use_during_the_refresh() {
    for (origin, works) in [(0, false), (1, true)] {
        let world = World::with("a");
        world.accepted("a", origin);

        let guard = world.replacing("a", 0);

        // Refused at the origin 0, where a request of the same moment was accepted.
        assert_eq!(world.usable().is_some(), works, "{origin}");
        drop(guard);
        assert_eq!(world.usable(), Some(fingerprint("a")));
    }
}

#[test]
fn a_rejection_is_final_after_shutdown() {
    let world = World::with("a");
    world.cache.close();

    assert!(is_final(&world.rejected("a", 0)));
    assert_eq!(world.usable(), Some(fingerprint("a")));
}

#[test]
fn a_rejection_is_final_while_the_issuer_fails() {
    let mut world = World::with("a");
    world.fail(world.early().unwrap(), transient().with_retry_after(SECOND));

    assert!(is_final(&world.rejected("a", 0)));
    world.now += 2 * SECOND;
    assert!(!is_final(&world.rejected("a", 0)));
}

#[test]
fn a_rejection_is_final_during_the_cooldown() {
    let mut world = World::with("a");
    world.succeed(world.replacing("a", 0), "b");
    world.accepted("b", 0);

    world.now += 10 * SECOND - MS;
    assert!(is_final(&world.rejected("b", 0)));
    world.now += MS;
    assert!(!is_final(&world.rejected("b", 0)));
}

#[test]
fn an_origin_that_rejects_every_token_does_not_block_refreshes_for_others() {
    let mut world = World::with("t0");
    for round in 0..10 {
        world.now += 600 * SECOND;
        let refused = format!("t{round}");
        let guard = world.replacing(&refused, 0);
        world.succeed(guard, &format!("t{}", round + 1));
        assert!(is_final(&world.rejected(&format!("t{}", round + 1), 0)));
        world.accepted(&format!("t{}", round + 1), 1);
    }
    assert_eq!(world.cooldown(), 600 * SECOND);

    // Between any two of them there is a second.
    world.now += SECOND - MS;
    assert!(is_final(&world.rejected("t10", 1)));
    world.now += MS;
    world.succeed(world.replacing("t10", 1), "t11");

    world.accepted("t11", 1);
    assert!(is_final(&world.rejected("t11", 0)));
    assert_eq!(world.cooldown(), 600 * SECOND);
}

#[test]
fn origins_that_reject_every_token_share_the_cooldown() {
    let mut world = World::with("t0");
    let mut fetches = 0;
    for _ in 0..300 {
        for origin in [0, 1] {
            if let RejectionOutcome::Wait(_, Some(guard)) =
                world.rejected(&format!("t{fetches}"), origin)
            {
                fetches += 1;
                world.succeed(guard, &format!("t{fetches}"));
            }
        }
        world.now += SECOND;
    }

    // One origin alone costs five: at 0 s, 20 s, 60 s, 140 s and 300 s.
    assert!((5..=10).contains(&fetches), "{fetches}");
}

#[test]
fn suspension_counts_towards_the_cooldown() {
    let mut world = World::with("a");
    world.succeed(world.replacing("a", 0), "b");
    world.accepted("b", 0);
    world.now += SECOND;

    world.wall += 10 * SECOND - MS;
    assert!(is_final(&world.rejected("b", 0)));
    world.wall += MS;
    assert!(!is_final(&world.rejected("b", 0)));
}

#[test]
fn a_401_for_another_scheme_refreshes_once_per_cooldown() {
    let mut world = World::with("a");
    let other_scheme = |world: &World, name: &str| {
        let rejection = Rejection {
            for_other_scheme: true,
            ..rejection(name, 0, world.now)
        };
        world.cache.reject(rejection, world.at())
    };
    world.now += 10 * SECOND;
    world.accepted("a", 0);
    world.now -= SECOND;
    // A request that was sent later was accepted: the token is valid.
    assert!(is_final(&other_scheme(&world, "a")));
    world.now += 2 * SECOND;
    let RejectionOutcome::Wait(_, Some(guard)) = other_scheme(&world, "a") else {
        panic!("it was accepted before");
    };
    // It stays in use meanwhile: the rejection may concern a single resource.
    assert_eq!(world.usable(), Some(fingerprint("a")));
    world.succeed(guard, "b");
    assert!(is_final(&other_scheme(&world, "b")));

    // The new one did not help. That others are accepted there does not matter.
    for _ in 0..59 {
        world.accepted("b", 0);
        world.now += 10 * SECOND;
        assert!(is_final(&other_scheme(&world, "b")));
    }
    world.now += 10 * SECOND;
    assert!(!is_final(&other_scheme(&world, "b")));
}

#[test]
fn rejecting_an_unknown_token_refreshes_like_expiry() {
    let world = World::with("a");
    world.cache.invalidate();

    let guard = world.replacing("a", 0);

    assert_eq!(guard.fetch().reason(), FetchReason::Expired);
    assert!(guard.fetch().rejected().is_none());
}

#[test]
fn a_rejected_replacement_doubles_the_cooldown() {
    for (name, doubles) in [("a", false), ("b", true), ("c", false)] {
        let mut world = World::with("a");
        world.succeed(world.replacing("a", 0), "b");

        let refused = rejection(name, 0, world.now);
        world.cache.on_replay_rejected(&refused, world.at());

        let expected = if doubles { 20 } else { 10 } * SECOND;
        assert_eq!(world.cooldown(), expected, "{name}");
        // A success of another token or at another origin says nothing; one of this is the end of it.
        for (name, origin, length) in [
            ("a", 0, expected),
            ("b", 1, expected),
            ("b", 0, 10 * SECOND),
        ] {
            world.now += SECOND;
            world.accepted(name, origin);
            assert_eq!(world.cooldown(), length, "{name} {origin}");
        }
    }
}
