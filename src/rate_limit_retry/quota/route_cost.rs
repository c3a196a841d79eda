//! The cost of the requests of each route, learned from how the announced remaining count falls.

use super::tuning::{MAX_RATE_RATIO, RECENT_RESPONSES};
use crate::rate_limit_retry::route::RouteClass;

/// The mean cost of the last requests of each route, in the unit of one quota.
///
/// A decrease of the remaining count is credited to the route of the response that shows it. Responses that overtake
/// each other mix the costs of routes that are used together, which moves their means towards each other.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteCosts {
    /// The routes, at most [`MAX_ROUTES`].
    routes: Vec<RouteCost>,
    /// Whether two of them have clearly different costs.
    differ: bool,
}

/// The mean cost of one route.
#[derive(Clone, Copy, Debug)]
struct RouteCost {
    route: RouteClass,
    /// Weighted sum of the decreases of the remaining count. Later responses have more weight.
    fall: f64,
    /// Sum of the absolute differences between single decreases and the mean, weighted likewise.
    deviation: f64,
    /// Number of accepted requests, weighted likewise.
    accepted: f64,
}

/// What a request is expected to cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedCost {
    /// The mean.
    pub(super) mean: f64,
    /// The mean absolute difference from the mean.
    pub(super) deviation: f64,
}

impl RouteCosts {
    /// Records the decrease of the remaining count after a request of this route, of which `expected` was known.
    ///
    /// Beyond [`MAX_ROUTES`], a new route replaces the one with the fewest recent requests.
    pub(super) fn observe(&mut self, route: RouteClass, fall: f64, expected: Option<f64>) {
        let known = self.routes.iter().position(|known| known.route == route);
        let at = known.unwrap_or_else(|| self.insert(route));
        for (index, known) in self.routes.iter_mut().enumerate() {
            // A route that is not used any more gives way to others.
            let decay = 1.0
                - if index == at {
                    OWN_WEIGHT
                } else {
                    OTHER_WEIGHT
                };
            known.fall *= decay;
            known.deviation *= decay;
            known.accepted *= decay;
        }
        let of_route = &mut self.routes[at];
        of_route.fall += fall;
        of_route.deviation += expected.map_or(0.0, |expected| (fall - expected).abs());
        of_route.accepted += 1.0;
        self.differ = self.compare();
    }

    /// Makes room for a route. Returns its position.
    fn insert(&mut self, route: RouteClass) -> usize {
        let new = RouteCost {
            route,
            fall: 0.0,
            deviation: 0.0,
            accepted: 0.0,
        };
        if self.routes.len() < MAX_ROUTES {
            self.routes.push(new);
            return self.routes.len() - 1;
        }
        let accepted = |at: &usize| self.routes[*at].accepted;
        let rarest = (0..self.routes.len()).min_by(|a, b| accepted(a).total_cmp(&accepted(b)));
        let rarest = rarest.unwrap_or_default();
        self.routes[rarest] = new;
        rarest
    }

    /// Returns whether two routes have clearly different costs: differences that responses which overtake each other, other
    /// clients and chance do not explain.
    pub(super) fn differ(&self) -> bool {
        self.differ
    }

    /// Compares the cheapest route with the dearest.
    fn compare(&self) -> bool {
        let known = || self.routes.iter().filter(|known| known.is_known());
        let by_mean = |a: &&RouteCost, b: &&RouteCost| a.mean().total_cmp(&b.mean());
        let Some((least, most)) = known().min_by(by_mean).zip(known().max_by(by_mean)) else {
            return false;
        };
        let difference = most.mean() - least.mean();
        most.mean() > least.mean().max(0.0) * MAX_RATE_RATIO
            && difference > 1.0
            && difference > CLEAR * (least.error() + most.error())
    }

    /// Returns what a request of a route is expected to cost, where `all` is what all requests are expected to. With few
    /// requests of the route, the mean is close to that of all.
    pub(super) fn get(&self, route: Option<RouteClass>, all: ExpectedCost) -> ExpectedCost {
        let known = route.and_then(|route| self.routes.iter().find(|known| known.route == route));
        known.map_or(all, |known| known.expected(all))
    }
}

impl RouteCost {
    fn mean(&self) -> f64 {
        self.fall / self.accepted
    }

    /// Returns the standard error of the mean.
    fn error(&self) -> f64 {
        self.deviation / self.accepted / self.accepted.sqrt()
    }

    /// Returns whether enough requests were accepted for an estimate.
    fn is_known(&self) -> bool {
        self.accepted >= f64::from(RECENT_RESPONSES) / 2.0
    }

    /// Returns what a request is expected to cost, where `all` is what those of all routes are expected to.
    fn expected(&self, all: ExpectedCost) -> ExpectedCost {
        let mean = (self.fall + all.mean) / (self.accepted + 1.0);
        ExpectedCost {
            mean: mean.max(0.0),
            deviation: if self.is_known() {
                self.deviation / self.accepted
            } else {
                all.deviation
            },
        }
    }
}

/// How many requests of each route are in flight, ordered by route.
#[derive(Debug, Default)]
pub(super) struct RoutesInFlight(Vec<(RouteClass, u32)>);

