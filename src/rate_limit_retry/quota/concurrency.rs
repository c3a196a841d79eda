//! The limit on requests in flight: announced by the server, or learned from throttling.
//!
//! # When throttling points to concurrency
//!
//! A server that limits concurrency throttles the excess at once, while the requests that it has accepted are still in
//! flight: the throttling response *overtakes* theirs. A server that limits a rate throttles regardless of the number
//! in flight. One flight of requests does not distinguish the two, so a *trial* decides: whenever a request has ended,
//! one more is sent. If it is accepted, concurrency explains the throttling. If it is throttled with fewer requests in
//! flight than before, concurrency does not explain it, and the estimate of the rate applies.
//!
//! A wait that a response names concerns its request alone if the response has overtaken others. It holds all requests
//! where as many in flight were accepted for four flights before ([`Sustained`]): 8 callers of a bucket that refills a
//! little slower than they send look like a limit of 7.
//!
//! Latency is not used: a fast rejection has no information about the time that an accepted request takes.
//!
//! # The learned limit
//!
//! | event | limit |
//! |---|---|
//! | throttled, first of a flight | the number in flight then |
//! | throttled, sent before the last cut | one less: it was in flight at the cut |
//! | throttled after [`MIN_EVIDENCE`] cuts, and none accepted since | half of the number in flight |
//! | [`GROWTH_INTERVAL`] completions at the limit, or 4 times as many after a failed attempt | one more |
//! | throttled with nothing else in flight | none, or the one before the last cuts: a rate limit has throttled |
//! | [`CONCURRENCY_TTL`] without a cut | none |

use std::time::Duration;

use tokio::time::Instant;

use super::{
    admit::SendTime,
    tuning::{
        CONCURRENCY_TTL, GROWTH_INTERVAL, MAX_TOKEN_BUCKET_WAIT, MAX_TRIAL, MIN_EVIDENCE, SPACING,
        TIMER_RESOLUTION,
    },
};
use crate::{
    clock::add_capped,
    rate_limit_retry::headers::{Limit, Unit},
};

/// The limit on requests in flight.
#[derive(Debug, Default)]
pub(super) struct ConcurrencyLimit {
    /// Maximum number of requests in flight, as announced.
    announced: Option<u32>,
    /// The limit learned from throttling.
    learned: Option<Box<LearnedLimit>>,
    /// End of the time in which throttling is attributed to a rate, because a trial was throttled.
    excluded_until: Option<Instant>,
    /// What was accepted since the last throttling.
    sustained: Sustained,
}

/// The greatest number of requests in flight that a server has accepted since it last throttled one.
#[derive(Clone, Copy, Debug, Default)]
struct Sustained {
    /// The number in flight.
    level: u32,
    /// Number of requests accepted with that many in flight.
    accepted: u32,
}

impl Sustained {
    /// Records that a request was accepted, with `in_flight` requests in flight.
    fn on_success(&mut self, in_flight: u32) {
        if in_flight > self.level {
            (self.level, self.accepted) = (in_flight, 0);
        }
        if in_flight == self.level {
            self.accepted = self.accepted.saturating_add(1);
        }
    }

    /// Returns whether a limit on requests in flight would have throttled earlier ones, and not one of `in_flight`: as
    /// many were accepted for four flights.
    fn excludes_concurrency(self, in_flight: u32) -> bool {
        in_flight <= self.level && self.accepted / FLIGHTS >= self.level
    }
}

