//! The limit on requests in flight: announced by the server, or learned from throttling.
//!
//! # When throttling points to concurrency
//!
//! A server that limits what it processes at the same time throttles the excess at once, while the requests that it
//! has accepted are still in flight: the throttling response *overtakes* them. A server that limits a rate throttles
//! whatever is in flight. Both look alike for one flight of requests, so that a *trial* decides: when a request has
//! ended, one more is sent. If it is accepted, concurrency explains the throttling. If it is throttled with fewer
//! requests in flight than before, it does not, and the estimate of the rate applies.
//!
//! No latency is measured: a fast rejection says nothing about the time that an accepted request takes.
//!
//! # The learned limit
//!
//! | event | limit |
//! |---|---|
//! | throttled, first of a flight | the number in flight then |
//! | throttled, sent before the last cut | one less: it was in flight at the cut |
//! | throttled after [`MAX_SINGLE_CUTS`] cuts, and none accepted since | half of the number in flight |
//! | [`GROWTH`] completions at the limit, or [`MAX_GROWTH_INTERVAL`] after a failed attempt | one more |
//! | throttled with nothing in flight | none, or the one before the last cuts: a rate has throttled |
//! | [`MEMORY`] without a cut | none |

use std::time::Duration;

use tokio::time::Instant;

use super::{admit::SendTime, token_bucket::MAX_TOKEN_BUCKET_WAIT};
use crate::{
    clock::add_capped,
    rate_limit_retry::headers::{Limit, Unit},
};

/// The limit on requests in flight.
#[derive(Debug, Default)]
pub(super) struct ConcurrencyLimit {
    /// Number of requests in flight that the server allows, as announced.
    announced: Option<u32>,
    /// The limit learned from throttling.
    learned: Option<Box<LearnedLimit>>,
    /// The time until which throttling is taken for that of a rate, because a trial was throttled.
    excluded_until: Option<Instant>,
}

/// A limit learned from throttling.
#[derive(Debug)]
struct LearnedLimit {
    /// Maximum number of requests in flight.
    cap: u32,
    /// The greatest limit at which [`GROWTH`] requests were accepted. 0: concurrency has not been confirmed.
    proven: u32,
    /// The limit before the last cuts in a row.
    cap_before: u32,
    /// Time of the last cut.
    cut_at: Instant,
    /// Requests from this number on were sent after the last cut.
    fresh_from: u64,
    /// Whether one of them was accepted.
    accepted: bool,
    /// Number of cuts since a request was accepted that was sent after the last one.
    cuts: u32,
    /// Whether a request was throttled at a proven limit, and the limit was not cut.
    tolerated: bool,
    /// Whether a request has waited for the limit since the last completion.
    held_back: bool,
    /// Number of requests accepted at the limit since it changed.
    clean: u32,
    /// Number of such requests after which the limit grows.
    needed: u32,
    /// The spacing of requests.
    pace: Pace,
}

/// Spaces requests evenly over the time that the limit's number of requests takes.
///
/// Requests that are sent together end together, and find all slots of the server free at once and none in between. In
/// the meantime each slot waits for a round trip. Evenly spaced, a few more than the server's slots can be in flight
/// without being throttled.
#[derive(Debug, Default)]
struct Pace {
    /// Start of the current lap, number of completions at the limit in it, and the sum of the numbers in flight at each.
    lap: Option<(Instant, u32, u64)>,
    /// Mean time that a request was in flight in the last lap, by Little's law.
    cycle: Duration,
    /// Time of the next request.
    next: Option<Instant>,
}

/// A throttled request.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThrottledRequest {
    /// Its number.
    pub(super) number: u64,
    /// The number of the next request.
    pub(super) next: u64,
    /// Number of requests in flight when the response arrived.
    pub(super) in_flight: u32,
    /// The wait that the response names.
    pub(super) hint: Option<Duration>,
    /// Whether the response names a quota of requests that is exhausted.
    pub(super) exhausted: bool,
}

/// What a request was throttled for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// Too many requests in flight. `held`: the wait that the response names applies to all requests, because nothing
    /// shows that the server was processing others.
    Concurrency { held: bool },
    /// Not known: a trial decides.
    Undecided,
    /// Too many requests in a time. `decided`: earlier throttling has been undecided until now.
    Rate { decided: bool },
}

impl ConcurrencyLimit {
    /// Returns whether a limit is known, or may be.
    pub(super) fn is_known(&self) -> bool {
        self.announced.is_some() || self.learned.is_some()
    }

    /// Returns whether a learned limit bounds what is sent after a hold, so that slow start is not needed.
    pub(super) fn is_learned(&self) -> bool {
        self.learned.is_some()
    }

    /// Returns whether it is not decided yet what has throttled.
    pub(super) fn is_on_trial(&self) -> bool {
        self.learned
            .as_ref()
            .is_some_and(|learned| learned.proven == 0)
    }

