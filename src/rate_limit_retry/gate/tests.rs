//! The gate by hand.
#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary instant to count from"
)]

use std::time::Duration;

use super::*;
use crate::{
    backoff::Backoff,
    rate_limit_retry::{
        headers::{Limit, Signals},
        quota::{Learnt, Release},
    },
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn admit(gate: &Gate, keys: &Keys, now: Instant) -> Admission {
    let wish = Wish {
        keys,
        origin: None,
        arrival: None,
        latest: None,
        passes: false,
    };
    gate.admit(&wish, now)
}

fn gate() -> Gate {
    let pace = Pace {
        cold_burst: 8,
        cold_hold: HOUR,
        max_hold: HOUR,
        release: Release::Burst,
        backoff: Backoff::new(SECOND, SECOND),
        shared: false,
    };
    Gate::new(pace, OwnLimits::default(), 2, Random::new(Some(7)))
}

fn keys(name: &str) -> Keys {
    Keys::from([PartitionKey::new(name)])
}

fn partitions(gate: &Gate) -> usize {
    gate.inspect(|_, _, _| ()).len()
}

/// One request that is answered at once.
fn answered(gate: &Gate, keys: &Keys, signals: &Signals, now: Instant) {
    let Admission::Go(ticket) = admit(gate, keys, now) else {
        panic!("{keys:?} is held");
    };
    let learnt = Learnt::Answer {
        throttled: false,
        signals,
    };
    ticket.settle(learnt, now);
}

/// As many partitions as are kept, each of which has been used once.
fn crowd(gate: &Gate, signals: &Signals, now: Instant) {
    for n in 0..10_000 {
        answered(gate, &keys(&format!("{n}")), signals, now);
    }
}

#[test]
fn partitions_of_which_nothing_is_known_are_forgotten_beyond_ten_thousand() {
    let (gate, now) = (gate(), Instant::now());
    crowd(&gate, &Signals::default(), now);
    assert_eq!(partitions(&gate), 10_000);

    answered(&gate, &keys("one more"), &Signals::default(), now);

    assert_eq!(partitions(&gate), 1);
}

#[test]
fn who_is_held_waits_or_is_in_flight_is_not_forgotten() {
    let (gate, now) = (gate(), Instant::now());
    gate.pause(&PartitionKey::new("held"), now + HOUR, now);
    gate.pause(&PartitionKey::new("over"), now + SECOND, now);
    gate.pause(&PartitionKey::new("waited for"), now + SECOND, now);
    let Admission::Wait(place) = admit(&gate, &keys("waited for"), now) else {
        panic!("it is paused");
    };
    let Admission::Go(ticket) = admit(&gate, &keys("in flight"), now) else {
        panic!("nothing is known of it");
    };
    let then = now + 2 * SECOND;
    crowd(&gate, &Signals::default(), then);

    let mut left = gate.inspect(|key, _, _| key.as_str().to_owned());
    left.sort();

    let left: Vec<_> = left
        .iter()
        .filter(|key| key.parse::<u32>().is_err())
        .collect();
    assert_eq!(left, ["held", "in flight", "waited for"]);
    drop((place, ticket));
}

#[test]
fn what_is_known_of_a_quota_is_forgotten_only_where_nothing_else_can_be() {
    let (gate, now) = (gate(), Instant::now());
    let told = Signals {
        limits: vec![Limit {
            remaining: Some(5),
            reset: Some(HOUR),
            ..Limit::default()
        }],
        ..Signals::default()
    };
    answered(&gate, &keys("known"), &told, now);
    for n in 1..10_000 {
        answered(&gate, &keys(&format!("{n}")), &Signals::default(), now);
    }
    answered(&gate, &keys("one more"), &Signals::default(), now);
    let mut left = gate.inspect(|key, _, _| key.as_str().to_owned());
    left.sort();
    assert_eq!(left, ["known", "one more"]);

    let gate = self::gate();
    crowd(&gate, &told, now);
    answered(&gate, &keys("one more"), &told, now);
    assert_eq!(partitions(&gate), 1);
}

/// To look through all of them with each that comes would be slow.
#[test]
fn partitions_in_use_are_looked_through_again_only_when_half_as_many_have_come() {
    let (gate, now) = (gate(), Instant::now());
    let in_flight = |n: usize| match admit(&gate, &keys(&format!("{n}")), now) {
        Admission::Go(ticket) => ticket,
        other => panic!("{other:?}"),
    };
    let tickets: Vec<_> = (0..10_000).map(in_flight).collect();
    for n in 10_000..15_000 {
        answered(&gate, &keys(&format!("{n}")), &Signals::default(), now);
    }
    assert_eq!(partitions(&gate), 15_000);

    answered(&gate, &keys("one more"), &Signals::default(), now);

    assert_eq!(partitions(&gate), 10_001);
    drop(tickets);
}

#[test]
fn a_refusal_of_everything_holds_all_partitions_of_the_origin_those_to_come_as_well() {
    let (gate, now) = (gate(), Instant::now());
    let (here, there): (Origin, Origin) = (
        "https://a.example.com".parse().unwrap(),
        "https://b.example.com".parse().unwrap(),
    );
    let admit = |name: &str, origin, now| {
        let wish = Wish {
            keys: &keys(name),
            origin: Some(origin),
            arrival: None,
            latest: None,
            passes: false,
        };
        gate.admit(&wish, now)
    };
    let go = |name: &str, origin, now| match admit(name, origin, now) {
        Admission::Go(ticket) => Some(ticket),
        _ => None,
    };
    let refuse = |ticket: Ticket, wait, now| {
        let signals = Signals {
            retry_after: Some(wait),
            global: true,
            ..Signals::default()
        };
        let learnt = Learnt::Answer {
            throttled: true,
            signals: &signals,
        };
        ticket.settle(learnt, now);
    };
    let (first, second) = (go("here 1", &here, now), go("here 3", &here, now));
    drop((go("here 2", &here, now), go("there", &there, now)));
    refuse(first.unwrap(), 10 * SECOND, now);
    // A shorter refusal does not end a longer one.
    refuse(second.unwrap(), 5 * SECOND, now);

    for at in [now, now + 9 * SECOND] {
        assert!(go("here 2", &here, at).is_none());
        assert!(go("there", &there, at).is_some());
        assert!(go(&format!("new {at:?}"), &here, at).is_none());
        assert!(go(&format!("new there {at:?}"), &there, at).is_some());
    }
    let over = now + 12 * SECOND;
    assert!(go("here 2", &here, over).is_some());
    assert!(go("new again", &here, over).is_some());
}

#[test]
fn a_retry_keeps_its_place_in_a_full_queue() {
    let (gate, now) = (gate(), Instant::now());
    let key = keys("full");
    let Admission::Go(sent) = admit(&gate, &key, now) else {
        panic!("nothing is known of it");
    };
    let arrival = sent.arrival();
    gate.pause(&key[0], now + HOUR, now);
    let waiting = [admit(&gate, &key, now), admit(&gate, &key, now)];
    assert!(
        waiting
            .iter()
            .all(|place| matches!(place, Admission::Wait(_)))
    );

    assert!(matches!(admit(&gate, &key, now), Admission::TooMany(_)));
    let wish = Wish {
        keys: &key,
        origin: None,
        arrival,
        latest: None,
        passes: false,
    };
    let Admission::Wait(_first) = gate.admit(&wish, now) else {
        panic!("it has been let in before");
    };
    assert_eq!(gate.max_waiting(), 2);
}

#[test]
fn who_cannot_wait_so_long_is_told_until_when_a_partition_is_held() {
    let (gate, now) = (gate(), Instant::now());
    let key = keys("held");
    let until = now + 10 * SECOND;
    gate.pause(&key[0], until, now);
    let at = |latest| {
        let wish = Wish {
            keys: &key,
            origin: None,
            arrival: None,
            latest: Some(latest),
            passes: false,
        };
        match gate.admit(&wish, now) {
            Admission::TooLate(at) => Some(at),
            _ => None,
        }
    };

    assert_eq!(at(until - Duration::from_nanos(1)), Some(until));
    assert_eq!(at(until), None);
}

#[test]
fn what_is_shown_of_a_ticket_is_its_keys() {
    let (gate, now) = (gate(), Instant::now());
    let Admission::Go(ticket) = admit(&gate, &keys("orders"), now) else {
        panic!("nothing is known of it");
    };

    assert!(format!("{ticket:?}").contains("orders"), "{ticket:?}");
}

/// Two partitions that are never open together, or only when nobody looks: whoever needs both would wait for ever if
/// those who need one could always go first.
#[test]
fn a_request_with_two_keys_is_overtaken_only_so_often() {
    let (gate, now) = (gate(), Instant::now());
    let names = ["a", "b"].map(PartitionKey::new);
    let single = names.clone().map(|name| Keys::from([name]));
    let both = Keys::from(names.clone());
    gate.pause(&names[0], now + HOUR, now);
    let Admission::Wait(_place) = admit(&gate, &both, now) else {
        panic!("a partition is paused");
    };

    let mut overtaken = 0;
    for turn in 0..40 {
        let (open, closed) = (turn % 2, 1 - turn % 2);
        gate.pause(&names[closed], now + HOUR, now);
        gate.resume(&names[open], now);
        if let Admission::Go(ticket) = admit(&gate, &single[open], now) {
            overtaken += 1;
            let learnt = Learnt::Answer {
                throttled: false,
                signals: &Signals::default(),
            };
            ticket.settle(learnt, now);
        }
    }

    assert!((1..=8).contains(&overtaken), "{overtaken} times");
}
