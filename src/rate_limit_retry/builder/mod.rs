//! The settings.

mod partitions;

use std::{error::Error, fmt, panic::Location, time::Duration};

use super::{
    RateLimitEvent, RateLimitRetryLayer, Refusal,
    boottime::BoottimeClock,
    budget::FaultBudget,
    decision::Policy,
    event::RateLimitEvents,
    gate::Gate,
    headers::Profile,
    key::Partitioning,
    limiter::Limiter,
    limits::OwnLimits,
    permanent::Permanence,
    quota::{Pace, Release},
    reader::Reader,
    route::{HeldRoutes, UnavailableScope},
    store::{Sharing, StoredQuotas},
};
use crate::{
    Clock, ErrorClass, Origin, backoff::Backoff, clock::SharedClock, error::Classifier,
    misuse::Usage, random::Random, sinks::Sinks,
};

impl RateLimitRetryLayer {
    /// A layer with all defaults.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A layer's settings, all at their defaults.
    pub fn builder() -> RateLimitRetryLayerBuilder {
        RateLimitRetryLayerBuilder::new()
    }
}

impl Default for RateLimitRetryLayer {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

/// The settings of a [`RateLimitRetryLayer`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::RateLimitEvent};
///
/// let layer = RateLimitRetryLayer::builder()
///     .max_wait(Duration::from_secs(10))
///     .on_event(|event| {
///         if let RateLimitEvent::NotSent { held_for, .. } = event {
///             eprintln!("held for {held_for:?}");
///         }
///     })
///     .build();
/// # drop(layer);
/// ```
#[must_use = "settings do nothing until `build()`"]
pub struct RateLimitRetryLayerBuilder {
    policy: Policy,
    max_waiting: usize,
    deadline: Option<Duration>,
    pace: Pace,
    limits: OwnLimits,
    partitioning: Partitioning,
    unavailable: UnavailableScope,
    keyed_origins: Vec<Origin>,
    classifier: Classifier,
    permanent: Permanence,
    profile: Option<Box<dyn Profile>>,
    clock: SharedClock,
    seed: Option<u64>,
    store: Option<StoredQuotas>,
    sinks: Sinks<RateLimitEvents>,
}

impl RateLimitRetryLayerBuilder {
    pub(super) fn new() -> Self {
        Self {
            policy: Policy {
                max_retries: 5,
                max_wait: Duration::from_secs(120),
                idempotent_only: false,
            },
            max_waiting: MAX_WAITING,
            deadline: None,
            pace: Pace {
                cold_burst: 8,
                cold_hold: Duration::from_millis(250),
                max_hold: Duration::from_secs(3600),
                release: Release::Burst,
                backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
                shared: false,
            },
            limits: OwnLimits::default(),
            partitioning: Partitioning::default(),
            unavailable: UnavailableScope::default(),
            keyed_origins: Vec::new(),
            classifier: Classifier::default(),
            permanent: Permanence::default(),
            profile: None,
            clock: SharedClock::default(),
            seed: None,
            store: None,
            sinks: Sinks::default(),
        }
    }

    /// How often a request is sent again at most. Default: 5.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.policy.max_retries = retries;
        self
    }

    /// The longest single wait, before a first attempt or between two. Default: 2 min.
    ///
    /// If a server asks for more, its response is returned at once, with [`GaveUp`](super::GaveUp) in its extensions; a
    /// request that meets a longer hold fails with [`HoldTooLong`](super::HoldTooLong). A server is never asked earlier
    /// than it wished.
    pub fn max_wait(mut self, longest: Duration) -> Self {
        self.policy.max_wait = longest;
        self
    }

    /// How many requests may wait for one partition at once; at least 1. Those beyond it fail with
    /// [`TooManyWaiting`](super::TooManyWaiting) at once; one that is sent again always has a place. Each is kept in memory
    /// while it waits. Default: 100,000.
    pub fn max_waiting(mut self, limit: usize) -> Self {
        self.max_waiting = limit.max(1);
        self
    }

    /// How long a whole call may take, waits and attempts together. Default: no limit.
    ///
    /// An attempt under way is ended with [`DeadlineExceeded`](super::DeadlineExceeded). Calls with a deadline cost an
    /// allocation more.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Sends only idempotent requests again, even those that were refused with 429: for gateways, which may not assume
    /// more (RFC 9110 §9.2.2). Default: a request answered 429 is sent again whatever its method, because by convention
    /// it was not processed.
    pub fn idempotent_methods_only(mut self) -> Self {
        self.policy.idempotent_only = true;
        self
    }

    /// Declares that `origin` honours `Idempotency-Key`: requests with one count as idempotent there. May be called
    /// again. Default: none.
    pub fn honours_idempotency_key(mut self, origin: Origin) -> Self {
        self.keyed_origins.push(origin);
        self
    }

