//! The reports of a quota to its fleet's store, and the application of the store's responses.
//!
//! All windows are reported alike. They differ in what a process announces about them:
//!
//! | window | name | announced |
//! |---|---|---|
//! | an announced quota | unit, limit and name | after each response that announces it |
//! | the estimate | `estimate` | when the estimated window has begun, and when its limit has grown |
//! | concurrency | `concurrency` | when the announced limit has changed |
//! | slow start, and the count of accepted requests | `start`, `count` | with each report, until something is known |
//! | nothing: they say that the partition is divided, and into which quotas | `divided`, `divided search` | with each report, once it is |
//!
//! If routes have different named quotas, each of these quotas has a partition of its own, and so an entry of its own in
//! the store. All processes must use the same entries, though each sees the names of its own routes only. So the first
//! one that divides a partition says so in the entry of the partition, with the names that it knows, and the others divide it
//! as well.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Quota, QuotaConfig,
    announced::AnnouncedWindow,
    fleet_share::{COUNT_FROM, DIVIDED, FleetShare, Grants},
    grant::Grant,
    shared_name::SharedName,
    throttle::ThrottleSample,
    tuning::{CONCURRENCY_TTL, HINT_RESOLUTION},
    window::Window,
};
use crate::{
    clock::add_capped,
    rate_limit_retry::store::{
        AnnouncedQuota, MAX_WINDOWS, ProcessId, QuotaReport, QuotaSnapshot, SharedWindow, WindowId,
        WindowReport,
    },
};

impl Quota {
    /// Returns the time at which the next report is due. `None` if quotas are not shared or nothing is to be
    /// reported.
    pub(crate) fn report_due(&self, now: Instant) -> Option<Instant> {
        let fleet = self.fleet_share.as_ref()?;
        let mut grants = Grants::default();
        for window in self.windows.iter() {
            let current = window.current.as_ref();
            let is_known = !window.grant.is_excluded
                && current.is_some_and(|current| current.reset_at.is_some_and(|reset| reset > now));
            grants.add(&window.grant, is_known, fleet.overdrawn, now);
        }
        for grant in [&fleet.start, &fleet.concurrency] {
            grants.add(grant, false, false, now);
        }
        grants.add(&fleet.estimate, false, false, now);
        grants.has_news |= self.news_of_estimate(fleet, now).is_some()
            || fleet.reported_concurrency != self.concurrency.announced();
        fleet.next_report(self.in_flight, &grants, now)
    }

    /// Returns the next report and marks it as in flight. `waiting` is the number of waiters.
    ///
    /// The report has for each window the reservation (requests in flight and the rest of the grant), the additional
    /// grant wanted, and what has changed since the last report; and a hold that the other processes do not know.
    pub(crate) fn report(
        &mut self,
        process: ProcessId,
        waiting: usize,
        config: &QuotaConfig,
        now: Instant,
    ) -> Option<QuotaReport> {
        let mut fleet = self.fleet_share.take()?;
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let mut report = QuotaReport::new(process);
        fleet.number += u64::from(!fleet.repeats);
        report.number = fleet.number;
        let windows = &mut report.windows;
        // First, because a store has room for a few windows only.
        windows.extend(fleet.divided.iter().map(|id| {
            let mut mark = WindowReport::new(id.clone());
            mark.announced = Some(slots(1, None));
            mark
        }));
        self.report_announced(&fleet, waiting, windows, now);
        self.report_estimate(&mut fleet, waiting, windows, now);
        self.report_concurrency(&mut fleet, waiting, windows, now);
        self.report_start(&mut fleet, waiting, config, windows, now);
        let hold = fleet.pending_hold.take().filter(|hold| *hold > now);
        fleet.remote_hold = fleet.remote_hold.max(hold);
        fleet.reported_hold = hold;
        report.hold = hold.map(|hold| hold - now);
        fleet.on_report(now);
        self.fleet_share = Some(fleet);
        Some(report)
    }

    /// Reports the announced quotas.
    fn report_announced(
        &mut self,
        fleet: &FleetShare,
        waiting: u32,
        windows: &mut Vec<WindowReport>,
        now: Instant,
    ) {
        let in_flight = self.in_flight.into();
        for window in self.windows.iter_mut() {
            let Some(id) = id_of(window).filter(|_| windows.len() < MAX_SHARED) else {
                window.exclude();
                continue;
            };
            let requests = u64::from(fleet.demand(waiting, window.grant.scarce, now));
            let cost = window.fleet_cost(&fleet.cost);
            let reserved = window.fleet_reserved(&fleet.cost, &self.reserved_in_flight, in_flight);
            let believed = window.believed().copied();
            let announced = believed.filter(|_| window.grant.has_update);
            let demand = requests.saturating_mul(cost);
            let mut of_window = window.grant.report(id, reserved, demand, cost, now);
            of_window.announced = announced.and_then(|current| to_announced(&current, fleet, now));
            windows.push(of_window);
        }
        if windows.len() == fleet.divided.len() {
            // Other processes may know a quota that counts what is in flight here.
            let mut unknown = WindowReport::new(well_known(REQUESTS));
            unknown.reserved = in_flight;
            unknown.wanted = fleet.demand(waiting, false, now).into();
            windows.push(unknown);
        }
    }

