//! Settings of the rate-limit and retry layer.
//!
//! `build` cannot fail: values out of range are raised or lowered to the nearest valid one, and everything that can be
//! malformed is parsed before it is passed in.

mod costs;
mod partitions;

use std::{error::Error, fmt, panic::Location, sync::Arc, time::Duration};

use super::{
    ErrorResponse, RateLimitEvent, RateLimitRetryLayer,
    boottime::BoottimeClock,
    budget::RetryBudget,
    cost_settings::CostSettings,
    decide::RetryConfig,
    event::RateLimitEvents,
    gate::Gate,
    header_reader::HeaderReader,
    headers::HeaderProfile,
    limiter::Limiter,
    local_limits::LocalLimits,
    partition::Partitioning,
    permanent_errors::PermanentErrors,
    quota::{Pacing, QuotaConfig},
    resources::Resources,
    route::{HeldRoutes, UnavailableScope},
    store::{FleetSync, StoredQuotas},
};
use crate::{
    Clock, ErrorClass, Origin,
    backoff::Backoff,
    clock::SharedClock,
    error::Classifier,
    misuse::{SetOnce, Usage},
    random::Random,
    sinks::Sinks,
};

impl RateLimitRetryLayer {
    /// Creates a layer with the default settings.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder with the default settings.
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

/// A builder for a [`RateLimitRetryLayer`].
///
/// The defaults suit a service that calls one API in the background and may wait. Typical changes:
///
/// | program | settings |
/// |---|---|
/// | answers its own callers | [`deadline`](Self::deadline) below their timeout, a short [`max_wait`](Self::max_wait) |
/// | gateway for others' requests | [`idempotent_methods_only`](Self::idempotent_methods_only) |
/// | batch job | a long [`max_wait`](Self::max_wait), [`Pacing::Even`] |
/// | API without rate-limit fields | [`limit`](Self::limit) with the documented limit |
/// | several limits at one API | [`partitions_by`](Self::partitions_by) |
/// | API that counts tokens or points | [`cost`](Self::cost) |
/// | several processes with one credential | [`store`](Self::store) |
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
///         if let RateLimitEvent::Rejected { held_for, .. } = event {
///             eprintln!("held for {held_for:?}");
///         }
///     })
///     .build();
/// # drop(layer);
/// ```
///
/// A server that answers its own callers within five seconds, for an API with a documented limit:
///
/// ```
/// use std::time::Duration;
///
/// use tower_m2m::{RateLimitRetryLayer, rate_limit_retry::LocalLimit};
///
/// let layer = RateLimitRetryLayer::builder()
///     .deadline(Duration::from_secs(4))
///     .max_wait(Duration::from_secs(2))
///     .max_waiting(1_000)
///     .limit(LocalLimit::per_minute(300))
///     .build();
/// # drop(layer);
/// ```
#[must_use = "settings do nothing until `build()`"]
pub struct RateLimitRetryLayerBuilder {
    /// Limits on retries and waits.
    retry_config: RetryConfig,
    /// Maximum number of waiting requests per partition.
    max_waiting: usize,
    /// Time limit of a whole call; `None` for no limit.
    deadline: Option<Duration>,
    /// Settings of each quota.
    quota_config: QuotaConfig,
    /// Configured limits.
    limits: LocalLimits,
    /// How partition keys are derived.
    partitioning: Partitioning,
    /// How costs are estimated and settled.
    costs: CostSettings,
    /// Scope of the hold after a 503 with `Retry-After`.
    unavailable: UnavailableScope,
    /// Origins that honor `Idempotency-Key`.
    idempotency_key_origins: Vec<Origin>,
    /// Classifies errors of the inner service.
    classifier: Classifier,
    /// Identifies error responses after which no wait helps.
    permanent_errors: PermanentErrors,
    /// Vendor-specific meaning of header fields.
    profile: Option<Box<dyn HeaderProfile>>,
    /// Source of time.
    clock: SharedClock,
    /// Seed of the jitter; `None` for a random one.
    seed: Option<u64>,
    /// Store of the quotas that a fleet shares.
    store: Option<StoredQuotas>,
    /// Receivers of events.
    sinks: Sinks<RateLimitEvents>,
    /// Detects settings that are set twice.
    set_once: SetOnce,
}

impl RateLimitRetryLayerBuilder {
    /// Creates a builder with the default settings.
    pub(super) fn new() -> Self {
        Self {
            retry_config: RetryConfig {
                max_retries: 5,
                max_wait: Duration::from_secs(120),
                idempotent_only: false,
            },
            max_waiting: DEFAULT_MAX_WAITING,
            deadline: None,
            quota_config: QuotaConfig {
                initial_window: 8,
                initial_window_timeout: Duration::from_millis(250),
                max_hold: Duration::from_secs(3600),
                pacing: Pacing::Burst,
                backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
                shared: false,
            },
            limits: LocalLimits::default(),
            partitioning: Partitioning::default(),
            costs: CostSettings::default(),
            unavailable: UnavailableScope::default(),
            idempotency_key_origins: Vec::new(),
            classifier: Classifier::default(),
            permanent_errors: PermanentErrors::default(),
            profile: None,
            clock: SharedClock::default(),
            seed: None,
            store: None,
            sinks: Sinks::default(),
            set_once: SetOnce::default(),
        }
    }

