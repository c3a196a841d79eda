//! What is known about one partition's quota, and when the next request may be sent.
//!
//! Pure: time is passed in as `now`, jitter as a random number. [`Quota`] is the interface; `admit` and `enter` are
//! called before a send, `record` after it. The gate's lock guards all quotas.
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | `announced` | the window that the server announces |
//! | `estimate`, `throttle` | the estimate from throttling responses, and the choice of its model |
//! | `fixed_window`, `bounds` | the model of a fixed window: its limit and its length |
//! | `token_bucket` | the model of a token bucket |
//! | `sliding_window`, `send_log` | the model of a sliding window, and the log of sends |
//! | `slow_start` | slow start |
//! | `concurrency` | the limit on requests in flight |
//! | `local_limit` | the local limit |
//! | `contradictions` | announcements that are not believed |
//! | `fleet_share`, `report` | the part of a quota that other processes share |
//! | `record` | what responses change |
//! | `control` | what the owner sets |

mod admit;
mod announced;
mod bounds;
mod concurrency;
mod contradictions;
mod control;
mod estimate;
mod fixed_window;
mod fleet_share;
mod hold;
mod local_limit;
mod outcome;
mod pace;
mod record;
mod report;
mod send_log;
mod sliding_window;
mod slow_start;
mod snapshot;
#[cfg(test)]
mod tests;
mod throttle;
mod token_bucket;

use std::time::Duration;

use tokio::time::Instant;

pub use self::pace::Pacing;
pub(crate) use self::{
    admit::SendTime,
    outcome::{Outcome, Scope},
    pace::QuotaConfig,
    snapshot::Estimate,
};
use self::{
    announced::AnnouncedWindow,
    concurrency::ConcurrencyLimit,
    contradictions::Contradictions,
    estimate::{EstimatorDecision, LimitEstimator},
    fleet_share::FleetShare,
    hold::{Hold, Probe},
    local_limit::LocalLimiter,
    pace::MIN_SILENT_RESPONSES,
    slow_start::SlowStart,
};
use super::local_limits::LocalLimit;
use crate::clock::add_capped;

/// The quota of one partition.
///
/// Seven constraints delay a request, each by itself. The owner sets a *pause* and a *local limit* ([`LocalLimiter`]). A
/// *hold* ([`Hold`]) delays all requests until its end. The *announced window* ([`AnnouncedWindow`]) has the limit, the
/// remaining requests and the reset that the server has reported. An *estimate* ([`LimitEstimator`]) serves for servers
/// that announce nothing until they throttle. A *limit on requests in flight* ([`ConcurrencyLimit`]) is announced, or
/// learned from throttling. *Slow start* ([`SlowStart`]) limits concurrency while it is not known
/// what the server accepts.
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
    /// End of the pause that the owner has set.
    pause: Option<Instant>,
    /// The local limit, if there is one.
    local_limit: Option<Box<LocalLimiter>>,
    /// The current hold. It is removed by the first `admit` after its end.
    hold: Option<Hold>,
    /// End of a hold that applies to a class of the requests only. A partition of its own keeps them back.
    partial_hold: Option<Instant>,
    /// The announced window, until it is over.
    announced: Option<Box<AnnouncedWindow>>,
    /// Whether an announcement that nothing remains is believed.
    contradictions: Contradictions,
    /// This process's share of what the quota loses, from 0 to 1, as measured in earlier windows.
    own_share: f64,
    /// The wait that a throttling response named, if it ends before the announced reset: the server replenishes the
    /// quota gradually.
    early_refill: Option<Duration>,
    /// Whether accepted responses announce what remains.
    is_announced: bool,
    /// Whether the last throttling response was about another quota, one that is not announced.
    unannounced_limit: bool,
    /// What throttling responses have taught.
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
    /// What is known of the other processes; `None` if quotas are not shared.
    fleet_share: Option<Box<FleetShare>>,
}

impl Quota {
    /// Creates the quota of a partition about which nothing is known. It begins with slow start.
    pub(crate) fn new(config: &QuotaConfig, local_limit: Option<LocalLimit>) -> Self {
        Self {
            next_number: 0,
            in_flight: 0,
            pause: None,
            local_limit: local_limit.map(|local_limit| Box::new(LocalLimiter::new(local_limit))),
            hold: None,
            partial_hold: None,
            announced: None,
            contradictions: Contradictions::default(),
            own_share: 1.0,
            early_refill: None,
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
            fleet_share: config.shared.then(Box::default),
        }
    }

