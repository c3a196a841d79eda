//! One quota that the server announces: its present window, and what was learned in earlier ones.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    admit::SendTime,
    announced::{AnnouncedWindow, Need},
    contradictions::Contradictions,
    grant::Grant,
    mean_cost::MeanCost,
    outcome::Load,
    refill::{Refill, as_f64},
    replicas::Replicas,
    reserved::Reserved,
    route_cost::RoutesInFlight,
    shared_name::SharedName,
    tuning::{
        HINT_RESOLUTION, MAX_TOKEN_BUCKET_WAIT, MIN_SHARE, NEARLY_ALL, RECENT_RESPONSES,
        RESET_TOLERANCE,
    },
};
use crate::{
    clock::add_capped,
    rate_limit_retry::{
        cost::Cost,
        headers::{Limit, Unit},
        route::RouteClass,
    },
};

/// An announced quota: the present window, and what is known of the quota across its windows.
#[derive(Debug)]
pub(crate) struct Window {
    /// The name, the unit and the partition key of the server, by which later responses find it.
    key: WindowKey,
    /// The present window, until it is over.
    pub(super) current: Option<AnnouncedWindow>,
    /// Whether announcements that nothing remains are believed.
    pub(super) contradictions: Contradictions,
    /// This process's share of what is used of the quota, from 0 to 1, as measured in earlier windows.
    own_share: f64,
    /// The wait that a throttling response named, if it ends before the announced reset: the server replenishes the
    /// quota gradually.
    early_refill: Option<Duration>,
    /// Whether and how fast the quota refills.
    refill: Refill,
    /// Whether several replicas count.
    replicas: Replicas,
    /// The mean cost of a request.
    mean_cost: MeanCost,
    /// Number of responses in a row that announce other quotas and not this one.
    unnamed: u32,
    /// Minimum that must remain for a request: 1, or more than what remained when one was throttled.
    min_remaining: u64,
    /// Whether the last announcement was in a body. Then what a request takes is unknown until its body has ended, so
    /// that its reservation counts until its settlement.
    in_bodies: bool,
    /// This process's part of it, if a fleet shares it.
    pub(super) grant: Grant,
}

/// What identifies a quota among those of a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
struct WindowKey {
    /// The server's name for it, if there is one.
    name: Option<String>,
    /// What is counted.
    unit: Unit,
    /// The server's partition key.
    partition: Option<Vec<u8>>,
}

/// A response that announces a quota, and its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcement {
    /// The number of the request.
    pub(super) number: u64,
    /// The route of the request, if it is known.
    pub(super) route: Option<RouteClass>,
    /// The number of the next request.
    pub(super) next: u64,
    /// Whether the request belongs to an earlier epoch.
    pub(super) late: bool,
    /// Whether the response is a throttle.
    pub(super) throttled: bool,
    /// Whether the response proves that the request was accepted.
    pub(super) served: bool,
    /// Whether the body of the response announces it.
    pub(super) in_body: bool,
    /// The wait that the response names.
    pub(super) retry_after: Option<Duration>,
    /// The reset with which the epoch began.
    pub(super) since: Option<Instant>,
    /// Time of the arrival of the response.
    pub(super) now: Instant,
}

impl Window {
    /// Creates the entry of a quota that a response announces for the first time.
    pub(super) fn new(limit: &Limit) -> Self {
        Self::with_key(WindowKey {
            name: limit.name.clone(),
            unit: limit.unit,
            partition: limit.partition_key.clone(),
        })
    }

    /// Creates the entry of a quota that another process has reported.
    pub(super) fn from_store(name: SharedName, current: AnnouncedWindow) -> Self {
        Self {
            current: Some(current),
            ..Self::with_key(WindowKey {
                name: name.named.map(|(name, _)| name),
                unit: name.unit,
                partition: None,
            })
        }
    }

