//! The permit of an admitted request, and the report of its outcome.
//!
//! | state | how it is reached | what remains |
//! |---|---|---|
//! | uncounted | fast path, bypass | nothing: settling and dropping have no effect |
//! | on credit | the fast path to an announced quota | its thread counts one request in flight; see `credits` |
//! | counted | [`Gate::admit`], a granted waiter, [`Gate::enter_late`] | each partition counts one request in flight |
//! | settled | [`Permit::settle`], or a drop | the partitions have recorded the outcome |

use std::{fmt, sync::Arc};

use http::HeaderMap;
use tokio::time::Instant;

use super::{
    Gate,
    credits::{CreditPermit, ThreadCredits},
    keys::{Keys, Numbers},
    outcomes::Part,
    reservation::CostReservation,
    state::wake_all,
};
use crate::{
    rate_limit_retry::{
        Cost, PartitionKey,
        headers::HeaderProfile,
        quota::{Estimate, Load, Outcome, Scope, Sent},
        route::RouteClass,
    },
    sync::lock,
};

/// A permit to send one request. [`settle`](Self::settle) reports the outcome.
///
/// Dropping it reports [`Outcome::Unknown`]: the request may have been sent and counted. An uncounted permit
/// reports nothing.
///
/// A caller that knows that the request was not sent must settle the permit with [`Outcome::NotSent`]: the default of a
/// drop counts it against the quota.
pub(crate) struct Permit(Kind);

/// What counts the request.
enum Kind {
    /// Nothing.
    Uncounted,
    /// The credits of a thread.
    OnCredit(CreditPermit),
    /// Its partitions.
    Counted(Box<CountedPermit>),
}

/// A request that its partitions count as in flight.
struct CountedPermit {
    /// The gate that admitted the request.
    gate: Gate,
    /// The partitions that count it.
    keys: Keys,
    /// The numbers that the partitions gave it, in the order of the keys.
    numbers: Numbers,
    /// Its sequence number, which a retry keeps.
    sequence: u64,
    /// Its route, if it is known.
    route: Option<RouteClass>,
    /// The reservation, if layers below may report the cost.
    reservation: Option<Arc<CostReservation>>,
    /// The credits of the thread that has sent it, which learn from its response.
    credits: Option<Arc<ThreadCredits>>,
    /// Whether the thread may get credits.
    offers_credits: bool,
}

/// What the head of a response says about the cost of its request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CostReport<'a> {
    /// Nothing: the outcome and the handle determine the charge.
    Open,
    /// The request was rejected, although its outcome is not a throttle.
    Rejected,
    /// The cost that a layer below has put into the response's extensions.
    Used(&'a Cost),
}

/// The consequences of a request's outcome.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// The time until which the request would be held if it were sent again: the latest of its partitions' holds.
    pub(crate) held_until: Option<Instant>,
    /// The end of a hold of this request alone, which no partition keeps.
    pub(crate) own_hold: Option<Instant>,
    /// Estimated limits that have changed because of the outcome, by partition. Empty for nearly all outcomes; an empty
    /// `Vec` does not allocate.
    pub(crate) estimates: Vec<(PartitionKey, Estimate)>,
    /// Whether the gate is bypassed: then no request is held, and the outcome causes no retry.
    pub(crate) bypassed: bool,
}

impl Permit {
    /// Creates the permit of a request that the partitions have counted.
    ///
    /// With a `cost`, which the partitions have reserved, it has a reservation that outlives it while a layer below
    /// measures the response.
    pub(super) fn new(
        gate: Gate,
        keys: Keys,
        numbers: Numbers,
        sequence: u64,
        route: Option<RouteClass>,
        cost: Option<Cost>,
        offers_credits: bool,
    ) -> Self {
        let reserve = |cost| {
            CostReservation::new(
                gate.clone(),
                Arc::clone(&keys),
                numbers.clone(),
                Load::of(cost, route),
            )
        };
        let reservation = cost.map(|cost| Arc::new(reserve(cost)));
        Self(Kind::Counted(Box::new(CountedPermit {
            gate,
            keys,
            numbers,
            sequence,
            route,
            reservation,
            credits: None,
            offers_credits,
        })))
    }

    /// Creates the permit of a request that a thread counts itself.
    pub(crate) fn on_credit(credit: CreditPermit) -> Self {
        Self(Kind::OnCredit(credit))
    }

    /// Creates the permit of a request that no partition counts.
    pub(crate) fn uncounted() -> Self {
        Self(Kind::Uncounted)
    }

    /// Returns whether nothing counts the request.
    pub(crate) fn is_uncounted(&self) -> bool {
        matches!(self.0, Kind::Uncounted)
    }

    /// Returns whether the thread that sends the request may get credits for its partition.
    pub(crate) fn offers_credits(&self) -> bool {
        self.counted().is_some_and(|counted| counted.offers_credits)
    }

