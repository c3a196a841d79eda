//! What can happen.

use std::time::Duration;

use http::StatusCode;
use proptest::{collection::vec, option, prelude::*};

#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
}

/// What stays the same throughout.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Two layers instead of the combined one.
    pub(crate) apart: bool,
    pub(crate) lifetime: Duration,
    pub(crate) deadline: Option<Duration>,
    pub(crate) max_wait: Duration,
    pub(crate) api_latency: Duration,
    pub(crate) issuer_latency: Duration,
    /// Maximum number of concurrent requests below the stack.
    pub(crate) permits: usize,
    /// How long before their expiry the API rejects tokens.
    pub(crate) api_ahead: Duration,
    pub(crate) quota: Option<Quota>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) limit: u64,
    pub(crate) window: Duration,
    pub(crate) announced: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Call(Caller),
    Pass(Duration),
    /// Advances time until this many milliseconds before the token expires.
    TokenEnds(u64),
    /// Advances time until this many milliseconds before the hold ends.
    HoldEnds(u64),
    /// The next requests meet this, or all until something else is said.
    Api(ApiBehavior, Option<u32>),
    Issuer(IssuerBehavior, Option<u32>),
    RevokeAll,
    /// The issuer's secret changes; the program receives it later.
    Rotate,
    PublishSecret,
    /// The client's civil clock jumps, in seconds.
    Jump(i64),
    Ready(bool),
    Invalidate,
    RefreshNow,
    Forget,
}

/// Several concurrent callers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) count: u32,
    pub(crate) post: bool,
    /// The body cannot be sent again.
    pub(crate) once: bool,
    pub(crate) leaves_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ApiBehavior {
    Honest,
    Always401,
    /// A 401 that is not about the token.
    Scope401,
    Status(StatusCode),
    Throttle(StatusCode, Hint),
    NotConnected,
    Reset,
    Hang,
    Slow(Duration),
}

