//! The cost of the requests of each route, learned from how the announced remaining count falls.

use super::tuning::{MAX_RATE_RATIO, RECENT_RESPONSES};
use crate::rate_limit_retry::route::RouteClass;

/// The mean cost of the last requests of each route, in the unit of one quota.
///
/// A decrease of the remaining count is credited to the route of the response that shows it. Responses that overtake
/// each other mix the costs of routes that are used together, which moves their means towards each other.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteCosts(Vec<RouteCost>);

/// The mean cost of one route.
#[derive(Clone, Copy, Debug)]
struct RouteCost {
    route: RouteClass,
    /// Weighted sum of the decreases of the remaining count. Later responses have more weight.
    fall: f64,
    /// Number of accepted requests, weighted likewise.
    accepted: f64,
}

impl RouteCosts {
    /// Records the decrease of the remaining count after a request of this route.
    ///
    /// Beyond [`MAX_ROUTES`], a new route replaces the one with the fewest recent requests.
    pub(super) fn observe(&mut self, route: RouteClass, fall: f64) {
        let known = self.0.iter().position(|known| known.route == route);
        let at = known.unwrap_or_else(|| {
            let new = RouteCost {
                route,
                fall: 0.0,
                accepted: 0.0,
            };
            if self.0.len() < MAX_ROUTES {
                self.0.push(new);
                return self.0.len() - 1;
            }
            let accepted = |at: &usize| self.0[*at].accepted;
            let rarest = (0..self.0.len()).min_by(|a, b| accepted(a).total_cmp(&accepted(b)));
            let rarest = rarest.unwrap_or_default();
            self.0[rarest] = new;
            rarest
        });
        for (index, known) in self.0.iter_mut().enumerate() {
            // A route that is not used any more gives way to others.
            let decay = 1.0
                - if index == at {
                    OWN_WEIGHT
                } else {
                    OTHER_WEIGHT
                };
            known.fall *= decay;
            known.accepted *= decay;
        }
        self.0[at].fall += fall;
        self.0[at].accepted += 1.0;
    }

    /// Returns whether the routes have clearly different costs.
    pub(super) fn differ(&self) -> bool {
        let means = || {
            let known = self
                .0
                .iter()
                .filter(|known| known.accepted >= f64::from(RECENT_RESPONSES) / 2.0);
            known.map(|known| known.fall / known.accepted)
        };
        let (least, most) = (
            means().fold(f64::INFINITY, f64::min),
            means().fold(0.0, f64::max),
        );
        most > least.max(0.0) * MAX_RATE_RATIO && most > 1.0
    }

    /// Returns the mean of a route, where `mean` is that of all requests. With few requests, it is close to `mean`.
    pub(super) fn get(&self, route: Option<RouteClass>, mean: f64) -> f64 {
        let known = route.and_then(|route| self.0.iter().find(|known| known.route == route));
        known.map_or(mean, |known| {
            ((known.fall + mean) / (known.accepted + 1.0)).max(0.0)
        })
    }
}

/// How many requests of each route are in flight.
#[derive(Debug, Default)]
pub(super) struct RoutesInFlight(Vec<(RouteClass, u32)>);

impl RoutesInFlight {
    /// Counts a request. One of a further route beyond [`MAX_ROUTES`] is not counted.
    pub(super) fn add(&mut self, route: Option<RouteClass>) {
        let Some(route) = route else { return };
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == route) {
            *count += 1;
        } else if self.0.len() < MAX_ROUTES {
            self.0.push((route, 1));
        }
    }

    /// Counts a request no longer.
    pub(super) fn remove(&mut self, route: Option<RouteClass>) {
        let known = self.0.iter().position(|(known, _)| Some(*known) == route);
        if let Some(at) = known {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.swap_remove(at);
            }
        }
    }

    /// Returns what `in_flight` requests cost together, where `mean` is the cost of those whose route is not known.
    pub(super) fn cost(&self, costs: &RouteCosts, mean: f64, in_flight: u32) -> f64 {
        let (mut cost, mut others) = (0.0, in_flight);
        for (route, count) in &self.0 {
            let count = (*count).min(others);
            cost += f64::from(count) * costs.get(Some(*route), mean);
            others -= count;
        }
        cost + f64::from(others) * mean
    }
}

/// Maximum number of routes whose costs are told apart. The requests of all others have the mean cost of all.
const MAX_ROUTES: usize = 32;
/// Weight of the last request of a route. Small, because a response that overtakes another one shows the costs of both.
const OWN_WEIGHT: f64 = 1.0 / 64.0;
/// Weight of a request of another route, by which the routes in use displace the former ones.
const OTHER_WEIGHT: f64 = 1.0 / 1024.0;

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

    #[test]
    fn each_route_has_a_mean_of_its_own() {
        let mut costs = RouteCosts::default();
        for _ in 0..50 {
            costs.observe(route(1), 2.0);
            costs.observe(route(2), 40.0);
        }

        let [cheap, dear] = [1, 2].map(|number| costs.get(Some(route(number)), 21.0));

        assert!((2.0..5.0).contains(&cheap), "{cheap}");
        assert!((37.0..=40.0).contains(&dear), "{dear}");
        assert_eq!(costs.get(Some(route(3)), 21.0), 21.0);
        assert_eq!(costs.get(None, 21.0), 21.0);
    }

    #[test]
    fn few_requests_say_little() {
        let mut costs = RouteCosts::default();

        costs.observe(route(1), 100.0);

        assert_eq!(costs.get(Some(route(1)), 10.0), 55.0);
    }

    #[test]
    fn a_route_never_costs_less_than_nothing() {
        let mut costs = RouteCosts::default();

        costs.observe(route(1), -1e300);

        assert_eq!(costs.get(Some(route(1)), 10.0), 0.0);
    }

    #[test]
    fn the_number_of_routes_is_bounded_and_the_rarest_gives_way() {
        let mut costs = RouteCosts::default();
        for number in 0..10_000 {
            costs.observe(route(1), 5.0);
            costs.observe(route(number + 2), 7.0);
        }

        assert_eq!(costs.0.len(), MAX_ROUTES);
        assert!((costs.get(Some(route(1)), 100.0) - 5.0).abs() < 12.0);
        assert!(costs.get(Some(route(10_001)), 7.0) - 7.0 < 1e-9);
    }

    #[test]
    fn requests_in_flight_cost_what_their_routes_cost() {
        let mut costs = RouteCosts::default();
        for _ in 0..200 {
            costs.observe(route(1), 2.0);
            costs.observe(route(2), 40.0);
        }
        let mut in_flight = RoutesInFlight::default();
        for _ in 0..3 {
            in_flight.add(Some(route(2)));
        }
        in_flight.add(None);

        let expected = 3.0 * costs.get(Some(route(2)), 10.0) + 10.0;
        assert!((in_flight.cost(&costs, 10.0, 4) - expected).abs() < 1e-9);
        // Fewer are in flight than were counted: the others are answered.
        assert!(in_flight.cost(&costs, 10.0, 1) < 41.0);

        for _ in 0..3 {
            in_flight.remove(Some(route(2)));
        }
        in_flight.remove(Some(route(2)));
        assert!(in_flight.0.is_empty());
    }
}