    /// Returns the name under which a fleet shares the quota; `None` if it does not, because the server counts by a
    /// partition key, or the limit by which quotas of one name differ is not known.
    pub(super) fn shared_name(&self) -> Option<SharedName> {
        let named = match &self.key.name {
            None => None,
            Some(name) => Some((name.clone(), self.current.as_ref()?.limit)),
        };
        self.key.partition.is_none().then_some(SharedName {
            unit: self.key.unit,
            named,
        })
    }

    /// Returns whether the store is about to learn of the present window, so that its response limits what this process
    /// may send. `reporting`: a report is in flight.
    pub(super) fn is_unconfirmed(&self, reporting: bool) -> bool {
        let current = self.current.as_ref();
        let is_shared = self.key.partition.is_none()
            && current.is_some_and(|current| current.reset_at.is_some());
        is_shared
            && !self.grant.is_excluded
            && !self.grant.is_synced()
            && (self.grant.has_update || reporting)
    }

    /// Returns whether another entry is about the same quota in another window.
    pub(super) fn has_key_of(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// Returns the units that a request with this cost takes from what the store has granted. At least 1, and 1 of a quota
    /// of requests unless the caller has set more: the store subtracts what other processes use.
    pub(super) fn fleet_cost(&self, cost: &Cost) -> u64 {
        if self.counts_requests() && self.unit_of(cost).is_none() {
            return 1;
        }
        self.debit_for(cost, None).max(1)
    }

    /// Returns the units that `in_flight` requests have reserved, if they are alike and cost as this one does.
    pub(super) fn fleet_reserved(&self, cost: &Cost, reserved: &Reserved, in_flight: u64) -> u64 {
        match self.unit_of(cost) {
            Some((unit, _)) => reserved.amount(unit),
            None => self.fleet_cost(cost).saturating_mul(in_flight),
        }
    }

    /// Creates an entry without a window.
    fn with_key(key: WindowKey) -> Self {
        Self {
            key,
            current: None,
            contradictions: Contradictions::default(),
            own_share: 1.0,
            early_refill: None,
            refill: Refill::default(),
            replicas: Replicas::default(),
            mean_cost: MeanCost::default(),
            unnamed: 0,
            min_remaining: 1,
            in_bodies: false,
            grant: Grant::default(),
        }
    }

    /// Returns the name that the server has given the quota.
    pub(crate) fn name_of_server(&self) -> Option<&str> {
        self.key.name.as_deref()
    }

    /// Returns whether another entry is about the same quota.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let limit = |window: &Self| window.current.as_ref().and_then(|current| current.limit);
        self.key == other.key
            && limit(self)
                .zip(limit(other))
                .is_none_or(|(one, other)| one == other)
    }

    /// Returns whether the quota counts requests.
    pub(super) fn counts_requests(&self) -> bool {
        self.key.unit == Unit::Requests
    }

    /// Returns whether an announcement is about this quota.
    ///
    /// The name, the unit, the partition and the limit identify a quota: two models of one API may have the same name and
    /// different limits. A quota without a name whose reset is the same is the same one with another limit.
    pub(super) fn matches(&self, limit: &Limit, now: Instant) -> bool {
        let same = self.key.unit == limit.unit
            && self.key.name == limit.name
            && self.key.partition == limit.partition_key;
        let Some(current) = self.current.as_ref().filter(|_| same) else {
            return same;
        };
        let same_limit = current
            .limit
            .zip(limit.limit)
            .is_none_or(|(known, announced)| known == announced);
        let reset = limit.reset.map(|reset| add_capped(now, reset));
        let is_unnamed = limit.name.is_none();
        same_limit || is_unnamed && reset.is_some_and(|reset| current.is_same_window(reset))
    }

    /// Records a response that announces other quotas. One without a reset is not believed for ever.
    pub(super) fn on_unnamed(&mut self) {
        self.unnamed = self.unnamed.saturating_add(1);
        if self.unnamed >= RECENT_RESPONSES {
            self.current.take_if(|current| current.reset_at.is_none());
        }
    }