/// The form in which a rejection announces its wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hint {
    None,
    Malformed,
    Seconds(u64),
    Date(u64),
    Millis(u64),
    Ietf(u64),
    Reset(u64),
    Epoch(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum IssuerBehavior {
    Honest,
    Status(StatusCode, Option<u64>),
    Error(&'static str),
    Malformed,
    Reset,
    Hang,
    Slow(Duration),
    /// Hands out the token that there is as long as it lives.
    Caching,
}

pub(crate) fn history() -> impl Strategy<Value = History> {
    (setup(), vec(step(), 0..=120)).prop_map(|(setup, steps)| History { setup, steps })
}

fn setup() -> impl Strategy<Value = Setup> {
    // With the greater ones, requests are sent on credit.
    let limit = prop_oneof![1u64..20, 20u64..400];
    let quota = (limit, 1u64..60, any::<bool>()).prop_map(|(limit, window, announced)| Quota {
        limit,
        window: Duration::from_secs(window),
        announced,
    });
    (
        any::<bool>(),
        prop_oneof![2u64..20, 20u64..600].prop_map(Duration::from_secs),
        option::of(millis(100, 200_000)),
        millis(500, 150_000),
        prop_oneof![Just(Duration::ZERO), millis(1, 300)],
        prop_oneof![Just(Duration::ZERO), millis(1, 3_000)],
        prop_oneof![3 => Just(usize::MAX), 1 => 1usize..4],
        prop_oneof![3 => Just(Duration::ZERO), 1 => millis(1, 3_000)],
        option::weighted(0.3, quota),
    )
        .prop_map(
            |(apart, lifetime, deadline, max_wait, api, issuer, permits, ahead, quota)| Setup {
                apart,
                lifetime,
                deadline,
                max_wait,
                api_latency: api,
                // Or else no token would ever arrive alive.
                issuer_latency: issuer.min(lifetime / 4),
                permits,
                api_ahead: ahead.min(lifetime / 4),
                quota,
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    let some = || option::weighted(0.8, 1u32..6);
    prop_oneof![
        10 => caller().prop_map(Step::Call),
        10 => time().prop_map(Step::Pass),
        3 => (0u64..4).prop_map(Step::TokenEnds),
        1 => (0u64..4).prop_map(Step::HoldEnds),
        6 => (api_behavior(), some()).prop_map(|(mood, next)| Step::Api(mood, next)),
        4 => (issuer_behavior(), some()).prop_map(|(mood, next)| Step::Issuer(mood, next)),
        2 => Just(Step::RevokeAll),
        1 => Just(Step::Rotate),
        2 => Just(Step::PublishSecret),
        1 => (-4_000i64..4_000).prop_map(Step::Jump),
        1 => Just(Step::Ready(false)),
        2 => Just(Step::Ready(true)),
        1 => Just(Step::Invalidate),
        1 => Just(Step::RefreshNow),
        1 => Just(Step::Forget),
    ]
}

fn caller() -> impl Strategy<Value = Caller> {
    let count = prop_oneof![4 => 1u32..3, 1 => 3u32..12];
    let leaves = option::weighted(0.2, millis(0, 5_000));
    (count, any::<bool>(), prop::bool::weighted(0.2), leaves).prop_map(
        |(count, post, once, leaves_after)| Caller {
            count,
            post,
            once,
            leaves_after,
        },
    )
}

fn api_behavior() -> impl Strategy<Value = ApiBehavior> {
    let statuses = [404, 418, 500, 502, 503, 504].map(|code| StatusCode::from_u16(code).unwrap());
    let throttled = prop_oneof![
        4 => hint().prop_map(|hint| (StatusCode::TOO_MANY_REQUESTS, hint)),
        1 => (0u64..100).prop_map(|n| (StatusCode::SERVICE_UNAVAILABLE, Hint::Seconds(n))),
    ];
    prop_oneof![
        4 => Just(ApiBehavior::Honest),
        2 => Just(ApiBehavior::Always401),
        1 => Just(ApiBehavior::Scope401),
        2 => prop::sample::select(statuses.to_vec()).prop_map(ApiBehavior::Status),
        6 => throttled.prop_map(|(status, hint)| ApiBehavior::Throttle(status, hint)),
        1 => Just(ApiBehavior::NotConnected),
        1 => Just(ApiBehavior::Reset),
        1 => Just(ApiBehavior::Hang),
        1 => millis(1, 60_000).prop_map(ApiBehavior::Slow),
    ]
}

fn hint() -> impl Strategy<Value = Hint> {
    let wait = || prop_oneof![6 => 0u64..30, 2 => 30u64..400, 1 => 400u64..200_000];
    prop_oneof![
        Just(Hint::None),
        Just(Hint::Malformed),
        wait().prop_map(Hint::Seconds),
        wait().prop_map(Hint::Date),
        wait().prop_map(|n| Hint::Millis(n * 250)),
        // A window is waited for however long it is.
        wait().prop_map(|n| Hint::Ietf(n % HOUR)),
        wait().prop_map(|n| Hint::Reset(n % HOUR)),
        wait().prop_map(|n| Hint::Epoch(n % HOUR)),
    ]
}

fn issuer_behavior() -> impl Strategy<Value = IssuerBehavior> {
    let statuses = [429, 500, 502, 503].map(|code| StatusCode::from_u16(code).unwrap());
    let errors = ["invalid_client", "invalid_scope", "temporarily_unavailable"];
    prop_oneof![
        4 => Just(IssuerBehavior::Honest),
        3 => (prop::sample::select(statuses.to_vec()), option::of(0u64..400))
            .prop_map(|(status, wait)| IssuerBehavior::Status(status, wait)),
        2 => prop::sample::select(errors.to_vec()).prop_map(IssuerBehavior::Error),
        1 => Just(IssuerBehavior::Malformed),
        1 => Just(IssuerBehavior::Reset),
        1 => Just(IssuerBehavior::Hang),
        1 => millis(1, 40_000).prop_map(IssuerBehavior::Slow),
        1 => Just(IssuerBehavior::Caching),
    ]
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => millis(0, 5),
        2 => millis(5, 50),
        4 => millis(50, 5_000),
        2 => millis(5_000, 60_000),
        1 => millis(60_000, 1_500_000),
    ]
}

fn millis(from: u64, to: u64) -> impl Strategy<Value = Duration> {
    (from..to).prop_map(Duration::from_millis)
}

const HOUR: u64 = 3600;