    /// Sets the maximum number of retries of one request. Default: 5. With 0, requests are held before the send, but
    /// never sent twice.
    ///
    /// Counts retries after throttling and after transient failures together. Sends of inner layers, and the replay
    /// after a 401 by the layer that adds tokens, do not count.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.retry_config.max_retries = retries;
        self
    }

    /// Sets the maximum length of a single wait, before the first attempt or between two attempts. Default: 2 min.
    ///
    /// If a server asks for a longer wait, its response is returned at once, with [`GaveUp`](super::GaveUp) in its
    /// extensions. If a partition is held for longer, the request fails with [`RateLimited`](super::RateLimited). A
    /// request is never retried earlier than the server requested. Maximum between two attempts: 24 h.
    ///
    /// Applies to each wait anew: with five retries, a call may wait six times. [`deadline`](Self::deadline)
    /// limits the whole call.
    pub fn max_wait(mut self, duration: Duration) -> Self {
        self.retry_config.max_wait = duration;
        self
    }

    /// Sets the maximum number of requests that wait for one partition at the same time (at least 1). Default:
    /// 100,000.
    ///
    /// Further requests fail with [`QueueFull`](super::QueueFull) at once. A retry is always queued. Each
    /// waiting request is kept in memory, with its body. Lower it if callers wait for the result: requests that arrive
    /// when the queue holds more than the quota of `max_wait` cannot be sent in time anyway.
    pub fn max_waiting(mut self, limit: usize) -> Self {
        self.max_waiting = limit.max(1);
        self
    }

    /// Sets the time limit of a whole call, including waits and all attempts. Default: no limit.
    ///
    /// An attempt in flight ends with [`DeadlineExceeded`](super::DeadlineExceeded). A wait that would end after the
    /// deadline is not begun: the call fails with [`RateLimited`](super::RateLimited), or returns the response of its
    /// last attempt. Reading the response body does not count.
    ///
    /// A call whose response does not arrive at once costs an additional allocation, for the timer.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Retries only idempotent requests after a response, even after a 429. For gateways, which may not assume more
    /// (RFC 9110 §9.2.2).
    ///
    /// Default: a request answered with 429 is retried for every method, because by convention it was not processed.
    pub fn idempotent_methods_only(mut self) -> Self {
        self.retry_config.idempotent_only = true;
        self
    }

    /// Declares that `origin` honors `Idempotency-Key`: requests with that field count as idempotent there. Can be
    /// called repeatedly. Default: no origin.
    ///
    /// The layer does not create keys. The caller sets the field once per operation, and all attempts send the same
    /// value. Declare it only for servers that document it: others ignore the field, and a retried POST may then take
    /// effect twice.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::RateLimitRetryLayer;
    ///
    /// let layer = RateLimitRetryLayer::builder()
    ///     .honors_idempotency_key("https://api.example.com".parse()?)
    ///     .build();
    /// # drop(layer);
    /// # Ok::<(), tower_m2m::InvalidOrigin>(())
    /// ```
    pub fn honors_idempotency_key(mut self, origin: Origin) -> Self {
        self.idempotency_key_origins.push(origin);
        self
    }