    /// Records what a response announces about this quota, of which `remaining` is left.
    pub(super) fn observe(&mut self, limit: &Limit, remaining: u64, by: &Announcement) {
        if by.throttled && remaining == 0 {
            self.contradictions.on_confirmed();
        } else if by.served
            && remaining == 0
            // A quota that refills accepts requests although nothing remained before.
            && self.refill.rate().is_none()
            && let Some(current) = &self.current
            && current.is_contradicted(limit.reset, by.now)
        {
            self.contradictions.on_contradicted();
        }
        self.unnamed = 0;
        self.in_bodies = by.in_body;
        self.grant.has_update = true;
        self.refill.observe(limit, remaining, by.now);
        if by.throttled {
            self.learn_min_remaining(remaining);
        }
        let change = self
            .current
            .as_ref()
            .and_then(|current| current.change(limit, remaining, by.number, by.now));
        if by.served {
            let same_window = self.is_same_window(limit, by.now);
            // Counts of several replicas differ whatever a request costs.
            let route = by.route.filter(|_| !self.has_replicas());
            self.mean_cost.begin(limit.limit, remaining);
            self.mean_cost.observe(
                limit.limit,
                remaining,
                route,
                same_window,
                self.refill,
                by.now,
            );
        }
        let began = self.current.as_ref().map(AnnouncedWindow::began);
        // A late response can update a known window, but not create one that is over.
        let stale = by.late && !self.is_current(limit, by);
        match &mut self.current {
            Some(current) => current.observe(limit, remaining, by.number, by.next, by.now),
            None if stale => {}
            None => {
                let current = AnnouncedWindow::new(limit, remaining, by.number, by.next, by.now);
                self.current = Some(current);
            }
        }
        self.observe_replicas(limit, remaining, by, change, began);
        if by.throttled {
            self.early_refill = self.detect_early_refill(remaining, by);
        }
        if self.refill.rate().is_some() {
            self.early_refill = None;
        }
        if let (Some(soon), Some(current)) = (self.early_refill, &mut self.current) {
            let soon = add_capped(by.now, soon.max(HINT_RESOLUTION));
            current.reset_at = current.reset_at.map(|reset| reset.min(soon));
        }
    }

    /// Compares the reports of the present window, which has just recorded this one. `began` is when the window before
    /// this report began.
    fn observe_replicas(
        &mut self,
        limit: &Limit,
        remaining: u64,
        by: &Announcement,
        change: Option<(i128, u64)>,
        began: Option<Instant>,
    ) {
        let is_present = self.is_same_window(limit, by.now);
        let Some(current) = &mut self.current else {
            return;
        };
        if began != Some(current.began()) {
            self.replicas.end_window();
        }
        if by.served && is_present {
            current.on_report(remaining);
        }
        // Replicas may have different resets.
        if self.refill.rate().is_none() && (is_present || self.replicas.are_detected()) {
            let slow = by.served && is_present && current.falls_slowly();
            self.replicas.observe(remaining, change, slow);
        }
        if let Some(remaining) = self
            .replicas
            .remaining(current.limit, current.own_accepted())
        {
            current.set_remaining(remaining);
        }
    }

    /// Returns whether an announcement is about the present window. In a bucket, all are.
    fn is_same_window(&self, limit: &Limit, now: Instant) -> bool {
        let reset = limit.reset.map(|reset| add_capped(now, reset));
        self.current.as_ref().is_some_and(|current| {
            self.refill.rate().is_some() || reset.is_none_or(|reset| current.is_same_window(reset))
        })
    }

    /// Returns the wait named by a throttling response, if it shows that the quota is replenished before the reset.
    ///
    /// A short wait that ends with a short window shows nothing: then the earlier result stays. `None` if something
    /// remains or no wait is named.
    fn detect_early_refill(&self, remaining: u64, by: &Announcement) -> Option<Duration> {
        let hint = by.retry_after.filter(|_| remaining == 0)?;
        let reset = self
            .current
            .as_ref()
            .and_then(|current| current.latest_reset);
        match reset.map(|reset| reset.saturating_duration_since(by.now)) {
            Some(reset) if hint + RESET_TOLERANCE < reset => Some(hint),
            None if hint <= MAX_TOKEN_BUCKET_WAIT => Some(hint),
            _ => self.early_refill.filter(|_| hint <= MAX_TOKEN_BUCKET_WAIT),
        }
    }

