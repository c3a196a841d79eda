//! Admission and retries, apart from any service: the layer and any other driver use the same calls.
//!
//! A driver begins a call ([`Limiter::begin`]), admits it ([`Limiter::try_admit`], [`Limiter::admit`]), checks the
//! permit right before the send ([`Limiter::start`]), and reports the outcome ([`Limiter::on_response`]), which returns
//! a response or asks for another attempt.
//!
//! # Order of checks
//!
//! - [`Limiter::try_admit`] calls the gate. If the request must wait, the clocks are compared first: holds may have
//!   ended while the machine was suspended.
//! - [`Limiter::admit`] waits in the gate's queue, checks whether the route has been held in the meantime, and
//!   reserves a slot if there is a fleet quota.
//! - [`Limiter::start`] checks again once the inner service is ready, because that may take long.
//!
//! # Files
//!
//! | file | step of a call |
//! |---|---|
//! | `call` | the state of a call, and the borrowed head of its request |
//! | `deadline` | the time by which a call must end, and its timer |
//! | `mod` (here) | keys, admission, rejection |
//! | `wait` | waiting with timers, and the checks right before the send |
//! | `resources`, `routes` | partitions that a call is subject to besides its own: named quotas, held routes |
//! | `on_response` | the outcome: quotas, events, retry or return |
//! | `not_admitted` | the reasons why a waiting request is not admitted |
//! | `nested` | how two nested layers agree on one that retries |
//! | `shed` | rejections that a proxy reports in fields of its own |
//!
//! # Locks
//!
//! The limiter itself has none. It uses the gate, the routes, the skews, the retry budget and the store's state, each
//! of which has its own lock, and never holds two of them at once.

mod call;
mod deadline;
mod nested;
mod not_admitted;
mod on_response;
mod resources;
mod routes;
mod shed;
mod wait;

use std::{collections::HashSet, num::NonZeroU64, sync::Arc, time::Duration};

use http::{Uri, request::Parts};
use tokio::{runtime::Handle, time::Instant};

pub(crate) use self::{
    call::{Call, RequestHead},
    on_response::Next,
};
use self::{deadline::Deadline, not_admitted::NotAdmitted};
use super::{
    CostTooHigh, PartitionKey, QueueFull, RateLimitEvent, RateLimited,
    boottime::BoottimeClock,
    budget::{Account, RetryBudget},
    cost_settings::CostSettings,
    decide::{MethodClass, RetryConfig},
    event::RateLimitEvents,
    gate::{Admission, AdmitRequest, Gate, Keys, Permit},
    header_reader::HeaderReader,
    partition::Partitioning,
    permanent_errors::PermanentErrors,
    quota::{ExceededLimit, Load, Outcome},
    resources::Resources,
    route::{HeldRoutes, RouteClass, UnavailableScope},
    store::{FleetSync, Reservation},
};
use crate::{
    Attempts, BoxError, Origin,
    backoff::Backoff,
    call::drain::sleep_on_runtime,
    clock::add_capped,
    error::Classifier,
    misuse::{Misuse, Usage},
    random::Random,
    sinks::Sinks,
    telemetry::span,
};