    /// Sets the number of requests to an unknown partition that may be sent before the first response arrives;
    /// `u32::MAX` for no limit. Default: 8. With a [`store`](Self::store), it is the number for all processes together,
    /// but each process may always send one.
    ///
    /// In simulations, 8 costs no time if the server announces its quota, and wastes few requests if the quota is
    /// exhausted. Lower it for servers that punish rejected requests; raise it if a partition is created for each of
    /// many tenants, and each receives a burst of requests at first.
    pub fn initial_window(mut self, requests: u32) -> Self {
        self.quota_config.initial_window = requests;
        self
    }

    /// Sets the maximum time that requests to an unknown partition wait for its first response. Default: 250 ms.
    ///
    /// After that, [`initial_window`](Self::initial_window) no longer applies, so that one slow response does not delay
    /// all others. Raise it for servers whose responses usually take longer.
    pub fn initial_window_timeout(mut self, duration: Duration) -> Self {
        self.quota_config.initial_window_timeout = duration;
        self
    }

    /// Sets whether requests within the quota are sent immediately or spread over the window. Default:
    /// [`Pacing::Burst`].
    pub fn pacing(mut self, pacing: Pacing) -> Self {
        self.quota_config.pacing = pacing;
        self
    }

    /// Sets the upper bound on how long a hold or an exhausted quota is honored. After that, one probe request is
    /// sent. Default: 1 h.
    ///
    /// It protects against servers that announce a wrong date or a wrong unit. Raise it for quotas per day whose resets
    /// are reliable. A [pause](super::QuotaHandle::pause) is not affected.
    pub fn max_hold(mut self, duration: Duration) -> Self {
        self.quota_config.max_hold = duration;
        self
    }

    /// Sets which requests a 503 with `Retry-After` holds. Default: those of the same route,
    /// [`UnavailableScope::Route`].
    pub fn unavailable_scope(mut self, scope: UnavailableScope) -> Self {
        self.unavailable = scope;
        self
    }

