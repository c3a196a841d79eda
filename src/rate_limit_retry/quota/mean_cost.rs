//! The mean cost of a request, learned from how the announced remaining count falls.

use tokio::time::Instant;

use super::{
    refill::{Refill, as_f64},
    route_cost::{ExpectedCost, RouteCosts, RoutesInFlight},
    tuning::RECENT_WEIGHT,
};
use crate::rate_limit_retry::route::RouteClass;

/// The mean cost of the last requests, in the unit of one quota.
///
/// The remaining counts of successive responses differ by what was used in between, less what was refilled. The
/// differences add up to the total decrease, in whatever order the responses arrive.
#[derive(Clone, Debug, Default)]
pub(super) struct MeanCost {
    /// What was used at the first announcement: an upper bound on the cost of the first requests. Used until a
    /// difference is known.
    first: Option<u64>,
    /// The last announced remaining count, and the time of its arrival.
    last: Option<(u64, Instant)>,
    /// Weighted sum of the decreases of the remaining count. Later responses have more weight.
    fall: f64,
    /// Number of accepted requests, weighted likewise.
    accepted: f64,
    /// Sum of the absolute differences between single decreases and the mean of their route, weighted likewise.
    deviation: f64,
    /// The means of the routes.
    routes: RouteCosts,
}

impl MeanCost {
    /// Records the response to an accepted request. `same_window`: there was no reset since the last response.
    pub(super) fn observe(
        &mut self,
        limit: Option<u64>,
        remaining: u64,
        route: Option<RouteClass>,
        same_window: bool,
        refill: Refill,
        now: Instant,
    ) {
        let last = self.last.replace((remaining, now));
        let Some((before, at)) = last.filter(|_| same_window) else {
            return;
        };
        let passed = now.saturating_duration_since(at).as_secs_f64();
        let most = limit.map_or(f64::INFINITY, |limit| as_f64(limit.saturating_sub(before)));
        let refilled = refill.rate().map_or(0.0, |rate| (rate * passed).min(most));
        let fall = as_f64(before) + refilled - as_f64(remaining);
        if !fall.is_finite() {
            return;
        }
        let expected = self.get().map(|_| self.of_route(route).mean);
        let difference = expected.map_or(0.0, |expected| (fall - expected).abs());
        let decay = 1.0 - RECENT_WEIGHT;
        self.deviation = self.deviation * decay + difference;
        self.fall = self.fall * decay + fall;
        self.accepted = self.accepted * decay + 1.0;
        if let Some(route) = route {
            self.routes.observe(route, fall, expected);
        }
    }

    /// Records that the server returns units because a request cost less than was reserved. They do not reduce the
    /// measured cost of later requests.
    pub(super) fn on_returned(&mut self, units: u64) {
        if let Some((remaining, _)) = &mut self.last {
            *remaining = remaining.saturating_add(units);
        }
    }

    /// Records what was used at the first announcement.
    pub(super) fn begin(&mut self, limit: Option<u64>, remaining: u64) {
        if self.last.is_none() {
            self.first = limit.map(|limit| limit.saturating_sub(remaining));
        }
    }

    /// Returns the mean, if anything has been recorded.
    pub(super) fn get(&self) -> Option<f64> {
        if self.accepted > 0.0 {
            return Some((self.fall / self.accepted).max(0.0));
        }
        self.first.map(as_f64)
    }

    /// Returns what a request is expected to cost; 0 if nothing has been recorded.
    fn of_all(&self) -> ExpectedCost {
        ExpectedCost {
            mean: self.get().unwrap_or_default(),
            deviation: if self.accepted == 0.0 {
                0.0
            } else {
                self.deviation / self.accepted
            },
        }
    }

    /// Returns what a request of a route is expected to cost; 0 if nothing has been recorded.
    pub(super) fn of_route(&self, route: Option<RouteClass>) -> ExpectedCost {
        self.routes.get(route, self.of_all())
    }

    /// Returns what the requests in flight are expected to cost together, and what they may cost beyond that together
    /// with one more: twice the deviation, which grows with the square root of the number of requests.
    pub(super) fn in_flight(
        &self,
        routes: &RoutesInFlight,
        in_flight: u32,
        next: ExpectedCost,
    ) -> (f64, f64) {
        let (sum, variance) = routes.cost(&self.routes, self.of_all(), in_flight);
        (
            sum,
            2.0 * (variance + next.deviation * next.deviation).sqrt(),
        )
    }

    /// Returns whether routes have clearly different costs.
    pub(super) fn differs_by_route(&self) -> bool {
        self.routes.differ()
    }

    /// Forgets the last count: requests that no response has reported separately have changed it.
    pub(super) fn skip(&mut self) {
        self.last = None;
    }
}

impl ExpectedCost {
    /// Returns the mean with a margin of twice the deviation.
    pub(super) fn with_margin(self) -> f64 {
        self.mean + 2.0 * self.deviation
    }
}
