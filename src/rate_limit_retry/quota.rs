//! What is known about one partition's quota, and when the next request may go. Pure: time comes in as `now`.

use std::time::Duration;

use tokio::time::Instant;

use super::headers::{Limit, Signals, Unit};
use crate::{backoff::Backoff, clock::after};

/// One partition.
///
/// Three things keep a request back, each by itself: a *hold*, before whose end nobody goes; the *window*, in which the
/// server said that so many requests remain; and the *ramp*, which lets requests out by and by while it is not known
/// what the server will take: at the start, after a hold, and after a reset.
#[derive(Debug)]
pub(crate) struct Quota {
    in_flight: u32,
    hold: Option<Hold>,
    window: Option<Window>,
    ramp: Option<Ramp>,
    /// Counts holds and resets: an answer to a request from before one says nothing about after it.
    epoch: u64,
    /// How often in a row the partition was throttled.
    throttled: u32,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    limit: Option<u64>,
    remaining: u64,
    reset_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Ramp {
    /// So many may be in flight.
    width: u32,
    /// Widens by itself at this time, so that one slow answer does not stall everybody.
    until: Option<Instant>,
    /// Goes on after the first answer, one step for each success: after a hold, when waiters would come as a herd.
    gradual: bool,
}

/// Whether a request may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admit {
    Now,
    /// When a request in flight has been answered, and at this time at the latest.
    AfterAnswer(Option<Instant>),
    NotBefore(Instant),
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Learnt<'a> {
    /// It was answered.
    Answer {
        throttled: bool,
        signals: &'a Signals,
    },
    /// It was not sent, or the server cannot have counted it.
    NotSent,
    /// Nobody knows: the caller left, or the connection broke.
    Unknown,
}

/// The settings that a quota needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) cold_burst: u32,
    pub(crate) cold_hold: Duration,
    pub(crate) max_hold: Duration,
    pub(crate) backoff: Backoff,
}

impl Quota {
    pub(crate) fn new(pace: &Pace) -> Self {
        Self {
            in_flight: 0,
            hold: None,
            window: None,
            ramp: Some(Ramp {
                width: pace.cold_burst.max(1),
                until: None,
                gradual: false,
            }),
            epoch: 0,
            throttled: 0,
        }
    }

    /// Whether one more request may go. Live: with nothing in flight it is `Now` or names a time.
    pub(crate) fn admit(&mut self, now: Instant) -> Admit {
        if let Some(hold) = self.hold {
            if now < hold.until {
                return Admit::NotBefore(hold.until);
            }
            self.begin_again();
        }
        if let Some(window) = self.window
            && window.reset_at.is_some_and(|reset| now >= reset)
        {
            self.begin_again();
        }
        if let Some(window) = self.window
            && window.remaining <= u64::from(self.in_flight)
        {
            return match (window.reset_at, self.in_flight) {
                (Some(reset), 0) => Admit::NotBefore(reset),
                (reset, 1..) => Admit::AfterAnswer(reset),
                // Nothing remains and nobody says until when: try one.
                (None, 0) => Admit::Now,
            };
        }
        match &mut self.ramp {
            Some(ramp) if self.in_flight >= ramp.width => {
                if ramp.until.is_none_or(|until| now < until) {
                    return Admit::AfterAnswer(ramp.until);
                }
                if ramp.gradual {
                    ramp.width = ramp.width.saturating_mul(2);
                    ramp.until = None;
                } else {
                    self.ramp = None;
                }
                Admit::Now
            }
            _ => Admit::Now,
        }
    }

    /// Counts a request as in flight. Returns what its answer must be told by.
    pub(crate) fn enter(&mut self, pace: &Pace, now: Instant) -> u64 {
        self.in_flight += 1;
        if let Some(ramp) = &mut self.ramp {
            ramp.until.get_or_insert(after(now, pace.cold_hold));
        }
        self.epoch
    }

    /// Takes in what became of a request that entered at `epoch`. Returns the end of the hold, if there is one now.
    /// `now` may be missing for all but answers.
    pub(crate) fn learn(
        &mut self,
        epoch: u64,
        learnt: Learnt<'_>,
        pace: &Pace,
        random: f64,
        now: Option<Instant>,
    ) -> Option<Instant> {
        self.in_flight = self.in_flight.saturating_sub(1);
        match learnt {
            Learnt::NotSent => {}
            Learnt::Unknown => {
                self.end_cold_phase();
                if let Some(window) = &mut self.window {
                    window.remaining = window.remaining.saturating_sub(1);
                }
            }
            Learnt::Answer { throttled, signals } => {
                let now = now?;
                if let Some(limit) = tightest(&signals.limits) {
                    self.note_window(epoch, limit, now);
                }
                if throttled {
                    self.throttle(epoch, signals.retry_after, pace, random, now);
                } else if epoch == self.epoch {
                    self.throttled = 0;
                    self.widen();
                }
            }
        }
        self.held_until(now?)
    }

    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.hold
            .map(|hold| hold.until)
            .filter(|until| *until > now)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Limit, remaining and reset, as far as they are known.
    pub(crate) fn known(&self) -> (Option<u64>, Option<u64>, Option<Instant>) {
        self.window.map_or((None, None, None), |window| {
            (window.limit, Some(window.remaining), window.reset_at)
        })
    }