    /// Sets the credits of the thread that sends the request. They learn from its response.
    pub(crate) fn set_credits(&mut self, credits: Arc<ThreadCredits>) {
        if let Kind::Counted(counted) = &mut self.0 {
            counted.credits = Some(credits);
        }
    }

    /// Returns the credits of the thread that has sent the request, if the partition counts it.
    pub(crate) fn credits(&self) -> Option<&Arc<ThreadCredits>> {
        self.counted()?.credits.as_ref()
    }

    /// Ends the request, if nothing else has to be recorded about a successful response with these fields: it is on
    /// credit, and its response is like those before.
    pub(crate) fn finish_on_credit(
        &mut self,
        headers: &HeaderMap,
        profile: Option<&dyn HeaderProfile>,
    ) -> bool {
        let finished = match &self.0 {
            Kind::OnCredit(credit) => credit.finish(headers, profile),
            Kind::Uncounted | Kind::Counted(_) => false,
        };
        if finished {
            self.0 = Kind::Uncounted;
        }
        finished
    }

    /// Converts a permit on credit: its partition counts the request from now on. Returns whether it was on credit.
    ///
    /// If the partition has been removed, the permit becomes uncounted.
    pub(crate) fn count(&mut self) -> bool {
        let Kind::OnCredit(credit) = &self.0 else {
            return false;
        };
        let counted = credit.convert().map(|converted| {
            Box::new(CountedPermit {
                gate: converted.gate,
                keys: Arc::clone(credit.keys()),
                numbers: converted.numbers,
                sequence: converted.sequence,
                route: None,
                // Nothing was reserved for it.
                reservation: None,
                credits: Some(Arc::clone(&credit.credits)),
                offers_credits: false,
            })
        });
        self.0 = counted.map_or(Kind::Uncounted, Kind::Counted);
        true
    }

    /// Returns the state of a request that its partitions count.
    fn counted(&self) -> Option<&CountedPermit> {
        match &self.0 {
            Kind::Counted(counted) => Some(counted),
            Kind::Uncounted | Kind::OnCredit(_) => None,
        }
    }

    /// Returns the number that its first partition gave the request; 0 if none has.
    pub(crate) fn number(&self) -> u64 {
        self.counted()
            .and_then(|counted| counted.numbers.as_slice().first().copied())
            .unwrap_or_default()
    }

    /// Returns the request's sequence number. `None` unless its partitions count it.
    pub(crate) fn sequence(&self) -> Option<u64> {
        self.counted().map(|counted| counted.sequence)
    }

    /// Returns the reservation, by which a layer below reports what the request costs. `None` if nothing is tracked.
    pub(crate) fn reservation(&self) -> Option<&Arc<CostReservation>> {
        self.counted()?.reservation.as_ref()
    }

    /// Returns whether a partition has been held since the permit was issued: then the request must not be sent.
    ///
    /// A pause counts as a hold. Always `false` unless partitions count the request: others are sent at once.
    ///
    /// Only holds are checked, not windows or local limits: these have counted the request already.
    pub(crate) fn is_held(&self, now: Instant) -> bool {
        let Some(counted) = self.counted() else {
            return false;
        };
        let mut state = lock(&counted.gate.0.state);
        counted.keys.iter().any(|key| {
            state.apply_origin_holds(key, now);
            let partition = state.partitions.get(key);
            partition.is_some_and(|p| p.quota.held_until(now).is_some())
        })
    }

    /// Reports the outcome of the request to all its partitions.
    ///
    /// Returns the hold and the changed estimates. An uncounted permit returns the default.
    ///
    /// Wakes the waiters that can be admitted because of the outcome, and the agents that have to report it.
    ///
    /// The cost is settled as the outcome determines; see [`settle_with`](Self::settle_with).
    pub(crate) fn settle(self, outcome: Outcome<'_>, now: Instant) -> Settled {
        self.settle_with(outcome, CostReport::Open, now)
    }

    /// Reports the outcome of the request, and what it costs, to all its partitions.
    ///
    /// | cost | outcome | settled | charged |
    /// |---|---|---|---|
    /// | [`Used`](CostReport::Used) | any | now | the reported cost |
    /// | [`Rejected`](CostReport::Rejected) | any | now | what a handle has reported, else nothing |
    /// | [`Open`](CostReport::Open) | not sent, throttled, or from a cache | now | the same |
    /// | `Open` | any other | when the last handle is dropped | what a handle has reported, else the estimate |
    pub(crate) fn settle_with(
        mut self,
        outcome: Outcome<'_>,
        cost: CostReport<'_>,
        now: Instant,
    ) -> Settled {
        self.count();
        self.take_counted()
            .map_or_else(Settled::default, |counted| {
                (*counted).record(outcome, cost, Some(now))
            })
    }