/// The gate, the settings and the clock of one layer.
///
/// Shared by all clones of the layer, all its services and its handles. Settings do not change after `build`.
pub(crate) struct Limiter {
    /// Admission by quotas.
    pub(super) gate: Gate,
    /// Sharing of quotas with other processes; `None` without a store.
    pub(super) fleet_sync: Option<FleetSync>,
    /// What the user allows: retries, wait and methods.
    pub(super) retry_config: RetryConfig,
    /// Maximum duration of a call. `None`: no limit.
    pub(super) deadline: Option<Duration>,
    /// Waits before retries after transient failures. The backoff of throttled requests belongs to the quota.
    pub(super) transient_backoff: Backoff,
    /// The retry budget, by partition.
    pub(super) budget: RetryBudget,
    /// How the partition keys of a request are chosen.
    pub(super) partitioning: Partitioning,
    /// How costs are estimated, and whether layers below may report them.
    pub(super) costs: CostSettings,
    /// What a 503 with `Retry-After` holds.
    pub(super) unavailable: UnavailableScope,
    /// Classes of requests that are held, each by a partition of its own.
    pub(super) routes: HeldRoutes,
    /// Origins that honor `Idempotency-Key`.
    pub(super) idempotency_key_origins: Vec<Origin>,
    /// The named quotas that count each route.
    pub(crate) resources: Arc<Resources>,
    /// Classes of errors of the inner service.
    pub(super) classifier: Classifier,
    /// Detects responses to an exhausted quota that no wait restores.
    pub(super) permanent_errors: PermanentErrors,
    /// Reads limits from response headers.
    pub(super) header_reader: HeaderReader,
    /// The clock of holds and windows, which includes time in which the machine was suspended.
    pub(super) clock: BoottimeClock,
    /// Source of jitter.
    pub(super) random: Random,
    /// Receivers of events.
    pub(super) sinks: Sinks<RateLimitEvents>,
    /// Detects misuse of the layer. Only the first is reported.
    pub(crate) usage: Usage,
}

impl Limiter {
    /// Starts a call at `now`. With a credential's name, the default partition is that credential's at the origin.
    ///
    /// A route that is held already is added to the call's keys. The call's deadline starts here.
    ///
    /// Calls the user's partition function and cost function, without any lock. Allocates the keys.
    pub(crate) fn begin(
        &self,
        parts: &RequestHead<'_>,
        credential: Option<&str>,
        now: Instant,
    ) -> Call {
        let own_keys = matches!(self.partitioning, Partitioning::By(_));
        // Copied only if one of the user's functions needs it.
        let head = (own_keys || self.costs.has_function()).then(|| parts.to_parts());
        let keys = self.keys(parts.uri, head.as_ref(), credential);
        let account = Account::of(&keys);
        let mut call = Call {
            load: Load::of(
                self.costs.estimate(head.as_ref()),
                Some(RouteClass::of(parts.method.as_str(), parts.uri.path())),
            ),
            prefix: Some(RouteClass::prefix(parts.uri.path())),
            origin: own_keys
                .then(|| Origin::of(parts.uri).map(Box::new))
                .flatten(),
            ..self.call(keys, account, parts, || now)
        };
        self.add_resources(&mut call);
        self.add_route_holds(&mut call, now);
        call
    }

    /// Returns the partition keys of a request.
    ///
    /// By default that is one key: the origin, with the credential's name. With a function of the user's, duplicates
    /// are removed and the order is kept; the first key is the one of the retry budget and of errors.
    ///
    /// `head` is the copied head of the request, which is required for a partition function of the user.
    fn keys(&self, uri: &Uri, head: Option<&Parts>, credential: Option<&str>) -> Keys {
        match (&self.partitioning, head) {
            (Partitioning::ByOrigin, _) | (_, None) => {
                [PartitionKey::for_origin(uri, credential)].into()
            }
            (Partitioning::By(keys), Some(head)) => {
                let mut keys = keys(head);
                // A partition counts a request once.
                let mut distinct = HashSet::new();
                keys.retain(|key| distinct.insert(key.clone()));
                keys.into()
            }
        }
    }

