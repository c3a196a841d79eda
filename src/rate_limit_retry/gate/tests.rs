//! The gate, polled by hand.
#![expect(
    clippy::disallowed_methods,
    reason = "an arbitrary instant to count from"
)]

mod credits;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use super::*;
use crate::{
    backoff::Backoff,
    rate_limit_retry::{
        Cost,
        headers::{Limit, RateLimitInfo, Unit},
        quota::{Load, Outcome, Pacing},
    },
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn admit(gate: &Gate, keys: &Keys, now: Instant) -> Admission {
    let request = AdmitRequest {
        keys,
        origin: None,
        sequence: None,
        deadline: None,
        load: &Load::ONE,
        tracks_cost: false,
        allow_fast_path: false,
    };
    gate.admit(&request, now)
}

fn gate() -> Gate {
    let config = QuotaConfig {
        initial_window: 8,
        initial_window_timeout: HOUR,
        max_hold: HOUR,
        pacing: Pacing::Burst,
        backoff: Backoff::new(SECOND, SECOND),
        shared: false,
    };
    Gate::new(config, LocalLimits::default(), 2, Random::new(Some(7)))
}

fn keys(name: &str) -> Keys {
    Keys::from([PartitionKey::new(name)])
}

fn partitions(gate: &Gate) -> usize {
    gate.inspect(|_, _, _| ()).len()
}

/// Sends one request that is answered at once.
fn send_accepted(gate: &Gate, keys: &Keys, info: &RateLimitInfo, now: Instant) {
    let Admission::Admitted(permit) = admit(gate, keys, now) else {
        panic!("{keys:?} is held");
    };
    let outcome = Outcome::Response {
        throttled: false,
        info,
    };
    permit.settle(outcome, now);
}

/// Creates as many partitions as are kept without a sweep, each of which was used once.
fn fill(gate: &Gate, info: &RateLimitInfo, now: Instant) {
    for n in 0..10_000 {
        send_accepted(gate, &keys(&format!("{n}")), info, now);
    }
}

#[test]
fn unused_partitions_are_evicted_beyond_ten_thousand() {
    let (gate, now) = (gate(), Instant::now());
    fill(&gate, &RateLimitInfo::default(), now);
    assert_eq!(partitions(&gate), 10_000);

    for n in 10_000..30_000 {
        send_accepted(
            &gate,
            &keys(&format!("{n}")),
            &RateLimitInfo::default(),
            now,
        );
        if n % 1000 == 0 {
            assert_eq!(partitions(&gate), 10_000);
        }
    }
}

#[test]
fn partitions_with_holds_waiters_or_requests_are_not_evicted() {
    let (gate, now) = (gate(), Instant::now());
    gate.pause(&PartitionKey::new("held"), now + HOUR, now);
    gate.pause(&PartitionKey::new("over"), now + SECOND, now);
    gate.pause(&PartitionKey::new("waited for"), now + SECOND, now);
    let Admission::Queued(waiter) = admit(&gate, &keys("waited for"), now) else {
        panic!("it is paused");
    };
    let Admission::Admitted(permit) = admit(&gate, &keys("in flight"), now) else {
        panic!("nothing is known of it");
    };
    let then = now + 2 * SECOND;
    fill(&gate, &RateLimitInfo::default(), then);

    let mut left = gate.inspect(|key, _, _| key.as_str().to_owned());
    left.sort();

    let left: Vec<_> = left
        .iter()
        .filter(|key| key.parse::<u32>().is_err())
        .collect();
    assert_eq!(left, ["held", "in flight", "waited for"]);
    drop((waiter, permit));
}

#[test]
fn known_quotas_are_evicted_last() {
    let (gate, now) = (gate(), Instant::now());
    let announced = RateLimitInfo {
        limits: vec![Limit {
            remaining: Some(5),
            reset: Some(HOUR),
            ..Limit::default()
        }],
        ..RateLimitInfo::default()
    };
    send_accepted(&gate, &keys("known"), &announced, now);
    for n in 1..25_000 {
        send_accepted(
            &gate,
            &keys(&format!("{n}")),
            &RateLimitInfo::default(),
            now,
        );
    }
    assert_eq!(partitions(&gate), 10_000);
    let left = gate.inspect(|key, _, _| key.as_str().to_owned());
    assert!(left.contains(&"known".to_owned()));

    // Every partition has a known limit: a full round finds that out, a few partitions with each request.
    let gate = self::gate();
    fill(&gate, &announced, now);
    for n in 10_000..30_000 {
        send_accepted(&gate, &keys(&format!("{n}")), &announced, now);
        if n % 500 == 0 {
            assert!(partitions(&gate) <= 12_000, "{}", partitions(&gate));
        }
    }
}

/// Examining all partitions with each new one would be slow.
#[test]
fn eviction_examines_a_few_partitions_per_request() {
    let (gate, now) = (gate(), Instant::now());
    let in_flight = |n: usize| match admit(&gate, &keys(&format!("{n}")), now) {
        Admission::Admitted(permit) => permit,
        other => panic!("{other:?}"),
    };
    let permits: Vec<_> = (0..10_000).map(in_flight).collect();
    for n in 10_000..30_000 {
        send_accepted(
            &gate,
            &keys(&format!("{n}")),
            &RateLimitInfo::default(),
            now,
        );
        // One round over the partitions in use, a few at a time.
        if n % 500 == 0 {
            assert!(partitions(&gate) <= 12_000, "{}", partitions(&gate));
        }
    }

    let left = gate.inspect(|_, quota, _| quota.in_flight());
    assert_eq!(left.iter().sum::<u32>(), 10_000);
    drop(permits);
}

#[test]
fn active_holds_are_kept_and_expired_ones_evicted() {
    let (gate, now) = (gate(), Instant::now());
    let held = |n: usize| PartitionKey::new(format!("held {n}"));
    for n in 0..30_000 {
        gate.pause(&held(n), now + HOUR, now);
    }
    let count = |now: Instant| {
        let held = gate.inspect(|_, quota, _| quota.held_until(now).is_some());
        held.into_iter().filter(|held| *held).count()
    };
    assert_eq!(count(now), 30_000);

    // Each later request removes eight of them.
    let over = now + 2 * HOUR;
    for n in 0..3_000 {
        send_accepted(
            &gate,
            &keys(&format!("{n}")),
            &RateLimitInfo::default(),
            over,
        );
    }
    assert_eq!(partitions(&gate), 10_000);
}

#[test]
fn no_waker_is_dropped_under_the_lock() {
    struct LockProbe {
        gate: Gate,
        locked: AtomicBool,
    }
    impl LockProbe {
        fn check(&self) {
            let locked = self.gate.0.state.try_lock().is_err();
            self.locked.fetch_or(locked, SeqCst);
        }
    }
    struct ProbeWaker(Arc<LockProbe>);
    impl Drop for ProbeWaker {
        fn drop(&mut self) {
            self.0.check();
        }
    }
    impl Wake for ProbeWaker {
        fn wake(self: Arc<Self>) {
            self.0.check();
        }
    }

    let (gate, now) = (gate(), Instant::now());
    let watch = Arc::new(LockProbe {
        gate: gate.clone(),
        locked: AtomicBool::new(false),
    });
    let waker = || Waker::from(Arc::new(ProbeWaker(Arc::clone(&watch))));
    gate.pause(&PartitionKey::new("a"), now + HOUR, now);
    let wait = || match admit(&gate, &keys("a"), now) {
        Admission::Queued(waiter) => waiter,
        other => panic!("{other:?}"),
    };
    let (mut first, mut second) = (wait(), wait());
    for waiter in [&mut first, &mut second] {
        for _ in 0..2 {
            drop(waiter.poll(&Context::from_waker(&waker()), now));
        }
    }

    drop(second);
    gate.resume(&PartitionKey::new("a"), now);
    drop(first.poll(&Context::from_waker(&waker()), now));
    drop(first);

    assert!(!watch.locked.load(SeqCst));
}

#[test]
fn waiters_fail_immediately_on_a_hold_beyond_max_wait() {
    let (gate, now) = (gate(), Instant::now());
    let key = keys("held");
    gate.pause(&key[0], now + SECOND, now);
    let wait = |deadline| {
        let request = AdmitRequest {
            keys: &key,
            origin: None,
            sequence: None,
            deadline: Some(deadline),
            load: &Load::ONE,
            tracks_cost: false,
            allow_fast_path: false,
        };
        match gate.admit(&request, now) {
            Admission::Queued(waiter) => waiter,
            other => panic!("{other:?}"),
        }
    };
    let (woken, waker) = counting_waker();
    let cx = Context::from_waker(&waker);
    let mut waiters = [wait(now + 9 * SECOND), wait(now + 10 * SECOND)];
    for waiter in &mut waiters {
        assert!(matches!(waiter.poll(&cx, now), WaiterPoll::Pending(_)));
    }

    let until = now + 10 * SECOND;
    gate.pause(&key[0], until, now);

    assert_eq!(woken.load(SeqCst), 1);
    let [first, second] = &mut waiters;
    assert!(matches!(first.poll(&cx, now), WaiterPoll::TooLate(at) if at == until));
    assert!(matches!(second.poll(&cx, now), WaiterPoll::Pending(_)));
    // And once more after a longer hold.
    gate.pause(&key[0], until + SECOND, now);
    assert!(matches!(second.poll(&cx, now), WaiterPoll::TooLate(_)));
}

#[test]
fn requests_that_are_not_polled_do_not_block_others() {
    let (gate, now) = (gate(), Instant::now());
    let key = keys("held");
    gate.pause(&key[0], now + 5 * SECOND, now);
    let gate_of_many = Gate::new(
        gate.0.config,
        LocalLimits::default(),
        1000,
        Random::new(Some(7)),
    );
    gate_of_many.pause(&key[0], now + 5 * SECOND, now);
    let wait = || match admit(&gate_of_many, &key, now) {
        Admission::Queued(waiter) => waiter,
        other => panic!("{other:?}"),
    };
    let mut unpolled: Vec<_> = (0..50).map(|_| wait()).collect();
    let mut polled = wait();
    let cx = Context::from_waker(Waker::noop());
    for waiter in &mut unpolled[..25] {
        assert!(matches!(waiter.poll(&cx, now), WaiterPoll::Pending(_)));
    }

    let (mut at, mut polls) = (now, 0);
    let permit = loop {
        match polled.poll(&cx, at) {
            WaiterPoll::Ready(permit) => break permit,
            WaiterPoll::Pending(Some(then)) => at = then,
            other => panic!("{other:?}"),
        }
        polls += 1;
        assert!(polls < 20);
    };

    assert!(at <= now + 15 * SECOND, "{:?}", at - now);
    // When they are polled, they precede requests that arrived later.
    permit.settle(Outcome::NotSent, at);
    assert!(matches!(unpolled[3].poll(&cx, at), WaiterPoll::Ready(_)));
}

#[test]
fn an_unpolled_request_loses_its_permit() {
    let (gate, now) = (gate(), Instant::now());
    let key = keys("one at a time");
    gate.pause(&key[0], now + SECOND, now);
    let wait = || match admit(&gate, &key, now) {
        Admission::Queued(waiter) => waiter,
        other => panic!("{other:?}"),
    };
    let (mut first, mut second) = (wait(), wait());
    let cx = Context::from_waker(Waker::noop());
    assert!(matches!(first.poll(&cx, now), WaiterPoll::Pending(_)));
    assert!(matches!(second.poll(&cx, now), WaiterPoll::Pending(_)));
    gate.resume(&key[0], now);
    assert_eq!(gate.inspect(|_, quota, _| quota.in_flight()), [1]);

    assert!(matches!(
        second.poll(&cx, now + SECOND),
        WaiterPoll::Ready(_)
    ));
    assert!(matches!(
        first.poll(&cx, now + SECOND),
        WaiterPoll::Ready(_)
    ));
}

/// A waker that counts its wake-ups.
fn counting_waker() -> (Arc<AtomicUsize>, Waker) {
    struct Count(Arc<AtomicUsize>);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let count = Arc::new(AtomicUsize::new(0));
    let waker = Waker::from(Arc::new(Count(Arc::clone(&count))));
    (count, waker)
}

#[test]
fn an_origin_wide_429_holds_existing_and_future_partitions() {
    let (gate, now) = (gate(), Instant::now());
    let (here, there): (Origin, Origin) = (
        "https://a.example.com".parse().unwrap(),
        "https://b.example.com".parse().unwrap(),
    );
    let admit = |name: &str, origin, now| {
        let request = AdmitRequest {
            keys: &keys(name),
            origin: Some(origin),
            sequence: None,
            deadline: None,
            load: &Load::ONE,
            tracks_cost: false,
            allow_fast_path: false,
        };
        gate.admit(&request, now)
    };
    let go = |name: &str, origin, now| match admit(name, origin, now) {
        Admission::Admitted(permit) => Some(permit),
        _ => None,
    };
    let refuse = |permit: Permit, wait, now| {
        let info = RateLimitInfo {
            retry_after: Some(wait),
            global: true,
            ..RateLimitInfo::default()
        };
        let outcome = Outcome::Response {
            throttled: true,
            info: &info,
        };
        permit.settle(outcome, now);
    };
    let (first, second) = (go("here 1", &here, now), go("here 3", &here, now));
    drop((go("here 2", &here, now), go("there", &there, now)));
    refuse(first.unwrap(), 10 * SECOND, now);
    // A shorter hold does not end a longer one.
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
fn an_origin_wide_429_holds_any_number_of_partitions() {
    let (gate, now) = (gate(), Instant::now());
    let origin: Origin = "https://a.example.com".parse().unwrap();
    let admit = |name: &str, now| {
        let request = AdmitRequest {
            keys: &keys(name),
            origin: Some(&origin),
            sequence: None,
            deadline: None,
            load: &Load::ONE,
            tracks_cost: false,
            allow_fast_path: false,
        };
        gate.admit(&request, now)
    };
    let mut permits = Vec::new();
    for n in 0..3_000 {
        match admit(&format!("{n}"), now) {
            Admission::Admitted(permit) => permits.push(permit),
            other => panic!("{other:?}"),
        }
    }
    let info = RateLimitInfo {
        retry_after: Some(10 * SECOND),
        global: true,
        ..RateLimitInfo::default()
    };
    let throttled = permits.pop().unwrap();
    let outcome = Outcome::Response {
        throttled: true,
        info: &info,
    };
    throttled.settle(outcome, now);

    // Requests that have not been sent yet must not be sent.
    assert!(permits.iter().all(|permit| permit.is_held(now)));
    for n in (0..3_000).step_by(7) {
        assert!(matches!(admit(&format!("{n}"), now), Admission::Queued(_)));
    }
    // A forgotten partition is not held by the same rejection again.
    gate.forget(&PartitionKey::new("1"), now);
    drop(permits.swap_remove(1));
    assert!(matches!(admit("1", now), Admission::Admitted(_)));
    gate.apply_origin_holds(now);
    let held = gate.inspect(|_, quota, _| quota.held_until(now).is_some());
    assert_eq!(held.into_iter().filter(|held| *held).count(), 2_999);
}

#[test]
fn a_retry_keeps_its_slot_in_a_full_queue() {
    let (gate, now) = (gate(), Instant::now());
    let key = keys("full");
    let Admission::Admitted(sent) = admit(&gate, &key, now) else {
        panic!("nothing is known of it");
    };
    let sequence = sent.sequence();
    gate.pause(&key[0], now + HOUR, now);
    let waiting = [admit(&gate, &key, now), admit(&gate, &key, now)];
    assert!(
        waiting
            .iter()
            .all(|waiter| matches!(waiter, Admission::Queued(_)))
    );

    assert!(matches!(admit(&gate, &key, now), Admission::QueueFull(_)));
    let request = AdmitRequest {
        keys: &key,
        origin: None,
        sequence,
        deadline: None,
        load: &Load::ONE,
        tracks_cost: false,
        allow_fast_path: false,
    };
    let Admission::Queued(_first) = gate.admit(&request, now) else {
        panic!("it was admitted before");
    };
    assert_eq!(gate.max_waiting(), 2);
}

#[test]
fn a_hold_beyond_max_wait_is_returned_with_its_end() {
    let (gate, now) = (gate(), Instant::now());
    let key = keys("held");
    let until = now + 10 * SECOND;
    gate.pause(&key[0], until, now);
    let at = |deadline| {
        let request = AdmitRequest {
            keys: &key,
            origin: None,
            sequence: None,
            deadline: Some(deadline),
            load: &Load::ONE,
            tracks_cost: false,
            allow_fast_path: false,
        };
        match gate.admit(&request, now) {
            Admission::TooLate(at) => Some(at),
            _ => None,
        }
    };

    assert_eq!(at(until - Duration::from_nanos(1)), Some(until));
    assert_eq!(at(until), None);
}

#[test]
fn debug_output_of_a_permit_shows_its_keys() {
    let (gate, now) = (gate(), Instant::now());
    let Admission::Admitted(permit) = admit(&gate, &keys("orders"), now) else {
        panic!("nothing is known of it");
    };

    assert!(format!("{permit:?}").contains("orders"), "{permit:?}");
}

/// Two partitions that never have room together, or only between polls: a request that needs both would wait forever if
/// requests that need one could always be admitted first.
#[test]
fn a_request_with_two_keys_is_requeued_a_bounded_number_of_times() {
    let (gate, now) = (gate(), Instant::now());
    let names = ["a", "b"].map(PartitionKey::new);
    let single = names.clone().map(|name| Keys::from([name]));
    let both = Keys::from(names.clone());
    gate.pause(&names[0], now + HOUR, now);
    let Admission::Queued(_place) = admit(&gate, &both, now) else {
        panic!("a partition is paused");
    };

    let mut overtaken = 0;
    for round in 0..40 {
        let (open, closed) = (round % 2, 1 - round % 2);
        gate.pause(&names[closed], now + HOUR, now);
        gate.resume(&names[open], now);
        if let Admission::Admitted(permit) = admit(&gate, &single[open], now) {
            overtaken += 1;
            let outcome = Outcome::Response {
                throttled: false,
                info: &RateLimitInfo::default(),
            };
            permit.settle(outcome, now);
        }
    }

    assert!((1..=8).contains(&overtaken), "{overtaken} times");
}

/// Returns the tokens that requests have reserved in the only partition, and those that they were charged.
fn tokens(gate: &Gate) -> (u64, u64) {
    let all = gate.inspect(|_, quota, _| {
        let of = |amounts: Vec<(&str, u64)>| {
            amounts
                .iter()
                .find(|(unit, _)| *unit == "tokens")
                .map_or(0, |(_, amount)| *amount)
        };
        let reserved = quota.reserved();
        (
            of(reserved.amounts().collect()),
            of(reserved.all_charged().collect()),
        )
    });
    assert_eq!(all.len(), 1);
    all[0]
}

fn admit_with_cost(gate: &Gate, keys: &Keys, tokens: u64, now: Instant) -> Admission {
    admit_until(gate, keys, tokens, None, now)
}

fn admit_until(
    gate: &Gate,
    keys: &Keys,
    tokens: u64,
    deadline: Option<Instant>,
    now: Instant,
) -> Admission {
    let request = AdmitRequest {
        keys,
        origin: None,
        sequence: None,
        deadline,
        load: &Load::of(Cost::new().with("tokens", tokens), None),
        tracks_cost: true,
        allow_fast_path: false,
    };
    gate.admit(&request, now)
}

#[test]
fn a_request_behind_a_costlier_one_waits_as_long_as_that_one() {
    let (gate, now) = (gate(), Instant::now());
    let key = keys("a");
    let Admission::Admitted(permit) = admit_with_cost(&gate, &key, 1, now) else {
        panic!("nothing is known");
    };
    let limit = Limit {
        name: Some("tokens".to_owned()),
        unit: Unit::Other,
        limit: Some(10_000),
        remaining: Some(900),
        reset: Some(HOUR),
        ..Limit::default()
    };
    let info = RateLimitInfo {
        limits: vec![limit],
        ..RateLimitInfo::default()
    };
    let outcome = Outcome::Response {
        throttled: false,
        info: &info,
    };
    permit.settle(outcome, now);
    let Admission::Queued(_costlier) = admit_with_cost(&gate, &key, 1_000, now) else {
        panic!("too little remains");
    };

    // Its own cost would fit.
    let behind = admit_until(&gate, &key, 5, Some(now + SECOND), now);

    assert!(
        matches!(behind, Admission::TooLate(until) if until >= now + HOUR),
        "{behind:?}"
    );
    let patient = admit_until(&gate, &key, 5, Some(now + 2 * HOUR), now);
    assert!(matches!(patient, Admission::Queued(_)), "{patient:?}");
}

#[test]
fn a_grant_that_is_not_used_releases_what_it_has_reserved() {
    for is_polled_by_another in [false, true] {
        let (gate, now) = (gate(), Instant::now());
        let key = keys("a");
        gate.pause(&key[0], now + HOUR, now);
        let Admission::Queued(waiter) = admit_with_cost(&gate, &key, 40, now) else {
            panic!("it is paused");
        };
        assert_eq!(tokens(&gate), (0, 0));
        gate.resume(&key[0], now);
        assert_eq!(tokens(&gate), (40, 0));

        let mut another = None;
        if is_polled_by_another {
            let later = now + SECOND;
            let Admission::Queued(mut next) = admit_with_cost(&gate, &key, 5, later) else {
                panic!("one probe was granted");
            };
            let (_, waker) = counting_waker();
            let polled = next.poll(&Context::from_waker(&waker), later);
            assert_eq!(tokens(&gate), (5, 0));
            another = Some((next, polled));
        }
        drop(waiter);
        drop(another);

        // The second one was admitted, and its permit dropped.
        let charged = if is_polled_by_another { 5 } else { 0 };
        assert_eq!(tokens(&gate), (0, charged));
    }
}

#[test]
fn a_permit_that_is_dropped_charges_its_estimate_once() {
    let (gate, now) = (gate(), Instant::now());
    let key = keys("a");
    let Admission::Admitted(permit) = admit_with_cost(&gate, &key, 40, now) else {
        panic!("nothing is known of it");
    };
    let handle = Arc::clone(permit.reservation().unwrap());
    drop(permit);
    assert_eq!(tokens(&gate), (40, 0));

    drop(handle);

    assert_eq!(tokens(&gate), (0, 40));
}

#[test]
fn a_partition_with_a_reservation_is_not_evicted() {
    let (gate, now) = (gate(), Instant::now());
    let Admission::Admitted(permit) = admit_with_cost(&gate, &keys("streaming"), 40, now) else {
        panic!("nothing is known of it");
    };
    let handle = Arc::clone(permit.reservation().unwrap());
    let info = RateLimitInfo::default();
    permit.settle(
        Outcome::Response {
            throttled: false,
            info: &info,
        },
        now,
    );
    fill(&gate, &info, now);

    handle.report(Cost::new().with("tokens", 3));
    drop(handle);

    let charged = gate.inspect(|key, quota, _| {
        let found = key.as_str() == "streaming";
        found.then(|| {
            quota
                .reserved()
                .all_charged()
                .map(|(_, tokens)| tokens)
                .sum::<u64>()
        })
    });
    assert_eq!(charged.into_iter().flatten().sum::<u64>(), 3);
}
