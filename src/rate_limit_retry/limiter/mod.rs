//! The protocol between a request and its limits, apart from any service, so that anything else can
//! drive it as the layer does.

mod call;
mod conclude;
mod nested;
mod shed;
mod wait;

use std::{collections::HashSet, num::NonZeroU64, sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

pub(crate) use self::{
    call::{Call, RequestHead},
    conclude::Next,
};
use super::{
    HoldTooLong, PartitionKey, RateLimitEvent, TooManyWaiting,
    boottime::BoottimeClock,
    budget::{Account, FaultBudget},
    decision::{MethodClass, Policy},
    event::RateLimitEvents,
    gate::{Admission, Gate, Keys, Ticket, Wish},
    key::Partitioning,
    permanent::Permanence,
    quota::Learnt,
    reader::Reader,
    route::{HeldRoutes, RouteClass, UnavailableScope},
    store::{Sharing, Slot},
};
use crate::{
    Attempts, BoxError, Origin,
    backoff::Backoff,
    call::drain::pause,
    clock::after,
    error::Classifier,
    misuse::{Misuse, Usage},
    random::Random,
    sinks::Sinks,
    telemetry::span,
};

/// One layer's gate and rules.
pub(crate) struct Limiter {
    pub(super) gate: Gate,
    pub(super) sharing: Option<Sharing>,
    pub(super) policy: Policy,
    pub(super) deadline: Option<Duration>,
    pub(super) fault_backoff: Backoff,
    pub(super) budget: FaultBudget,
    pub(super) partitioning: Partitioning,
    pub(super) unavailable: UnavailableScope,
    pub(super) routes: HeldRoutes,
    pub(super) keyed_origins: Vec<Origin>,
    pub(super) classifier: Classifier,
    pub(super) permanent: Permanence,
    pub(super) reader: Reader,
    pub(super) clock: BoottimeClock,
    pub(super) random: Random,
    pub(super) sinks: Sinks<RateLimitEvents>,
    pub(crate) usage: Usage,
}

impl Limiter {
    /// A call that begins now. With a credential's name, the default partition is that credential's at the origin.
    pub(crate) fn begin(
        &self,
        parts: &RequestHead<'_>,
        credential: Option<&str>,
        now: Instant,
    ) -> Call {
        let own_keys = matches!(self.partitioning, Partitioning::By(_));
        let keys = self.keys(parts, credential);
        let account = Account::of(&keys);
        let mut call = Call {
            route: Some(RouteClass::of(parts.method.as_str(), parts.uri.path())),
            origin: own_keys
                .then(|| Origin::of(parts.uri).map(Box::new))
                .flatten(),
            deadline: self.deadline.map(|limit| after(now, limit)),
            ..self.call(keys, account, parts)
        };
        self.is_route_held(&mut call, now);
        call
    }

    /// Whether the route of a request is held and this was not known to it. From then on it is.
    fn is_route_held(&self, call: &mut Call, now: Instant) -> bool {
        let Some((partition, class)) = call.keys.first().zip(call.route) else {
            return false;
        };
        if self.routes.is_empty() {
            return false;
        }
        let mut held = self.routes.of(partition, class, now);
        held.retain(|key| !call.keys.contains(key));
        if held.is_empty() {
            return false;
        }
        call.keys = call.keys.iter().cloned().chain(held).collect();
        true
    }

    /// The server is unavailable for one kind of its requests: these are held until then.
    ///
    /// Returns whether that can be kept apart from what holds for the whole partition.
    fn hold_route(&self, call: &mut Call, class: RouteClass, until: Instant, now: Instant) -> bool {
        let partition = call.keys.first();
        let Some(key) = partition.and_then(|key| self.routes.hold(key, class, until, now)) else {
            return false;
        };
        self.gate.hold(&key, until, now);
        if !call.keys.contains(&key) {
            call.keys = call.keys.iter().cloned().chain([key]).collect();
        }
        true
    }

    pub(crate) fn keys(&self, parts: &RequestHead<'_>, credential: Option<&str>) -> Keys {
        match &self.partitioning {
            Partitioning::ByOrigin => [PartitionKey::of_origin(parts.uri, credential)].into(),
            Partitioning::By(keys) => {
                let mut keys = keys(&parts.to_parts());
                // Nobody is counted twice.
                let mut seen = HashSet::new();
                keys.retain(|key| seen.insert(key.clone()));
                keys.into()
            }
        }
    }

    /// A call without a deadline.
    pub(crate) fn call(&self, keys: Keys, account: Account, parts: &RequestHead<'_>) -> Call {
        let keyed = self.keyed_origins.iter().any(|o| o.matches(parts.uri));
        let nested = Attempts::are_marked(parts.extensions);
        if nested {
            // Only a layer with limits marks what it sends again.
            self.report(self.usage.once(Misuse::Nested));
        }
        Call {
            keys,
            account,
            origin: None,
            method: MethodClass::of(parts.method, parts.headers, keyed),
            route: None,
            nested,
            deadline: None,
            arrival: None,
            attempt: 1,
            sends: 0,
            token_replaced: Attempts::is_token_replaced(parts.extensions),
            perhaps_processed: false,
        }
    }

    pub(crate) fn report(&self, misuse: Option<Misuse>) {
        if let Some(misuse) = misuse {
            self.sinks.emit(&RateLimitEvent::Misused { misuse });
        }
    }

    /// Whether requests may go past the gate where nothing is known: with a deadline they must be watched, with a
    /// profile answers may speak in any way, partitions of the user's own are told by more than the origin, and of those
    /// that are shared other processes may know something.
    pub(crate) fn has_passes(&self) -> bool {
        self.deadline.is_none()
            && self.sharing.is_none()
            && matches!(self.partitioning, Partitioning::ByOrigin)
            && !self.reader.has_profile()
    }

    /// Whether a request has to wait for something else than its turn: it has a deadline, or takes a slot of the fleet.
    pub(crate) fn is_watched(&self) -> bool {
        self.deadline.is_some() || self.sharing.as_ref().is_some_and(Sharing::is_exact)
    }

    /// The time by which holds and windows are measured, which goes on while the machine is suspended.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The same, after the clocks have been compared.
    pub(crate) fn now_compared(&self) -> Instant {
        self.clock.both().0
    }

    /// The same moment by tokio's clock.
    pub(crate) fn by_tokio(&self, at: Instant) -> Instant {
        self.clock.by_tokio(at)
    }

    /// A ticket, if the request may go at once.
    pub(crate) fn try_admit(&self, call: &mut Call, now: Instant) -> Result<Ticket, Admission> {
        if let Some(sharing) = &self.sharing {
            sharing.attend(&call.keys);
        }
        let wish = Wish {
            keys: &call.keys,
            origin: call.origin.as_deref(),
            arrival: call.arrival.map(NonZeroU64::get),
            latest: Some(self.latest(call, now)),
            passes: self.has_passes(),
        };
        let mut admission = self.gate.admit(&wish, now);
        if !matches!(admission, Admission::Go(_)) {
            let then = self.now_compared();
            if then.saturating_duration_since(now) >= SUSPENSION {
                // What was to end has ended while the machine was suspended.
                drop(admission);
                let latest = Some(self.latest(call, then));
                admission = self.gate.admit(&Wish { latest, ..wish }, then);
            }
        }
        match admission {
            Admission::Go(ticket) => {
                call.arrival = ticket.arrival().and_then(NonZeroU64::new);
                Ok(ticket)
            }
            other => Err(other),
        }
    }

    /// Waits for a ticket, and where the fleet keeps a quota exactly, for a slot.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place up; a slot that was taken passes unused.
    pub(crate) async fn admit(
        &self,
        call: &mut Call,
        first: Option<Admission>,
    ) -> Result<Ticket, BoxError> {
        let latest = self.latest(call, self.clock.now());
        let mut ticket = self.enter(call, first).await?;
        while self.is_route_held(call, self.clock.now()) {
            ticket.settle(Learnt::NotSent, self.clock.now());
            ticket = self.enter(call, None).await?;
        }
        let exact = self.sharing.as_ref().filter(|sharing| sharing.is_exact());
        let Some(sharing) = exact.filter(|_| !ticket.is_free()) else {
            return Ok(ticket);
        };
        let longest = latest.saturating_duration_since(self.clock.now());
        match sharing.slot(&call.keys, longest).await {
            Some(Slot::TooLate(wait)) => {
                let now = self.clock.now();
                ticket.settle(Learnt::NotSent, now);
                Err(self.too_long(call, after(now, wait), now))
            }
            Some(Slot::After(wait)) if !wait.is_zero() => {
                pause(wait).await;
                Ok(ticket)
            }
            Some(Slot::After(_)) | None => Ok(ticket),
        }
    }

    async fn enter(&self, call: &mut Call, first: Option<Admission>) -> Result<Ticket, BoxError> {
        let now = self.clock.now();
        let latest = self.latest(call, now);
        let admission = match first {
            Some(admission) => admission,
            None => match self.try_admit(call, now) {
                Ok(ticket) => return Ok(ticket),
                Err(admission) => admission,
            },
        };
        match admission {
            Admission::Go(ticket) => Ok(ticket),
            Admission::TooLate(until) => Err(self.too_long(call, until, now)),
            Admission::TooMany(partition) => Err(self.too_many(call, partition, now)),
            Admission::Wait(place) => {
                if Handle::try_current().is_err() {
                    // There are no timers to wait with.
                    drop(place);
                    let chance = self.gate.next_chance(&call.keys, now);
                    return Err(self.too_long(call, chance.unwrap_or(now), now));
                }
                self.tell_each(call, |partition| RateLimitEvent::Held { partition });
                let ticket = span::of_wait(call.keys.first(), self.turn(place, latest)).await;
                let then = self.clock.now();
                let ticket = ticket.map_err(|held_until| {
                    let chance = || self.gate.next_chance(&call.keys, then);
                    let until = held_until.or_else(chance).unwrap_or(latest);
                    self.too_long(call, latest.max(until), then)
                })?;
                let waited = then.saturating_duration_since(now);
                self.tell_each(call, |partition| RateLimitEvent::Released {
                    partition,
                    waited,
                });
                call.arrival = ticket.arrival().and_then(NonZeroU64::new);
                Ok(ticket)
            }
        }
    }

    /// Whether a partition has been held since the ticket was given.
    fn is_overtaken(&self, call: &mut Call, ticket: &Ticket) -> bool {
        let now = self.clock.now();
        self.is_route_held(call, now) || ticket.is_overtaken(now)
    }

    fn latest(&self, call: &Call, now: Instant) -> Instant {
        let patience = after(now, self.policy.max_wait);
        call.deadline.map_or(patience, |at| at.min(patience))
    }

    fn too_long(&self, call: &Call, until: Instant, now: Instant) -> BoxError {
        let partition = call.keys.first().cloned();
        let wait = until.saturating_duration_since(now);
        self.tell_each(call, |partition| RateLimitEvent::NotSent {
            partition,
            held_for: wait,
        });
        HoldTooLong {
            until: self.clock.by_tokio(until),
            wait,
            partition: partition.unwrap_or_else(|| PartitionKey::new("")),
            has_runtime: Handle::try_current().is_ok(),
        }
        .into()
    }

    fn too_many(&self, call: &Call, partition: PartitionKey, now: Instant) -> BoxError {
        let chance = self.gate.next_chance(&call.keys, now);
        let held_for = chance.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        self.tell_each(call, |partition| RateLimitEvent::NotSent {
            partition,
            held_for,
        });
        TooManyWaiting {
            partition,
            limit: self.gate.max_waiting(),
        }
        .into()
    }

    fn tell_each<'a>(
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
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Two readings of the clock that differ by so much are not due to the time that reading takes.
const SUSPENSION: Duration = Duration::from_millis(500);

/// Held by many, one for each layer value.
pub(crate) type SharedLimiter = Arc<Limiter>;
