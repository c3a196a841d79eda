//! What is known about one partition's quota, and when the next request may be sent.
//!
//! Pure: time is passed in as `now`, jitter as a random number. [`Quota`] is the interface: `admit` and `enter` are
//! called before a send, `record` when its outcome is known, and `settle_cost` when its cost is. The gate's lock guards
//! all quotas.
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | `admit`, `outcome` | the results of an admission, and the outcomes of a request |
//! | `pace`, `snapshot` | the settings, and the estimate as events report it |
//! | `hold` | holds, and the probes after them |
//! | `windows`, `window` | the quotas that the server announces |
//! | `announced` | the present window of one of them |
//! | `refill`, `replicas`, `mean_cost` | what the announcements of one quota show: a refill, replicas, the cost of a request |
//! | `estimate`, `throttle`, `throttled` | the estimate from throttling responses, and the choice of its model |
//! | `fixed_window`, `bounds` | the model of a fixed window: its limit, its length, and blocks |
//! | `token_bucket` | the model of a token bucket |
//! | `sliding_window`, `send_log` | the model of a sliding window, and the log of sends |
//! | `slow_start` | slow start |
//! | `concurrency` | the limit on requests in flight |
//! | `local_limit` | the local limit |
//! | `contradictions` | announcements that accepted requests contradict |
//! | `grant`, `shared_name` | the part of one window that the store has granted, and the window's name there |
//! | `fleet_share`, `report` | when a process reports to the store, and what |
//! | `record` | what responses change |
//! | `control` | what the owner sets |
//! | `credit` | credits: requests that threads send without checking the quota |
//! | `reserved`, `settle` | the costs that requests reserve, and their settlement |
//! | `tuning` | constants that were chosen by measurement |
//! | `tests` | each model, and simulations with servers |

mod admit;
mod announced;
mod bounds;
mod concurrency;
mod contradictions;
mod control;
mod credit;
mod estimate;
mod fixed_window;
mod fleet_share;
mod grant;
mod hold;
mod local_limit;
mod mean_cost;
mod outcome;
mod pace;
mod record;
mod refill;
mod replicas;
mod report;
mod reserved;
mod route_cost;
mod send_log;
mod settle;
mod shared_name;
mod sliding_window;
mod slow_start;
mod snapshot;
#[cfg(test)]
mod tests;
mod throttle;
mod throttled;
mod token_bucket;
mod tuning;
mod window;
mod windows;

use tokio::time::Instant;

pub use self::pace::Pacing;
pub(crate) use self::{
    admit::SendTime,
    credit::{CreditTerms, Usage},
    outcome::{Load, Outcome, Scope, Sent},
    pace::QuotaConfig,
    report::divided_into,
    settle::ExceededLimit,
    snapshot::Estimate,
    window::Window,
};
use self::{
    concurrency::ConcurrencyLimit,
    estimate::{EstimatorDecision, LimitEstimator},
    fleet_share::FleetShare,
    hold::{Hold, Probe},
    local_limit::LocalLimiter,
    pace::MIN_SILENT_RESPONSES,
    reserved::Reserved,
    route_cost::RoutesInFlight,
    slow_start::SlowStart,
    window::Demand,
    windows::Windows,
};
use super::local_limits::LocalLimit;
use crate::clock::add_capped;

/// Whether the announced windows allow one more request.
#[derive(Clone, Copy, Debug)]
enum WindowsDecision {
    /// They do. `disregarded`: the announcements of a window are not believed, so that the estimate applies, too.
    Allow { disregarded: bool },
    /// It must wait.
    Wait(SendTime),
}