    /// Takes the state of a request that its partitions count, so that the drop that follows reports nothing.
    fn take_counted(&mut self) -> Option<Box<CountedPermit>> {
        match std::mem::replace(&mut self.0, Kind::Uncounted) {
            Kind::Counted(counted) => Some(counted),
            Kind::Uncounted | Kind::OnCredit(_) => None,
        }
    }
}

impl CountedPermit {
    /// Records the outcome and dispatches waiters. Without `now` (in a drop), no hold can be computed.
    ///
    /// In this order, under one lock: all partitions record the outcome, the fast path is opened or closed, an
    /// origin-wide hold is applied, and waiters are dispatched. Wakers are called after the unlock.
    ///
    /// The lock is not released in between: a waiter must not be granted by one partition while the hold that the same
    /// response caused is missing in another one.
    fn record(
        mut self,
        outcome: Outcome<'_>,
        cost: CostReport<'_>,
        now: Option<Instant>,
    ) -> Settled {
        let (reserved, charge) = self.close_reservation(outcome, cost);
        let load = Load::of(reserved, self.route);
        let reserved = &load.cost;
        let inner = &self.gate.0;
        // Drawn before the gate's lock is taken: the generator has a lock of its own.
        let random = inner.random.unit();
        let mut settled = Settled::default();
        let mut origin_held_until = None;
        let wakers = {
            let mut state = lock(&inner.state);
            let scope = state.scope(&self.keys, outcome);
            settled.bypassed = state.bypassed;
            // All partitions record the outcome before any waiter is dispatched: a waiter may need several of them.
            for (key, number) in self.keys.iter().zip(self.numbers.as_slice()) {
                if let Some(partition) = state.partitions.get_mut(key) {
                    partition.collect_credits();
                    let part = Part::of(key, &self.keys, outcome);
                    let outcome = part.as_ref().map_or(outcome, |part| part.outcome(outcome));
                    let quota = &mut partition.quota;
                    let before = quota.estimate();
                    let recorded = quota.record(
                        Sent {
                            number: *number,
                            load: &load,
                        },
                        outcome,
                        scope,
                        &inner.config,
                        random,
                        now,
                    );
                    if let Some(used) = &charge {
                        let unsent = matches!(outcome, Outcome::NotSent);
                        let refunded = unsent.then(|| reserved.refunded());
                        quota.settle_cost(&load, refunded.as_ref().or(used.as_ref()));
                    }
                    settled.held_until = settled.held_until.max(recorded.held_until);
                    settled.own_hold = settled.own_hold.max(recorded.own_hold);
                    origin_held_until = origin_held_until.max(quota.throttled_until());
                    let estimate = quota.estimate();
                    if estimate.differs_from(&before) {
                        settled.estimates.push((key.clone(), estimate));
                    }
                    partition.update_fast_path(&inner.config);
                }
            }
            let mut wakers = match origin_held_until.filter(|_| scope == Scope::Origin) {
                Some(until) => state.hold_origin(&self.keys, until),
                None => Vec::new(),
            };
            wakers.extend(match now {
                Some(now) => state.dispatch(&self.keys, &inner.config, now),
                // No clock at hand: the first waiter of each queue is woken and dispatches in its poll.
                None => state.take_first_wakers(&self.keys),
            });
            wakers
        };
        wake_all(wakers);
        settled
    }

    /// Settles the reservation, if the outcome or the response determines the charge. Returns what was reserved, and
    /// what to charge; `None` if a handle is alive, or if no cost is tracked.
    ///
    /// Called before the gate's lock is taken: the reservation has a lock of its own.
    fn close_reservation(
        &mut self,
        outcome: Outcome<'_>,
        cost: CostReport<'_>,
    ) -> (Cost, Option<Option<Cost>>) {
        let reservation = self.reservation.take();
        let reserved = reservation
            .as_ref()
            .map_or(Cost::ONE, |reservation| reservation.cost().clone());
        let charge = reservation.and_then(|reservation| {
            let refunded = cost == CostReport::Rejected || is_uncounted_by_server(outcome);
            match cost {
                CostReport::Used(used) => reservation.close(|_| Some(used.clone())),
                _ if refunded => {
                    reservation.close(|used| Some(used.unwrap_or_else(|| reserved.refunded())))
                }
                // The last owner settles: this permit, or the handle that is dropped last.
                _ => Arc::into_inner(reservation)?.close(|used| used),
            }
        });
        (reserved, charge)
    }
}

/// Returns whether the server has not counted the request, so that its reservation is given back.
fn is_uncounted_by_server(outcome: Outcome<'_>) -> bool {
    matches!(
        outcome,
        Outcome::NotSent
            | Outcome::Cached
            | Outcome::Response {
                throttled: true,
                ..
            }
    )
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.count();
        if let Some(counted) = self.take_counted() {
            (*counted).record(Outcome::Unknown, CostReport::Open, None);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.counted().map(|counted| &counted.keys);
        f.debug_struct("Permit")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}