/// A limit learned from throttling.
#[derive(Debug)]
struct LearnedLimit {
    /// Maximum number of requests in flight.
    cap: u32,
    /// The greatest limit at which enough requests were accepted for it to grow. 0: concurrency has not been confirmed.
    confirmed_cap: u32,
    /// The limit before the last cuts in a row.
    cap_before: u32,
    /// Time of the last cut.
    cut_at: Instant,
    /// Time of the last response.
    progress_at: Instant,
    /// Requests from this number on were sent after the last cut.
    fresh_from: u64,
    /// Whether one of them was accepted.
    accepted: bool,
    /// Whether the last cut was at a number in flight that the server had accepted for several flights.
    is_doubted: bool,
    /// Number of cuts in a row: since the last accepted request that was sent after a cut.
    cuts: u32,
    /// Whether a request was throttled at a confirmed limit without a cut. The next one cuts it.
    tolerated: bool,
    /// Whether a request has waited for the limit since the last completion.
    was_limiting: bool,
    /// Number of requests accepted at the limit since it changed.
    accepted_at_cap: u32,
    /// Number of such requests after which the limit grows.
    needed: u32,
    /// The spacing of requests.
    pacer: Pacer,
}

/// Spaces requests evenly over the mean time that a request is in flight.
///
/// Requests that are sent together also end together. All slots of the server are then idle for a round trip. With even
/// spacing, a few more requests than the server has slots can be in flight without being throttled, because some of
/// them are in transit.
#[derive(Debug, Default)]
struct Pacer {
    /// The current measurement: its start, the number of completions at the limit, and the sum of the numbers of
    /// requests in flight at each of them.
    measurement: Option<(Instant, u32, u64)>,
    /// Mean time that a request is in flight, by Little's law, as last measured.
    time_in_flight: Duration,
    /// Time of the next request.
    next: Option<Instant>,
}

/// A request that was throttled, and its response.
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

/// Why a request was throttled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// Too many requests in flight. `held`: the wait that the response names applies to all requests, because the
    /// response has not overtaken those of earlier requests, or because as many in flight were accepted before.
    Concurrency { held: bool },
    /// Not known: a trial decides.
    Undecided,
    /// Too many requests per time. `decided`: this ends a trial, so that earlier undecided throttling had the same
    /// cause.
    Rate { decided: bool },
}

impl ConcurrencyLimit {
    /// Returns whether a limit is announced, learned or on trial.
    pub(super) fn is_known(&self) -> bool {
        self.announced.is_some() || self.learned.is_some()
    }

    /// Returns the announced limit.
    pub(super) fn announced(&self) -> Option<u32> {
        self.announced
    }

    /// Returns whether there is a learned limit. It also limits the requests after a hold, so that slow start is not
    /// needed.
    pub(super) fn is_learned(&self) -> bool {
        self.learned.is_some()
    }

    /// Returns whether the cause of the throttling is not decided yet.
    pub(super) fn is_on_trial(&self) -> bool {
        self.learned
            .as_ref()
            .is_some_and(|learned| learned.confirmed_cap == 0)
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
        if learned.confirmed_cap == 0 && in_flight >= learned.cap {
            // What is in flight may take for ever: then it is no trial.
            let until = add_capped(learned.progress_at, MAX_TRIAL);
            if now >= until {
                self.learned = None;
                return None;
            }
            learned.was_limiting = true;
            return Some(SendTime::AfterResponse(Some(until)));
        }
        let wait = if in_flight >= learned.cap {
            Some(SendTime::AfterResponse(None))
        } else {
            let at = learned.pacer.next.filter(|at| *at > now);
            at.map(|at| match in_flight {
                0 => SendTime::NotBefore(at),
                _ => SendTime::AfterResponse(Some(at)),
            })
        };
        learned.was_limiting |= wait.is_some();
        wait
    }

    /// Records a send.
    pub(super) fn on_sent(&mut self, now: Instant) {
        if let Some(learned) = &mut self.learned {
            learned.pacer.on_sent(learned.cap, now);
        }
    }

    /// Records that a request was not sent. During a trial, the limit was set to a number that includes it: it is
    /// reduced.
    pub(super) fn on_not_sent(&mut self, number: u64) {
        if let Some(learned) = &mut self.learned
            && number < learned.fresh_from
            && learned.confirmed_cap == 0
        {
            learned.cap = learned.cap.saturating_sub(1).max(1);
        }
    }

