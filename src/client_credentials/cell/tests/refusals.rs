//! What a 401 and a success do.

use super::*;

impl World {
    fn refused(&self, name: &str, origin: usize) -> Refused {
        self.cell
            .refused(refusal(name, origin, self.now), self.now, WALL)
    }

    /// The lead that falls to the request that was refused with the token `name`.
    fn replacing(&self, name: &str, origin: usize) -> Lead {
        match self.refused(name, origin) {
            Refused::Wait(_, Some(lead)) => lead,
            other => panic!("{other:?}"),
        }
    }

    fn accepted(&self, name: &str, origin: usize) {
        self.cell.accepted(origin, id(name), Some(self.now));
    }

    /// How soon after a fetch that begins now the next may follow.
    fn cooldown(&self) -> Duration {
        let lead = self.forced();
        lead.flight().cell().cooldown
    }
}

fn refusal(name: &str, origin: usize, sent_at: Instant) -> Refusal {
    Refusal {
        rejected: Rejected {
            identity: id(name),
            challenges: Vec::new(),
        },
        origin,
        sent_at,
    }
}

fn stands(refused: &Refused) -> bool {
    matches!(refused, Refused::Stands)
}

#[test]
fn a_refused_token_is_not_used_until_another_is_there() {
    let world = World::with("a");
    let lead = world.replacing("a", 0);

    assert_eq!(lead.flight().reason(), FetchReason::Rejected);
    assert_eq!(
        lead.flight().rejected().map(Rejected::identity),
        Some(id("a"))
    );
    assert_eq!(world.usable(), None);
    assert!(matches!(world.refused("a", 0), Refused::Wait(_, None)));
    world.succeed(lead, "b");

    assert_eq!(world.usable(), Some(id("b")));
    assert!(matches!(world.refused("a", 0), Refused::Replaced(token) if token.identity == id("b")));
}

#[test]
fn a_token_that_works_for_others_stays_in_use_while_it_is_replaced() {
    for (origin, works) in [(0, false), (1, true)] {
        let world = World::with("a");
        world.accepted("a", origin);

        let lead = world.replacing("a", 0);

        // Refused at the origin 0, where a request of the same moment was accepted.
        assert_eq!(world.usable().is_some(), works, "{origin}");
        drop(lead);
        assert_eq!(world.usable(), Some(id("a")));
    }
}

#[test]
fn a_refusal_stands_after_the_end() {
    let world = World::with("a");
    world.cell.close();

    assert!(stands(&world.refused("a", 0)));
    assert_eq!(world.usable(), Some(id("a")));
}

#[test]
fn a_refusal_stands_while_the_issuer_fails() {
    let mut world = World::with("a");
    world.fail(world.early().unwrap(), transient().with_retry_after(SECOND));

    assert!(stands(&world.refused("a", 0)));
    world.now += 2 * SECOND;
    assert!(!stands(&world.refused("a", 0)));
}

#[test]
fn a_refusal_stands_during_the_cooldown() {
    let mut world = World::with("a");
    world.succeed(world.replacing("a", 0), "b");
    world.accepted("b", 0);

    world.now += 10 * SECOND - MS;
    assert!(stands(&world.refused("b", 0)));
    world.now += MS;
    assert!(!stands(&world.refused("b", 0)));
}

#[test]
fn a_refused_token_that_is_no_longer_known_is_replaced_like_an_expired_one() {
    let world = World::with("a");
    world.cell.invalidate();

    let lead = world.replacing("a", 0);

    assert_eq!(lead.flight().reason(), FetchReason::Expired);
    assert!(lead.flight().rejected().is_none());
}

#[test]
fn a_token_that_is_refused_in_the_place_of_another_doubles_the_cooldown() {
    for (name, doubles) in [("a", false), ("b", true), ("c", false)] {
        let mut world = World::with("a");
        world.succeed(world.replacing("a", 0), "b");

        let refused = refusal(name, 0, world.now);
        world.cell.refused_again(&refused, world.now);

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
