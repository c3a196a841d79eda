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
//! | throttled, and none accepted since the cut | half |
//! | [`GROWTH`] completions at the limit | one more, unless a failed attempt is too recent |
//! | throttled with nothing in flight | none, or the one before the last cuts: a rate has throttled |
//! | [`MEMORY`] without a cut | none |

use std::time::Duration;

use tokio::time::Instant;

use super::{admit::SendTime, token_bucket::MAX_TOKEN_BUCKET_WAIT};
use crate::{clock::add_capped, rate_limit_retry::headers::{Limit, Unit}};

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
    /// The request in flight that decides whether concurrency explains the last throttling.
    trial: Option<u64>,
    /// Number of requests accepted at the limit since it changed.
    clean: u32,
    /// Number of such requests after which the limit grows.
    needed: u32,
    /// The time before which the limit does not grow, because a failed attempt costs a hold.
    next_attempt: Option<Instant>,
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
    /// Too many requests in flight.
    Concurrency,
    /// Not known: a trial decides.
    Undecided,
    /// Too many requests in a time. `decided`: earlier throttling has been undecided until now.
    Rate { decided: bool },
}

impl ConcurrencyLimit {
    /// Returns whether a limit is known or on trial.
    pub(super) fn is_known(&self) -> bool {
        self.announced.is_some() || self.learned.is_some()
    }

    /// Returns whether a learned limit bounds what is sent after a hold, so that slow start is not needed.
    pub(super) fn is_learned(&self) -> bool {
        self.learned.is_some()
    }

    /// Returns why one more request must wait; `None` if it need not.
    pub(super) fn admit(&mut self, in_flight: u32, now: Instant) -> Option<SendTime> {
        let wait = Some(SendTime::AfterResponse(None));
        if self.announced.is_some_and(|cap| in_flight >= cap) {
            return wait;
        }
        let learned = self.learned.as_ref()?;
        if learned.is_outdated(now) {
            self.learned = None;
            return None;
        }
        let on_trial = learned.trial.is_some() && in_flight > 0;
        wait.filter(|_| on_trial || in_flight >= learned.cap)
    }

    /// Records a send.
    pub(super) fn on_sent(&mut self, number: u64) {
        if let Some(learned) = &mut self.learned
            && learned.proven == 0
            && !learned.accepted
        {
            learned.trial.get_or_insert(number);
        }
    }

    /// Records that a request is no longer in flight, whatever its outcome.
    pub(super) fn on_completed(&mut self, number: u64) {
        if let Some(learned) = &mut self.learned
            && learned.trial == Some(number)
        {
            learned.trial = None;
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
        learned.accepted = true;
        learned.cap_before = learned.cap;
        if in_flight < learned.cap {
            return false;
        }
        learned.clean += 1;
        if learned.clean < learned.needed {
            return false;
        }
        let confirmed = learned.proven == 0;
        if learned.cap > learned.proven {
            (learned.proven, learned.needed) = (learned.cap, GROWTH);
        }
        if learned.next_attempt.is_none_or(|at| now >= at) {
            learned.cap = learned.cap.saturating_add(1);
            learned.clean = 0;
        }
        confirmed
    }

    /// Records that a request was throttled, and returns what for.
    pub(super) fn on_throttle(&mut self, throttled: &ThrottledRequest, now: Instant) -> Cause {
        // A long wait, or an exhausted quota: the server has named the cause.
        let named = throttled.exhausted
            || throttled
                .hint
                .is_some_and(|hint| hint > MAX_TOKEN_BUCKET_WAIT);
        let outdated = |learned: &LearnedLimit| named && learned.proven == 0 || learned.is_outdated(now);
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
        if learned.on_throttle(throttled, now) {
            return if learned.proven > 0 {
                Cause::Concurrency
            } else {
                Cause::Undecided
            };
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
            trial: None,
            clean: 0,
            needed: GROWTH,
            next_attempt: None,
        }
    }

    /// Returns whether nothing has confirmed the limit for long.
    fn is_outdated(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.cut_at) >= MEMORY
    }

    /// Cuts the limit. Returns whether concurrency explains the throttling.
    fn on_throttle(&mut self, throttled: &ThrottledRequest, now: Instant) -> bool {
        if throttled.number < self.fresh_from {
            // It was in flight at the cut.
            self.cap = self.cap.saturating_sub(1).max(1);
            return throttled.in_flight > 0 || self.accepted;
        }
        // Requests in flight that were sent before it: the server was processing them.
        let later = throttled.next.saturating_sub(throttled.number + 1);
        let processed = u64::from(throttled.in_flight).saturating_sub(later);
        let alone = throttled.in_flight == 0;
        let proven = self.cap <= self.proven;
        if alone || processed == 0 && proven || !self.accepted && self.proven == 0 {
            return false;
        }
        if self.accepted && self.cap > self.proven {
            self.needed = MAX_GROWTH_INTERVAL;
            if let Some(hint) = throttled.hint.filter(|_| self.proven > 0) {
                self.next_attempt = Some(add_capped(now, hint.saturating_mul(HOLD_SHARE)));
            }
        }
        self.cap = match self.accepted {
            true => throttled.in_flight,
            false => throttled.in_flight / 2,
        };
        self.cap = self.cap.max(1);
        self.proven = self.proven.min(self.cap);
        (self.cut_at, self.fresh_from) = (now, throttled.next);
        (self.accepted, self.clean) = (false, 0);
        true
    }
}

/// Number of requests accepted at the limit after which one more may be in flight. With a limit of 3, a smaller number
/// would cost more than 5 % of the requests.
const GROWTH: u32 = 20;
/// The same after a failed attempt: it costs one throttled request.
const MAX_GROWTH_INTERVAL: u32 = 2 * GROWTH;
/// Time between two attempts, in holds that a failed attempt costs: holds cost at most 1 % of the time.
const HOLD_SHARE: u32 = 100;
/// Time without a cut after which the limit is forgotten, and time for which concurrency is excluded.
const MEMORY: Duration = Duration::from_secs(600);