    /// Sets how long a partition is held after a 429 without a wait time: exponential, with jitter. Default: 1 s to
    /// 60 s.
    ///
    /// Grows with the number of consecutive rejections of the partition, not of one request. Retries after transient
    /// failures, such as a 503 without a wait, have a backoff of their own: 200 ms to 10 s.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.quota_config.backoff = backoff;
        self
    }

    /// Sets the predicate for error responses after which no wait helps, such as a 429 for an exhausted plan.
    /// Default: no response.
    ///
    /// Such a response is returned at once, with [`GiveUpReason::Permanent`](super::GiveUpReason::Permanent), and
    /// holds no other request. The predicate is called for 4xx and 5xx responses. If only the body identifies such a
    /// response, place a [`PeekBodyLayer`](super::PeekBodyLayer) below this layer.
    pub fn is_permanent(
        mut self,
        is_permanent: impl Fn(&ErrorResponse<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.set_once.record("is_permanent");
        self.permanent_errors = PermanentErrors::new(is_permanent);
        self
    }

    /// Sets the function that classifies errors of the inner service. Default: [`ErrorClass::of`]. This crate's own
    /// errors are always [`ErrorClass::Final`].
    ///
    /// Needed if the inner service has an error type of its own that does not have hyper's errors among its sources:
    /// unknown errors count as [`ErrorClass::MaybeProcessed`], after which only idempotent requests are retried.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    ///
    /// use tower_m2m::{ErrorClass, RateLimitRetryLayer};
    ///
    /// let layer = RateLimitRetryLayer::builder()
    ///     .classify_errors(|error| {
    ///         let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    ///         match io {
    ///             // This proxy closes idle connections without a response.
    ///             Some(io::ErrorKind::ConnectionReset) => ErrorClass::NotSent,
    ///             _ => ErrorClass::of(error),
    ///         }
    ///     })
    ///     .build();
    /// # drop(layer);
    /// ```
    pub fn classify_errors(
        mut self,
        classify: impl Fn(&(dyn Error + 'static)) -> ErrorClass + Send + Sync + 'static,
    ) -> Self {
        self.set_once.record("classify_errors");
        self.classifier = Classifier::new(classify);
        self
    }

    /// Sets the header profile, for fields whose values are ambiguous, such as milliseconds that could be seconds.
    /// Default: no profile.
    ///
    /// The profile applies to all origins of the layer. With one, requests do not take the fast path, because the
    /// profile may find a limit in any field.
    pub fn profile(mut self, profile: impl HeaderProfile) -> Self {
        self.set_once.record("profile");
        self.profile = Some(Box::new(profile));
        self
    }

    /// Shares quotas and holds with the other processes of a fleet. Default: no store.
    ///
    /// Requests must be sent in a tokio runtime. Not shared: configured limits ([`limit`](Self::limit)) and pauses;
    /// [`StoredQuotas`] lists the rest.
    ///
    /// Call [`QuotaHandle::release_reservations`](super::QuotaHandle::release_reservations) at the end of the program.
    pub fn store(mut self, quotas: StoredQuotas) -> Self {
        self.set_once.record("store");
        self.quota_config.shared = true;
        self.store = Some(quotas);
        self
    }

    /// Sets the source of time. Default: [`SystemClock`](crate::SystemClock). For tests and simulations. Timers still
    /// use tokio's clock, which a test can pause.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Sets the seed of the jitter, for reproducible waits. Default: a random seed. For tests only: processes with the
    /// same seed retry at the same time.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Adds a sink that is called for each [`RateLimitEvent`]. Can be called repeatedly. Default: no sink.
    ///
    /// The sink runs on the task that caused the event, outside every lock, and should return quickly. Its panics are
    /// caught. Sinks are called in the order in which they were added. To do work that waits, send the event's data to
    /// another task.
    pub fn on_event(mut self, sink: impl Fn(&RateLimitEvent<'_>) + Send + Sync + 'static) -> Self {
        self.sinks.add(sink);
        self
    }

    /// Builds the layer. Each call of `build` creates quotas of its own; to share them, clone the layer.
    #[must_use]
    #[track_caller]
    pub fn build(self) -> RateLimitRetryLayer {
        // The misuse is reported at the end, when the sinks are in place.
        let (usage, misuse) = Usage::begin("limits", Location::caller(), None);
        let mut sinks = self.sinks;
        crate::telemetry::install_rate_limit_sinks(&mut sinks);
        let random = Random::new(self.seed);
        let gate = Gate::new(
            self.quota_config,
            self.limits,
            self.max_waiting,
            random.clone(),
        );
        let clock = BoottimeClock::new(self.clock);
        let resources = Arc::<Resources>::default();
        // The agents share the gate, the names of quotas and the clock of the limiter.
        let fleet_sync = self.store.map(|quotas| {
            let (gate, clock) = (gate.clone(), clock.clone());
            let divided = match self.partitioning {
                Partitioning::ByOrigin => Some(Arc::clone(&resources)),
                Partitioning::By(_) => None,
            };
            FleetSync::new(quotas, gate, divided, clock, sinks.clone(), random.clone())
        });
        let limiter = Limiter {
            gate,
            fleet_sync,
            retry_config: self.retry_config,
            deadline: self.deadline,
            transient_backoff: TRANSIENT_BACKOFF,
            budget: RetryBudget::new(clock.now()),
            partitioning: self.partitioning,
            costs: self.costs,
            unavailable: self.unavailable,
            routes: HeldRoutes::default(),
            resources,
            idempotency_key_origins: self.idempotency_key_origins,
            classifier: self.classifier,
            permanent_errors: self.permanent_errors,
            header_reader: HeaderReader::new(self.profile),
            clock,
            random,
            sinks,
            usage,
        };
        limiter.emit_misuse(misuse.or(self.set_once.misuse()));
        RateLimitRetryLayer::from_limiter(limiter)
    }
}

impl fmt::Debug for RateLimitRetryLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitRetryLayerBuilder")
            .field("retry_config", &self.retry_config)
            .finish_non_exhaustive()
    }
}

/// Backoff after a transient failure. Shorter than that of the quotas, because it delays one request only and is
/// bounded by the retry budget.
const TRANSIENT_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// Default maximum number of waiting requests per partition. A safeguard against running out of memory, not a
/// recommendation.
const DEFAULT_MAX_WAITING: usize = 100_000;