    /// Returns whether one more request may be sent.
    ///
    /// Makes progress: with nothing in flight, the result is `Now` or names a time.
    ///
    /// The constraints are checked in this order, and the first that delays the request determines the result: pause,
    /// hold, local limit, announced window, estimate, concurrency, slow start. A pause, a hold or a window that is over is removed
    /// here, which starts a new epoch for holds and windows.
    pub(crate) fn admit(&mut self, config: &QuotaConfig, now: Instant) -> SendTime {
        if let Some(until) = self.pause {
            if now < until {
                return SendTime::NotBefore(until);
            }
            self.resume();
        }
        if let Some(hold) = self.hold {
            if now < hold.until {
                return SendTime::NotBefore(hold.until);
            }
            self.hold = None;
            self.probe(hold.from_server.then_some(hold.until));
            if self.concurrency.is_learned() {
                self.slow_start = SlowStart::finished();
            }
        }
        // The class has a partition of its own; here its hold only keeps the fast path closed.
        self.partial_hold = self.partial_hold.filter(|until| now < *until);
        let even = config.pacing == Pacing::Even;
        let cap = self.local_limit.as_mut();
        if let Some(wait) = cap.and_then(|cap| cap.admit(self.in_flight, even, now)) {
            return wait;
        }
        let announced = self.announced.as_deref().copied();
        let disregarded = announced
            .is_some_and(|announced| self.contradictions.disregards(announced.is_exhausted()));
        if let Some(announced) = announced.filter(|_| !disregarded) {
            let share = announced.estimate_share(self.own_share, self.in_flight);
            let fleet = self.fleet_share.as_mut().filter(|fleet| fleet.is_synced());
            // The store keeps the share of other processes apart, if all clients belong to the fleet.
            let own_share = if fleet.is_some() { 1.0 } else { share };
            let over = announced.resets_at(own_share, config.max_hold);
            let granted_until =
                fleet.and_then(|fleet| fleet.valid_until(now).map(|until| (until, fleet)));
            if over.is_some_and(|over| now >= over) {
                // The window is over: slow start begins with one probe.
                (self.own_share, self.announced) = (share, None);
                if let Some(fleet) = &mut self.fleet_share {
                    fleet.on_window_end();
                }
                self.probe(announced.reset_at.filter(|reset| now >= *reset));
            } else if let Some(wait) = announced.admit(self.in_flight, own_share, over) {
                return wait;
            } else if let Some((until, fleet)) = granted_until
                && !fleet.allows()
            {
                // The process has used up what the store has granted. The agent's next report asks for more.
                return SendTime::AfterResponse(Some(over.unwrap_or(until)));
            } else if let Some(at) =
                self.pacing_delay(announced.headroom(self.in_flight, share), over, config, now)
            {
                return SendTime::NotBefore(at);
            }
        }
        // Announcements that are missing, doubted or incomplete: the estimate applies, too.
        let estimated = !self.is_announced || self.unannounced_limit || disregarded;
        if estimated && !self.concurrency.is_on_trial() {
            match self.estimator.admit(self.in_flight, now) {
                EstimatorDecision::Allow => {
                    let (room, end) = self.estimator.headroom(self.in_flight).unzip();
                    if let Some(at) = self.pacing_delay(room.unwrap_or_default(), end, config, now)
                    {
                        return SendTime::NotBefore(at);
                    }
                }
                EstimatorDecision::Wait(wait) => return wait,
                EstimatorDecision::Probe => self.slow_start = SlowStart::probe(),
                EstimatorDecision::Hold(until) => {
                    let until = until.min(add_capped(now, config.max_hold));
                    self.hold = Some(Hold {
                        until,
                        from_server: false,
                    });
                    return SendTime::NotBefore(until);
                }
            }
        }
        if let Some(wait) = self.concurrency.admit(self.in_flight, now) {
            return wait;
        }
        let wait = self.slow_start.admit(
            self.in_flight,
            self.next_number,
            config.initial_window_timeout,
            now,
        );
        wait.unwrap_or(SendTime::Now)
    }

    /// Returns the time of the next send with even pacing, if that is after `now` and before the window's `end`.
    ///
    /// The time from the last send to `end` is divided into `room + 1` gaps of at most `max_hold`. `None` without
    /// [`Pacing::Even`].
    fn pacing_delay(
        &self,
        room: f64,
        end: Option<Instant>,
        config: &QuotaConfig,
        now: Instant,
    ) -> Option<Instant> {
        let even = config.pacing == Pacing::Even;
        let (last, end) = self.last_used.zip(end).filter(|_| even)?;
        let left = end.saturating_duration_since(last);
        let gap = left.div_f64(room.max(0.0) + 1.0).min(config.max_hold);
        Some(add_capped(last, gap)).filter(|at| *at > now && *at < end)
    }

    /// Counts a request as in flight. Returns its number, by which its outcome is reported to [`record`](Self::record).
    pub(crate) fn enter(&mut self, config: &QuotaConfig, now: Instant) -> u64 {
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
            fleet.on_sent(self.next_number, now);
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