    /// Reports the estimated window, while no response announces what remains.
    fn report_estimate(
        &self,
        fleet: &mut FleetShare,
        waiting: u32,
        windows: &mut Vec<WindowReport>,
        now: Instant,
    ) {
        let news = self.news_of_estimate(fleet, now);
        let is_reported = !self.is_announced && (news.is_some() || fleet.estimate.is_synced());
        if is_reported {
            let demand = fleet.demand(waiting, fleet.estimate.scarce, now).into();
            let id = well_known(ESTIMATE);
            let in_flight = self.in_flight.into();
            let mut of_window = fleet.estimate.report(id, in_flight, demand, 1, now);
            of_window.used = fleet.estimate.take_used(fleet.repeats);
            of_window.announced = news.map(|(announced, _)| announced);
            windows.push(of_window);
        }
        fleet.reported_estimate = news.map(|(_, of)| of).or(fleet.reported_estimate);
        if !is_reported {
            (fleet.estimate.used, fleet.estimate.unconfirmed) = (0, 0);
        }
    }

    /// Reports the requests in flight, if the server has announced a limit on them.
    fn report_concurrency(
        &self,
        fleet: &mut FleetShare,
        waiting: u32,
        windows: &mut Vec<WindowReport>,
        now: Instant,
    ) {
        let limit = self.concurrency.announced();
        if let Some(limit) = limit {
            let demand = fleet.demand(waiting, fleet.concurrency.scarce, now).into();
            let id = well_known(CONCURRENCY);
            let in_flight = self.in_flight.into();
            let mut of_window = fleet.concurrency.report(id, in_flight, demand, 1, now);
            of_window.announced = (fleet.reported_concurrency != Some(limit))
                .then(|| slots(limit.into(), Some(Duration::ZERO)));
            windows.push(of_window);
        }
        fleet.reported_concurrency = limit;
    }

    /// Reports the requests in flight while slow start lasts, and those that were accepted.
    fn report_start(
        &self,
        fleet: &mut FleetShare,
        waiting: u32,
        config: &QuotaConfig,
        windows: &mut Vec<WindowReport>,
        now: Instant,
    ) {
        let limit = fleet.start_limit(config.initial_window);
        if fleet.cold.is_some() {
            let demand = fleet.demand(waiting, fleet.start.scarce, now).into();
            let in_flight = self.in_flight.into();
            let mut of_window = fleet
                .start
                .report(well_known(START), in_flight, demand, 1, now);
            of_window.announced = Some(slots(limit, None));
            windows.push(of_window);
        }
        if fleet.cold.is_some() || fleet.count.used + fleet.count.unconfirmed > 0 {
            let mut of_window = WindowReport::new(well_known(COUNT));
            of_window.used = fleet.count.take_used(fleet.repeats);
            of_window.announced = Some(slots(COUNT_FROM, None));
            fleet.counted += if fleet.repeats { 0 } else { of_window.used };
            windows.push(of_window);
        }
    }

    /// Applies the store's response. Returns the end of a hold of other processes, if it is new here.
    ///
    /// `max_hold` is the upper bound on a hold.
    ///
    /// A window of the store replaces what is known here, unless a response has announced a newer one since the
    /// report was sent. Without a window, this process uses its own responses.
    pub(crate) fn apply(
        &mut self,
        snapshot: &QuotaSnapshot,
        max_hold: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let mut fleet = self.fleet_share.take()?;
        fleet.on_response();
        fleet.processes = snapshot.processes.max(1);
        fleet.answers = snapshot.processes > 0;
        self.apply_grants(&mut fleet, snapshot, now);
        let announces = self.apply_announced(&fleet, snapshot, now);
        let estimates = self.apply_estimate(&mut fleet, snapshot, now);
        let held = snapshot
            .hold
            .map(|hold| add_capped(now, hold.min(max_hold)));
        // The ends of one hold, as two processes have read it, differ by less.
        let held = held.filter(|until| {
            let known = fleet.remote_hold;
            known.is_none_or(|known| *until > known + HINT_RESOLUTION / 2)
        });
        fleet.remote_hold = held.or(fleet.remote_hold);
        if announces || estimates || held.is_some() || !fleet.answers {
            fleet.end_start();
        }
        self.fleet_share = Some(fleet);
        if let Some(until) = held {
            self.hold(until);
            self.on_remote_throttle(until - now, now);
        }
        held
    }