/// The quota of one partition.
///
/// Seven constraints delay a request, each by itself. The owner sets a *pause* and a *local limit*
/// ([`LocalLimiter`]). A *hold* ([`Hold`]) delays all requests until its end. Each *announced quota* ([`Windows`]) has
/// the limit, the remaining units and the reset that the server has announced. An *estimate* ([`LimitEstimator`])
/// serves for servers that announce nothing until they throttle. A *concurrency limit* is announced, or learned from
/// throttling while other requests are in flight. *Slow start* ([`SlowStart`]) limits the requests in flight while it
/// is not known what the server accepts. The guide [`limits`](crate::docs::limits) explains them.
///
/// # Epochs
///
/// Responses arrive late and in any order. The first throttle of an epoch and each end of a hold or a window start a
/// new epoch (`epoch`). A response to a request of an earlier epoch does not end slow start, count as another throttle
/// or confirm a limit.
///
/// # Probes
///
/// After a hold or a window, one request is sent alone. Its outcome shows whether the quota has opened, and the times
/// of the last throttled and the first accepted probe bound the time at which it did.
#[derive(Debug)]
pub(crate) struct Quota {
    /// The number of the next request. Requests are numbered in the order in which they are sent.
    next_number: u64,
    /// Number of requests that were counted and have not ended.
    in_flight: u32,
    /// Number of requests in flight that threads have sent on credit, without counting them here.
    on_credit: u32,
    /// Number of further requests that threads may send on credit.
    unused_credits: u32,
    /// End of the pause that the owner has set.
    pause: Option<Instant>,
    /// The local limit, if there is one.
    local_limit: Option<Box<LocalLimiter>>,
    /// The current hold. It is removed by the first `admit` after its end.
    hold: Option<Hold>,
    /// End of a hold that applies to a class of the requests only. A partition of its own holds them.
    partial_hold: Option<Instant>,
    /// The quotas that the server announces.
    windows: Windows,
    /// Whether accepted responses announce what remains of a quota of requests.
    is_announced: bool,
    /// Whether the last throttling response was about another quota, one that is not announced.
    unannounced_limit: bool,
    /// The estimate, learned from throttling responses.
    estimator: LimitEstimator,
    /// The limit on requests in flight.
    concurrency: ConcurrencyLimit,
    /// Slow start.
    slow_start: SlowStart,
    /// The last probe, after a hold or a reset.
    probe: Probe,
    /// The first number of the current epoch. Requests with smaller numbers were sent before the last throttling
    /// response or reset, and say nothing about the time after it.
    epoch: u64,
    /// Number of consecutive epochs that ended with throttling.
    consecutive_throttles: u32,
    /// The limit named by responses to requests that only this partition counts.
    partition_limit: Option<u64>,
    /// Number of consecutive responses without information about limits.
    silent_responses: u32,
    /// Time of the last send.
    last_used: Option<Instant>,
    /// What the requests in flight have reserved of each unit. Unlike `reserved`, without those whose response has
    /// arrived.
    reserved_in_flight: Reserved,
    /// The routes of the requests in flight, as far as they are known.
    routes_in_flight: RoutesInFlight,
    /// What requests have reserved of each unit and not settled, and what they were charged.
    reserved: Reserved,
    /// What is known of the other processes; `None` if quotas are not shared.
    fleet_share: Option<Box<FleetShare>>,
}

impl Quota {
    /// Creates the quota of a partition about which nothing is known. It begins with slow start.
    pub(crate) fn new(config: &QuotaConfig, local_limit: Option<LocalLimit>) -> Self {
        Self {
            next_number: 0,
            in_flight: 0,
            on_credit: 0,
            unused_credits: 0,
            pause: None,
            local_limit: local_limit.map(|local_limit| Box::new(LocalLimiter::new(local_limit))),
            hold: None,
            partial_hold: None,
            windows: Windows::default(),
            is_announced: false,
            unannounced_limit: false,
            estimator: LimitEstimator::UNKNOWN,
            concurrency: ConcurrencyLimit::default(),
            slow_start: SlowStart::initial(config.initial_window),
            probe: Probe::default(),
            epoch: 0,
            consecutive_throttles: 0,
            partition_limit: None,
            silent_responses: 0,
            last_used: None,
            reserved_in_flight: Reserved::default(),
            routes_in_flight: RoutesInFlight::default(),
            reserved: Reserved::default(),
            fleet_share: config.shared.then(Box::default),
        }
    }

    /// Returns whether one more request may be sent.
    ///
    /// Makes progress: with nothing in flight, the result is `Now`, names a time, or is `Never`.
    ///
    /// A request whose cost exceeds a limit can never be sent; that is checked first.
    /// The constraints are checked in this order, and the first that delays the request determines the result: pause,
    /// hold, local limit, announced quotas, estimate, concurrency limit, slow start. A pause, a hold or a window that
    /// is over is removed here, which starts a new epoch for holds and windows.
    pub(crate) fn admit(&mut self, load: &Load, config: &QuotaConfig, now: Instant) -> SendTime {
        let cost = &load.cost;
        if self.exceeded_limit(cost, now).is_some() {
            return SendTime::Never;
        }
        if let Some(fleet) = self
            .fleet_share
            .as_mut()
            .filter(|fleet| fleet.cost != *cost)
        {
            fleet.cost = cost.clone();
        }
        if let Some(until) = self.held(now) {
            return SendTime::NotBefore(until);
        }
        let in_flight = self.all_in_flight();
        let even = config.pacing == Pacing::Even;
        let cap = self.local_limit.as_mut();
        if let Some(wait) = cap.and_then(|cap| cap.admit(in_flight, even, now)) {
            return wait;
        }
        let disregarded = match self.admit_windows(load, config, now) {
            WindowsDecision::Allow { disregarded } => disregarded,
            WindowsDecision::Wait(wait) => return wait,
        };
        // Announcements that are missing, doubted or incomplete: the estimate applies, too.
        let estimated = !self.is_announced || self.unannounced_limit || disregarded;
        if estimated
            && !self.concurrency.is_on_trial()
            && let Some(wait) = self.admit_estimate(config, now)
        {
            return wait;
        }
        if let Some(wait) = self.concurrency.admit(in_flight, now) {
            return wait;
        }
        if let Some(wait) = self.admit_grants(estimated, config, now) {
            return wait;
        }
        let wait = self.slow_start.admit(
            in_flight,
            self.next_number,
            config.initial_window_timeout,
            now,
        );
        wait.unwrap_or(SendTime::Now)
    }