    /// Creates a call without a destination and a route. Reads the clock only if the layer has a deadline.
    ///
    /// Sufficient for the fast path, which excludes custom partitions. If a route is needed after all, it is derived
    /// from the copy of the request. A nested call is reported as a misuse once per layer.
    pub(crate) fn call(
        &self,
        keys: Keys,
        account: Account,
        parts: &RequestHead<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Call {
        let honors_key = self
            .idempotency_key_origins
            .iter()
            .any(|o| o.matches(parts.uri));
        let nested = Attempts::is_retry(parts.extensions);
        if nested {
            self.emit_misuse(self.usage.report_once(Misuse::Nested));
        }
        Call {
            keys,
            account,
            origin: None,
            load: Load::ONE,
            method: MethodClass::of(parts.method, parts.headers, honors_key),
            prefix: None,
            nested,
            deadline: Deadline::after(self.deadline, now),
            sequence: None,
            attempt: 1,
            sends: 0,
            token_replaced: Attempts::is_token_replaced(parts.extensions),
            possibly_processed: false,
        }
    }

    /// Emits an event about misuse, if there is one.
    pub(crate) fn emit_misuse(&self, misuse: Option<Misuse>) {
        if let Some(misuse) = misuse {
            self.sinks.emit(&RateLimitEvent::Misused { misuse });
        }
    }

    /// Returns whether requests may take the fast path while their partition is open.
    ///
    /// They may not with costs, which are reserved in the gate; with keys of the user's own, which depend on more than
    /// the origin by which the fast path finds a partition; and with a store, through which other processes report
    /// limits.
    pub(crate) fn has_fast_path(&self) -> bool {
        self.fleet_sync.is_none()
            && matches!(self.partitioning, Partitioning::ByOrigin)
            && !self.costs.are_tracked()
    }

    /// Returns whether each request reserves a slot of the fleet.
    pub(crate) fn has_fleet_quota(&self) -> bool {
        let fleet_sync = self.fleet_sync.as_ref();
        fleet_sync.is_some_and(FleetSync::has_fleet_quota)
    }

    /// Returns the time by which holds and windows are measured. It includes suspensions of the machine that have
    /// been noticed.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Returns the same time after comparing the clocks, which notices a suspension. Reads both clocks;
    /// [`now`](Self::now) reads one.
    pub(crate) fn now_synced(&self) -> Instant {
        self.clock.now_and_wall().0
    }

    /// Converts a time to tokio's clock, for users. The two differ by the time for which the machine was suspended.
    pub(crate) fn to_tokio(&self, at: Instant) -> Instant {
        self.clock.to_tokio(at)
    }

    /// Admits the request if it may be sent at once.
    ///
    /// # Errors
    ///
    /// The [`Admission`] if it must wait or is rejected.
    ///
    /// With a store, this also starts the agents of the request's partitions. The caller keeps the
    /// [`Waiter`](super::gate::Waiter) in [`Admission::Queued`]; dropping it leaves the queue.
    pub(crate) fn try_admit(&self, call: &mut Call, now: Instant) -> Result<Permit, Admission> {
        if let Some(fleet_sync) = &self.fleet_sync {
            fleet_sync.ensure_agents(&call.keys);
        }
        let request = AdmitRequest {
            keys: &call.keys,
            origin: call.origin.as_deref(),
            sequence: call.sequence.map(NonZeroU64::get),
            deadline: Some(self.wait_deadline(call, now)),
            load: &call.load,
            tracks_cost: self.costs.are_tracked(),
            allow_fast_path: self.has_fast_path(),
        };
        let mut admission = self.gate.admit(&request, now);
        if !matches!(admission, Admission::Admitted(_)) {
            let then = self.now_synced();
            if then.saturating_duration_since(now) >= MIN_SUSPENSION {
                // Holds that were to end while the machine was suspended have ended.
                drop(admission);
                let deadline = Some(self.wait_deadline(call, then));
                admission = self.gate.admit(
                    &AdmitRequest {
                        deadline,
                        ..request
                    },
                    then,
                );
            }
        }
        match admission {
            Admission::Admitted(permit) => {
                call.sequence = permit.sequence().and_then(NonZeroU64::new);
                Ok(permit)
            }
            other => Err(other),
        }
    }

    /// Waits for admission, and with a fleet quota also for a slot. `first` is the result of
    /// [`try_admit`](Self::try_admit), if it was called.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] if the request cannot be sent before its deadline or within `max_wait`, or must wait outside a
    /// tokio runtime; [`QueueFull`] if a queue is full; [`CostTooHigh`] if a limit is lower than the request's cost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue. A slot of the fleet that was reserved passes unused.
    ///
    /// The loop ends, because each round adds a partition to the call's keys.
    ///
    /// The permit is obtained before the slot of the fleet: a slot cannot be given back, a permit can. While the call
    /// waits for its slot, it counts as in flight here.
    pub(crate) async fn admit(
        &self,
        call: &mut Call,
        first: Option<Admission>,
    ) -> Result<Permit, BoxError> {
        let deadline = self.wait_deadline(call, self.clock.now());
        let mut permit = self.acquire(call, first).await?;
        // A route may have been held during the wait, or the partition divided: the permit does not count the new keys.
        while self.add_resources(call) | self.add_route_holds(call, self.clock.now()) {
            permit.settle(Outcome::NotSent, self.clock.now());
            permit = self.acquire(call, None).await?;
        }
        let fleet = self
            .fleet_sync
            .as_ref()
            .filter(|fleet_sync| fleet_sync.has_fleet_quota());
        let Some(fleet_sync) = fleet.filter(|_| !permit.is_uncounted()) else {
            return Ok(permit);
        };
        let max_wait = deadline.saturating_duration_since(self.clock.now());
        match fleet_sync.reserve(&call.keys, max_wait).await {
            Some(Reservation::Denied(wait)) => {
                let now = self.clock.now();
                permit.settle(Outcome::NotSent, now);
                Err(self.hold_too_long(call, add_capped(now, wait), now))
            }
            Some(Reservation::Granted(wait)) if !wait.is_zero() => {
                sleep_on_runtime(wait).await;
                Ok(permit)
            }
            Some(Reservation::Granted(_)) | None => Ok(permit),
        }
    }

    /// Waits for admission to all partitions of the call.
    ///
    /// Emits [`RateLimitEvent::Queued`] before a wait and, if the request is admitted, [`RateLimitEvent::Dequeued`]
    /// after it.
    ///
    /// # Errors
    ///
    /// As for [`admit`](Self::admit). The errors are created here, because only here the partition and the end of its
    /// hold are known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queues. No event follows.
    async fn acquire(&self, call: &mut Call, first: Option<Admission>) -> Result<Permit, BoxError> {
        let now = self.clock.now();
        let deadline = self.wait_deadline(call, now);
        let admission = match first {
            Some(admission) => admission,
            None => match self.try_admit(call, now) {
                Ok(permit) => return Ok(permit),
                Err(admission) => admission,
            },
        };
        match admission {
            Admission::Admitted(permit) => Ok(permit),
            Admission::TooLate(until) => Err(self.hold_too_long(call, until, now)),
            Admission::QueueFull(partition) => Err(self.queue_full(call, partition, now)),
            Admission::CostTooHigh(partition, exceeded) => {
                Err(self.cost_too_high(call, partition, exceeded))
            }
            Admission::Queued(place) => {
                if Handle::try_current().is_err() {
                    // Outside a runtime there are no timers to wait with.
                    drop(place);
                    let send_time = self.gate.available_at(&call.keys, &call.load, now);
                    return Err(self.hold_too_long(call, send_time.unwrap_or(now), now));
                }
                self.emit_each(call, |partition| RateLimitEvent::Queued { partition });
                let permit =
                    span::wait_span(call.keys.first(), self.wait_for_permit(place, deadline)).await;
                let then = self.clock.now();
                let permit = permit.map_err(|not_admitted| {
                    let held_until = match not_admitted {
                        NotAdmitted::TooLate(until) => until,
                        NotAdmitted::CostTooHigh(partition, exceeded) => {
                            return self.cost_too_high(call, partition, exceeded);
                        }
                    };
                    let send_time = || self.gate.available_at(&call.keys, &call.load, then);
                    let until = held_until.or_else(send_time).unwrap_or(deadline);
                    self.hold_too_long(call, deadline.max(until), then)
                })?;
                let waited = then.saturating_duration_since(now);
                self.emit_each(call, |partition| RateLimitEvent::Dequeued {
                    partition,
                    waited,
                });
                call.sequence = permit.sequence().and_then(NonZeroU64::new);
                Ok(permit)
            }
        }
    }

    /// Returns whether a partition or the route has been held since the permit was issued.
    fn is_held(&self, call: &mut Call, permit: &Permit) -> bool {
        let now = self.clock.now();
        // A slot of the fleet that the request has reserved would be lost.
        let divided = !self.has_fleet_quota() && self.add_resources(call);
        divided | self.add_route_holds(call, now) || permit.is_held(now)
    }

    /// Returns the time until which the call can wait: its deadline, but at most `max_wait` from now.
    ///
    /// `max_wait` limits each wait anew, the deadline the whole call. Computed before the wait, so that wake-ups do not
    /// extend it.
    fn wait_deadline(&self, call: &Call, now: Instant) -> Instant {
        let max_deadline = add_capped(now, self.retry_config.max_wait);
        call.deadline
            .at()
            .map_or(max_deadline, |at| at.min(max_deadline))
    }

    /// Emits the rejection and returns the error for a hold that ends at `until`, later than the call can wait.
    ///
    /// The error's time is by tokio's clock, for the user's own timers. Without a runtime, the error's
    /// message states that there is no timer to wait with.
    fn hold_too_long(&self, call: &Call, until: Instant, now: Instant) -> BoxError {
        let partition = call.keys.first().cloned();
        let wait = until.saturating_duration_since(now);
        self.emit_each(call, |partition| RateLimitEvent::Rejected {
            partition,
            held_for: wait,
        });
        RateLimited {
            until: self.clock.to_tokio(until),
            retry_after: wait,
            partition: partition.unwrap_or_else(|| PartitionKey::new("")),
            has_runtime: Handle::try_current().is_ok(),
        }
        .into()
    }

    /// Emits the rejection and returns the error for a full queue.
    fn queue_full(&self, call: &Call, partition: PartitionKey, now: Instant) -> BoxError {
        let send_time = self.gate.available_at(&call.keys, &call.load, now);
        let held_for = send_time.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        self.emit_each(call, |partition| RateLimitEvent::Rejected {
            partition,
            held_for,
        });
        QueueFull {
            partition,
            limit: self.gate.max_waiting(),
        }
        .into()
    }

    /// Emits the rejection and returns the error for a cost that exceeds a limit. The event has no wait, because none
    /// would help.
    fn cost_too_high(
        &self,
        call: &Call,
        partition: PartitionKey,
        exceeded: ExceededLimit,
    ) -> BoxError {
        self.emit_each(call, |partition| RateLimitEvent::Rejected {
            partition,
            held_for: Duration::ZERO,
        });
        CostTooHigh {
            partition,
            quota: exceeded.quota,
            cost: exceeded.cost,
            limit: exceeded.limit,
        }
        .into()
    }

    /// Emits an event for each partition of the call.
    fn emit_each<'a>(
        &self,
        call: &'a Call,
        event: impl Fn(&'a PartitionKey) -> RateLimitEvent<'a>,
    ) {
        for key in call.keys.iter() {
            self.sinks.emit(&event(key));
        }
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter")
            .field("retry_config", &self.retry_config)
            .finish_non_exhaustive()
    }
}

/// Minimum difference between two readings of the clock that is taken for a suspension of the machine. The same as in
/// `boottime`, which does not add smaller differences to the time.
const MIN_SUSPENSION: Duration = Duration::from_millis(500);

/// The limiter that all values of one layer share.
pub(crate) type SharedLimiter = Arc<Limiter>;