    /// Returns whether a response to a request of an earlier epoch is about the present window: its reset is later
    /// than the one that began the epoch.
    fn is_current(&self, limit: &Limit, by: &Announcement) -> bool {
        let over = by.since.map(|since| since + RESET_TOLERANCE);
        let reset = limit.reset.map(|reset| add_capped(by.now, reset));
        self.early_refill.is_none() && over.zip(reset).is_some_and(|(over, reset)| reset > over)
    }

    /// Returns the present window, if the announcements are believed.
    pub(super) fn believed(&self) -> Option<&AnnouncedWindow> {
        let current = self.current.as_ref()?;
        let disregarded = self.contradictions.disregards(current.is_exhausted());
        (!disregarded).then_some(current)
    }

    /// Returns this process's share of what is used of the quota.
    pub(super) fn share(&self, in_flight: u32) -> f64 {
        self.current.as_ref().map_or(self.own_share, |current| {
            current.estimate_share(self.own_share, in_flight)
        })
    }

    /// Returns the time at which the present window is over.
    pub(super) fn resets_at(&self, demand: &Demand<'_>, max_hold: Duration) -> Option<Instant> {
        // The store already subtracts what other processes use.
        let share = if demand.synced {
            1.0
        } else {
            self.share(demand.in_flight)
        };
        let min_remaining = self.need(demand).min_remaining;
        self.current
            .as_ref()?
            .resets_at(share, min_remaining, max_hold)
    }

    /// Ends the present window.
    pub(super) fn end(&mut self, in_flight: u32) {
        self.own_share = self.share(in_flight);
        self.replicas.end_window();
        self.current = None;
        self.grant.end();
        self.grant.is_excluded = false;
    }

    /// Records that a report does not have this window, because it has no name or no room for it. What is over has no
    /// name either, and the next window may have one.
    pub(super) fn exclude(&mut self) {
        match self.current {
            Some(_) => self.grant.exclude(),
            None => self.grant.end(),
        }
    }

    /// Learns from a throttled request that it cost more than what remained, if the mean cost makes that plausible.
    /// Otherwise another limit has throttled it.
    fn learn_min_remaining(&mut self, remaining: u64) {
        // Where routes cost different amounts, one of them says nothing about the others.
        if self.explains_throttle(remaining, None) && !self.mean_cost.differs_by_route() {
            self.min_remaining = self.min_remaining.max(remaining.saturating_add(1));
        }
    }

    /// Returns the time in which one unit is refilled, if this quota is exhausted and the wait `hint` is the same as
    /// its reset, at which it would be full again.
    pub(super) fn refill_instead_of(&self, hint: Duration, now: Instant) -> Option<Duration> {
        let current = self
            .current
            .as_ref()
            .filter(|current| current.is_exhausted())?;
        let reset = current.reset_at?.saturating_duration_since(now);
        let is_reset = hint <= reset + RESET_TOLERANCE && reset <= hint + RESET_TOLERANCE;
        self.refill.time_for(1.0).filter(|_| is_reset)
    }

    /// Returns whether this quota can have throttled a request although `remaining` was left.
    pub(super) fn explains_throttle(&self, remaining: u64, route: Option<RouteClass>) -> bool {
        let of_route = self.mean_cost.of_route(route);
        let mean = if self.has_learned_cost() {
            of_route.mean
        } else {
            self.apparent_cost(0)
        };
        let most = mean + 2.0 * of_route.deviation;
        remaining == 0 || mean * NEARLY_ALL > 1.0 && as_f64(remaining) < most
    }

    /// Returns by how much the quota falls per request of this process, including what other clients use meanwhile.
    fn apparent_cost(&self, in_flight: u32) -> f64 {
        if !self.counts_requests() {
            return self.mean_cost.get().unwrap_or_default();
        }
        let share = self.share(in_flight).max(MIN_SHARE);
        self.replicas.cost().unwrap_or(1.0 / share)
    }