    /// Applies what the store has granted of each window that is known here.
    fn apply_grants(&mut self, fleet: &mut FleetShare, snapshot: &QuotaSnapshot, now: Instant) {
        let (processes, is_cold) = (fleet.processes, fleet.cold.is_some());
        let (mut awaited, mut granted) = (false, false);
        let mut apply = |grant: &mut Grant, window: Option<&SharedWindow>| match window {
            Some(window) => {
                grant.apply(window, processes, add_capped(now, window.reset));
                awaited |= grant.is_awaited;
                granted |= window.granted > 0;
            }
            None => grant.end(),
        };
        apply(&mut fleet.estimate, known(snapshot, ESTIMATE));
        apply(&mut fleet.concurrency, known(snapshot, CONCURRENCY));
        apply(&mut fleet.start, known(snapshot, START).filter(|_| is_cold));
        for window in self.windows.iter_mut() {
            let shared = id_of(window);
            let shared = shared.and_then(|id| known(snapshot, id.as_str()));
            apply(&mut window.grant, shared);
        }
        fleet.empty_grants = if awaited && !granted {
            fleet.empty_grants.saturating_add(1)
        } else {
            0
        };
    }

    /// Applies what the store knows of announced quotas. Returns whether it knows any.
    fn apply_announced(
        &mut self,
        fleet: &FleetShare,
        snapshot: &QuotaSnapshot,
        now: Instant,
    ) -> bool {
        let mut any = false;
        let next = self.next_number;
        for window in snapshot.windows.iter().filter(|w| !w.reset.is_zero()) {
            let Some(name) = SharedName::of(&window.id) else {
                continue;
            };
            let until = add_capped(now, window.reset);
            let known = self.windows.find_shared(&window.id);
            // Reported by a process that has not divided the partition yet.
            if !fleet.divided.is_empty() && name.named.is_some() && known.is_none() {
                continue;
            }
            any = true;
            match known.map(|known| (known.grant.has_update, &mut known.current)) {
                // Announced after the report was sent: newer than the store's state.
                Some((true, Some(_))) => {}
                Some((_, Some(current))) => current.merge_remote(window.remaining, until, next),
                Some((_, current @ None)) => {
                    *current = Some(AnnouncedWindow::from_shared(window, until, next, now));
                }
                None => {
                    let current = AnnouncedWindow::from_shared(window, until, next, now);
                    let mut new = Window::from_store(name, current);
                    new.grant.apply(window, fleet.processes, until);
                    self.windows.insert_shared(new);
                }
            }
        }
        any
    }

    /// Applies what the store knows of accepted requests, and of the estimated window. Returns whether it knows that
    /// window.
    fn apply_estimate(
        &mut self,
        fleet: &mut FleetShare,
        snapshot: &QuotaSnapshot,
        now: Instant,
    ) -> bool {
        // The last requests before a throttle are reported during the hold.
        let is_counting = fleet.cold.is_some() || self.hold.is_some();
        if let Some(count) = known(snapshot, COUNT).filter(|_| is_counting) {
            // The store may have forgotten some.
            let counted = COUNT_FROM.saturating_sub(count.remaining);
            fleet.counted = fleet.counted.max(counted);
            self.estimator
                .set_accepted(fleet.counted + fleet.count.used);
        }
        let estimate = known(snapshot, ESTIMATE).filter(|_| !self.is_announced);
        let Some((estimate, limit)) = estimate.and_then(|known| Some((known, known.limit?))) else {
            return false;
        };
        let accepted = limit.saturating_sub(estimate.remaining) + fleet.estimate.used;
        let end = add_capped(now, estimate.reset);
        let length = estimate.window.unwrap_or(estimate.reset);
        let began = end.checked_sub(length).unwrap_or(now);
        if self.estimator.adopt(limit, accepted, began, end) {
            fleet.reported_estimate = Some((began, limit));
        }
        true
    }

    /// Learns from a hold of another process, whose request was throttled as one of this process would have been.
    fn on_remote_throttle(&mut self, hold: Duration, now: Instant) {
        if self.is_announced {
            return;
        }
        self.epoch = self.next_number;
        let sample = ThrottleSample {
            sent: None,
            limit: None,
            hint: Some(hold),
            silent: false,
            all_counted: false,
            sent_since: 0,
            in_flight: self.in_flight,
        };
        self.estimator.on_throttle(&sample, now);
    }