    /// Records what a response announces, where `in_flight` is the number of requests in flight, including its own.
    ///
    /// If the response announces how many more requests the server accepts, the limit of this process is at most that
    /// number and what it has in flight: other clients use the rest.
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

    /// Records that the server has accepted a request, where `in_flight` is the number of requests in flight, including
    /// it.
    ///
    /// Returns whether this has confirmed that concurrency explains earlier throttling.
    pub(super) fn on_success(&mut self, number: u64, in_flight: u32, now: Instant) -> bool {
        self.sustained.on_success(in_flight);
        let Some(learned) = &mut self.learned else {
            return false;
        };
        learned.progress_at = now;
        if number < learned.fresh_from {
            return false;
        }
        (learned.accepted, learned.cuts) = (true, 0);
        learned.cap_before = learned.cap;
        // While the limit delays no request, an accepted request does not confirm it.
        if !std::mem::take(&mut learned.was_limiting) {
            learned.pacer = Pacer::default();
            return false;
        }
        learned.pacer.on_success(learned.cap, in_flight, now);
        learned.on_success_at_limit()
    }

    /// Records that a request was throttled, and returns the cause.
    pub(super) fn on_throttle(&mut self, throttled: &ThrottledRequest, now: Instant) -> Cause {
        let sustained = std::mem::take(&mut self.sustained);
        // A long wait, or an exhausted quota: the server has named the cause.
        let named = throttled.exhausted
            || throttled
                .hint
                .is_some_and(|hint| hint > MAX_TOKEN_BUCKET_WAIT);
        let outdated = |learned: &LearnedLimit| {
            named && learned.confirmed_cap == 0 || learned.is_outdated(now)
        };
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
        let before = learned.fresh_from;
        match learned.on_throttle(throttled, now) {
            Some(overtook) if learned.confirmed_cap > 0 => {
                let with_this = throttled.in_flight.saturating_add(1);
                // Those that were sent before the cut, or together with another that was throttled, have the same cause.
                if throttled.number >= before && sustained.accepted > 0 {
                    learned.is_doubted = sustained.excludes_concurrency(with_this);
                }
                return Cause::Concurrency {
                    held: !overtook || learned.is_doubted,
                };
            }
            Some(_) => return Cause::Undecided,
            None => {}
        }
        if learned.confirmed_cap > 0 && learned.cap_before > 1 && throttled.in_flight == 0 {
            // A rate limit throttles as well: the cuts since the last accepted request were mistaken.
            learned.cap = learned.cap_before;
        } else {
            self.learned = None;
            self.excluded_until = Some(add_capped(now, CONCURRENCY_TTL));
        }
        Cause::Rate { decided: true }
    }
}

impl LearnedLimit {
    /// Creates the limit after the first throttling.
    fn new(throttled: &ThrottledRequest, now: Instant) -> Self {
        Self {
            cap: throttled.in_flight,
            confirmed_cap: 0,
            cap_before: throttled.in_flight,
            cut_at: now,
            progress_at: now,
            fresh_from: throttled.next,
            accepted: false,
            is_doubted: false,
            cuts: 1,
            tolerated: false,
            accepted_at_cap: 0,
            // Longer than later intervals: until the requests are evenly spaced, one more would be throttled.
            needed: 2 * GROWTH_INTERVAL,
            was_limiting: false,
            pacer: Pacer::default(),
        }
    }

