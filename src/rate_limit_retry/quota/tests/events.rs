//! Any sequence of events at any times.

use proptest::prelude::*;

use super::*;
use crate::rate_limit_retry::headers::Unit;

#[derive(Clone, Debug)]
enum Event {
    /// A request is sent if it is admitted.
    Admit,
    /// A request is sent that only the other quotas have admitted.
    Enter,
    /// Somebody is answered who went past the gate.
    EnterLate,
    /// A request of those in flight, or of none at all.
    Complete(prop::sample::Index, Completion),
    Advance(u64),
    Forget,
    Pause(u64),
    Resume,
}

#[derive(Clone, Debug)]
enum Completion {
    Response(bool, RateLimitInfo, Scope),
    NotSent,
    Unknown,
    /// Without a clock at hand.
    Dropped,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_event_sequence_breaks_a_quota(
        events in prop::collection::vec(event(), 0..80),
        initial_window in 0..10u32,
        max_hold in 1..7200u64,
        random in 0.0..1.0f64,
        pacing in prop_oneof![Just(Pacing::Burst), Just(Pacing::Even)],
        local_limit in prop::option::of((1..5u32, 1..100u64).prop_map(|(max, period)| LocalLimit::per(max, secs(period)))),
    ) {
        let config = QuotaConfig { initial_window, max_hold: secs(max_hold), pacing, ..CONFIG };
        let mut world = TestQuota::with(config);
        world.quota = Quota::new(&config, local_limit);
        let mut gone: Vec<(u64, Instant)> = Vec::new();
        let max_wait = config.max_hold.max(MAX_OWN_WAIT);
        let mut flying = Vec::new();
        let mut floor = None;
        let mut paused = None;
        for event in events {
            match event {
                Event::Admit => match world.admit() {
                    SendTime::Never => prop_assert!(false, "one request is never too many"),
                    SendTime::Now => {
                        prop_assert!(floor.is_none_or(|floor| world.now >= floor), "a hint was undercut");
                        prop_assert!(paused.is_none_or(|until| world.now >= until), "in a pause");
                        let (max, period) = local_limit.map_or((u32::MAX, Duration::ZERO), |local_limit| local_limit.rate.unwrap());
                        let recent = gone.iter().filter(|(_, at)| *at + period > world.now).count();
                        prop_assert!(recent < max as usize, "more than the own limit");
                        flying.push(world.quota.enter(&Load::ONE, &world.config, world.now));
                        gone.push((flying[flying.len() - 1], world.now));
                    }
                    SendTime::NotBefore(at) => {
                        prop_assert!(at > world.now && at <= world.now + max_wait, "{:?}", at - world.now);
                    }
                    SendTime::AfterResponse(at) => {
                        prop_assert!(world.quota.in_flight() > 0, "no response will arrive");
                        prop_assert!(at.is_none_or(|at| at > world.now));
                    }
                },
                Event::Enter => flying.push(world.quota.enter(&Load::ONE, &world.config, world.now)),
                Event::EnterLate => flying.push(world.quota.enter_late()),
                Event::Complete(which, end) => {
                    let number = if flying.is_empty() {
                        which.index(100) as u64
                    } else {
                        flying.remove(which.index(flying.len()))
                    };
                    let (outcome, now) = match &end {
                        Completion::Response(throttled, info, scope) => {
                            // With several partitions, another one may have caused the throttle.
                            let ours = *throttled && *scope != Scope::Ambiguous;
                            if let Some(hint) = info.retry_after.filter(|_| ours) && hint <= secs(86_400) {
                                floor = floor.max(Some(world.now + hint.min(world.config.max_hold)));
                            }
                            (Outcome::Response { throttled: *throttled, info }, Some(world.now))
                        }
                        Completion::NotSent => {
                            gone.retain(|(gone, _)| *gone != number);
                            (Outcome::NotSent, Some(world.now))
                        }
                        Completion::Unknown => (Outcome::Unknown, Some(world.now)),
                        Completion::Dropped => (Outcome::Unknown, None),
                    };
                    let scope = match end {
                        Completion::Response(_, _, scope) => scope,
                        _ => Scope::Partition,
                    };
                    let held = world.quota.record(Sent { number, load: &Load::ONE }, outcome, scope, &config, random, now).held_until;
                    prop_assert!(held.is_none_or(|until| until > world.now && until <= world.now + max_wait));
                }
                Event::Advance(millis) => world.advance(ms(millis)),
                Event::Forget => {
                    world.quota.forget(&world.config);
                    floor = None;
                }
                Event::Pause(seconds) => {
                    paused = Some(world.now + secs(seconds));
                    world.quota.pause(world.now + secs(seconds));
                }
                Event::Resume => {
                    paused = None;
                    world.quota.resume();
                }
            }
            prop_assert_eq!(world.quota.in_flight() as usize, flying.len());
        }
        for number in flying {
            world.record(number, Outcome::NotSent);
        }
        let began = world.now;

        world.wait();

        prop_assert!(floor.is_none_or(|floor| world.now >= floor), "a hint was undercut");
        prop_assert!(world.now - began <= 2 * max_wait + secs(3600), "{:?}", world.now - began);
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Admit),
        1 => Just(Event::Enter),
        1 => Just(Event::EnterLate),
        8 => (any::<prop::sample::Index>(), completion()).prop_map(|(which, end)| Event::Complete(which, end)),
        4 => prop_oneof![Just(0), 0..5000u64, 0..200_000u64, 0..1_000_000_000u64].prop_map(Event::Advance),
        1 => Just(Event::Forget),
        1 => (0..3600u64).prop_map(Event::Pause),
        1 => Just(Event::Resume),
    ]
}

fn completion() -> impl Strategy<Value = Completion> {
    prop_oneof![
        10 => (any::<bool>(), info(), scope()).prop_map(|(throttled, info, scope)| Completion::Response(throttled, info, scope)),
        1 => Just(Completion::NotSent),
        1 => Just(Completion::Unknown),
        1 => Just(Completion::Dropped),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        3 => Just(Scope::Partition),
        1 => Just(Scope::Ambiguous),
        1 => Just(Scope::Origin),
    ]
}

fn info() -> impl Strategy<Value = RateLimitInfo> {
    let hint = prop::option::weighted(0.5, time());
    (hint, prop::collection::vec(limit(), 0..3)).prop_map(|(retry_after, limits)| RateLimitInfo {
        retry_after,
        limits,
        ..RateLimitInfo::default()
    })
}

fn limit() -> impl Strategy<Value = Limit> {
    let number = || prop::option::of(prop_oneof![0..10u64, 0..1000u64, any::<u64>()]);
    let unit = prop_oneof![3 => Just(Unit::Requests), 1 => Just(Unit::Other)];
    (unit, number(), number(), prop::option::of(time())).prop_map(
        |(unit, limit, remaining, reset)| Limit {
            unit,
            limit,
            remaining,
            reset,
            ..Limit::default()
        },
    )
}

/// At most ten years, as a reader gives it.
fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(0),
        0..3000u64,
        0..120_000u64,
        0..100_000_000u64,
        0..315_360_000_000u64
    ]
    .prop_map(ms)
}

/// A wait that no response has requested is not longer.
const MAX_OWN_WAIT: Duration = Duration::from_secs(3601);