    /// Starts from nothing, but for what is in flight.
    pub(crate) fn forget(&mut self, pace: &Pace) {
        *self = Self {
            in_flight: self.in_flight,
            epoch: self.epoch + 1,
            ..Self::new(pace)
        };
    }

    /// Whether forgetting the partition would lose anything.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let tracked = self
            .window
            .is_some_and(|w| w.reset_at.is_some_and(|at| at > now));
        self.in_flight == 0 && self.held_until(now).is_none() && !tracked
    }

    /// A hold or a window is over: what the server takes now is found out with one request.
    fn begin_again(&mut self) {
        self.epoch += 1;
        self.hold = None;
        self.window = None;
        self.ramp = Some(Ramp {
            width: 1,
            until: None,
            gradual: true,
        });
    }

    /// What a response says about the window. Within one window the least is believed, because answers overtake each
    /// other; a later reset means another window.
    fn note_window(&mut self, epoch: u64, limit: &Limit, now: Instant) {
        let Some(remaining) = limit.remaining else {
            return;
        };
        let reset_at = limit.reset.map(|reset| after(now, reset));
        let same = self
            .window
            .filter(|known| match (known.reset_at, reset_at) {
                (Some(known), Some(told)) => told <= known + SAME_WINDOW,
                _ => true,
            });
        match same {
            Some(known) => {
                self.window = Some(Window {
                    limit: limit.limit.or(known.limit),
                    remaining: known.remaining.min(remaining),
                    // Whole seconds are rounded up: the earliest of the resets told is the closest.
                    reset_at: match (known.reset_at, reset_at) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    },
                });
            }
            // An answer from before a reset says nothing about the window after it.
            None if epoch < self.epoch && self.window.is_some() => {}
            None => {
                self.window = Some(Window {
                    limit: limit.limit,
                    remaining,
                    reset_at,
                });
            }
        }
    }

    fn throttle(
        &mut self,
        epoch: u64,
        hint: Option<Duration>,
        pace: &Pace,
        random: f64,
        now: Instant,
    ) {
        // Many requests may be refused at once: they are one throttling, not many.
        let first = epoch == self.epoch;
        if first {
            self.epoch += 1;
            self.throttled = self.throttled.saturating_add(1);
        }
        let own = pace.backoff.wait(self.throttled.max(1), random);
        let wait = match hint {
            Some(hint) if hint > NEVER_STORED => return,
            // Jitter only adds. A hint of zero gets the floor, which grows.
            Some(hint) if !hint.is_zero() => {
                hint + hint
                    .mul_f64(0.05)
                    .min(Duration::from_secs(1))
                    .mul_f64(random)
            }
            Some(_) | None if first => own,
            Some(_) | None => return,
        };
        let until = after(now, wait.min(pace.max_hold));
        if self.hold.is_none_or(|hold| hold.until < until) {
            self.hold = Some(Hold { until });
        }
    }

    /// An answer came that throttles nobody.
    fn widen(&mut self) {
        match &mut self.ramp {
            Some(ramp) if ramp.gradual => {
                ramp.width = ramp.width.saturating_add(1);
                ramp.until = None;
                if ramp.width > WIDEST {
                    self.ramp = None;
                }
            }
            _ => self.ramp = None,
        }
    }

    fn end_cold_phase(&mut self) {
        if self.ramp.is_some_and(|ramp| !ramp.gradual) {
            self.ramp = None;
        }
    }
}

/// The limit of which the fewest requests remain, and of those the one that resets last. Of what else is counted, a
/// request may cost any amount.
fn tightest(limits: &[Limit]) -> Option<&Limit> {
    limits
        .iter()
        .filter(|limit| limit.remaining.is_some() && limit.unit == Unit::Requests)
        .min_by_key(|limit| (limit.remaining, std::cmp::Reverse(limit.reset)))
}

/// Resets in whole seconds, told at different times, differ by up to this much and mean the same.
const SAME_WINDOW: Duration = Duration::from_millis(1100);
/// A hint beyond this is answered, but nobody is held for it.
const NEVER_STORED: Duration = Duration::from_secs(24 * 3600);
/// A ramp that has come so far has nothing more to protect.
const WIDEST: u32 = 256;
