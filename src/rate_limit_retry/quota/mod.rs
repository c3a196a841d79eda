//! What is known about one partition's quota, and when the next request may go. Pure: time comes in as `now`.

mod habit;
mod learn;
mod ramp;
mod rate;
#[cfg(test)]
mod tests;
mod told;
mod window;

use std::time::Duration;

use tokio::time::Instant;

use self::{
    habit::{Habit, Verdict},
    ramp::Ramp,
    told::Told,
};
use super::headers::Signals;
use crate::{backoff::Backoff, clock::after};

/// One partition.
///
/// Four things keep a request back, each by itself: a *hold*, before whose end nobody goes; the window that the server
/// has *told* about; the *habit* of a server that tells nothing until it refuses; and the *ramp*, which lets requests
/// out by and by while it is not known what the server will take.
#[derive(Debug)]
pub(crate) struct Quota {
    /// Requests are numbered in the order in which they go.
    next: u64,
    in_flight: u32,
    hold: Option<Hold>,
    told: Option<Told>,
    /// The part that is ours of what the quota loses.
    share: f64,
    /// The server gives out more before the reset that it tells; it said so in a refusal.
    gradual: Option<Duration>,
    /// Accepted answers say what remains; but a quota that they do not speak of has refused requests.
    announced: bool,
    another: bool,
    habit: Habit,
    ramp: Ramp,
    look: Look,
    /// Requests before this one were sent before the last refusal or reset, and say nothing about after it.
    since: u64,
    /// How often in a row the partition was refused.
    refusals: u32,
    /// How many answers in a row said nothing about limits.
    quiet: u32,
    /// When a request went last.
    used: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    until: Instant,
    /// Named by the server.
    exact: bool,
}

/// One request that goes alone, after a hold or a reset.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// When the server had said that it would take more.
    since: Option<Instant>,
    sent: Option<Instant>,
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
            next: 0,
            in_flight: 0,
            hold: None,
            told: None,
            share: 1.0,
            gradual: None,
            announced: false,
            another: false,
            habit: Habit::NONE,
            ramp: Ramp::cold(pace.cold_burst),
            look: Look::default(),
            since: 0,
            refusals: 0,
            quiet: 0,
            used: None,
        }
    }

    /// Whether one more request may go. Live: with nothing in flight it is `Now` or names a time.
    pub(crate) fn admit(&mut self, pace: &Pace, now: Instant) -> Admit {
        if let Some(hold) = self.hold {
            if now < hold.until {
                return Admit::NotBefore(hold.until);
            }
            self.hold = None;
            self.look(hold.exact.then_some(hold.until));
        }
        if let Some(told) = self.told {
            let share = told.share(self.share, self.in_flight);
            let over = told.over_at(share, pace.max_hold);
            if over.is_some_and(|over| now >= over) {
                self.share = share;
                self.told = None;
                self.look(told.reset_at.filter(|reset| now >= *reset));
            } else if let Some(wait) = told.admit(self.in_flight, share, over) {
                return wait;
            }
        }
        if !self.announced || self.another {
            match self.habit.admit(self.in_flight, now) {
                Verdict::Free => {}
                Verdict::Wait(wait) => return wait,
                Verdict::Look => self.ramp = Ramp::look(),
                Verdict::Hold(until) => {
                    let until = until.min(after(now, pace.max_hold));
                    self.hold = Some(Hold {
                        until,
                        exact: false,
                    });
                    return Admit::NotBefore(until);
                }
            }
        }
        let wait = self
            .ramp
            .admit(self.in_flight, self.next, pace.cold_hold, now);
        wait.unwrap_or(Admit::Now)
    }

    /// Counts a request as in flight. Returns its number, by which its answer must be told.
    pub(crate) fn enter(&mut self, pace: &Pace, now: Instant) -> u64 {
        self.in_flight += 1;
        if self.ramp.is_look() && self.in_flight == 1 {
            self.look.sent = Some(now);
        }
        self.used = Some(now);
        self.habit.sent(now);
        self.ramp.entered(pace.cold_hold, now);
        self.next += 1;
        self.next - 1
    }

    /// Counts a request whose answer has come already. It went before everything that is known.
    pub(crate) fn adopt(&mut self) -> u64 {
        self.in_flight += 1;
        self.next += 1;
        if self.quiet >= QUIET {
            self.since
        } else {
            // The first of those that came back has told already.
            self.since.saturating_sub(1)
        }
    }

    /// Whether nothing is known of the partition but that it takes what comes.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet >= QUIET && self.hold.is_none() && self.told.is_none() && !self.habit.is_known()
    }

    /// Takes in what became of request `number`. Returns the end of the hold, if there is one now.
    /// `now` may be missing for all but answers.
    pub(crate) fn learn(
        &mut self,
        number: u64,
        learnt: Learnt<'_>,
        pace: &Pace,
        random: f64,
        now: Option<Instant>,
    ) -> Option<Instant> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ramp.ended(number);
        match learnt {
            Learnt::NotSent => {}
            Learnt::Unknown => {
                self.ramp.unanswered();
                if let Some(told) = &mut self.told {
                    told.spent();
                }
            }
            Learnt::Answer { throttled, signals } => {
                let now = now?;
                let silent = !throttled && signals.is_empty();
                self.quiet = if silent {
                    self.quiet.saturating_add(1)
                } else {
                    0
                };
                self.note(number, throttled, signals, now);
                if throttled {
                    self.refuse(number, signals, pace, random, now);
                } else {
                    self.accept(number, now);
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
        self.told.map_or((None, None, None), |told| {
            (told.limit, Some(told.remaining), told.reset_at)
        })
    }

    /// Starts from nothing, but for what is in flight.
    pub(crate) fn forget(&mut self, pace: &Pace) {
        *self = Self {
            in_flight: self.in_flight,
            next: self.next,
            since: self.next,
            used: self.used,
            ..Self::new(pace)
        };
    }

    /// Whether forgetting the partition would lose anything.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let told = self.told.and_then(|told| told.reset_at);
        let learnt = self.used.filter(|_| self.habit.is_known());
        let known = told.max(learnt.map(|used| after(used, REMEMBERED)));
        self.in_flight == 0 && self.held_until(now).is_none() && known.is_none_or(|at| at <= now)
    }

    /// A hold or a window is over: what the server takes now is found out with one request. `since` is when the server
    /// itself had said that it would take more.
    fn look(&mut self, since: Option<Instant>) {
        self.ramp = Ramp::look();
        self.look = Look { since, sent: None };
        self.since = self.next;
    }
}

/// After so many answers in a row that say nothing about limits, a partition is open.
const QUIET: u32 = 1000;
/// For so long after the last request it is remembered what refusals have taught.
const REMEMBERED: Duration = Duration::from_secs(3600);