    /// Returns why one more request must wait; `None` if it need not.
    pub(super) fn admit(&mut self, in_flight: u32, now: Instant) -> Option<SendTime> {
        if self.announced.is_some_and(|cap| in_flight >= cap) {
            return Some(SendTime::AfterResponse(None));
        }
        let learned = self.learned.as_mut()?;
        if learned.is_outdated(now) {
            self.learned = None;
            return None;
        }
        if learned.proven == 0 && in_flight >= learned.cap {
            // What is in flight may take for ever: then it is no trial.
            let until = add_capped(learned.cut_at, MAX_TRIAL);
            if now >= until {
                self.learned = None;
                return None;
            }
            learned.held_back = true;
            return Some(SendTime::AfterResponse(Some(until)));
        }
        let wait = if in_flight >= learned.cap {
            Some(SendTime::AfterResponse(None))
        } else {
            let at = learned.pace.next.filter(|at| *at > now);
            at.map(|at| match in_flight {
                0 => SendTime::NotBefore(at),
                _ => SendTime::AfterResponse(Some(at)),
            })
        };
        learned.held_back |= wait.is_some();
        wait
    }

    /// Records a send.
    pub(super) fn on_sent(&mut self, now: Instant) {
        if let Some(learned) = &mut self.learned {
            learned.pace.on_sent(learned.cap, now);
        }
    }

    /// Records that a request was not sent: it was not in flight at a cut that has counted it.
    pub(super) fn on_not_sent(&mut self, number: u64) {
        if let Some(learned) = &mut self.learned
            && number < learned.fresh_from
            && learned.proven == 0
        {
            learned.cap = learned.cap.saturating_sub(1).max(1);
        }
    }

    /// Records what a response announces, where `in_flight` is the number of requests in flight with its own.
    ///
    /// What remains is added to what is in flight: others use the rest.
    pub(super) fn on_announced(&mut self, limits: &[Limit], in_flight: u32) {
        let of_concurrency = limits
            .iter()
            .filter(|limit| limit.unit == Unit::ConcurrentRequests);
        for limit in of_concurrency {
            let remaining = limit
                .remaining
                .map(|remaining| remaining.saturating_add(in_flight.into()));
            let cap = limit.limit.into_iter().chain(remaining).min();
            self.announced = cap
                .map(|cap| u32::try_from(cap).unwrap_or(u32::MAX).max(1))
                .or(self.announced);
        }
    }

    /// Records that the server has accepted a request, where `in_flight` is the number of requests in flight with it.
    ///
    /// Returns whether this has confirmed that concurrency explains earlier throttling.
    pub(super) fn on_success(&mut self, number: u64, in_flight: u32, now: Instant) -> bool {
        let Some(learned) = &mut self.learned else {
            return false;
        };
        if number < learned.fresh_from {
            return false;
        }
        (learned.accepted, learned.cuts) = (true, 0);
        learned.cap_before = learned.cap;
        // Demand that the limit does not hold back says nothing about it.
        if !std::mem::take(&mut learned.held_back) {
            learned.pace = Pace::default();
            return false;
        }
        learned.pace.on_success(learned.cap, in_flight, now);
        learned.on_success_at_limit()
    }

    /// Records that a request was throttled, and returns what for.
    pub(super) fn on_throttle(&mut self, throttled: &ThrottledRequest, now: Instant) -> Cause {
        // A long wait, or an exhausted quota: the server has named the cause.
        let named = throttled.exhausted
            || throttled
                .hint
                .is_some_and(|hint| hint > MAX_TOKEN_BUCKET_WAIT);
        let outdated =
            |learned: &LearnedLimit| named && learned.proven == 0 || learned.is_outdated(now);
        self.learned.take_if(|learned| outdated(learned));
        self.excluded_until = self.excluded_until.filter(|until| now < *until);
        if named || self.excluded_until.is_some() && self.learned.is_none() {
            return Cause::Rate { decided: false };
        }
        let Some(learned) = &mut self.learned else {
            if throttled.in_flight == 0 {
                return Cause::Rate { decided: false };
            }
            self.learned = Some(Box::new(LearnedLimit::new(throttled, now)));
            return Cause::Undecided;
        };
        match learned.on_throttle(throttled, now) {
            Some(overtook) if learned.proven > 0 => {
                return Cause::Concurrency { held: !overtook };
            }
            Some(_) => return Cause::Undecided,
            None => {}
        }
        if learned.proven > 0 && learned.cap_before > 1 && throttled.in_flight == 0 {
            // A quota beside it: the cuts since the last accepted request were in vain.
            learned.cap = learned.cap_before;
        } else {
            self.learned = None;
            self.excluded_until = Some(add_capped(now, MEMORY));
        }
        Cause::Rate { decided: true }
    }
}

impl LearnedLimit {
    /// Creates the limit after the first throttling.
    fn new(throttled: &ThrottledRequest, now: Instant) -> Self {
        Self {
            cap: throttled.in_flight,
            proven: 0,
            cap_before: throttled.in_flight,
            cut_at: now,
            fresh_from: throttled.next,
            accepted: false,
            cuts: 1,
            tolerated: false,
            clean: 0,
            // Until the requests are evenly spaced, one more would be throttled.
            needed: 2 * GROWTH,
            held_back: false,
            pace: Pace::default(),
        }
    }

