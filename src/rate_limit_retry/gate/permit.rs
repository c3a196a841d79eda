//! The permit of an admitted request, and the report of its outcome.
//!
//! | state | how it is reached | what remains |
//! |---|---|---|
//! | uncounted | fast path, bypass | nothing: settling and dropping have no effect |
//! | counted | [`Gate::admit`], a granted waiter, [`Gate::enter_late`] | each partition counts one request in flight |
//! | settled | [`Permit::settle`], or a drop | the partitions have recorded the outcome |

use std::fmt;

use tokio::time::Instant;

use super::{Gate, keys::Keys, state::wake_all};
use crate::{
    rate_limit_retry::{
        PartitionKey,
        quota::{Estimate, Outcome, Scope},
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
pub(crate) struct Permit(Option<CountedPermit>);

/// A request that its partitions count as in flight.
struct CountedPermit {
    /// The gate that admitted the request.
    gate: Gate,
    /// The partitions that count it.
    keys: Keys,
    /// The numbers that the partitions gave it, in the order of the keys.
    numbers: Box<[u64]>,
    /// Its sequence number, which a retry keeps.
    sequence: u64,
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
    pub(super) fn new(gate: Gate, keys: Keys, numbers: Box<[u64]>, sequence: u64) -> Self {
        Self(Some(CountedPermit {
            gate,
            keys,
            numbers,
            sequence,
        }))
    }

    /// Creates the permit of a request that no partition counts.
    pub(crate) fn uncounted() -> Self {
        Self(None)
    }

    /// Returns whether no partition counts the request.
    pub(crate) fn is_uncounted(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the request's sequence number. `None` for an uncounted permit.
    pub(crate) fn sequence(&self) -> Option<u64> {
        self.0.as_ref().map(|counted| counted.sequence)
    }

    /// Returns whether a partition has been held since the permit was issued: then the request must not be sent.
    ///
    /// A pause counts as a hold. Always `false` for an uncounted permit.
    ///
    /// Only holds are checked, not windows or local limits: these have counted the request already.
    pub(crate) fn is_held(&self, now: Instant) -> bool {
        let Some(counted) = &self.0 else {
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
    pub(crate) fn settle(mut self, outcome: Outcome<'_>, now: Instant) -> Settled {
        // Taken, so that the drop that follows reports nothing.
        let counted = self.0.take();
        counted.map_or_else(Settled::default, |counted| {
            counted.record(outcome, Some(now))
        })
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
    fn record(&self, outcome: Outcome<'_>, now: Option<Instant>) -> Settled {
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
            for (key, number) in self.keys.iter().zip(&self.numbers) {
                if let Some(partition) = state.partitions.get_mut(key) {
                    let quota = &mut partition.quota;
                    let before = quota.estimate();
                    let until = quota.record(*number, outcome, scope, &inner.config, random, now);
                    settled.held_until = settled.held_until.max(until);
                    // Later than the partition's hold: the request's own.
                    if now.is_some_and(|now| until > quota.held_until(now)) {
                        settled.own_hold = settled.own_hold.max(until);
                    }
                    origin_held_until = origin_held_until.max(quota.throttled_until());
                    let estimate = quota.estimate();
                    if estimate.differs_from(&before) {
                        settled.estimates.push((key.clone(), estimate));
                    }
                    partition.update_fast_path();
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
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(counted) = self.0.take() {
            counted.record(Outcome::Unknown, None);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.as_ref().map(|counted| &counted.keys);
        f.debug_struct("Permit")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}
