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
        headers::Signals,
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

/// Two partitions that are never open together, or only when nobody looks: whoever needs both would wait for ever if
/// those who need one could always go first.
#[test]
fn a_request_with_two_keys_is_overtaken_only_so_often() {
    let pace = Pace {
        cold_burst: 8,
        cold_hold: HOUR,
        max_hold: HOUR,
        release: Release::Burst,
        backoff: Backoff::new(SECOND, SECOND),
        shared: false,
    };
    let gate = Gate::new(pace, OwnLimits::default(), usize::MAX, Some(7));
    let now = Instant::now();
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