    /// How many requests of an unknown partition may go before the first answer is there; `u32::MAX` for all. Default: 8,
    /// which in the arena costs nothing where a quota is announced, and wastes few requests where it is used up.
    pub fn cold_burst(mut self, burst: u32) -> Self {
        self.pace.cold_burst = burst;
        self
    }

    /// How long an unknown partition waits for its first answer. Default: 250 ms.
    pub fn cold_hold(mut self, longest: Duration) -> Self {
        self.pace.cold_hold = longest;
        self
    }

    /// Whether requests that the quota has room for go at once or are spread over the window. Default:
    /// [`Release::Burst`].
    pub fn release(mut self, release: Release) -> Self {
        self.pace.release = release;
        self
    }

    /// For how long a hold, or a quota that is used up, is believed in at most; then one request goes to look. Default:
    /// 1 h.
    pub fn max_hold(mut self, longest: Duration) -> Self {
        self.pace.max_hold = longest;
        self
    }

    /// Which requests a 503 with `Retry-After` holds. Default: those of the same route,
    /// [`UnavailableScope::Route`].
    pub fn unavailable_scope(mut self, scope: UnavailableScope) -> Self {
        self.unavailable = scope;
        self
    }

    /// How long a partition is held after a 429 that names no time: doubling, with jitter. Default: 1 s to 60 s.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.pace.backoff = backoff;
        self
    }

    /// Says which error responses no wait helps against, such as the 429 for a plan that is used up: they are returned
    /// at once, with [`GiveUpReason::Permanent`](super::GiveUpReason::Permanent), and hold nobody. Default: none.
    ///
    /// Where only the body tells, put a [`PeekBodyLayer`](super::PeekBodyLayer) below.
    pub fn permanent_if(
        mut self,
        is_permanent: impl Fn(&Refusal<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.permanent = Permanence::new(is_permanent);
        self
    }

    /// Says what an error of the inner service means. Default: [`ErrorClass::of`]. This crate's own errors are always
    /// [`ErrorClass::Final`].
    pub fn classify_errors(
        mut self,
        classify: impl Fn(&(dyn Error + 'static)) -> ErrorClass + Send + Sync + 'static,
    ) -> Self {
        self.classifier = Classifier::new(classify);
        self
    }

    /// Says what the server means by fields whose values cannot tell, such as milliseconds that could be seconds.
    /// Default: none.
    pub fn profile(mut self, profile: impl Profile) -> Self {
        self.profile = Some(Box::new(profile));
        self
    }

    /// Shares quotas and holds with the other processes of a fleet. Default: none.
    ///
    /// Needs a tokio runtime where requests are sent. Not shared are limits of your own ([`limit`](Self::limit)), pauses,
    /// and what refusals have taught of quotas that the server does not announce.
    pub fn store(mut self, quotas: StoredQuotas) -> Self {
        self.pace.shared = true;
        self.store = Some(quotas);
        self
    }

    /// Where the time is read. Default: [`SystemClock`](crate::SystemClock).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Makes the jitter repeatable. Default: a random seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Calls `sink` for each [`RateLimitEvent`]. May be called again to add more. It runs on the task that caused the
    /// event, outside every lock, and should return soon; its panics are caught.
    pub fn on_event(mut self, sink: impl Fn(&RateLimitEvent<'_>) + Send + Sync + 'static) -> Self {
        self.sinks.add(sink);
        self
    }

    /// The layer.
    #[must_use]
    #[track_caller]
    pub fn build(self) -> RateLimitRetryLayer {
        let (usage, misuse) = Usage::begin("limits", Location::caller(), None);
        let mut sinks = self.sinks;
        crate::telemetry::tell_of_limits(&mut sinks);
        let random = Random::new(self.seed);
        let gate = Gate::new(self.pace, self.limits, self.max_waiting, random.clone());
        let clock = BoottimeClock::new(self.clock);
        let sharing = self.store.map(|quotas| {
            let (gate, clock) = (gate.clone(), clock.clone());
            Sharing::new(quotas, gate, clock, sinks.clone(), random.clone())
        });
        let limiter = Limiter {
            gate,
            sharing,
            policy: self.policy,
            deadline: self.deadline,
            fault_backoff: FAULT_BACKOFF,
            budget: FaultBudget::new(clock.now()),
            partitioning: self.partitioning,
            unavailable: self.unavailable,
            routes: HeldRoutes::default(),
            keyed_origins: self.keyed_origins,
            classifier: self.classifier,
            permanent: self.permanent,
            reader: Reader::new(self.profile),
            clock,
            random,
            sinks,
            usage,
        };
        limiter.report(misuse);
        RateLimitRetryLayer::of(limiter)
    }
}

impl fmt::Debug for RateLimitRetryLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitRetryLayerBuilder")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

const FAULT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

const MAX_WAITING: usize = 100_000;