    /// Returns whether nothing has confirmed the limit for long.
    fn is_outdated(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.cut_at) >= MEMORY
    }

    /// Records that a request was accepted at the limit, which grows after enough of them.
    ///
    /// Returns whether this has confirmed the limit for the first time.
    fn on_success_at_limit(&mut self) -> bool {
        self.clean += 1;
        self.tolerated &= self.clean < GROWTH;
        if self.clean < self.needed {
            return false;
        }
        let confirmed = self.proven == 0;
        // From one success to the next, the attempts become more frequent.
        self.needed = if self.cap > self.proven {
            (self.needed / 2).max(GROWTH / 4)
        } else {
            GROWTH
        };
        self.proven = self.proven.max(self.cap);
        (self.cap, self.clean) = (self.cap.saturating_add(1), 0);
        confirmed
    }

    /// Cuts the limit. Returns `None` if concurrency does not explain the throttling, and else whether the response has
    /// overtaken those to earlier requests, which the server was processing.
    fn on_throttle(&mut self, throttled: &ThrottledRequest, now: Instant) -> Option<bool> {
        if throttled.number < self.fresh_from {
            // It was in flight at the cut.
            self.cap = self.cap.saturating_sub(1).max(1);
            return (throttled.in_flight > 0 || self.accepted).then_some(true);
        }
        let later = throttled.next.saturating_sub(throttled.number + 1);
        let overtook = u64::from(throttled.in_flight) > later;
        let alone = throttled.in_flight == 0;
        let proven = self.cap <= self.proven;
        // Its place is free.
        self.pace.next = None;
        // Two that are sent at the same time may arrive in any order.
        let unexplained = !overtook && (proven || self.cap > 2);
        let rejected = !self.accepted && self.proven == 0 && self.cuts > 1;
        if alone || unexplained || rejected {
            return None;
        }
        if proven && self.cuts <= 1 && !self.tolerated {
            // Perhaps by chance: requests overtake each other. 1 of 20 is no reason for a cut.
            (self.tolerated, self.clean) = (true, 0);
            return Some(overtook);
        }
        self.needed = MAX_GROWTH_INTERVAL;
        // The server accepts fewer than before: the more cuts, the greater the steps.
        self.cap = match self.cuts {
            0..MAX_SINGLE_CUTS => self.cap - 1,
            _ => throttled.in_flight / 2,
        };
        self.cap = self.cap.max(1);
        self.cuts += 1;
        self.proven = self.proven.min(self.cap);
        (self.cut_at, self.fresh_from) = (now, throttled.next);
        (self.accepted, self.clean, self.pace.lap) = (false, 0, None);
        Some(overtook)
    }
}

impl Pace {
    /// Records a send, with a limit of `cap` requests.
    fn on_sent(&mut self, cap: u32, now: Instant) {
        // A little less than its part of the lap, so that the spacing does not limit what is sent.
        let interval = self.cycle.mul_f64(SPACING) / cap;
        // Timers are late by up to a millisecond: what was missed is made up for.
        let earliest = now.checked_sub(TIMER_TOLERANCE).unwrap_or(now);
        let from = self.next.map_or(now, |next| next.max(earliest));
        self.next = (!interval.is_zero()).then(|| add_capped(from, interval));
    }

    /// Records a completion at the limit of `cap` requests, with `in_flight` requests in flight.
    fn on_success(&mut self, cap: u32, in_flight: u32, now: Instant) {
        let Some((began, count, sum)) = &mut self.lap else {
            self.lap = Some((now, 0, 0));
            return;
        };
        (*count, *sum) = (*count + 1, *sum + u64::from(in_flight));
        if *count >= cap {
            let interval = now.saturating_duration_since(*began) / *count;
            #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
            let mean = *sum as f64 / f64::from(*count);
            self.cycle = interval.mul_f64(mean);
            self.lap = Some((now, 0, 0));
        }
    }
}

/// Number of requests accepted at the limit after which one more may be in flight. With a limit of 3, a smaller number
/// would cost more than 5 % of the requests.
const GROWTH: u32 = 20;
/// The same after a failed attempt: it costs one throttled request.
const MAX_GROWTH_INTERVAL: u32 = 4 * GROWTH;
/// Number of cuts in a row after which each cut halves the limit.
const MAX_SINGLE_CUTS: u32 = 4;
/// Share of the even distance that is kept between two requests.
const SPACING: f64 = 0.96;
/// Lateness of timers that does not count.
const TIMER_TOLERANCE: Duration = Duration::from_millis(2);
/// Time in which a trial must have been decided. Longer than most calls take, and no longer than a wait that is guessed.
const MAX_TRIAL: Duration = Duration::from_secs(10);
/// Time without a cut after which the limit is forgotten, and time for which concurrency is excluded.
const MEMORY: Duration = Duration::from_secs(600);