    /// Returns what is to be reported of the estimate, and the window and limit that it is about.
    ///
    /// A window that has begun replaces an earlier one. A limit that has grown since raises what remains.
    fn news_of_estimate(
        &self,
        fleet: &FleetShare,
        now: Instant,
    ) -> Option<(AnnouncedQuota, (Instant, u64))> {
        if self.is_announced {
            return None;
        }
        let (began, end, limit, accepted) = self.estimator.present_window(now)?;
        let reported = fleet.reported_estimate.filter(|(of, _)| *of == began);
        if reported.is_some_and(|(_, of)| of >= limit) {
            return None;
        }
        // What was accepted since the last report is reported as used.
        let since = fleet.estimate.used + fleet.estimate.unconfirmed;
        let before = accepted.saturating_sub(since);
        let mut announced = AnnouncedQuota::new(limit.saturating_sub(before), end - now);
        announced.limit = Some(limit);
        announced.window = Some(end - began);
        announced.age = reported
            .is_none()
            .then(|| now.saturating_duration_since(began));
        Some((announced, (began, limit)))
    }

    /// Makes the next report due at once, because another process has reported something.
    pub(crate) fn request_sync(&mut self) {
        if let Some(fleet) = &mut self.fleet_share {
            fleet.sync_requested = true;
        }
    }

    /// Repeats a report that was lost, at `retry_at`. What the store has granted before remains valid.
    pub(crate) fn repeat_report(&mut self, retry_at: Instant) {
        if let Some(fleet) = &mut self.fleet_share {
            fleet.on_report_lost(retry_at);
            for window in self.windows.iter_mut() {
                window.grant.has_update = true;
            }
        }
    }

    /// Falls back to what this process knows itself, because the store has failed. The next report is due at
    /// `retry_at`, and includes all that is known here.
    pub(crate) fn fall_back(&mut self, retry_at: Instant) {
        self.repeat_report(retry_at);
        if let Some(fleet) = &mut self.fleet_share {
            fleet.grants_mut().into_iter().for_each(Grant::end);
            fleet.end_start();
            fleet.answers = false;
            fleet.forget_used();
            for window in self.windows.iter_mut() {
                window.grant.end();
            }
        }
    }

    /// Returns the time of the last send.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        self.last_used
    }
}

/// Returns what the process knows of a window by responses; `None` without a reset.
fn to_announced(
    current: &AnnouncedWindow,
    fleet: &FleetShare,
    now: Instant,
) -> Option<AnnouncedQuota> {
    let reset = current.reset_at.filter(|reset| *reset > now)?;
    // Debits do not prove that nothing remains: 1 is reported unless the server itself announced 0.
    let remaining = current.available().max(current.remaining.min(1));
    let mut announced = AnnouncedQuota::new(remaining, reset - now);
    announced.limit = current.limit;
    let sent = fleet.earliest_send(current.latest_request);
    announced.age = sent.map(|at| now.saturating_duration_since(at));
    Some(announced)
}

/// Returns a window of `limit` units that does not begin anew. The store removes it like a limit that was learned.
fn slots(limit: u64, age: Option<Duration>) -> AnnouncedQuota {
    let mut announced = AnnouncedQuota::new(limit, CONCURRENCY_TTL);
    (announced.limit, announced.age) = (Some(limit), age);
    announced
}

/// Returns a window of a snapshot, if it is not over.
fn known<'a>(snapshot: &'a QuotaSnapshot, id: &str) -> Option<&'a SharedWindow> {
    let mut windows = snapshot.windows.iter();
    windows.find(|window| window.id.as_str() == id && !window.reset.is_zero())
}

/// Returns the names of the quotas into which another process has divided the partition, as far as they are known; `None`
/// if none has.
pub(crate) fn divided_into(snapshot: &QuotaSnapshot) -> Option<Vec<&str>> {
    known(snapshot, DIVIDED)?;
    let ids = snapshot.windows.iter().map(|window| window.id.as_str());
    let named = ids.filter_map(|id| id.strip_prefix(DIVIDED)?.strip_prefix(' '));
    Some(named.collect())
}

/// Returns the name of a window; `None` if it is not shared.
fn id_of(window: &Window) -> Option<WindowId> {
    window.shared_name()?.id()
}

/// Returns the name of a window that no response announces.
fn well_known(name: &'static str) -> WindowId {
    WindowId::new(name).expect("a short name")
}

/// Name of a quota of requests without a name.
const REQUESTS: &str = "requests";
/// Name of the estimated window.
const ESTIMATE: &str = "estimate";
/// Name of the limit on requests in flight.
const CONCURRENCY: &str = "concurrency";
/// Name of slow start.
const START: &str = "start";
/// Name of the window that counts accepted requests during slow start.
const COUNT: &str = "count";
/// Maximum number of announced windows that are shared, with the marks of a divided partition: all but the four above.
const MAX_SHARED: usize = MAX_WINDOWS - 4;