    /// Returns whether there was no cut for [`CONCURRENCY_TTL`].
    fn is_outdated(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.cut_at) >= CONCURRENCY_TTL
    }

    /// Records that a request was accepted at the limit, which grows after enough of them.
    ///
    /// Returns whether this has confirmed the limit for the first time.
    fn on_success_at_limit(&mut self) -> bool {
        self.accepted_at_cap += 1;
        self.tolerated &= self.accepted_at_cap < GROWTH_INTERVAL;
        if self.accepted_at_cap < self.needed {
            return false;
        }
        let confirmed = self.confirmed_cap == 0;
        // After each successful attempt to grow, the next one follows sooner.
        self.needed = if self.cap > self.confirmed_cap {
            (self.needed / 2).max(GROWTH_INTERVAL / 4)
        } else {
            GROWTH_INTERVAL
        };
        self.confirmed_cap = self.confirmed_cap.max(self.cap);
        (self.cap, self.accepted_at_cap) = (self.cap.saturating_add(1), 0);
        confirmed
    }

    /// Cuts the limit. Returns `None` if concurrency does not explain the throttling, and otherwise whether the
    /// response has overtaken those of earlier requests, which the server was still processing.
    fn on_throttle(&mut self, throttled: &ThrottledRequest, now: Instant) -> Option<bool> {
        if throttled.number < self.fresh_from {
            // It was counted as in flight at the cut, but the server has not accepted it.
            self.cap = self.cap.saturating_sub(1).max(1);
            return (throttled.in_flight > 0 || self.accepted).then_some(true);
        }
        let later = throttled.next.saturating_sub(throttled.number + 1);
        let overtook = u64::from(throttled.in_flight) > later;
        let alone = throttled.in_flight == 0;
        let at_confirmed = self.cap <= self.confirmed_cap;
        // Its slot is free: the next request need not wait for its time.
        self.pacer.next = None;
        // With a limit of 2, order is no evidence: two requests that are sent together may arrive in any order.
        let unexplained = !overtook && (at_confirmed || self.cap > 2);
        let rejected = !self.accepted && self.confirmed_cap == 0 && self.cuts > 1;
        if alone || unexplained || rejected {
            return None;
        }
        if at_confirmed && self.cuts <= 1 && !self.tolerated {
            // Requests overtake each other, so that a single one may be throttled by chance.
            (self.tolerated, self.accepted_at_cap) = (true, 0);
            return Some(overtook);
        }
        // Each failed attempt to grow costs a throttled request.
        self.needed = 4 * GROWTH_INTERVAL;
        // After several cuts in a row, the server accepts far fewer than before: the steps become greater.
        self.cap = match self.cuts {
            0..MIN_EVIDENCE => self.cap - 1,
            _ => throttled.in_flight / 2,
        };
        self.cap = self.cap.max(1);
        self.cuts += 1;
        self.confirmed_cap = self.confirmed_cap.min(self.cap);
        (self.cut_at, self.fresh_from) = (now, throttled.next);
        (self.accepted, self.accepted_at_cap, self.pacer.measurement) = (false, 0, None);
        Some(overtook)
    }
}

impl Pacer {
    /// Records a send, with a limit of `cap` requests.
    fn on_sent(&mut self, cap: u32, now: Instant) {
        // A little less than the even distance, so that the spacing itself does not limit the rate.
        let interval = self.time_in_flight.mul_f64(SPACING) / cap;
        // A wait is rounded up to the resolution, and its timer fires up to as much late. The following requests are
        // sent earlier by that time.
        let earliest = now.checked_sub(2 * TIMER_RESOLUTION).unwrap_or(now);
        let from = self.next.map_or(now, |next| next.max(earliest));
        self.next = (!interval.is_zero()).then(|| add_capped(from, interval));
    }

    /// Records a completion at the limit of `cap` requests, with `in_flight` requests in flight.
    fn on_success(&mut self, cap: u32, in_flight: u32, now: Instant) {
        let Some((began, count, sum)) = &mut self.measurement else {
            self.measurement = Some((now, 0, 0));
            return;
        };
        (*count, *sum) = (*count + 1, *sum + u64::from(in_flight));
        if *count >= cap {
            let interval = now.saturating_duration_since(*began) / *count;
            #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
            let mean = *sum as f64 / f64::from(*count);
            self.time_in_flight = interval.mul_f64(mean);
            self.measurement = Some((now, 0, 0));
        }
    }
}

/// Number of accepted flights after which a limit on requests in flight does not explain a throttle of as many.
const FLIGHTS: u32 = 4;