    /// Returns the end of a pause or a hold. Removes those that are over.
    fn held(&mut self, now: Instant) -> Option<Instant> {
        if let Some(until) = self.pause {
            if now < until {
                return Some(until);
            }
            self.resume();
        }
        if let Some(hold) = self.hold {
            if now < hold.until {
                return Some(hold.until);
            }
            self.hold = None;
            self.probe(hold.from_server.then_some(hold.until));
            if self.concurrency.is_learned() {
                self.slow_start = SlowStart::finished();
            }
        }
        // The class has a partition of its own; here its hold only keeps the fast path closed.
        self.partial_hold = self.partial_hold.filter(|until| now < *until);
        None
    }

    /// Returns why one more request must wait for what a fleet's store grants; `None` if it need not. `estimated`: the
    /// estimate applies.
    fn admit_grants(
        &mut self,
        estimated: bool,
        config: &QuotaConfig,
        now: Instant,
    ) -> Option<SendTime> {
        let fleet = self.fleet_share.as_mut()?;
        let grants = [
            fleet.estimate.blocks(1, now).filter(|_| estimated),
            fleet.concurrency.blocks(1, now),
        ];
        if let Some(until) = grants.into_iter().flatten().max() {
            fleet.starved = true;
            return Some(SendTime::AfterResponse(Some(until)));
        }
        let blocked = fleet.blocks_start(self.in_flight, config.initial_window_timeout, now);
        blocked.then_some(SendTime::AfterResponse(None))
    }

    /// Returns why one more request must wait for the estimate; `None` if it need not. Starts a probe if one is due,
    /// and a hold if the estimated limit is reached.
    fn admit_estimate(&mut self, config: &QuotaConfig, now: Instant) -> Option<SendTime> {
        match self.estimator.admit(self.all_in_flight(), now) {
            EstimatorDecision::Allow => {
                let (room, end) = self.estimator.headroom(self.all_in_flight()).unzip();
                let room = room.unwrap_or_default();
                pacing_delay(self.last_used, room, end, config, now).map(SendTime::NotBefore)
            }
            EstimatorDecision::Wait(wait) => Some(wait),
            EstimatorDecision::Probe => {
                self.slow_start = SlowStart::probe();
                None
            }
            EstimatorDecision::Hold(until) => {
                let until = until.min(add_capped(now, config.max_hold));
                self.hold = Some(Hold {
                    until,
                    from_server: false,
                });
                Some(SendTime::NotBefore(until))
            }
        }
    }

