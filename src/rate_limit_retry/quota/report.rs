//! The reports of a quota to its fleet's store, and the application of the store's responses.
//!
//! All windows are reported alike. They differ in what a process says about them:
//!
//! | window | name | announced |
//! |---|---|---|
//! | an announced quota | unit, limit and name | after each response that announces it |
//! | the estimate | `estimate` | when the estimated window has begun, and when its limit has grown |
//! | concurrency | `concurrency` | when the announced limit has changed |
//! | slow start, and the count of accepted requests | `start`, `count` | with each report, until something is known |

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Quota, QuotaConfig,
    announced::AnnouncedWindow,
    fleet_share::{COUNT_FROM, FleetShare, Grants},
    grant::Grant,
    throttle::ThrottleSample,
    shared_name::SharedName,
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
            let is_known = current.is_some_and(|current| current.reset_at.is_some());
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
        let in_flight = u64::from(self.in_flight);
        for window in self.windows.iter_mut() {
            let Some(id) = id_of(window).filter(|_| report.windows.len() < MAX_SHARED) else {
                continue;
            };
            let requests = u64::from(fleet.demand(waiting, window.grant.scarce, now));
            let cost = window.fleet_cost(&fleet.cost);
            let reserved = window.fleet_reserved(&fleet.cost, &self.reserved_in_flight, in_flight);
            let believed = window.believed().copied();
            let announced = believed.filter(|_| window.grant.has_update);
            let demand = requests.saturating_mul(cost);
            let mut of_window = window.grant.report(id, reserved, demand, cost, now);
            of_window.announced = announced.and_then(|current| to_announced(&current, &fleet, now));
            report.windows.push(of_window);
        }
        if report.windows.is_empty() {
            // Other processes may know a quota that counts what is in flight here.
            let demand = fleet.demand(waiting, false, now).into();
            let mut unknown = WindowReport::new(well_known(REQUESTS));
            (unknown.reserved, unknown.wanted) = (in_flight, demand);
            report.windows.push(unknown);
        }
        let slots = |grant: &mut Grant, name, fleet_demand| {
            grant.report(well_known(name), in_flight, fleet_demand, 1, now)
        };
        let demand = u64::from(fleet.demand(waiting, false, now));
        let scarce_demand = u64::from(fleet.demand(waiting, fleet.estimate.scarce, now));
        if !self.is_announced {
            let news = self.news_of_estimate(&fleet, now);
            if news.is_some() || fleet.estimate.is_synced() {
                let mut of_window = slots(&mut fleet.estimate, ESTIMATE, scarce_demand);
                of_window.announced = news.map(|(announced, _)| announced);
                report.windows.push(of_window);
            }
            fleet.reported_estimate = news.map(|(_, of)| of).or(fleet.reported_estimate);
        }
        fleet.estimate.used = 0;
        let cap = self.concurrency.announced();
        if cap.is_some() {
            let mut of_window = slots(&mut fleet.concurrency, CONCURRENCY, demand);
            of_window.announced = cap
                .filter(|_| fleet.reported_concurrency != cap)
                .map(|cap| slots_of(cap.into(), Some(Duration::ZERO)));
            report.windows.push(of_window);
        }
        fleet.reported_concurrency = cap;
        let limit = fleet.start_limit(config.initial_window);
        if fleet.cold.is_some() {
            let mut of_window = slots(&mut fleet.start, START, demand);
            of_window.announced = Some(slots_of(limit, None));
            report.windows.push(of_window);
        }
        if fleet.cold.is_some() || fleet.count.used > 0 {
            let mut counted = AnnouncedQuota::new(COUNT_FROM, START_TTL);
            counted.limit = Some(COUNT_FROM);
            let mut of_window = WindowReport::new(well_known(COUNT));
            of_window.used = std::mem::take(&mut fleet.count.used);
            fleet.counted += of_window.used;
            of_window.announced = Some(counted);
            report.windows.push(of_window);
        }
        let hold = fleet.pending_hold.take().filter(|hold| *hold > now);
        fleet.remote_hold = fleet.remote_hold.max(hold);
        report.hold = hold.map(|hold| hold - now);
        fleet.on_report(now);
        self.fleet_share = Some(fleet);
        Some(report)
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
        fleet.report_in_flight = false;
        fleet.processes = snapshot.processes.max(1);
        fleet.answers = snapshot.processes > 0;
        let processes = fleet.processes;
        let (mut awaited, mut granted) = (false, false);
        let mut shared = snapshot.windows.iter().filter(|w| !w.reset.is_zero());
        let mut apply = |grant: &mut Grant, window: Option<&SharedWindow>| match window {
            Some(window) => {
                grant.apply(window, processes, add_capped(now, window.reset));
                awaited |= grant.is_awaited;
                granted |= window.granted > 0;
            }
            None => grant.end(),
        };
        let named = |name| shared.clone().find(|window| window.id.as_str() == name);
        apply(&mut fleet.estimate, named(ESTIMATE));
        apply(&mut fleet.concurrency, named(CONCURRENCY));
        apply(&mut fleet.start, named(START).filter(|_| fleet.cold.is_some()));
        let count = named(COUNT).filter(|_| fleet.cold.is_some() || self.hold.is_some());
        let estimate = named(ESTIMATE).filter(|_| !self.is_announced);
        for window in self.windows.iter_mut() {
            let id = id_of(window);
            let found = snapshot.windows.iter().find(|known| {
                Some(&known.id) == id.as_ref() && !known.reset.is_zero()
            });
            apply(&mut window.grant, found);
        }
        let mut announces = false;
        for window in shared.by_ref() {
            let Some(name) = SharedName::of(&window.id) else {
                continue;
            };
            announces = true;
            let until = add_capped(now, window.reset);
            let next = self.next_number;
            let known = self.windows.find_shared(&window.id);
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
                    new.grant.apply(window, processes, until);
                    self.windows.insert_shared(new);
                }
            }
        }
        if let Some(count) = count {
            fleet.counted = COUNT_FROM - count.remaining.min(COUNT_FROM);
            self.estimator.set_accepted(fleet.counted + fleet.count.used);
        }
        if let Some(estimate) = estimate {
            self.adopt_estimate(&mut fleet, estimate, now);
        }
        if announces || estimate.is_some() || !fleet.answers {
            fleet.end_start();
        }
        fleet.empty_grants = if awaited && !granted {
            fleet.empty_grants.saturating_add(1)
        } else {
            0
        };
        let held = snapshot.hold.map(|hold| add_capped(now, hold.min(max_hold)));
        let held = held.filter(|until| {
            let known = fleet.remote_hold;
            known.is_none_or(|known| *until > known + HOLD_TOLERANCE)
        });
        if let Some(until) = held {
            fleet.remote_hold = Some(until);
            fleet.end_start();
        }
        self.fleet_share = Some(fleet);
        if let Some(until) = held {
            self.hold(until);
            self.on_remote_throttle(until - now, now);
        }
        held
    }

    /// Learns from a hold of another process: its request was throttled as one of this process would have been.
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
        let before = accepted.saturating_sub(fleet.estimate.used);
        let mut announced = AnnouncedQuota::new(limit.saturating_sub(before), end - now);
        announced.limit = Some(limit);
        announced.window = Some(end - began);
        announced.age = reported.is_none().then(|| now.saturating_duration_since(began));
        Some((announced, (began, limit)))
    }

    /// Replaces the estimate by that of the store, which the processes have learned together.
    fn adopt_estimate(&mut self, fleet: &mut FleetShare, estimate: &SharedWindow, now: Instant) {
        let Some(limit) = estimate.limit else { return };
        let accepted = limit.saturating_sub(estimate.remaining) + fleet.estimate.used;
        let end = add_capped(now, estimate.reset);
        let length = estimate.window.unwrap_or(estimate.reset);
        let began = end.checked_sub(length).unwrap_or(now);
        if self.estimator.adopt(limit, accepted, began, end) {
            fleet.reported_estimate = Some((began, limit));
        }
    }

    /// Makes the next report due at once, because another process has reported something.
    pub(crate) fn request_sync(&mut self) {
        if let Some(fleet) = &mut self.fleet_share {
            fleet.sync_requested = true;
        }
    }

    /// Falls back to what this process knows itself, because the store has failed. The next report is due at
    /// `retry_at`, and includes all that is known here.
    pub(crate) fn fall_back(&mut self, retry_at: Instant) {
        if let Some(fleet) = &mut self.fleet_share {
            fleet.grants_mut().into_iter().for_each(Grant::end);
            fleet.end_start();
            fleet.answers = false;
            (fleet.reported_estimate, fleet.reported_concurrency) = (None, None);
            fleet.report_in_flight = false;
            fleet.dirty = true;
            fleet.retry_at = Some(retry_at);
            for window in self.windows.iter_mut() {
                window.grant.end();
                window.grant.has_update = true;
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

/// Returns a window of `limit` requests in flight.
fn slots_of(limit: u64, age: Option<Duration>) -> AnnouncedQuota {
    let mut announced = AnnouncedQuota::new(limit, START_TTL);
    (announced.limit, announced.age) = (Some(limit), age);
    announced
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
/// Maximum number of announced windows that are shared: all but the four above.
const MAX_SHARED: usize = MAX_WINDOWS - 4;
/// Time after which slow start and a concurrency limit are no longer known to the store, if they are not announced again.
const START_TTL: Duration = Duration::from_secs(600);
/// Maximum difference between the ends of one hold as reported twice.
const HOLD_TOLERANCE: Duration = Duration::from_millis(500);