impl RoutesInFlight {
    /// Counts a request.
    pub(super) fn add(&mut self, route: Option<RouteClass>) {
        let Some(route) = route else { return };
        match self.position(route) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => self.0.insert(at, (route, 1)),
        }
    }

    /// Counts a request no longer.
    pub(super) fn remove(&mut self, route: Option<RouteClass>) {
        let Some(Ok(at)) = route.map(|route| self.position(route)) else {
            return;
        };
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.remove(at);
        }
    }

    /// Returns the position of a route, or else where it belongs.
    fn position(&self, route: RouteClass) -> Result<usize, usize> {
        self.0.binary_search_by_key(&route, |(known, _)| *known)
    }

    /// Returns what `in_flight` requests are expected to cost together. Those of other routes cost what `all` requests are
    /// expected to.
    pub(super) fn cost(&self, costs: &RouteCosts, all: ExpectedCost, in_flight: u32) -> f64 {
        let (mut sum, mut others) = (0.0, in_flight);
        for known in &costs.routes {
            let count = self
                .position(known.route)
                .map_or(0, |at| self.0[at].1.min(others));
            others -= count;
            sum += f64::from(count) * known.expected(all).mean;
        }
        sum + f64::from(others) * all.mean
    }
}

/// Maximum number of routes whose costs are told apart. The requests of all others have the mean cost of all.
const MAX_ROUTES: usize = 32;
/// Weight of the last request of a route. Small, because a response that overtakes another one shows the costs of both.
const OWN_WEIGHT: f64 = 1.0 / (4 * RECENT_RESPONSES) as f64;
/// Weight of a request of another route, by which the routes in use displace the former ones.
const OTHER_WEIGHT: f64 = OWN_WEIGHT / RECENT_RESPONSES as f64;
/// Number of standard errors that are no chance.
const CLEAR: f64 = 2.5;

#[cfg(test)]
mod tests {
    use super::*;

    fn route(number: usize) -> RouteClass {
        let letters: String = number
            .to_string()
            .bytes()
            .map(|digit| char::from(digit - b'0' + b'a'))
            .collect();
        RouteClass::of("GET", &format!("/{letters}"))
    }

    fn of(mean: f64) -> ExpectedCost {
        ExpectedCost {
            mean,
            deviation: 0.0,
        }
    }

    /// Each request costs 1. Of several responses, any arrives first, so that the remaining count jumps.
    #[test]
    fn responses_that_overtake_each_other_are_no_difference() {
        let mut random = fastrand::Rng::with_seed(7);
        for (routes, apart) in [(2, 4), (2, 40), (5, 20), (5, 60)] {
            let (mut costs, mut last) = (RouteCosts::default(), 0_i64);
            let mut arrivals: Vec<_> = (0..20_000_i64)
                .map(|at| (at + random.i64(0..apart), at))
                .collect();
            arrivals.sort_unstable();
            let mut differed = 0;
            for (_, used) in arrivals {
                let by = route(random.usize(0..routes));
                let expected = costs.get(Some(by), of(1.0)).mean;
                costs.observe(by, (used - last) as f64, Some(expected));
                last = used;
                differed += i32::from(costs.differ());
            }

            assert!(differed <= 100, "{routes} {apart}: {differed}");
        }
    }

    #[test]
    fn each_route_has_a_mean_of_its_own() {
        let mut costs = RouteCosts::default();
        for _ in 0..50 {
            costs.observe(route(1), 2.0, Some(2.0));
            costs.observe(route(2), 40.0, Some(40.0));
        }

        let [cheap, dear] = [1, 2].map(|number| costs.get(Some(route(number)), of(21.0)).mean);

        assert!((2.0..5.0).contains(&cheap), "{cheap}");
        assert!((37.0..=40.0).contains(&dear), "{dear}");
        assert_eq!(costs.get(Some(route(3)), of(21.0)).mean, 21.0);
        assert_eq!(costs.get(None, of(21.0)).mean, 21.0);
        assert!(costs.differ());
    }

    #[test]
    fn few_requests_say_little() {
        let mut costs = RouteCosts::default();

        costs.observe(route(1), 100.0, None);

        assert_eq!(costs.get(Some(route(1)), of(10.0)).mean, 55.0);
    }

    #[test]
    fn a_route_never_costs_less_than_nothing() {
        let mut costs = RouteCosts::default();

        costs.observe(route(1), -1e300, None);

        assert_eq!(costs.get(Some(route(1)), of(10.0)).mean, 0.0);
    }

    #[test]
    fn the_number_of_routes_is_bounded_and_the_rarest_gives_way() {
        let mut costs = RouteCosts::default();
        for number in 0..10_000 {
            costs.observe(route(1), 5.0, None);
            costs.observe(route(number + 2), 7.0, None);
        }

        assert_eq!(costs.routes.len(), MAX_ROUTES);
        assert!((costs.get(Some(route(1)), of(100.0)).mean - 5.0).abs() < 12.0);
        assert!((costs.get(Some(route(10_001)), of(7.0)).mean - 7.0).abs() < 1e-9);
    }

    #[test]
    fn requests_in_flight_cost_what_their_routes_cost() {
        let mut costs = RouteCosts::default();
        for _ in 0..200 {
            costs.observe(route(1), 2.0, Some(2.0));
            costs.observe(route(2), 40.0, Some(40.0));
        }
        let mut in_flight = RoutesInFlight::default();
        for _ in 0..3 {
            in_flight.add(Some(route(2)));
        }
        in_flight.add(None);

        let expected = 3.0 * costs.get(Some(route(2)), of(10.0)).mean + 10.0;
        assert!((in_flight.cost(&costs, of(10.0), 4) - expected).abs() < 1e-9);
        // Fewer are in flight than were counted: the others are answered.
        assert!(in_flight.cost(&costs, of(10.0), 1) < 41.0);

        for _ in 0..3 {
            in_flight.remove(Some(route(2)));
        }
        in_flight.remove(Some(route(2)));
        assert!(in_flight.0.is_empty());
    }
}