    /// Returns whether a request that says nothing of its cost is expected to cost what others have cost: in a quota of
    /// another unit, or where the routes clearly cost different amounts.
    fn has_learned_cost(&self) -> bool {
        !self.counts_requests() || !self.has_replicas() && self.mean_cost.differs_by_route()
    }

    /// Returns whether several replicas count, so that a throttle by one of them does not concern the others.
    pub(super) fn has_replicas(&self) -> bool {
        self.replicas.are_detected()
    }

    /// Returns what one more request with this cost needs.
    ///
    /// An amount that the caller has set is used without a margin. Otherwise the mean is used. For quotas of requests
    /// it has a margin for what other clients have in flight, which the last response does not include: about as much
    /// as their share of this process's requests.
    fn need(&self, demand: &Demand<'_>) -> Need {
        let Demand {
            load,
            in_flight,
            unused_credits,
            synced,
            ..
        } = *demand;
        if let Some((unit, amount)) = self.unit_of(&load.cost) {
            let amount = as_f64(amount);
            let reserved = as_f64(self.outstanding(demand).amount(unit));
            return Need {
                reserved,
                amount,
                min_remaining: amount,
            };
        }
        if self.has_learned_cost() && !(synced && self.counts_requests()) {
            return self.learned_need(demand);
        }
        let mean = if synced {
            1.0
        } else {
            self.apparent_cost(in_flight)
        };
        let amount = mean.max(2.0 * mean - 1.0);
        Need {
            reserved: (f64::from(in_flight) + f64::from(unused_credits)) * amount,
            amount,
            min_remaining: as_f64(self.min_remaining),
        }
    }