    /// Returns whether the announced windows allow one more request. Removes those that are over.
    ///
    /// Each window decides by itself, and the latest time counts.
    fn admit_windows(
        &mut self,
        load: &Load,
        config: &QuotaConfig,
        now: Instant,
    ) -> WindowsDecision {
        let (in_flight, last) = (self.all_in_flight(), self.last_used);
        let (mut ended, mut exhausted, mut disregarded) = (None, false, false);
        let (mut wait, mut delay, mut grant) = (None, None, None);
        let fleet = self.fleet_share.as_ref().filter(|fleet| fleet.answers);
        let reporting = fleet.map(|fleet| fleet.report_in_flight);
        for window in self.windows.iter_mut() {
            let demand = Demand {
                load,
                routes_in_flight: &self.routes_in_flight,
                reserved_in_flight: &self.reserved_in_flight,
                reserved: &self.reserved,
                in_flight,
                unused_credits: self.unused_credits,
                synced: window.grant.is_synced(),
            };
            let Some(current) = window.believed() else {
                disregarded |= window.current.is_some();
                continue;
            };
            let over = window.resets_at(&demand, config.max_hold);
            if over.is_some_and(|over| now >= over) {
                exhausted |= current.is_exhausted();
                ended = ended.max(Some(current.reset_at.filter(|reset| now >= *reset)));
                window.end(in_flight);
                continue;
            }
            match window.admit(&demand, over, now) {
                Some(later) => wait = wait.max(Some(later)),
                None => {
                    let room = window.headroom(in_flight, now);
                    delay = delay.max(pacing_delay(last, room, over, config, now));
                    grant = grant.max(window.grant.blocks(window.fleet_cost(&load.cost), now));
                    if reporting.is_some_and(|reporting| window.is_unconfirmed(reporting)) {
                        grant = grant.max(over);
                    }
                }
            }
        }
        // Slow start begins with one probe, unless another window still shows what the server accepts.
        if let Some(since) = ended
            && (exhausted || self.windows.is_empty())
        {
            self.probe(since);
        }
        if let Some(wait) = wait {
            return WindowsDecision::Wait(wait);
        }
        if let (Some(fleet), Some(until)) = (&mut self.fleet_share, grant) {
            // The process has used up what the store has granted. The agent's next report requests more.
            fleet.starved = true;
            return WindowsDecision::Wait(SendTime::AfterResponse(Some(until)));
        }
        delay.map_or(WindowsDecision::Allow { disregarded }, |at| {
            WindowsDecision::Wait(SendTime::NotBefore(at))
        })
    }

    /// Returns the number of requests in flight, counted or on credit.
    fn all_in_flight(&self) -> u32 {
        self.in_flight.saturating_add(self.on_credit)
    }

    /// Counts a request as in flight. Returns its number, by which its outcome is reported to [`record`](Self::record).
    pub(crate) fn enter(&mut self, load: &Load, config: &QuotaConfig, now: Instant) -> u64 {
        let cost = &load.cost;
        self.routes_in_flight.add(load.route);
        self.reserved.add(cost);
        self.reserved_in_flight.add(cost);
        self.in_flight += 1;
        // A request alone is the probe: the time at which it was sent narrows down when the quota opened.
        if self.slow_start.is_probe() && self.in_flight == 1 {
            self.probe.sent = Some(now);
        }
        self.last_used = Some(now);
        if let Some(cap) = &mut self.local_limit {
            cap.on_sent(now);
        }
        self.estimator.on_sent(now);
        self.concurrency.on_sent(now);
        self.slow_start.on_sent(config.initial_window_timeout, now);
        if let Some(fleet) = &mut self.fleet_share {
            let mut overdrawn = false;
            for window in self.windows.iter_mut() {
                let amount = window.fleet_cost(cost);
                let is_shared = window.current.is_some() && !window.grant.is_excluded;
                overdrawn |= window.grant.take(amount) && is_shared;
            }
            if !self.is_announced {
                fleet.estimate.take(1);
            }
            fleet.on_sent(self.next_number, overdrawn, now);
        }
        self.next_number += 1;
        self.next_number - 1
    }

    /// Counts a request that was sent without being counted and has been answered. Returns its number.
    ///
    /// It was sent before everything that is known now.
    pub(crate) fn enter_late(&mut self) -> u64 {
        self.in_flight += 1;
        self.next_number += 1;
        if self.silent_responses >= MIN_SILENT_RESPONSES {
            self.epoch
        } else {
            // A response has taught something since the partition was open: this request belongs to the epoch before.
            self.epoch.saturating_sub(1)
        }
    }

    /// Starts a new epoch with one probe, because a hold or a window is over.
    ///
    /// `since` is the time at which the server itself had announced that it would accept more.
    fn probe(&mut self, since: Option<Instant>) {
        (self.slow_start, self.epoch) = (SlowStart::probe(), self.next_number);
        self.probe = Probe { since, sent: None };
    }
}

/// Returns the time of the next send with even pacing, if that is after `now` and before the window's `end`.
///
/// The time from the last send to `end` is divided into `room + 1` gaps of at most `max_hold`. `None` without
/// [`Pacing::Even`].
fn pacing_delay(
    last: Option<Instant>,
    room: f64,
    end: Option<Instant>,
    config: &QuotaConfig,
    now: Instant,
) -> Option<Instant> {
    let even = config.pacing == Pacing::Even;
    let (last, end) = last.zip(end).filter(|_| even)?;
    let left = end.saturating_duration_since(last);
    let gap = left.div_f64(room.max(0.0) + 1.0).min(config.max_hold);
    Some(add_capped(last, gap)).filter(|at| *at > now && *at < end)
}
