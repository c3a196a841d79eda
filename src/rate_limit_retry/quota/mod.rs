//! What is known about one partition's quota, and when the next request may go. Pure: time comes in as `now`.

mod admit;
mod allowance;
mod cap;
mod control;
mod doubt;
mod fleet;
mod habit;
mod hold;
mod learn;
mod lesson;
mod log;
mod outcome;
mod pace;
mod ramp;
mod rate;
mod refused;
mod shared;
mod slide;
#[cfg(test)]
mod tests;
mod told;
mod window;

use std::time::Duration;

use tokio::time::Instant;

pub use self::pace::Release;
pub(crate) use self::{
    admit::Admit,
    lesson::Lesson,
    outcome::{About, Learnt},
    pace::Pace,
};
use self::{
    cap::Cap,
    doubt::Doubt,
    fleet::Fleet,
    habit::{Habit, Verdict},
    hold::{Hold, Look},
    pace::QUIET,
    ramp::Ramp,
    told::Told,
};
use super::limits::OwnLimit;
use crate::clock::after;

/// One partition.
///
/// Six things keep a request back, each by itself: a *pause* and a *cap*, which the owner has set; a *hold*, before
/// whose end nobody goes; the window that the server has *told* about; the *habit* of a server that tells nothing until it
/// refuses; and the *ramp*, which lets requests out by and by while it is not known what the server will take.
#[derive(Debug)]
pub(crate) struct Quota {
    /// Requests are numbered in the order in which they go.
    next: u64,
    in_flight: u32,
    pause: Option<Instant>,
    cap: Option<Box<Cap>>,
    hold: Option<Hold>,
    /// A part of the requests is held until then, by a partition of their own.
    part_held: Option<Instant>,
    told: Option<Box<Told>>,
    /// Whether the announcement that nothing remains is believed.
    doubt: Doubt,
    /// The part that is ours of what the quota loses.
    share: f64,
    /// The server gives out more before the reset that it tells; it said so in a refusal.
    gradual: Option<Duration>,
    /// Accepted answers say what remains; but another quota, that they do not speak of, has refused the last request.
    announced: bool,
    another: bool,
    habit: Habit,
    ramp: Ramp,
    look: Look,
    /// Requests before this one were sent before the last refusal or reset, and say nothing about after it.
    since: u64,
    /// How often in a row the partition was refused.
    refusals: u32,
    /// The limit that answers named to requests that this partition alone counts.
    own: Option<u64>,
    /// How many answers in a row said nothing about limits.
    quiet: u32,
    /// When a request went last.
    used: Option<Instant>,
    /// The other processes, where quotas are shared with them.
    fleet: Option<Box<Fleet>>,
}

impl Quota {
    pub(crate) fn new(pace: &Pace, own: Option<OwnLimit>) -> Self {
        Self {
            next: 0,
            in_flight: 0,
            pause: None,
            cap: own.map(|own| Box::new(Cap::new(own))),
            hold: None,
            part_held: None,
            told: None,
            doubt: Doubt::default(),
            share: 1.0,
            gradual: None,
            announced: false,
            another: false,
            habit: Habit::NONE,
            ramp: Ramp::cold(pace.cold_burst),
            look: Look::default(),
            since: 0,
            refusals: 0,
            own: None,
            quiet: 0,
            used: None,
            fleet: pace.shared.then(Box::default),
        }
    }

    /// Whether one more request may go. Live: with nothing in flight it is `Now` or names a time.
    pub(crate) fn admit(&mut self, pace: &Pace, now: Instant) -> Admit {
        if let Some(until) = self.pause {
            if now < until {
                return Admit::NotBefore(until);
            }
            self.resume();
        }
        if let Some(hold) = self.hold {
            if now < hold.until {
                return Admit::NotBefore(hold.until);
            }
            self.hold = None;
            self.look(hold.exact.then_some(hold.until));
        }
        self.part_held = self.part_held.filter(|until| now < *until);
        let smooth = pace.release == Release::Smooth;
        let cap = self.cap.as_mut();
        if let Some(wait) = cap.and_then(|cap| cap.admit(self.in_flight, smooth, now)) {
            return wait;
        }
        let told = self.told.as_deref().copied();
        let doubted = told.is_some_and(|told| self.doubt.covers(told.is_used_up()));
        if let Some(told) = told.filter(|_| !doubted) {
            let share = told.share(self.share, self.in_flight);
            let fleet = self.fleet.as_mut().filter(|fleet| fleet.is_together());
            // What others take is known, and kept apart, where all of them are of one fleet.
            let ours = if fleet.is_some() { 1.0 } else { share };
            let over = told.over_at(ours, pace.max_hold);
            let ruled = fleet.and_then(|fleet| fleet.rules(now).map(|until| (until, fleet)));
            if over.is_some_and(|over| now >= over) {
                (self.share, self.told) = (share, None);
                if let Some(fleet) = &mut self.fleet {
                    fleet.over();
                }
                self.look(told.reset_at.filter(|reset| now >= *reset));
            } else if let Some(wait) = told.admit(self.in_flight, ours, over) {
                return wait;
            } else if let Some((until, fleet)) = ruled
                && !fleet.allows()
            {
                return Admit::AfterAnswer(Some(over.unwrap_or(until)));
            } else if let Some(at) = self.spread(told.room(self.in_flight, share), over, pace, now)
            {
                return Admit::NotBefore(at);
            }
        }
        if !self.announced || self.another || doubted {
            match self.habit.admit(self.in_flight, now) {
                Verdict::Free => {
                    let (room, end) = self.habit.room(self.in_flight).unzip();
                    if let Some(at) = self.spread(room.unwrap_or_default(), end, pace, now) {
                        return Admit::NotBefore(at);
                    }
                }
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

    /// When the next one goes of those for which there is room until the window's `end`, if that is later than `now`.
    fn spread(
        &self,
        room: f64,
        end: Option<Instant>,
        pace: &Pace,
        now: Instant,
    ) -> Option<Instant> {
        let smooth = pace.release == Release::Smooth;
        let (last, end) = self.used.zip(end).filter(|_| smooth)?;
        let left = end.saturating_duration_since(last);
        let gap = left.div_f64(room.max(0.0) + 1.0).min(pace.max_hold);
        Some(after(last, gap)).filter(|at| *at > now && *at < end)
    }

    /// Counts a request as in flight. Returns its number, by which its answer must be told.
    pub(crate) fn enter(&mut self, pace: &Pace, now: Instant) -> u64 {
        self.in_flight += 1;
        if self.ramp.is_look() && self.in_flight == 1 {
            self.look.sent = Some(now);
        }
        self.used = Some(now);
        if let Some(cap) = &mut self.cap {
            cap.entered(now);
        }
        self.habit.sent(now);
        self.ramp.entered(pace.cold_hold, now);
        if let Some(fleet) = &mut self.fleet {
            fleet.entered(self.next, now);
        }
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

    /// A hold or a window is over: what the server takes now is found out with one request. `since` is when the server
    /// itself had said that it would take more.
    fn look(&mut self, since: Option<Instant>) {
        (self.ramp, self.since) = (Ramp::look(), self.next);
        self.look = Look { since, sent: None };
    }
}
