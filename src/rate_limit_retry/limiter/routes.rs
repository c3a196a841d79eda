//! Routes that are held, because the server is unavailable for them.

use tokio::time::Instant;

use super::{Call, Limiter};
use crate::rate_limit_retry::route::RouteClass;

impl Limiter {
    /// Returns whether the request's route is held by a partition that is not among the call's keys, and adds it to
    /// them.
    ///
    /// Costs one atomic load while no route is held. The new key is appended, so that the first key, which names the
    /// partition in the retry budget and in errors, stays the same.
    pub(super) fn add_route_holds(&self, call: &mut Call, now: Instant) -> bool {
        let Some((partition, class)) = call.keys.first().zip(call.load.route) else {
            return false;
        };
        if self.routes.is_empty() {
            return false;
        }
        let mut held = self.routes.keys_for(partition, class, now);
        held.retain(|key| !call.keys.contains(key));
        if held.is_empty() {
            return false;
        }
        call.keys = call.keys.iter().cloned().chain(held).collect();
        true
    }

    /// Holds the request's route until the given time, because the server is unavailable for this class of requests.
    ///
    /// Returns `false` if the call has no partition or too many routes are held: then the whole partition is to be
    /// held.
    ///
    /// The partition that holds the route is added to the call's keys, so that a retry waits for it.
    pub(super) fn hold_route(
        &self,
        call: &mut Call,
        class: RouteClass,
        number: u64,
        until: Instant,
        now: Instant,
    ) -> bool {
        // The lock of `routes` is released before the gate's is taken.
        let hold = |key| self.routes.hold(key, class, number, until, now);
        let Some(key) = call.keys.first().and_then(hold) else {
            return false;
        };
        self.gate.hold_route(&key, until, now);
        if !call.keys.contains(&key) {
            call.keys = call.keys.iter().cloned().chain([key]).collect();
        }
        true
    }

    /// Releases the request's route, if the route is held and this request was sent after the last rejected one. As the
    /// server has accepted it, the server rejects single requests, and not the route.
    ///
    /// The rejected request still waits as long as the server has requested.
    pub(super) fn release_route(&self, call: &Call, number: u64, now: Instant) {
        let Some((partition, class)) = call.keys.first().zip(call.load.route) else {
            return;
        };
        if !self.routes.is_empty()
            && let Some(key) = self.routes.release(partition, class, number)
        {
            self.gate.forget(&key, now);
        }
    }
}
