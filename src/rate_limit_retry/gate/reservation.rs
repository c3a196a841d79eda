//! The reservation of a request's cost, from its admission to its settlement.
//!
//! The permit and the handles that layers below have taken share the reservation. It is settled once, by the first of:
//!
//! | event | charged |
//! |---|---|
//! | the permit is settled, and the response names the cost | that cost |
//! | the permit is settled, and the request was rejected, not sent or served from a cache | what a handle has reported, otherwise nothing |
//! | the permit and all handles are dropped | what a handle has reported, otherwise the estimate |
//!
//! A settlement takes the reservation's lock, releases it, and then takes the gate's lock. The two are never held
//! together.

use std::fmt;

use tokio::time::Instant;

use super::{
    Gate,
    keys::{Keys, Numbers},
    state::wake_all,
};
use crate::{
    rate_limit_retry::{Cost, headers::Limit, quota::Load},
    sync::{Mutex, lock},
};

/// The reservation of one request. A drop settles it, if it is not settled.
pub(crate) struct CostReservation {
    /// The gate whose partitions have reserved the cost.
    gate: Gate,
    /// The partitions.
    keys: Keys,
    /// The numbers that they gave the request.
    numbers: Numbers,
    /// What they have reserved.
    load: Load,
    /// What was reported.
    state: Mutex<State>,
}

/// Whether a reservation is settled.
enum State {
    /// Not settled. Contains the last report.
    Open(Option<Cost>),
    /// Settled. Reports have no effect.
    Settled,
}

impl CostReservation {
    /// Creates the reservation of a cost that the partitions have counted.
    pub(super) fn new(gate: Gate, keys: Keys, numbers: Numbers, load: Load) -> Self {
        Self {
            gate,
            keys,
            numbers,
            load,
            state: Mutex::new(State::Open(None)),
        }
    }

    /// Returns what the partitions have reserved.
    pub(crate) fn cost(&self) -> &Cost {
        &self.load.cost
    }

    /// Reports what the request has cost. Replaces an earlier report; without effect once settled.
    pub(crate) fn report(&self, used: Cost) {
        // Dropped after the lock is released.
        let _former = match &mut *lock(&self.state) {
            State::Open(reported) => reported.replace(used),
            State::Settled => Some(used),
        };
    }

    /// Records a quota that the body of the response announces.
    ///
    /// All partitions of the request record it, because the body does not name one. Those that only hold a route have
    /// no quota.
    pub(crate) fn announce(&self, limit: &Limit, now: Instant) {
        let wakers = {
            let mut state = lock(&self.gate.0.state);
            for (key, number) in self.keys.iter().zip(self.numbers.as_slice()) {
                if let Some(partition) = state.partitions.get_mut(key)
                    && !partition.is_route
                {
                    partition.quota.observe_body(*number, limit, now);
                    partition.update_fast_path(&self.gate.0.config);
                }
            }
            state.dispatch(&self.keys, &self.gate.0.config, now)
        };
        wake_all(wakers);
    }

    /// Marks the reservation as settled. Returns what to charge, which `charge` derives from what was reported; `None`
    /// if it was settled before.
    pub(super) fn close(
        &self,
        charge: impl FnOnce(Option<Cost>) -> Option<Cost>,
    ) -> Option<Option<Cost>> {
        let former = std::mem::replace(&mut *lock(&self.state), State::Settled);
        match former {
            State::Open(reported) => Some(charge(reported)),
            State::Settled => None,
        }
    }
}

impl Drop for CostReservation {
    /// Settles with the last report. A drop has no clock: it wakes the first waiters, whose polls dispatch.
    fn drop(&mut self) {
        let Some(used) = self.close(|reported| reported) else {
            return;
        };
        let wakers = {
            let mut state = lock(&self.gate.0.state);
            for key in self.keys.iter() {
                if let Some(partition) = state.partitions.get_mut(key) {
                    partition.quota.settle_cost(&self.load, used.as_ref());
                }
            }
            state.take_first_wakers(&self.keys)
        };
        wake_all(wakers);
    }
}

/// Shows the reserved cost only.
impl fmt::Debug for CostReservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CostReservation")
            .field("cost", &self.load.cost)
            .finish_non_exhaustive()
    }
}