    /// Returns the reservations of the requests whose responses have not announced this quota.
    fn outstanding<'a>(&self, demand: &Demand<'a>) -> &'a Reserved {
        if self.in_bodies {
            demand.reserved
        } else {
            demand.reserved_in_flight
        }
    }

    /// Returns whether the settlement of a request with this cost charges this quota, instead of its response.
    pub(super) fn is_charged_at_settlement(&self, cost: &Cost) -> bool {
        self.in_bodies && self.unit_of(cost).is_some()
    }

    /// Returns how many units are available to credits, and how many one request uses; `None` if the quota does not
    /// allow credits.
    ///
    /// It must count requests only, by one counter, and its announcements must not be contradicted.
    pub(super) fn room_for_credits(&self, in_flight: u32) -> Option<(f64, f64)> {
        // One that the last response did not announce, or that refills, changes without a response on credit.
        let plain = self.counts_requests()
            && self.unnamed == 0
            && self.refill.rate().is_none()
            && !self.has_replicas()
            && self.early_refill.is_none()
            && self.min_remaining == 1
            && !self.has_learned_cost();
        let current = self.believed().filter(|_| plain)?;
        let mean = self.apparent_cost(in_flight);
        Some((as_f64(current.available()), mean.max(2.0 * mean - 1.0)))
    }

    /// Records requests that were accepted on credit.
    pub(super) fn on_credits_used(&mut self, accepted: u64) {
        if let Some(current) = self.current.as_mut().filter(|_| self.unnamed == 0) {
            current.on_credits_used(accepted);
            if accepted > 0 {
                self.mean_cost.skip();
            }
        }
    }

    /// Returns what one more request needs in a unit for which the caller has set no amount.
    ///
    /// Its route's mean cost, with a margin for the requests in flight together.
    fn learned_need(&self, demand: &Demand<'_>) -> Need {
        let in_flight = demand.in_flight;
        let next = self.mean_cost.of_route(demand.load.route);
        let limit = self.current.as_ref().and_then(|current| current.limit);
        let alone = next.with_margin().min(limit.map_or(f64::INFINITY, as_f64));
        Need {
            reserved: self.mean_cost.in_flight(demand.routes_in_flight, in_flight),
            amount: next.mean + self.mean_cost.margin(in_flight.saturating_add(1)),
            min_remaining: alone.max(as_f64(self.min_remaining)),
        }
    }

    /// Returns the unit of the cost that applies to this quota, and its amount; `None` if the caller has set none.
    pub(super) fn unit_of<'a>(&self, cost: &'a Cost) -> Option<(&'a str, u64)> {
        if self.counts_requests() {
            return cost.unit_for("requests");
        }
        cost.unit_for(self.key.name.as_deref()?)
    }

    /// Returns the units by which a request with this cost is debited while no response announces what remains.
    pub(super) fn debit_for(&self, cost: &Cost, route: Option<RouteClass>) -> u64 {
        match self.unit_of(cost) {
            Some((_, amount)) => amount,
            None if !self.has_learned_cost() => 1,
            None if self.counts_requests() => {
                (self.mean_cost.of_route(route).mean.round() as u64).max(1)
            }
            None => self.mean_cost.of_route(route).mean as u64,
        }
    }

    /// Corrects what remains by the difference between what the server has subtracted for a request and what it cost.
    ///
    /// The server is assumed to have subtracted what the caller has reserved, or else the mean. A body that reports the
    /// cost announces what remains after it; without a report, the estimate is debited.
    pub(super) fn settle(&mut self, reserved: &Load, used: Option<&Cost>) {
        if self.is_charged_at_settlement(&reserved.cost) {
            let amount = self.debit_for(&reserved.cost, reserved.route);
            if let (Some(current), None) = (&mut self.current, used) {
                current.debit(amount);
            }
            return;
        }
        let Some((_, used)) = used.and_then(|used| self.unit_of(used)) else {
            return;
        };
        // If what remains falls by less than was reserved, the server has not taken the estimate.
        let mean = self.mean_cost.of_route(reserved.route).mean as u64;
        let taken = match self.unit_of(&reserved.cost) {
            Some((_, amount)) => amount.min(mean),
            None => self.debit_for(&reserved.cost, reserved.route),
        };
        if let Some(current) = &mut self.current {
            current.correct(taken, used);
            self.mean_cost.on_returned(taken.saturating_sub(used));
        }
    }

    /// Returns the name of the quota; `requests` if it has none.
    pub(super) fn name(&self) -> &str {
        self.key.name.as_deref().unwrap_or("requests")
    }

    /// Returns how many more requests the quota allows, besides those in flight.
    pub(super) fn headroom(&self, in_flight: u32, now: Instant) -> f64 {
        let cost = self.apparent_cost(in_flight).max(f64::MIN_POSITIVE);
        let current = self.current.as_ref();
        let available = current.map_or(0.0, |current| current.available_at(self.refill, now));
        available / cost - f64::from(in_flight)
    }

    /// Returns how long one more request must wait for this quota, whose window ends at `over`; `None` if it need not.
    pub(super) fn admit(
        &self,
        demand: &Demand<'_>,
        over: Option<Instant>,
        now: Instant,
    ) -> Option<SendTime> {
        let need = self.need(demand);
        let in_flight = match self.unit_of(&demand.load.cost) {
            Some((unit, _)) if self.in_bodies => {
                demand.in_flight.max(demand.reserved.requests(unit))
            }
            _ => demand.in_flight,
        };
        self.current
            .as_ref()?
            .admit(&need, in_flight, self.refill, over, now)
    }
}

/// One more request, and what is in flight already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand<'a> {
    /// What the request takes.
    pub(super) load: &'a Load,
    /// The routes of the requests in flight.
    pub(super) routes_in_flight: &'a RoutesInFlight,
    /// What the requests in flight have reserved.
    pub(super) reserved_in_flight: &'a Reserved,
    /// What all requests that are not settled have reserved.
    pub(super) reserved: &'a Reserved,
    /// The number of requests in flight.
    pub(super) in_flight: u32,
    /// The number of requests that threads may still send on credit.
    pub(super) unused_credits: u32,
    /// Whether a store subtracts what other processes use.
    pub(super) synced: bool,
}
